import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { planPool, type PlannedReplica, type PlanInput } from '../../src/scheduler/plan.ts';
import type { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench } from './loop-bench.ts';

/** A machine that its provider takes back: another one first, then it drains. */

const HOUR_MS = 3_600_000;
const LEAVING = 'its provider takes the machine back';

test('a machine that goes is followed by another one, ordered once and beside what is wanted', () => {
  const leaving = one('a', { endsMs: HOUR_MS });
  const order = { type: 'order', reason: 'a provider takes its machine back', replaces: 'a' };
  assert.deepEqual(plan([leaving]), [order]);
  for (const state of ['ordering', 'accepting', 'starting'] as const) {
    assert.deepEqual(plan([leaving, one('b', { state, replaces: 'a' })]), [], state);
  }
  const failed = one('b', { state: 'closing', replaces: 'a' });
  assert.deepEqual(plan([leaving, failed]), [order], 'again when that one came to nothing');
  assert.deepEqual(plan([leaving, failed], { backoffUntilMs: 1 }), [], 'but not before the pause is over');
});

test('it drains when the other one is ready, or as late as its answers allow', () => {
  const leaving = one('a', { endsMs: HOUR_MS, inFlight: 2 });
  const next = one('b', { replaces: 'a' });
  assert.deepEqual(plan([leaving, next]), [
    { type: 'drain', replica: 'a', reason: `${LEAVING}, and another one is ready` },
  ]);
  const { drainMs } = testSpec().limits;
  const lastMs = HOUR_MS - drainMs - 60_000;
  const starting = one('b', { state: 'starting', replaces: 'a' });
  assert.deepEqual(plan([leaving, starting], { nowMs: lastMs - 1 }), []);
  assert.deepEqual(plan([leaving, starting], { nowMs: lastMs }), [{ type: 'drain', replica: 'a', reason: LEAVING }]);
  assert.deepEqual(plan([{ ...leaving, state: 'draining' }, next]), [], 'then the other one is the pool');
});

test('nothing follows what the budgets do not pay for, or what is not wanted any more', () => {
  const leaving = one('a', { endsMs: HOUR_MS });
  const hour = testSpec({ ceiling_usd_per_hour: '1', budget: { usd_per_hour: '1.50' } });
  const dear = { ...leaving, costNanoUsdPerHour: 1_000_000_000n };
  assert.deepEqual(plan([dear], { spec: hour }), []);
  const day = testSpec({ budget: { usd_per_day: '1' } });
  const spent = plan([leaving], { spec: day, budget: { spentTodayNanoUsd: 1_000_000_000n } });
  assert.ok(!spent.some(({ type }) => type === 'order'), JSON.stringify(spent));
  const both = [leaving, one('b', { state: 'ordering', replaces: 'a' })];
  const given = plan(both, { scale: { wanted: 0, reason: 'idle for 60 s' } });
  assert.deepEqual(given, [{ type: 'drain', replica: 'a', reason: 'idle for 60 s' }]);
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

function one(id: string, change: Partial<PlannedReplica> = {}): PlannedReplica {
  const replica = { state: 'ready' as const, inFlight: 1, idleMs: 0, drainSinceMs: null, costNanoUsdPerHour: 1n };
  return { id, ...replica, endsMs: null, replaces: null, ...change };
}

function plan(replicas: readonly PlannedReplica[], change: Partial<PlanInput> = {}): ReturnType<typeof planPool> {
  return planPool({
    spec: testSpec(),
    scale: { wanted: 1, reason: 'in use' },
    replicas,
    budget: { spentTodayNanoUsd: 0n },
    backoffUntilMs: 0,
    nowMs: 0,
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
