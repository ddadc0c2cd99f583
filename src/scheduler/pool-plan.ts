import type { PoolSpec } from '../spec.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { Demand } from './demand.ts';
import { capScale, gateOf, specialGateOf, type Gate, type WakeState } from './gate.ts';
import { observePool } from './observation.ts';
import { planPool, type Action, type Budget, type PlannedReplica } from './plan.ts';
import type { Move } from './moving.ts';
import type { LineNeeds } from './pool/line-needs.ts';
import type { PoolRouter } from './pool/router.ts';
import type { ReplicaRecord } from './records.ts';
import { wantedReplicas, type Learned } from './scale.ts';
import { payerOf } from './waking.ts';
import { planTurnover, type Extra, type Turnover } from './turnover.ts';

export interface PoolPlanInput {
  readonly router: PoolRouter;
  /** As it holds now: its schedule, and whether it is shut, are in it. Left out: as it was described. */
  readonly spec?: PoolSpec;
  /** Left out: nobody has an allowance, nothing stands in. */
  readonly wake?: WakeState;
  readonly records: readonly ReplicaRecord[];
  readonly learned: Learned;
  readonly budget: Budget;
  /** What the pool's reserves cost: no more machines beside them than the budget pays for. */
  readonly besideNanoUsdPerHour?: NanoUsd;
  /** No new order before then: the last ones for the load, and those for requests with needs of their own, failed. */
  readonly backoffUntilMs: EpochMs;
  readonly specialBackoffUntilMs: EpochMs;
  readonly rolloutPaused: boolean;
  /** Where a replica would be cheaper, if anywhere. */
  readonly move?: Move | null;
  readonly nowMs: EpochMs;
  readonly sinceMs: EpochMs;
}

/** Pure: all that is to be done for a pool: what its load asks for, and what is exchanged or had besides. */
export function planWhole(input: PoolPlanInput): Action[] {
  const { router, records } = input;
  const unpaid = records.filter((record) => isUnpaid(record, router));
  if (unpaid.length === 0) return planPaid(input);
  const reason = 'who was to pay for the wake has left';
  const falls: Action[] = unpaid.map(({ id }) => ({ type: 'withdraw', replica: id, reason }));
  // Whoever else is in line is looked at as if it had never been ordered.
  return [...falls, ...planPaid({ ...input, records: records.filter((record) => !unpaid.includes(record)) })];
}

/** Ordered on the word of a request that is in line no more, and not leased yet. */
function isUnpaid({ state, wake }: ReplicaRecord, router: PoolRouter): boolean {
  return state === 'ordering' && wake?.way === 'fee' && payerOf(router, wake) === null;
}

function planPaid(input: PoolPlanInput): Action[] {
  const { router, spec = router.spec, records, rolloutPaused, move = null, nowMs, sinceMs } = input;
  const { needs: line } = router;
  const { replicas } = observePool(router, records, { nowMs, sinceMs });
  const turnover = planTurnover({ spec, records, replicas, line, rolloutPaused, move, nowMs });
  const plan = planWith(input, turnover);
  if (turnover.spare.size === 0 || !plan.short) return plan.actions;
  // Whoever was to be followed for its price alone stays while the load wants more; its follower is one more, if one is to come.
  const followed = new Set(turnover.spare.values());
  const drop = turnover.drop.filter(({ replica }) => !followed.has(replica));
  const grows = plan.actions.some(({ type }) => type === 'order');
  const beside = grows ? new Set([...turnover.beside].filter((id) => !turnover.spare.has(id))) : turnover.beside;
  return planWith(input, { ...turnover, beside, drop }).actions;
}

/** `short`: fewer of those that count are ready than wanted. */
function planWith(input: PoolPlanInput, turnover: Turnover): { readonly actions: Action[]; readonly short: boolean } {
  const { router, spec = router.spec, records, learned, budget, nowMs, sinceMs } = input;
  const { needs: line } = router;
  const all = observePool(router, records, { nowMs, sinceMs }).replicas;
  const counted = records.filter(({ id }) => !turnover.beside.has(id));
  const seen = observePool(router, counted, { nowMs, sinceMs });
  const wished = wantedReplicas(spec, withoutUnmet(seen.demand, line), seen.idleMs, learned);
  const gate = wished.wanted > spec.replicasMin ? gateOf(input, spec, counted) : null;
  const scale = capScale(wished, gate, spec.replicasMin);
  const others = all.filter(({ id }) => turnover.beside.has(id));
  const base = planPool({
    ...{ spec: withoutCost(spec, others), scale, replicas: seen.replicas, budget, nowMs },
    ...{ besideNanoUsdPerHour: input.besideNanoUsdPerHour ?? 0n, backoffUntilMs: input.backoffUntilMs },
  });
  const actions = base
    .flatMap((action) => forLine(action, line, input.specialBackoffUntilMs > nowMs))
    .map((action) => causedBy(action, gate));
  if (gate && scale.wanted < wished.wanted) actions.push(...gate.instead);
  // In a pool at rest, or one that shrinks anyway, nobody is followed: what comes next is what was to follow.
  const shrinks = scale.wanted === 0 || base.some(({ type }) => type === 'drain' || type === 'withdraw');
  const waits = shrinks && turnover.orders.some(({ beside }) => beside.replaces !== undefined);
  const grows = base.some(({ type }) => type === 'order');
  const extra = waits || grows ? [] : planExtra(input, turnover.orders, all);
  const dropped = new Set(turnover.drop.map(({ replica }) => replica));
  const rest = [...actions, ...extra].filter((action) => !('replica' in action) || !dropped.has(action.replica));
  // One reason at a time: told in turn, each would be news at every look.
  const held = rest.find(({ type }) => type === 'hold_back');
  const kept = rest.filter((action) => action.type !== 'hold_back' || action === held);
  const ready = seen.replicas.filter(({ state }) => state === 'ready').length;
  return { actions: [...turnover.drop, ...kept], short: ready < scale.wanted };
}

function causedBy(action: Action, gate: Gate | null): Action {
  const cause = gate?.decision.cause;
  return action.type === 'order' && cause ? { ...action, cause } : action;
}

/** Where everybody in line asks alike, a machine that is ordered for the load has to be like that. */
function forLine(action: Action, { common }: LineNeeds, failed: boolean): Action[] {
  if (action.type !== 'order' || common === null) return [action];
  if (failed) return [{ type: 'hold_back', reason: 'the last orders for what requests wait for failed' }];
  return [{ ...action, beside: { needs: common, counted: true } }];
}

/** They get machines of their own. */
function withoutUnmet(demand: Demand, { unmet }: LineNeeds): Demand {
  const waiting = unmet?.waiting ?? 0;
  return { ...demand, slots: Math.max(0, demand.slots - waiting), waiting: Math.max(0, demand.waiting - waiting) };
}

/** The same pool, with so much less to spend as its other replicas cost. */
function withoutCost(spec: PoolSpec, others: readonly PlannedReplica[]): PoolSpec {
  const { hourNanoUsd } = spec.budget;
  if (hourNanoUsd === null || others.length === 0) return spec;
  const cost = others.reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n);
  return { ...spec, budget: { ...spec.budget, hourNanoUsd: hourNanoUsd > cost ? hourNanoUsd - cost : 0n } };
}

/** More replicas within the same budgets, or why not. */
function planExtra(input: PoolPlanInput, orders: readonly Extra[], all: readonly PlannedReplica[]): Action[] {
  const [first] = orders;
  if (!first) return [];
  const { spec = input.router.spec, budget, nowMs, backoffUntilMs, specialBackoffUntilMs } = input;
  const gate = first.beside.needs ? specialGateOf(input, spec) : null;
  if (gate && gate.decision.replicas === 0) return [...gate.instead];
  const live = all.filter(({ state }) => state !== 'draining' && state !== 'closing').length;
  const actions = planPool({
    ...{ spec, replicas: all, budget, besideNanoUsdPerHour: input.besideNanoUsdPerHour ?? 0n, nowMs },
    scale: { wanted: live + orders.length, reason: first.reason },
    backoffUntilMs: first.beside.needs ? specialBackoffUntilMs : backoffUntilMs,
  });
  const placed = actions.filter(({ type }) => type === 'order');
  const held = actions.filter(({ type }) => type === 'hold_back');
  const made = orders.slice(0, placed.length).map((order) => causedBy({ type: 'order', ...order }, gate));
  return [...made, ...held];
}
