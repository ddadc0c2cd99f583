import type { PoolSpec } from '../spec.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { Demand } from './demand.ts';
import { capScale, gateOf, specialGateOf, type Gate, type WakeState } from './gate.ts';
import { observePool } from './observation.ts';
import { planPool, type Action, type Budget, type PlannedReplica } from './plan.ts';
import type { LineNeeds } from './pool/line-needs.ts';
import type { PoolRouter } from './pool/router.ts';
import type { ReplicaRecord } from './records.ts';
import { wantedReplicas, type Learned } from './scale.ts';
import { planTurnover } from './turnover.ts';

export interface PoolPlanInput {
  readonly router: PoolRouter;
  /** As it holds now: its schedule, and whether it is shut, are in it. */
  readonly spec: PoolSpec;
  readonly wake: WakeState;
  readonly records: readonly ReplicaRecord[];
  readonly learned: Learned;
  readonly budget: Budget;
  /** What the pool's reserves cost: no more machines beside them than the budget pays for. */
  readonly besideNanoUsdPerHour: NanoUsd;
  /** No new order before then: the last ones for the load, and those for requests with needs of their own, failed. */
  readonly backoffUntilMs: EpochMs;
  readonly specialBackoffUntilMs: EpochMs;
  readonly rolloutPaused: boolean;
  readonly nowMs: EpochMs;
  readonly sinceMs: EpochMs;
}

/** Pure: all that is to be done for a pool: what its load asks for, and what is exchanged or had besides. */
export function planWhole(input: PoolPlanInput): Action[] {
  const { router, spec, records, learned, budget, nowMs, sinceMs } = input;
  const line = router.needs;
  const all = observePool(router, records, { nowMs, sinceMs }).replicas;
  const turnover = planTurnover({ spec, records, replicas: all, line, rolloutPaused: input.rolloutPaused });
  const counted = records.filter(({ id }) => !turnover.beside.has(id));
  const seen = observePool(router, counted, { nowMs, sinceMs });
  const wished = wantedReplicas(spec, withoutUnmet(seen.demand, line), seen.idleMs, learned);
  const gate = wished.wanted > spec.replicasMin ? gateOf(input, spec, counted) : null;
  const scale = capScale(wished, gate, spec.replicasMin);
  const others = all.filter(({ id }) => turnover.beside.has(id));
  const base = planPool({
    ...{ spec: withoutCost(spec, others), scale, replicas: seen.replicas, budget, nowMs },
    ...{ besideNanoUsdPerHour: input.besideNanoUsdPerHour, backoffUntilMs: input.backoffUntilMs },
  });
  const actions = base
    .flatMap((action) => forLine(action, line, input.specialBackoffUntilMs > nowMs))
    .map((action) => causedBy(action, gate));
  if (gate && scale.wanted < wished.wanted) actions.push(...gate.instead);
  // A pool at rest, or one that shrinks anyway, is not rolled out: what comes next is of the new description.
  const shrinks = scale.wanted === 0 || base.some(({ type }) => type === 'drain' || type === 'withdraw');
  const waits = shrinks && turnover.order?.beside.replaces !== undefined;
  const grows = base.some(({ type }) => type === 'order');
  const extra = waits || grows ? [] : planExtra(input, turnover.order, all);
  const dropped = new Set(turnover.drop.map(({ replica }) => replica));
  const rest = [...actions, ...extra].filter((action) => !('replica' in action) || !dropped.has(action.replica));
  // One reason at a time: told in turn, each would be news at every look.
  const held = rest.find(({ type }) => type === 'hold_back');
  return [...turnover.drop, ...rest.filter((action) => action.type !== 'hold_back' || action === held)];
}

function causedBy(action: Action, gate: Gate | null): Action {
  const cause = gate?.decision.cause;
  return action.type === 'order' && action.replaces === undefined && cause ? { ...action, cause } : action;
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

/** One more replica within the same budgets, or why not. */
function planExtra(
  input: PoolPlanInput,
  order: ReturnType<typeof planTurnover>['order'],
  all: readonly PlannedReplica[],
): Action[] {
  if (order === null) return [];
  const { spec, budget, nowMs, backoffUntilMs, specialBackoffUntilMs } = input;
  const gate = order.beside.needs ? specialGateOf(input, spec) : null;
  if (gate && gate.decision.replicas === 0) return [...gate.instead];
  const live = all.filter(({ state }) => state !== 'draining' && state !== 'closing').length;
  const actions = planPool({
    ...{ spec, replicas: all, budget, besideNanoUsdPerHour: input.besideNanoUsdPerHour, nowMs },
    scale: { wanted: live + 1, reason: order.reason },
    backoffUntilMs: order.beside.needs ? specialBackoffUntilMs : backoffUntilMs,
  });
  return actions.flatMap((action): Action[] => {
    // What follows a machine that is taken back is in the other plan.
    if (action.type === 'order')
      return action.replaces === undefined ? [causedBy({ ...action, beside: order.beside }, gate)] : [];
    return action.type === 'hold_back' ? [action] : [];
  });
}
