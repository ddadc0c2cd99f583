import type { PoolSpec } from '../spec.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { Beside, ReplicaState } from './records.ts';
import type { Scale } from './scale.ts';

export interface PlannedReplica {
  readonly id: string;
  readonly state: ReplicaState;
  readonly inFlight: number;
  readonly idleMs: number;
  readonly drainSinceMs: EpochMs | null;
  /** What it costs in an hour at most: its lease's price, or the ceiling while there is none. */
  readonly costNanoUsdPerHour: NanoUsd;
}

export interface Budget {
  readonly spentTodayNanoUsd: NanoUsd;
}

export type Action =
  | {
      readonly type: 'order';
      readonly reason: string;
      readonly beside?: Beside;
      /** The most that an hour of it may cost, where that is less than the pool's ceiling. */
      readonly mostNanoUsdPerHour?: NanoUsd;
      /** Figures behind the reason. */
      readonly detail?: Readonly<Record<string, unknown>>;
    }
  | { readonly type: 'withdraw'; readonly replica: string; readonly reason: string }
  | { readonly type: 'drain'; readonly replica: string; readonly reason: string }
  | { readonly type: 'close'; readonly replica: string; readonly reason: string }
  /** Wanted, but a budget or a pause after failures forbids it. */
  | { readonly type: 'hold_back'; readonly reason: string };

export interface PlanInput {
  readonly spec: PoolSpec;
  readonly scale: Scale;
  readonly replicas: readonly PlannedReplica[];
  readonly budget: Budget;
  /** No new order before then: the last ones failed. */
  readonly backoffUntilMs: EpochMs;
  readonly nowMs: EpochMs;
}

/** A pause, whose cause was told when it began. */
export const BACKING_OFF = 'the last orders or start-ups failed: waiting before the next order';

/** More are placed when these have been decided: the market's answers may change what is wanted. */
const ORDERS_AT_ONCE = 8;
const COUNTS: ReadonlySet<ReplicaState> = new Set(['ordering', 'accepting', 'starting', 'ready']);
/** Cheapest to give up first: an order costs nothing, a start-up only time, a ready replica its start-up. */
const GIVE_UP_ORDER: readonly ReplicaState[] = ['ordering', 'starting', 'ready'];

/** What to do so that a pool has the replicas it wants and its budgets allow. */
export function planPool(input: PlanInput): Action[] {
  const { scale, replicas } = input;
  const live = replicas.filter(({ state }) => COUNTS.has(state));
  const over = overBudget(input, live);
  const actions: Action[] = closings(input);
  if (over && live.length - over.surplus <= scale.wanted) {
    actions.push(...returns(live, over.surplus, over.reason));
    if (live.length - over.surplus < scale.wanted) actions.push({ type: 'hold_back', reason: over.reason });
    return actions;
  }
  if (live.length < scale.wanted) actions.push(...orders(input, live, scale.wanted - live.length));
  if (live.length > scale.wanted) actions.push(...returns(live, live.length - scale.wanted, scale.reason));
  return actions;
}

/** How many live replicas the budgets no longer pay for; null when they pay for all. */
function overBudget(
  { spec, budget }: PlanInput,
  live: readonly PlannedReplica[],
): { readonly surplus: number; readonly reason: string } | null {
  const { dayNanoUsd, hourNanoUsd } = spec.budget;
  if (dayNanoUsd !== null && budget.spentTodayNanoUsd >= dayNanoUsd) {
    return { surplus: live.length, reason: "the pool's budget for the day is used up" };
  }
  let hourly = live.reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n);
  if (hourNanoUsd === null || hourly <= hourNanoUsd) return null;
  let surplus = 0;
  for (const { costNanoUsdPerHour } of giveUpOrder(live)) {
    if (hourly <= hourNanoUsd) break;
    hourly -= costNanoUsdPerHour;
    surplus += 1;
  }
  return { surplus, reason: "the replicas cost more than the pool's budget for the hour" };
}

function closings({ spec, replicas, nowMs }: PlanInput): Action[] {
  const actions: Action[] = [];
  for (const { id, state, inFlight, drainSinceMs } of replicas) {
    if (state !== 'draining') continue;
    if (inFlight === 0) actions.push({ type: 'close', replica: id, reason: 'its last answer has ended' });
    else if (drainSinceMs !== null && nowMs - drainSinceMs >= spec.limits.drainMs) {
      actions.push({ type: 'close', replica: id, reason: `still ${inFlight} answers after the time to drain` });
    }
  }
  return actions;
}

function orders(input: PlanInput, live: readonly PlannedReplica[], missing: number): Action[] {
  const { spec, scale, replicas, backoffUntilMs, nowMs } = input;
  if (backoffUntilMs > nowMs) return [{ type: 'hold_back', reason: BACKING_OFF }];
  if (live.some(({ state }) => state === 'ordering')) return [];
  const actions: Action[] = [];
  let hourly = replicas.reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n);
  for (let count = 0; count < Math.min(missing, ORDERS_AT_ONCE); count += 1) {
    hourly += spec.ceilingNanoUsdPerHour;
    if (spec.budget.hourNanoUsd !== null && hourly > spec.budget.hourNanoUsd) {
      if (count === 0)
        actions.push({ type: 'hold_back', reason: "the pool's budget for the hour does not allow another" });
      break;
    }
    actions.push({ type: 'order', reason: scale.reason });
  }
  return actions;
}

function giveUpOrder(live: readonly PlannedReplica[]): PlannedReplica[] {
  const rank = ({ state }: PlannedReplica): number => GIVE_UP_ORDER.indexOf(state);
  return live
    .filter((replica) => rank(replica) >= 0)
    .sort((a, b) => rank(a) - rank(b) || a.inFlight - b.inFlight || b.idleMs - a.idleMs);
}

function returns(live: readonly PlannedReplica[], surplus: number, reason: string): Action[] {
  return giveUpOrder(live)
    .slice(0, surplus)
    .map(({ id, state }) => ({ type: state === 'ready' ? 'drain' : 'withdraw', replica: id, reason }));
}
