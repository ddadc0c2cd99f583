import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { FakeClock } from '../fakes/clock.ts';
import type { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench, type BenchOptions } from './loop-bench.ts';

test('a replica that was idle for the idle time is drained and closed, and a new request starts another', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  asking[0]?.slot?.release('served');
  const took = await bench.until('the lease is closed', () => market.open().length === 0);
  assert.ok(took >= 60_000 && took < 63_000, `${took} ms: the idle time and a look`);
  const [lease] = market.world.leases.values();
  assert.deepEqual([lease?.state, lease?.closeReason], ['closed', 'tenant']);
  assert.ok((lease?.refundNanoUsd ?? 0n) > 0n, 'the rest of the deposit is back');
  assert.equal(bench.run.pool.router.phase, 'asleep');
  const kinds = (await bench.decisions()).map(({ kind, reason }) => `${kind}: ${reason}`);
  assert.deepEqual(kinds.slice(-2), ['replica.draining: idle for 60 s', 'replica.closed: its last answer has ended']);
  const again = bench.ask(1);
  await bench.until('another one serves', () => served(again).length === 1);
});

test('a replica within its idle time is kept for the next request', async (t) => {
  const { bench, market } = await setup(t);
  for (let n = 0; n < 4; n += 1) {
    const asking = bench.ask(1);
    await bench.until('it is served', () => served(asking).length === 1);
    asking[0]?.slot?.release('served');
    await bench.pass(55_000);
  }
  assert.equal(market.count('tender'), 1);
});

test('a pool that is deleted lets its answers end, then gives its machines back', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(3);
  await bench.until('three are served', () => served(asking).length === 3);
  bench.run.pools.remove('tiny');
  await bench.pass(10_000);
  assert.ok(market.open().length >= 1, 'answers are still on the way');
  for (const { slot } of asking) slot?.release('served');
  assert.equal(bench.run.pools.retired().length, 1);
  await bench.until('every lease is closed', () => market.open().length === 0, 5000);
  assert.deepEqual(bench.run.scheduler.replicas(), []);
  await bench.until('it is forgotten', () => bench.run.pools.retired().length === 0, 5000);
});

test('answers that do not end hold a draining replica for the time to drain, and are told', async (t) => {
  const { bench, market } = await setup(t, { specs: [testSpec({ limits: { drain_s: 30 } })] });
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  let lost = 0;
  asking[0]?.slot?.onLost(() => (lost += 1));
  bench.run.pools.remove('tiny');
  const took = await bench.until('the lease is closed', () => market.open().length === 0);
  assert.ok(took >= 30_000 && took < 33_000, `${took} ms`);
  assert.equal(lost, 1);
  const [closed] = await bench.decisions('replica.closed');
  assert.equal(closed?.reason, 'still 1 answer after the time to drain');
});

test('an operator closes the lease of a ready replica after its answers, of a starting one at once', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  const [ready] = market.open();
  const draining = await bench.run.scheduler.closeLease(ready?.id ?? '');
  assert.deepEqual([draining?.state, draining?.reason], ['draining', 'closed by the operator']);
  asking[0]?.slot?.release('served');
  await bench.until('it is closed', () => market.world.leases.get(ready?.id ?? '')?.state === 'closed', 5000);
  bench.probe.answer = () => Promise.reject(new Error('loading'));
  const [waiting] = bench.ask(1);
  await bench.until('another one starts', () => market.open().length === 1);
  const [starting] = market.open();
  waiting?.leave();
  const closed = await bench.run.scheduler.closeLease(starting?.id ?? '');
  assert.deepEqual([closed?.state, closed?.failed], ['closed', false]);
  assert.equal(market.open().length, 0);
  assert.equal(await bench.run.scheduler.closeLease('lease-never'), null);
});

test('a close whose outcome is unknown or refused is repeated until nothing is left', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  asking[0]?.slot?.release('served');
  market.mishaps.close = ['unknown', 'throws', 'refused', 'refused', 'unknown_but_done'];
  await bench.until('the replica is closed', () => bench.run.scheduler.replicas().length === 0);
  assert.deepEqual([market.open().length, market.count('close')], [0, 6]);
  assert.equal((await bench.decisions('lease.not_closed')).length, 1, 'a refusal is told once');
  assert.equal((await bench.decisions('replica.closed')).length, 1);
});

test("the day's budget ends the replicas that used it up, until midnight", async (t) => {
  const limits = { drain_s: 5 };
  const spec = testSpec({ replicas: { min: 1, max: 1 }, budget: { usd_per_day: '0.01' }, limits });
  const { bench, market } = await setup(t, { specs: [spec] });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  // 0.072 USD an hour: a cent lasts 500 seconds.
  const took = await bench.until('it is given back', () => market.open().length === 0, 700_000);
  assert.ok(took > 490_000 && took < 505_000, `${took} ms`);
  const [held] = await bench.decisions('pool.held_back');
  assert.equal(held?.reason, "the pool's budget for the day is used up");
  await bench.run.scheduler.stop();
  const run = await bench.start();
  await bench.pass(10_000);
  assert.equal(market.count('tender'), 1, 'a restart does not forget what was spent');
  const midnight = 86_400_000 - (bench.clock.now() % 86_400_000);
  await bench.clock.advance(midnight - 5000);
  await bench.until('the next day has its own', () => run.pool.router.stats.ready === 1, 30_000);
});

test('a stop closes the leases of a market that ends with the process, and only those', async (t) => {
  const made: FakeMarket[] = [];
  const specs = [testSpec({ markets: ['local'] }), testSpec({ markets: ['akash'] }, 'far')];
  const bench = await openBench(t, {
    specs,
    markets: (clock) => {
      made.push(fakeMarket(clock, { name: 'local', terms: { endsWithProcess: true } }), fakeMarket(clock));
      return made;
    },
  });
  const far = bench.run.pools.get('far');
  assert.ok(far);
  const asking = [...bench.ask(1), ...bench.ask(1, { ...bench.run, pool: far })];
  await bench.until('both are served', () => served(asking).length === 2);
  const waiting = bench.ask(3);
  await bench.pass(100);
  await bench.run.scheduler.stop();
  const [local, akash] = made;
  assert.deepEqual(local?.open(), []);
  assert.deepEqual([...(local?.world.leases.values() ?? [])].map(({ closeReason }) => closeReason)[0], 'shutdown');
  assert.equal(akash?.open().length, 1, 'it is found again at the next start');
  assert.ok([...(local?.world.orders.values() ?? [])].every(({ state }) => state !== 'open'));
  const before = local?.calls.length;
  bench.run.scheduler.wake();
  await bench.pass(5000);
  assert.equal(local?.calls.length, before, 'nothing is done after a stop');
  assert.equal(served(waiting).length <= 1, true);
});

test('a lease that cannot be closed at a stop keeps no other from being closed', async (t) => {
  const { bench, market } = await setup(t, {}, { terms: { endsWithProcess: true } });
  const asking = bench.ask(4);
  await bench.until('all are served', () => served(asking).length === 4);
  assert.equal(market.open().length, 2);
  market.mishaps.close = ['throws'];
  await bench.run.scheduler.stop();
  assert.equal(market.open().length, 1);
  assert.match(bench.logs.join('\n'), /could not be ended/);
});

test('a stop that is to close every lease closes those too that would outlive it, and tries again', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(4);
  await bench.until('all are served', () => served(asking).length === 4);
  assert.equal(market.open().length, 2);
  market.mishaps.close = ['throws', 'unknown'];
  let stopped = false;
  const stop = bench.run.scheduler.stop({ closeLeases: true }).then(() => (stopped = true));
  await bench.until('it stops', () => stopped, 30_000);
  await stop;
  assert.deepEqual(market.open(), []);
  assert.deepEqual(bench.run.scheduler.replicas(), []);
});

test('a lease that cannot be closed for a minute is named, and the stop ends', async (t) => {
  const { bench, market } = await setup(t);
  bench.ask(1);
  await bench.until('a lease is made', () => market.open().length === 1);
  market.mishaps.close = Array.from({ length: 200 }, () => 'throws' as const);
  let stopped = false;
  const stop = bench.run.scheduler.stop({ closeLeases: true }).then(() => (stopped = true));
  const took = await bench.until('it stops', () => stopped);
  await stop;
  assert.ok(took >= 55_000, `${took} ms`);
  assert.match(bench.logs.join('\n'), /lease \S+ is still open/);
});

test('a market that does not answer holds a stop up for twenty seconds, not for ever', async (t) => {
  const { bench, market } = await setup(t);
  const never = Promise.withResolvers<void>();
  market.mishaps.tender = [never.promise];
  bench.ask(1);
  await bench.pass(500);
  let stopped = false;
  const stop = bench.run.scheduler.stop().then(() => (stopped = true));
  await bench.pass(19_000);
  assert.equal(stopped, false);
  await bench.pass(2000);
  assert.equal(stopped, true);
  assert.match(bench.logs.join('\n'), /still under way: rep-/);
  never.resolve();
  await stop;
});

async function setup(
  t: TestContext,
  options: Pick<Partial<BenchOptions>, 'specs'> = {},
  market: Parameters<typeof fakeMarket>[1] = {},
): Promise<{ bench: Bench; market: FakeMarket }> {
  const made: FakeMarket[] = [];
  const markets = (clock: FakeClock): FakeMarket[] => {
    if (made.length === 0) made.push(fakeMarket(clock, market));
    return made;
  };
  const bench = await openBench(t, { ...options, markets });
  const [first] = made;
  assert.ok(first);
  return { bench, market: first };
}
