import type { PoolSpec } from '../spec.ts';
import { counted, type EpochMs, type NanoUsd } from '../units.ts';
import type { Beside, ReplicaState } from './records.ts';
import type { Waiter } from './pool/slot.ts';
import type { Scale } from './scale.ts';
import type { Cause } from './wake.ts';

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
  /** Why nothing may be spent any more today, whatever the pool's own budget says. */
  readonly exhausted?: string | null;
  /** The hour's budget is the pool's share of one for all pools. */
  readonly shared?: boolean;
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
      /** Of an order that wakes the pool. */
      readonly cause?: Cause;
    }
  /** Nobody pays for a wake: they are told now instead of when their time is over. */
  | { readonly type: 'refuse'; readonly who: readonly Waiter[]; readonly reason: string }
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
  /** What of the pool costs besides these replicas: it leaves so much less for more of them. */
  readonly besideNanoUsdPerHour?: NanoUsd;
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
  { spec, budget, replicas }: PlanInput,
  live: readonly PlannedReplica[],
): { readonly surplus: number; readonly reason: string } | null {
  const { dayNanoUsd, hourNanoUsd } = spec.budget;
  if (budget.exhausted) return { surplus: live.length, reason: budget.exhausted };
  if (dayNanoUsd !== null && budget.spentTodayNanoUsd + drainCost(spec, costOf(replicas)) >= dayNanoUsd) {
    return { surplus: live.length, reason: DAY_USED };
  }
  let hourly = costOf(live);
  if (hourNanoUsd === null || hourly <= hourNanoUsd) return null;
  let surplus = 0;
  for (const { costNanoUsdPerHour } of giveUpOrder(live)) {
    if (hourly <= hourNanoUsd) break;
    hourly -= costNanoUsdPerHour;
    surplus += 1;
  }
  return { surplus, reason: `the replicas cost more than ${hourName(budget)}` };
}

const DAY_USED = "the pool's budget for the day is used up";
const hourName = ({ shared }: Budget): string =>
  shared ? "the pool's share of the gateway's budget for the hour" : "the pool's budget for the hour";

function costOf(replicas: readonly PlannedReplica[]): NanoUsd {
  return replicas.reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n);
}

/** What they cost until their last answers have ended: given back any later, they would take the day above its budget. */
function drainCost(spec: PoolSpec, nanoUsdPerHour: NanoUsd): NanoUsd {
  return (nanoUsdPerHour * BigInt(spec.limits.drainMs)) / 3_600_000n;
}

function closings({ spec, replicas, nowMs }: PlanInput): Action[] {
  const actions: Action[] = [];
  for (const { id, state, inFlight, drainSinceMs } of replicas) {
    if (state !== 'draining') continue;
    if (inFlight === 0) actions.push({ type: 'close', replica: id, reason: 'its last answer has ended' });
    else if (drainSinceMs !== null && nowMs - drainSinceMs >= spec.limits.drainMs) {
      actions.push({
        type: 'close',
        replica: id,
        reason: `still ${counted(inFlight, 'answer')} after the time to drain`,
      });
    }
  }
  return actions;
}

function orders(input: PlanInput, live: readonly PlannedReplica[], missing: number): Action[] {
  const { spec, scale, replicas, backoffUntilMs, nowMs, budget } = input;
  const { hourNanoUsd, dayNanoUsd } = spec.budget;
  if (backoffUntilMs > nowMs) return [{ type: 'hold_back', reason: BACKING_OFF }];
  if (live.some(({ state }) => state === 'ordering')) return [];
  const actions: Action[] = [];
  let hourly = costOf(replicas) + (input.besideNanoUsdPerHour ?? 0n);
  for (let count = 0; count < Math.min(missing, ORDERS_AT_ONCE); count += 1) {
    hourly += spec.ceilingNanoUsdPerHour;
    const overHour = hourNanoUsd !== null && hourly > hourNanoUsd;
    const overDay = dayNanoUsd !== null && budget.spentTodayNanoUsd + drainCost(spec, hourly) >= dayNanoUsd;
    if (overHour || overDay) {
      const reason = overHour ? `${hourName(budget)} does not allow another` : DAY_USED;
      if (count === 0) actions.push({ type: 'hold_back', reason });
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
