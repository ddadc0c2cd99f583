import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { FakeClock } from '../fakes/clock.ts';
import type { FakeMarket, FakeProvider } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench, type BenchOptions } from './loop-bench.ts';

const SOLO = testSpec({ replicas: { min: 0, max: 1 } });

test('a replica takes requests only once it has answered its probe', async (t) => {
  const { bench, market } = await setup(t);
  let tries = 0;
  bench.probe.answer = () =>
    Promise.resolve().then(() => {
      tries += 1;
      if (tries < 4) throw new Error('still loading');
    });
  const asking = bench.ask(1);
  await bench.until('it was probed twice', () => tries === 2);
  assert.deepEqual([served(asking).length, bench.run.pool.router.stats.ready], [0, 0]);
  assert.equal((await bench.replicas())[0]?.reason, 'not answering yet: still loading');
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(tries, 4);
  assert.deepEqual(new Set(bench.probe.asked), new Set([market.open()[0]?.id]));
  const [target] = asking.map(({ slot }) => slot?.target);
  assert.deepEqual([target?.provider, target?.apiKey, target?.slots], ['cheap', 'lease-key', 2]);
  assert.equal(asking[0]?.slot?.cold, true);
});

test('many requests that wait do not make many probes', async (t) => {
  const { bench } = await setup(t, { specs: [SOLO] });
  bench.probe.answer = () => Promise.reject(new Error('still loading'));
  for (let n = 0; n < 60; n += 1) {
    bench.ask(5);
    await bench.pass(100);
  }
  assert.ok(bench.probe.asked.length <= 6000 / 250, `${bench.probe.asked.length} probes in six seconds`);
});

test('a probe that hangs is cut after twenty seconds and tried again', async (t) => {
  const { bench } = await setup(t);
  let cut = 0;
  bench.probe.answer = (_target, _spec, signal) =>
    new Promise((resolve, reject) => {
      if (cut > 0) resolve();
      signal.addEventListener('abort', () => {
        cut += 1;
        reject(new Error('cut'));
      });
    });
  const asking = bench.ask(1);
  const took = await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(cut, 1);
  assert.ok(took >= 20_000 && took < 23_000, `${took} ms`);
});

test('a provider that fails to deliver is passed over for another, and its lease is closed', async (t) => {
  const providers: FakeProvider[] = [
    { id: 'shaky', price: 100_000n, delivers: 'failed' },
    { id: 'sound', price: 200_000n, delivers: 'running' },
  ];
  const { bench, market } = await setup(t, {}, { providers });
  const asking = bench.ask(1);
  const took = await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(asking[0]?.slot?.target.provider, 'sound');
  assert.deepEqual(
    market.open().map(({ provider }) => provider),
    ['sound'],
  );
  assert.ok(took >= 1000, 'after the pause of a second');
  const [failed] = await bench.decisions('replica.failed');
  assert.deepEqual([failed?.reason, failed?.detail['provider']], ['failed', 'shaky']);
  const [order] = await bench.records.listOrders();
  assert.equal(order?.choice?.table.find(({ provider }) => provider === 'shaky')?.note, 'failed a moment ago');
});

test('a provider that failed is asked again after its quarantine', async (t) => {
  const providers: FakeProvider[] = [{ id: 'shaky', price: 100_000n, delivers: 'failed' }];
  const { bench, market } = await setup(t, {}, { providers });
  const asking = bench.ask(1);
  await bench.until('it failed', async () => (await bench.decisions('replica.failed')).length === 1);
  const [shaky] = market.providersOf;
  if (shaky) shaky.delivers = 'running';
  const took = await bench.until('it is served', () => served(asking).length === 1);
  assert.ok(took >= 29_000 && took < 95_000, `${took} ms`);
  const fell = await bench.decisions('order.fell');
  assert.deepEqual(new Set(fell.map(({ reason }) => reason)), new Set(['no bid is eligible']));
});

test('a start that takes too long is disputed, closed and blamed on its provider', async (t) => {
  const providers: FakeProvider[] = [
    { id: 'slow', price: 100_000n, delivers: 'never' },
    { id: 'sound', price: 200_000n, delivers: 'running' },
  ];
  const specs = [testSpec({ limits: { start_s: 40 } })];
  const { bench, market } = await setup(t, { specs }, { providers });
  const asking = bench.ask(1);
  const took = await bench.until('it is served', () => served(asking).length === 1);
  assert.ok(took >= 40_000 && took < 45_000, `${took} ms`);
  const [lease] = market.world.leases.values();
  assert.deepEqual([lease?.provider, lease?.state, lease?.closeReason], ['slow', 'closed', 'delivery_failed']);
  assert.equal(market.breaches.length, 1);
  assert.equal(lease?.dispute?.reason, 'not ready within 40 s: starting');
});

test('a start-up that fails to be disputed is closed all the same', async (t) => {
  const providers: FakeProvider[] = [{ id: 'slow', price: 100_000n, delivers: 'never' }];
  const specs = [testSpec({ limits: { start_s: 20 } })];
  const { bench, market } = await setup(t, { specs }, { providers });
  market.mishaps.dispute = ['throws'];
  const [asking] = bench.ask(1);
  await bench.until('it failed', async () => (await bench.decisions('replica.failed')).length === 1);
  asking?.leave();
  assert.deepEqual(market.open(), []);
});

test('a lease that its provider ends while ready is told to the router at once and replaced', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  let lost = 0;
  asking[0]?.slot?.onLost(() => (lost += 1));
  market.lose(market.open()[0]?.id ?? '');
  await bench.until('the request is told', () => lost === 1, 1000);
  const again = bench.ask(1);
  await bench.until('another replica serves', () => served(again).length === 1);
  assert.equal(again[0]?.slot?.target.provider, 'dear', 'the one that walked away is passed over');
  const [failed] = await bench.decisions('replica.failed');
  assert.equal(failed?.reason, 'its lease ended: provider');
});

test('a model server that dies while ready is disputed and replaced, and the requests are named that it hit', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  asking[0]?.slot?.release('served');
  const { router } = bench.run.pool;
  const [cut, begun] = ['cut', 'begun'].map((request) => router.tryTake({ request }));
  const [lease] = market.open();
  bench.probe.answer = () => Promise.reject(new Error('ECONNREFUSED'));
  cut?.release('failed');
  const failedMs = bench.clock.now();
  await bench.clock.advance(10);
  market.deliver(lease?.id ?? '', 'failed', 'out of memory');
  await bench.until('its lease is closed', () => market.world.leases.get(lease?.id ?? '')?.state === 'closed', 1000);
  begun?.release('failed');
  assert.equal((await bench.decisions('replica.failed'))[0]?.reason, 'out of memory');
  const [{ kind, reason, requests, measured, fromMs } = assert.fail('no dispute')] = market.breaches;
  assert.deepEqual([kind, reason, requests], ['down', 'out of memory', ['cut', 'begun']]);
  assert.equal(fromMs, failedMs, 'from the first request that it failed');
  assert.equal(measured[0]?.value, 'out of memory');
  assert.equal(market.breaches.length, 1);
});

test('a lease that ran dry is not blamed on its provider', async (t) => {
  const { bench, market } = await setup(t, { specs: [testSpec({ runway_s: 30, replicas: { min: 1, max: 1 } })] });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  const [lease] = market.open();
  assert.ok(lease);
  market.world.leases.set(lease.id, { ...lease, state: 'closed', closeReason: 'overdrawn' });
  market.changed();
  await bench.until('it is replaced', () => market.open().length === 1 && bench.run.pool.router.stats.ready === 1);
  assert.equal(market.open()[0]?.provider, 'cheap');
});

test('an escrow is filled up to the runway each time less than half of it is left', async (t) => {
  const { bench, market } = await setup(t, { specs: [testSpec({ runway_s: 120, replicas: { min: 1, max: 1 } })] });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  const perBlock = 120_000n;
  assert.equal(market.open()[0]?.depositNanoUsd, 20n * perBlock);
  await bench.pass(600_000);
  const [lease] = market.open();
  assert.ok(lease, 'it never ran dry');
  const fills = (await bench.decisions('lease.funded')).length;
  assert.ok(fills >= 8 && fills <= 10, `${fills} payments in ten minutes of two minutes' runway`);
  const left = lease.depositNanoUsd - lease.rentNanoUsd - lease.takeFeeNanoUsd;
  assert.ok(left >= 9n * perBlock && left <= 20n * perBlock, 'no more than the runway lies in escrow');
});

test('a payment whose outcome is unknown is made once', async (t) => {
  const { bench, market } = await setup(t, { specs: [testSpec({ runway_s: 120, replicas: { min: 1, max: 1 } })] });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  market.mishaps.fund = ['unknown_but_done', 'unknown', 'unknown'];
  await bench.pass(200_000);
  const [lease] = market.open();
  const paid = (lease?.depositNanoUsd ?? 0n) / 120_000n;
  const due = 20n + 11n * BigInt(market.world.fundings.size);
  assert.ok(paid <= due + 4n, `${paid} blocks paid in ${market.world.fundings.size} payments`);
  assert.equal(bench.run.pool.router.stats.ready, 1);
});

test('a treasury that cannot pay is told once, and asked again every half minute', async (t) => {
  const { bench, market } = await setup(t, { specs: [testSpec({ runway_s: 600, replicas: { min: 1, max: 1 } })] });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  market.mishaps.fund = Array.from({ length: 5 }, () => 'refused' as const);
  await bench.pass(500_000);
  assert.equal((await bench.decisions('lease.not_funded')).length, 1);
  const [first] = await bench.decisions('lease.funded');
  const [refused] = await bench.decisions('lease.not_funded');
  assert.ok((first?.atMs ?? 0) - (refused?.atMs ?? 0) >= 150_000);
});

test('a deployment whose outcome is unknown is looked at, and a refused one fails at once', async (t) => {
  const { bench, market } = await setup(t, { specs: [SOLO] });
  market.mishaps.deploy = ['unknown_but_done'];
  const asking = bench.ask(2);
  await bench.until('they are served', () => served(asking).length === 2);
  assert.equal(market.count('deploy'), 1);
  const { bench: other, market: strict } = await setup(t, { specs: [SOLO] });
  strict.mishaps.deploy = ['refused'];
  other.ask(1);
  const took = await other.until('it failed', async () => (await other.decisions('replica.failed')).length === 1);
  assert.ok(took < 5000);
  assert.equal((await other.decisions('replica.failed'))[0]?.reason, 'not deployed: not today');
});

test('a market that cannot be reached for a while costs a ready replica nothing', async (t) => {
  const { bench, market } = await setup(t, { specs: [testSpec({ replicas: { min: 1, max: 1 } })] });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  market.mishaps.status = Array.from({ length: 10 }, () => 'throws' as const);
  await bench.pass(30_000);
  assert.equal(bench.run.pool.router.stats.ready, 1);
  const told = bench.logs.filter((line) => line.includes('cannot be reached')).length;
  assert.equal(told, 10, 'each failure once, two seconds apart');
});

async function setup(
  t: TestContext,
  options: Pick<Partial<BenchOptions>, 'specs'> = {},
  market: Parameters<typeof fakeMarket>[1] = {},
): Promise<{ bench: Bench; market: FakeMarket }> {
  const made: FakeMarket[] = [];
  const markets = (clock: FakeClock): FakeMarket[] => {
    made.push(fakeMarket(clock, market));
    return made;
  };
  const bench = await openBench(t, { ...options, markets });
  const [first] = made;
  assert.ok(first);
  return { bench, market: first };
}
