import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { FakeClock } from '../fakes/clock.ts';
import { newWorld, type FakeMarket, type FakeWorld, type Mishap, type Operation } from '../fakes/markets.ts';
import { testOrder, testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench, type BenchOptions, type Run } from './loop-bench.ts';

const HOUR = 3_600_000;

test('a lease that outlived the gateway is adopted, however old it is, and serves after a probe', async (t) => {
  const { bench, world, restart } = await setup(t);
  const [lease] = await ready(bench, world);
  bench.kill();
  await bench.clock.advance(HOUR);
  const { run, market } = await restart();
  await bench.until('it serves again', () => run.pool.router.stats.ready === 1, 5000);
  assert.deepEqual(
    market.open().map(({ id }) => id),
    [lease?.id],
  );
  assert.equal(market.open()[0]?.dispute, null, 'its start-up is not timed from the lease');
  const [replica] = run.scheduler.replicas();
  assert.ok((replica?.readyMs ?? 0) - (replica?.orderedMs ?? 0) < 10_000, 'it keeps the times of its first start');
  assert.ok((run.pool.router.expectedStartMs ?? HOUR) < 10_000, 'clients are not told to wait for hours');
  assert.equal((await bench.decisions('replica.adopted')).length, 1);
});

test('an adopted lease whose model server does not answer is given up after the time to start', async (t) => {
  const { bench, world, restart } = await setup(t, { specs: [testSpec({ limits: { start_s: 30 } })] });
  await ready(bench, world);
  bench.probe.answer = () => Promise.reject(new Error('nobody is there'));
  const { market } = await restart();
  const took = await bench.until('it is closed', () => market.open().length === 0);
  assert.ok(took >= 30_000 && took < 33_000, `${took} ms`);
});

test('a provider that failed is passed over by the next run too, and taken again when its time is over', async (t) => {
  const { bench, world, restart, market } = await setup(t);
  const [lease] = await ready(bench, world);
  assert.ok(lease?.provider === 'cheap');
  market.deliver(lease.id, 'failed');
  await bench.until('its end is seen', () => market.open().length === 0);
  bench.kill();
  await bench.clock.advance(10_000);
  const asked = async (): Promise<string | undefined> => {
    const { run } = await restart();
    const asking = bench.ask(1, run);
    await bench.until('another serves', () => served(asking).length === 1, 20_000);
    asking[0]?.slot?.release('served');
    return asking[0]?.slot?.target.provider;
  };
  assert.equal(await asked(), 'dear');
  for (const { id } of market.open()) await market.close(id, 'tenant');
  await bench.clock.advance(660_000);
  assert.equal(await asked(), 'cheap');
});

test('a bid that was being taken when the process died is looked up, not taken twice', async (t) => {
  const { bench, restart, market: first } = await setup(t);
  first.mishaps.accept = ['unknown_but_done'];
  first.mishaps.list = Array.from({ length: 100 }, () => 'throws' as const);
  bench.ask(1);
  await bench.until('a lease is made', () => first.open().length === 1);
  const { run, market } = await restart();
  await bench.until('it is ready', () => run.pool.router.stats.ready === 1);
  assert.equal(market.world.leases.size, 1);
  assert.equal(market.count('accept'), 0);
});

test('an order that was open when the process died is withdrawn', async (t) => {
  const { bench, world, restart, market: first } = await setup(t);
  first.mishaps.order = Array.from({ length: 100 }, () => 'throws' as const);
  bench.ask(1);
  await bench.until('an order is out', () => world.orders.size === 1);
  const { run } = await restart();
  assert.deepEqual(
    [...world.orders.values()].map(({ state }) => state),
    ['closed'],
  );
  assert.deepEqual(run.scheduler.replicas(), []);
  const [order] = await bench.records.listOrders();
  assert.equal(order?.state, 'fell');
});

test('leases and orders that nobody knows are ended at the start, and only those', async (t) => {
  const { bench, world, restart } = await setup(t);
  const [known] = await ready(bench, world);
  const stranger = fakeMarket(bench.clock, { world });
  await stranger.tender(testOrder('lost'));
  await stranger.tender(testOrder('lost too'));
  await stranger.accept('lost', 'lost/cheap', 1_000_000n);
  const { market } = await restart();
  assert.deepEqual(
    market.open().map(({ id }) => id),
    [known?.id],
  );
  assert.equal(world.orders.get('lost too')?.state, 'closed');
  const [told] = await bench.decisions('lease.stranger_closed');
  assert.equal(told?.detail['lease'], 'lease-lost');
});

test('strangers are looked for again until the market has answered and has closed them', async (t) => {
  const { bench, world, restart } = await setup(t);
  const stranger = fakeMarket(bench.clock, { world });
  await stranger.tender(testOrder('lost'));
  await stranger.accept('lost', 'lost/cheap', 1_000_000n);
  const { market } = await restart({}, { list: ['throws', 'throws'], close: ['unknown', 'throws'] });
  assert.equal(market.open().length, 1);
  await bench.until('it is closed', () => market.open().length === 0, 20_000);
  const lists = market.count('list');
  await bench.pass(20_000);
  assert.equal(market.count('list'), lists, 'then no more');
});

test('a market that cannot be reached does not keep the gateway from starting, and its leases are kept', async (t) => {
  const { bench, world, restart } = await setup(t);
  const [lease] = await ready(bench, world);
  const { run, market } = await restart({}, { status: ['throws', 'throws', 'throws'], list: ['throws'] });
  await bench.until('it serves again', () => run.pool.router.stats.ready === 1, 20_000);
  assert.deepEqual(
    market.open().map(({ id }) => id),
    [lease?.id],
  );
});

test('a replica that was draining or closing is not taken back into service', async (t) => {
  const { bench, world, restart, market: first } = await setup(t);
  const [lease] = await ready(bench, world);
  first.mishaps.close = Array.from({ length: 100 }, () => 'throws' as const);
  bench.run.pools.remove('tiny');
  await bench.until('it is closing', () => bench.run.scheduler.replicas()[0]?.state === 'closing');
  const { run } = await restart();
  await bench.pass(5000);
  assert.equal(world.leases.get(lease?.id ?? '')?.state, 'closed');
  assert.deepEqual(run.scheduler.replicas(), []);
});

test('replicas whose leases ended with the earlier run are closed, and replaced when they are needed', async (t) => {
  const { bench, world, restart } = await setup(t, { specs: [testSpec({ replicas: { min: 1, max: 1 } })] });
  const [lease] = await ready(bench, world);
  assert.ok(lease);
  world.leases.set(lease.id, { ...lease, state: 'closed', closeReason: 'market_restart' });
  const { run, market } = await restart();
  await bench.until('another one is ready', () => run.pool.router.stats.ready === 1);
  assert.equal(market.open()[0]?.provider, 'cheap', 'nobody is blamed');
  const closed = (await bench.replicas()).find(({ leaseId }) => leaseId === lease.id);
  assert.deepEqual([closed?.state, closed?.failed, closed?.reason], ['closed', false, 'ended with an earlier run']);
});

test('a replica whose market is not configured any more is let go, and that is told', async (t) => {
  const { bench, world, restart } = await setup(t);
  const [lease] = await ready(bench, world);
  const { run } = await restart({ markets: (clock) => [fakeMarket(clock, { name: 'local' })] });
  assert.deepEqual(run.scheduler.replicas(), []);
  const [told] = await bench.decisions('lease.abandoned');
  assert.equal(told?.detail['lease'], lease?.id);
});

test('a replica whose pool is gone from the configuration gives its lease back', async (t) => {
  const { bench, world, restart } = await setup(t);
  await ready(bench, world);
  const { run, market } = await restart({ specs: [testSpec({}, 'another')] });
  await bench.until('it is closed', () => market.open().length === 0, 5000);
  assert.deepEqual(run.scheduler.replicas(), []);
});

test('an order that was won just before the process died is told as won', async (t) => {
  const { bench, world, restart } = await setup(t);
  await ready(bench, world);
  const [won] = await bench.records.listOrders();
  assert.ok(won);
  await bench.records.saveOrder({ ...won, state: 'open', closedMs: null });
  await restart();
  assert.equal((await bench.records.findOrder(won.id))?.state, 'won');
});

interface Setup {
  readonly bench: Bench;
  readonly world: FakeWorld;
  readonly market: FakeMarket;
  /** Kills the scheduler (nothing of it goes on) and starts another over the same file and the same market. */
  readonly restart: (
    change?: Partial<BenchOptions>,
    mishaps?: Partial<Record<Operation, Mishap[]>>,
  ) => Promise<{ run: Run; market: FakeMarket }>;
}

async function setup(t: TestContext, options: Pick<Partial<BenchOptions>, 'specs'> = {}): Promise<Setup> {
  const world = newWorld();
  const made: FakeMarket[] = [];
  const open = (clock: FakeClock, mishaps: FakeMarket['mishaps'] = {}): FakeMarket[] => {
    const market = fakeMarket(clock, { world });
    Object.assign(market.mishaps, mishaps);
    made.push(market);
    return [market];
  };
  const bench = await openBench(t, { ...options, markets: (clock) => open(clock) });
  const last = (): FakeMarket => {
    const market = made.at(-1);
    assert.ok(market);
    return market;
  };
  const restart: Setup['restart'] = async (change = {}, mishaps = {}) => {
    const run = await bench.start({ ...options, markets: (clock) => open(clock, mishaps), ...change });
    return { run, market: last() };
  };
  return { bench, world, market: last(), restart };
}

async function ready(bench: Bench, world: FakeWorld): Promise<ReturnType<FakeMarket['open']>> {
  const asking = bench.ask(1);
  await bench.until('a replica is ready', () => served(asking).length === 1 || bench.run.pool.router.stats.ready === 1);
  asking[0]?.slot?.release('served');
  return [...world.leases.values()];
}
