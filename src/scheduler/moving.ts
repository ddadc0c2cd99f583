import type { MarketName, PoolSpec } from '../spec.ts';
import { formatUsd, minBig, type EpochMs, type Ms, type NanoUsd } from '../units.ts';

/**
 * Pure: whether a replica would be cheaper elsewhere by more than it costs to move it. What others ask is known from prices
 * that they publish, and from bids for orders of our own lately; nobody is asked only to learn a price.
 */

/** Somebody who may do the same work, and what an hour there would cost, fees included. */
export interface Candidate {
  readonly market: MarketName;
  readonly provider: string;
  readonly costNanoUsdPerHour: NanoUsd;
  readonly failureChance: number;
  /** From the lease to the first answer; null: not known. */
  readonly startMs: Ms | null;
  /** How its price is known. */
  readonly source: 'published' | 'bid';
}

export interface Movable {
  readonly id: string;
  readonly provider: string;
  readonly costNanoUsdPerHour: NanoUsd;
  readonly readyMs: EpochMs;
  /** What its own start-up took: it is to be used before it is given up. */
  readonly startMs: Ms;
}

export interface MoveInput {
  readonly spec: PoolSpec;
  /** All of the pool's: a pool in which one is not ready is not settled. */
  readonly replicas: readonly Movable[];
  readonly candidates: readonly Candidate[];
  /** How much longer a replica is expected to stay. */
  readonly lifeMs: Ms;
  /** What a start-up of this pool takes, where nothing is known of a provider's own. */
  readonly startMs: Ms;
  readonly nowMs: EpochMs;
}

export interface Move {
  readonly replica: string;
  /** The order asks for no more than with what the move still pays. */
  readonly mostNanoUsdPerHour: NanoUsd;
  readonly reason: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

/** A saving of less than this share of the price is no reason: prices waver, and nobody moves to and fro for it. */
const LEAST_SAVING_PERCENT = 15n;
/** What is saved must be as many times what moving costs. */
const MARGIN = 1.5;
/** A replica stays for as many times as long as its start-up took, and for so long at least. */
const HOLD_STARTS = 2;
const HOLD_LEAST_MS: Ms = 300_000;
const HOUR_MS = 3_600_000;

/** The one replica whose move saves most; null: none pays. */
export function planMove(input: MoveInput): Move | null {
  const { replicas, candidates, nowMs } = input;
  let best: { readonly saved: number; readonly move: Move } | null = null;
  for (const replica of replicas) {
    if (nowMs - replica.readyMs < Math.max(HOLD_LEAST_MS, HOLD_STARTS * replica.startMs)) continue;
    for (const candidate of candidates) {
      if (isCrowded(candidate, replica, replicas)) continue;
      const most = mostFor(replica, candidate, input);
      if (candidate.costNanoUsdPerHour > most) continue;
      const { saved, cost } = figuresOf(replica, candidate, input);
      if (best && best.saved >= saved - cost) continue;
      best = { saved: saved - cost, move: describe(replica, candidate, { most, saved, cost, lifeMs: input.lifeMs }) };
    }
  }
  return best?.move ?? null;
}

/** At most half of a pool's replicas, rounded up, on one provider. */
function isCrowded({ provider }: Candidate, moved: Movable, replicas: readonly Movable[]): boolean {
  const there = replicas.filter((one) => one.provider === provider && one.id !== moved.id).length;
  return replicas.length > 1 && there + 1 > Math.ceil(replicas.length / 2);
}

/**
 * The most that the other machine may cost in an hour. Moving costs its start-up, during which both are paid and which may
 * come to nothing, and the time in which the old one's answers end.
 */
export function mostFor(replica: Movable, candidate: Candidate, input: MoveInput): NanoUsd {
  const { lifeMs, spec } = input;
  const cost = Number(replica.costNanoUsdPerHour);
  const startMs = candidate.startMs ?? input.startMs;
  const paid = startMs * (1 + candidate.failureChance);
  const most = (cost * (lifeMs - MARGIN * spec.limits.drainMs)) / (lifeMs + MARGIN * paid);
  const least = (replica.costNanoUsdPerHour * (100n - LEAST_SAVING_PERCENT)) / 100n;
  return minBig(least, BigInt(Math.max(0, Math.floor(most))));
}

/** In USD: what is saved over the life that is left, and what the move costs. */
function figuresOf(
  replica: Movable,
  candidate: Candidate,
  { lifeMs, startMs, spec }: MoveInput,
): { readonly saved: number; readonly cost: number } {
  const [old, next] = [Number(replica.costNanoUsdPerHour) / 1e9, Number(candidate.costNanoUsdPerHour) / 1e9];
  const paidMs = (candidate.startMs ?? startMs) * (1 + candidate.failureChance);
  const cost = (next * paidMs + old * spec.limits.drainMs) / HOUR_MS;
  return { saved: ((old - next) * lifeMs) / HOUR_MS, cost };
}

const usd = (amount: number): string => amount.toPrecision(3);

function describe(
  replica: Movable,
  candidate: Candidate,
  figures: { readonly most: NanoUsd; readonly saved: number; readonly cost: number; readonly lifeMs: Ms },
): Move {
  const { most, saved, cost, lifeMs } = figures;
  const hours = (lifeMs / HOUR_MS).toPrecision(2);
  const from = `${replica.id} at ${replica.provider} costs ${formatUsd(replica.costNanoUsdPerHour)} USD/h`;
  const how = candidate.source === 'bid' ? 'bid' : 'asks';
  const to = `${candidate.provider} ${how} ${formatUsd(candidate.costNanoUsdPerHour)}`;
  const detail = {
    replica: replica.id,
    from: replica.provider,
    to: candidate.provider,
    market: candidate.market,
    usd_per_hour: formatUsd(replica.costNanoUsdPerHour),
    usd_per_hour_there: formatUsd(candidate.costNanoUsdPerHour),
    saved_usd: usd(saved),
    moving_usd: usd(cost),
    expected_hours: Number(hours),
  };
  const reason = `${from}, ${to}: ${usd(saved)} USD saved in the ${hours} h expected, ${usd(cost)} to move`;
  return { replica: replica.id, mostNanoUsdPerHour: most, reason, detail };
}
