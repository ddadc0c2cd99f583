import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { newHistory } from '../../src/scheduler/demand.ts';
import type { Action } from '../../src/scheduler/plan.ts';
import { planWhole, type PoolPlanInput } from '../../src/scheduler/pool-plan.ts';
import { PoolRouter } from '../../src/scheduler/pool/router.ts';
import type { Beside, ReplicaRecord } from '../../src/scheduler/records.ts';
import type { PoolSpec } from '../../src/spec.ts';
import { FakeClock } from '../fakes/clock.ts';
import type { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { testReplica } from '../fakes/replica-samples.ts';
import { fakeMarket, openBench, served, type Bench } from './loop-bench.ts';

/** A machine that its provider takes back: another one first, then it drains. */

const HOUR_MS = 3_600_000;
const LEAVING = 'its provider takes the machine back';

test('a machine that goes is followed by another one, ordered once and beside what is wanted', () => {
  const leaving = one('a', { endsMs: HOUR_MS });
  const order = { type: 'order', reason: 'a provider takes its machine back', beside: follows('a') };
  assert.deepEqual(plan([leaving]), [order]);
  for (const state of ['ordering', 'accepting', 'starting'] as const) {
    assert.deepEqual(plan([leaving, one('b', { state, beside: follows('a') })]), [], state);
  }
  const failed = one('b', { state: 'closing', beside: follows('a') });
  assert.deepEqual(plan([leaving, failed]), [order], 'again when that one came to nothing');
  assert.deepEqual(
    types(plan([leaving, failed], { backoffUntilMs: 1 })),
    ['hold_back'],
    'not before the pause is over',
  );
});

test('two that go at a time are followed by two', () => {
  const two = testSpec({ replicas: { min: 2, max: 2 } });
  const orders = plan([one('a', { endsMs: HOUR_MS }), one('b', { endsMs: HOUR_MS })], {}, two);
  assert.deepEqual(
    orders.map((action) => action.type === 'order' && action.beside?.replaces),
    ['a', 'b'],
  );
});

test('it drains when the other one is ready, or as late as its answers allow', () => {
  const leaving = one('a', { endsMs: HOUR_MS });
  const next = one('b', { beside: follows('a') });
  assert.deepEqual(plan([leaving, next]), [
    { type: 'drain', replica: 'a', reason: `${LEAVING}, and another one is ready` },
  ]);
  const { drainMs } = SPEC.limits;
  const lastMs = HOUR_MS - drainMs - 60_000;
  const starting = one('b', { state: 'starting', beside: follows('a') });
  assert.deepEqual(plan([leaving, starting], { nowMs: lastMs - 1 }), []);
  assert.deepEqual(plan([leaving, starting], { nowMs: lastMs }), [{ type: 'drain', replica: 'a', reason: LEAVING }]);
  const drains = plan([{ ...leaving, state: 'draining', drainMs: 0 }, next]);
  assert.deepEqual(
    drains,
    [{ type: 'close', replica: 'a', reason: 'its last answer has ended' }],
    'the other is the pool',
  );
});

test('nothing follows what the budgets do not pay for, or what is not wanted any more', () => {
  const hour = testSpec({ ...ONE, ceiling_usd_per_hour: '1', budget: { usd_per_hour: '1.50' } });
  const dear = one('a', { endsMs: HOUR_MS, costNanoUsdPerHour: 1_000_000_000n });
  assert.deepEqual(types(plan([dear], {}, hour)), ['hold_back']);
  const day = testSpec({ ...ONE, budget: { usd_per_day: '1' } });
  const spent = plan([dear], { budget: { spentTodayNanoUsd: 1_000_000_000n } }, day);
  assert.ok(!types(spent).includes('order'), JSON.stringify(spent));
  const none = testSpec({ replicas: { min: 0, max: 0 } });
  assert.deepEqual(types(plan([dear], {}, none)), ['drain']);
  const both = [dear, one('b', { state: 'ordering', beside: follows('a') })];
  assert.deepEqual(plan(both, {}, none), [{ type: 'drain', replica: 'a', reason: 'at most 0 replicas' }]);
});

test('a machine that its provider leaves after all needs nobody after it', () => {
  const both = [one('a', { endsMs: null }), one('b', { state: 'ordering', beside: follows('a') })];
  assert.deepEqual(types(plan(both)), ['withdraw']);
});

test('rows of an earlier version say in a field of their own whom they follow', async (t) => {
  const { bench } = await setup(t);
  const record = { ...one('b', { state: 'starting' }), replaces: 'a' };
  await bench.records.saveReplica(record);
  const [read] = await bench.records.openReplicas();
  assert.deepEqual([read?.id, read?.beside], ['b', follows('a')]);
  await bench.records.saveReplica({ ...record, state: 'closed', closedMs: 0 });
});

test('the deadline of a lease is told, another machine is leased and ready before the first one drains, none more', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  const [first] = market.open();
  assert.ok(first);
  const endsMs = bench.clock.now() + HOUR_MS;
  reclaim(market, first.id, endsMs);
  await bench.until('another one is ready', () => bench.run.pool.router.stats.ready === 2 || drained(bench) !== null);
  const states = (await bench.replicas()).map(({ leaseId, state }) => [leaseId === first.id, state]);
  assert.ok(
    states.some(([old, state]) => old === false && state === 'ready'),
    JSON.stringify(states),
  );
  const providers = (await bench.replicas()).filter(({ leaseId }) => leaseId !== null).map(({ provider }) => provider);
  assert.equal(new Set(providers).size, 2, `not where a machine is taken back: ${providers.join()}`);
  const [told] = await bench.decisions('lease.reclaimed');
  assert.equal(told?.detail['ends_at'], new Date(endsMs).toISOString());
  assert.match(told?.reason ?? '', /takes the machine back at 20/);
  await bench.until('the first one drains', async () => (await bench.decisions('replica.draining')).length === 1);
  assert.equal(market.open().length, 2, 'its answer may end');
  asking[0]?.slot?.release('served');
  await bench.until('it is given back', () => market.open().length === 1);
  assert.notEqual(market.open()[0]?.id, first.id);
  await bench.pass(20_000);
  assert.equal((await bench.decisions('order.placed')).length, 2, 'one order for each of the two');
  assert.deepEqual(await bench.decisions('replica.failed'), []);
});

test('a lease that goes gets no more money than it needs until then', async (t) => {
  const { bench, market } = await setup(t);
  market.providersOf.splice(1);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  const [first] = market.open();
  assert.ok(first);
  // Nobody else bids: it stays until its end. Half of its runway of 600 s is used up within that time.
  market.providersOf.splice(0);
  await bench.pass(250_000);
  reclaim(market, first.id, bench.clock.now() + 300_000);
  await bench.pass(100_000);
  assert.equal(market.count('fund'), 0);
});

function reclaim(market: FakeMarket, leaseId: string, reclaimMs: number): void {
  const lease = market.world.leases.get(leaseId);
  assert.ok(lease);
  market.world.leases.set(leaseId, { ...lease, reclaimMs });
  market.changed();
}

function drained({ run }: Bench): string | null {
  return run.scheduler.replicas().find(({ state }) => state === 'draining')?.id ?? null;
}

const ONE = { replicas: { min: 1, max: 1 } };
const SPEC = testSpec(ONE);
const types = (actions: readonly Action[]): string[] => actions.map(({ type }) => type);
const follows = (replaces: string): Beside => ({ replaces, why: 'taken_back' });

function one(id: string, change: Partial<ReplicaRecord> = {}): ReplicaRecord {
  return testReplica({ id, ...change });
}

function plan(records: readonly ReplicaRecord[], change: Partial<PoolPlanInput> = {}, spec: PoolSpec = SPEC): Action[] {
  const nowMs = change.nowMs ?? 0;
  const router = new PoolRouter(spec, new FakeClock(nowMs), () => undefined);
  return planWhole({
    ...{ router, records, budget: { spentTodayNanoUsd: 0n }, nowMs, sinceMs: 0 },
    learned: { nowMs, history: newHistory(0), startMs: 60_000, lossesPerHour: 0 },
    ...{ backoffUntilMs: 0, specialBackoffUntilMs: 0, rolloutPaused: false },
    ...change,
  });
}

async function setup(t: TestContext): Promise<{ bench: Bench; market: FakeMarket }> {
  let made: FakeMarket | null = null;
  const markets = (clock: Bench['clock']): readonly FakeMarket[] => [(made ??= fakeMarket(clock))];
  const bench = await openBench(t, { markets, specs: [testSpec({ replicas: { min: 0, max: 1 } })] });
  assert.ok(made);
  return { bench, market: made };
}
