import type { PoolSpec, Price } from '../spec.ts';
import { counted, minBig, nanoFromPicoUp, type EpochMs, type Ms, type NanoUsd } from '../units.ts';
import type { Demand } from './demand.ts';
import type { PlannedReplica } from './plan.ts';
import type { TokenRate } from './pool/token-meter.ts';

/**
 * What is paid by the token stands in for machines: while one starts, while nobody bids, and as long as so little is asked
 * that it is cheaper. Such a replica counts as one of the pool's when it won the pool's auction; as a reserve it comes on
 * top, until machines carry the load.
 */

/** A request is taken for this where none was seen yet. */
const USUAL_REQUEST: TokenRate = { input: 300, output: 200 };

/** Tokens an hour to be expected: as in the last hour, and at least what those who are there now will use. */
export function expectedTokens(rate: TokenRate, average: TokenRate | null, requests: number): TokenRate {
  const { input, output } = average ?? USUAL_REQUEST;
  return { input: Math.max(rate.input, requests * input), output: Math.max(rate.output, requests * output) };
}

/** What an hour of such a rate costs by the token, nothing of it cached. */
export function tokenCostPerHour({ inputPico, outputPico }: Price, { input, output }: TokenRate): NanoUsd {
  return nanoFromPicoUp(BigInt(Math.ceil(input)) * inputPico + BigInt(Math.ceil(output)) * outputPico);
}

/** Dearer than a machine by so much, in per cent: below it, moving would not pay. */
const OUTGROWN_PERCENT = 125n;

/**
 * Whether what is paid by the token costs clearly more at today's load than a machine would.
 * @param rivalNanoUsdPerHour the best machine that bid beside it; null: none did, then the operator's ceiling counts
 */
export function hasOutgrown(
  spec: PoolSpec,
  price: Price,
  load: { readonly rate: TokenRate; readonly rivalNanoUsdPerHour: NanoUsd | null },
): boolean {
  const machine = load.rivalNanoUsdPerHour ?? spec.ceilingNanoUsdPerHour;
  return tokenCostPerHour(price, load.rate) * 100n > machine * OUTGROWN_PERCENT;
}

export type ReserveAction =
  | { readonly type: 'reserve'; readonly reason: string; readonly mostNanoUsdPerHour: NanoUsd }
  | { readonly type: 'drain' | 'withdraw'; readonly replica: string; readonly reason: string };

export interface ReserveInput {
  readonly spec: PoolSpec;
  /** Somebody who is paid by the token may bid for this pool. */
  readonly offered: boolean;
  readonly demand: Demand;
  /** How long the first in line has waited; 0: nobody does. */
  readonly waitedMs: Ms;
  /** Of the pool's own replicas. */
  readonly replicas: readonly PlannedReplica[];
  readonly reserves: readonly PlannedReplica[];
  /** Machines that are ordered at the same look. */
  readonly orders?: number;
  readonly spentTodayNanoUsd: NanoUsd;
  /** Why nothing may be spent any more today. */
  readonly exhausted?: string | null;
  readonly backoffUntilMs: EpochMs;
  readonly nowMs: EpochMs;
}

/** So long requests wait for what is ready or ordered before a reserve is fetched. */
const PATIENCE_MS = 2000;
const RESERVES_MAX = 4;
/** Of a pool that sets none. It costs nothing meanwhile. */
const IDLE_MS = 300_000;

/** Fetches a reserve when requests wait and no machine takes them soon, and gives it back when machines do. */
export function planReserve(input: ReserveInput): ReserveAction[] {
  const { spec, demand, replicas, reserves, nowMs } = input;
  const idleMostMs = spec.idleMs ?? IDLE_MS;
  const live = reserves.filter(({ state }) => state !== 'draining' && state !== 'closing');
  const back = reasonToReturn(input, readySlots(spec, replicas));
  const ends = live.filter(({ idleMs, state }) => back !== null || (state === 'ready' && idleMs >= idleMostMs));
  if (ends.length > 0) {
    return ends.map(({ id, state }) => {
      const reason = back ?? `idle for ${Math.round(idleMostMs / 1000)} s`;
      return { type: state === 'ready' ? 'drain' : 'withdraw', replica: id, reason };
    });
  }
  if (!input.offered || back !== null || demand.waiting === 0 || nowMs < input.backoffUntilMs) return [];
  // One that is on its way is there in a moment.
  if (live.length >= RESERVES_MAX || live.some(({ state }) => state !== 'ready')) return [];
  const loading = replicas.some(({ state }) => state === 'accepting' || state === 'starting');
  const served = live.length > 0 || replicas.some(({ state }) => state === 'ready');
  if (input.waitedMs < PATIENCE_MS && (served || !loading)) return [];
  const hourly = hourlyOf(input);
  const { hourNanoUsd } = spec.budget;
  const ordered = BigInt(input.orders ?? 0) * spec.ceilingNanoUsdPerHour;
  const free = hourNanoUsd === null ? spec.ceilingNanoUsdPerHour : hourNanoUsd - hourly - ordered;
  if (free <= 0n) return [];
  const mostNanoUsdPerHour = minBig(free, spec.ceilingNanoUsdPerHour);
  const reason = loading
    ? `${counted(demand.waiting, 'request')} in line while a machine starts`
    : `${counted(demand.waiting, 'request')} in line for ${Math.round(input.waitedMs / 1000)} s`;
  return [{ type: 'reserve', reason, mostNanoUsdPerHour }];
}

function reasonToReturn(input: ReserveInput, slots: number): string | null {
  const { spec, demand, spentTodayNanoUsd, reserves } = input;
  const { dayNanoUsd, hourNanoUsd } = spec.budget;
  if (spec.replicasMax === 0) return 'the pool takes no requests now';
  if (input.exhausted) return input.exhausted;
  const hourly = hourlyOf(input);
  if (hourNanoUsd !== null && reserves.length > 0 && hourly > hourNanoUsd)
    return 'with its reserves the pool costs more than its budget for the hour';
  if (dayNanoUsd !== null && spentTodayNanoUsd >= dayNanoUsd) return "the pool's budget for the day is used up";
  return slots > 0 && slots >= demand.slots ? 'machines carry the load' : null;
}

function hourlyOf({ replicas, reserves }: ReserveInput): NanoUsd {
  return [...replicas, ...reserves].reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n);
}

function readySlots(spec: PoolSpec, replicas: readonly PlannedReplica[]): number {
  return replicas.filter(({ state }) => state === 'ready').length * spec.slots;
}
