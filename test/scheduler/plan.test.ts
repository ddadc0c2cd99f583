import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { planPool, type Action, type PlanInput, type PlannedReplica } from '../../src/scheduler/plan.ts';
import type { ReplicaState } from '../../src/scheduler/records.ts';
import { parseUsd } from '../../src/units.ts';
import { testSpec } from '../fakes/market-samples.ts';

const DAY = "the pool's budget for the day is used up";
const HOUR = "the pool's budget for the hour does not allow another";

test('an order is placed for each missing replica, with the reason of the scale', () => {
  const actions = plan({ wanted: 2, reason: '3 requests for 2 slots a replica' });
  assert.deepEqual(actions, [
    { type: 'order', reason: '3 requests for 2 slots a replica' },
    { type: 'order', reason: '3 requests for 2 slots a replica' },
  ]);
});

test('one round of orders at a time: nothing more is ordered while bids are gathered', () => {
  assert.deepEqual(plan({ wanted: 3, replicas: [one('ordering')] }), []);
  assert.equal(plan({ wanted: 3, replicas: [one('accepting'), one('starting')] }).length, 1);
});

test('replicas that drain or close are replaced; they do not count', () => {
  const actions = plan({ wanted: 1, replicas: [one('draining', { inFlight: 1 }), one('closing')] });
  assert.deepEqual(types(actions), ['order']);
});

test('after a failure no order is placed before the pause is over', () => {
  const reason = 'the last orders or start-ups failed: waiting before the next order';
  assert.deepEqual(plan({ wanted: 1, backoffUntilMs: 1001, nowMs: 1000 }), [{ type: 'hold_back', reason }]);
  assert.deepEqual(types(plan({ wanted: 1, backoffUntilMs: 1000, nowMs: 1000 })), ['order']);
});

test("the hour's budget allows as many replicas as their ceilings add up to", () => {
  const spec = testSpec({ ceiling_usd_per_hour: '1', budget: { usd_per_hour: '2.50' } });
  assert.deepEqual(types(plan({ spec, wanted: 3 })), ['order', 'order']);
  const dear = one('ready', { costNanoUsdPerHour: parseUsd('1.51') });
  assert.deepEqual(plan({ spec, wanted: 2, replicas: [dear] }), [{ type: 'hold_back', reason: HOUR }]);
  const cheap = one('ready', { costNanoUsdPerHour: parseUsd('1.50') });
  assert.deepEqual(types(plan({ spec, wanted: 2, replicas: [cheap] })), ['order']);
  const drained = one('draining', { costNanoUsdPerHour: parseUsd('1.51'), inFlight: 1 });
  assert.deepEqual(types(plan({ spec, wanted: 1, replicas: [drained, cheap] })), [], 'what drains still costs');
});

test("replicas that cost more than the hour's budget are given back, the least useful first", () => {
  const spec = testSpec({ ceiling_usd_per_hour: '1', budget: { usd_per_hour: '2' } });
  const replicas = [
    one('ready', { id: 'busy', inFlight: 2 }),
    one('ready', { id: 'idle' }),
    one('starting', { id: 'new' }),
  ];
  const reason = "the replicas cost more than the pool's budget for the hour";
  assert.deepEqual(plan({ spec, wanted: 3, replicas }), [
    { type: 'withdraw', replica: 'new', reason },
    { type: 'hold_back', reason },
  ]);
});

test("when the day's budget is used up, nothing is ordered and everything is given back", () => {
  const spec = testSpec({ budget: { usd_per_day: '3' } });
  const spent = (usd: string): Partial<PlanInput> => ({ spec, budget: { spentTodayNanoUsd: parseUsd(usd) } });
  assert.deepEqual(types(plan({ wanted: 1, ...spent('2.98') })), ['order']);
  assert.deepEqual(plan({ wanted: 1, ...spent('2.99') }), [{ type: 'hold_back', reason: DAY }], 'it has to drain, too');
  assert.deepEqual(plan({ wanted: 1, ...spent('3') }), [{ type: 'hold_back', reason: DAY }]);
  const replicas = [one('ready', { id: 'a', inFlight: 2 }), one('ordering', { id: 'b' })];
  assert.deepEqual(plan({ wanted: 2, replicas, ...spent('3') }), [
    { type: 'withdraw', replica: 'b', reason: DAY },
    { type: 'drain', replica: 'a', reason: DAY },
    { type: 'hold_back', reason: DAY },
  ]);
  assert.deepEqual(plan({ wanted: 0, ...spent('3') }), [], 'nothing is said when nothing is wanted');
});

test('an order is given up first, then a start-up, then the ready replica that is idle longest', () => {
  const replicas = [
    one('ready', { id: 'busy', inFlight: 1 }),
    one('ready', { id: 'idle', idleMs: 1000 }),
    one('ready', { id: 'idler', idleMs: 9000 }),
    one('starting', { id: 'starting' }),
    one('ordering', { id: 'ordering' }),
    one('accepting', { id: 'accepting' }),
  ];
  const given = (wanted: number): string[] =>
    plan({ wanted, replicas }).map((action) => `${action.type} ${idOf(action)}`);
  const all = ['withdraw ordering', 'withdraw starting', 'drain idler', 'drain idle', 'drain busy'];
  for (let surplus = 0; surplus <= 5; surplus += 1) assert.deepEqual(given(6 - surplus), all.slice(0, surplus));
  assert.deepEqual(given(0), all, 'a bid that is being taken is waited for');
});

test('a draining replica is closed after its last answer, or when its time to drain is over', () => {
  const spec = testSpec({ limits: { drain_s: 60 } });
  const at = (inFlight: number, nowMs: number): string[] =>
    plan({ spec, nowMs, replicas: [one('draining', { inFlight, drainSinceMs: 1000 })] }).map(({ reason }) => reason);
  assert.deepEqual(at(0, 1000), ['its last answer has ended']);
  assert.deepEqual(at(2, 60_999), []);
  assert.deepEqual(at(2, 61_000), ['still 2 answers after the time to drain']);
});

test('a plan never orders and gives up at once, never gives up more than it has, and keeps to what is wanted', () => {
  const states: ReplicaState[] = ['ordering', 'accepting', 'starting', 'ready', 'draining', 'closing'];
  const replica = fc.record({ state: fc.constantFrom(...states), inFlight: fc.nat(3), idleMs: fc.nat(1000) });
  const budgets = fc.record({ hour: fc.option(fc.nat(8)), day: fc.option(fc.nat(3)), spent: fc.nat(4) });
  fc.assert(
    fc.property(fc.nat(8), fc.array(replica, { maxLength: 8 }), budgets, (wanted, made, { hour, day, spent }) => {
      const replicas = made.map(({ state, ...change }, n) => one(state, { id: `r${n}`, ...change }));
      const budget = { hourNanoUsd: hour === null ? null : usd(hour), dayNanoUsd: day === null ? null : usd(day) };
      const spec = { ...testSpec({ ceiling_usd_per_hour: '1' }), budget };
      const actions = plan({ spec, wanted, replicas, budget: { spentTodayNanoUsd: usd(spent) } });
      const live = replicas.filter(({ state }) => state !== 'draining' && state !== 'closing').length;
      const [orders, back] = [count(actions, 'order'), count(actions, 'drain') + count(actions, 'withdraw')];
      assert.ok(orders === 0 || back === 0);
      assert.ok(live + orders <= Math.max(live, wanted));
      const ids = actions.map(idOf).filter((id) => id !== null);
      assert.equal(new Set(ids).size, ids.length, 'one action for a replica');
      const costs = BigInt(replicas.length + orders) * usd(1);
      if (orders > 0 && hour !== null) assert.ok(costs <= usd(hour));
      if (day !== null && spent >= day) assert.equal(orders, 0);
    }),
  );
});

function plan(input: Partial<PlanInput> & { readonly wanted?: number; readonly reason?: string }): Action[] {
  const { wanted = 0, reason = 'as the scale says', ...rest } = input;
  return planPool({
    spec: testSpec(),
    scale: { wanted, reason },
    replicas: [],
    budget: { spentTodayNanoUsd: 0n },
    backoffUntilMs: 0,
    nowMs: 0,
    ...rest,
  });
}

function one(state: ReplicaState, change: Partial<PlannedReplica> = {}): PlannedReplica {
  const costNanoUsdPerHour = parseUsd('1');
  return { id: state, state, inFlight: 0, idleMs: 0, drainSinceMs: null, costNanoUsdPerHour, ...change };
}

const usd = (amount: number): bigint => parseUsd(String(amount));
const types = (actions: readonly Action[]): string[] => actions.map(({ type }) => type);
const count = (actions: readonly Action[], type: Action['type']): number =>
  actions.filter((action) => action.type === type).length;
const idOf = (action: Action): string | null => ('replica' in action ? action.replica : null);
