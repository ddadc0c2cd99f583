import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { viewProviders } from '../../src/node/provider-view.ts';
import { newWorld, type FakeMarket, type FakeProvider } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench, type BenchOptions, type Run } from './loop-bench.ts';
import { DAY, HOUR } from './track-samples.ts';

const EQUAL: readonly FakeProvider[] = [
  { id: 'first', price: 100_000n, delivers: 'running' },
  { id: 'second', price: 100_000n, delivers: 'running' },
];

test('of two that ask the same, the one whose lease failed loses, long after its quarantine too; in the end it comes back', async (t) => {
  const { bench, market, serveOne, restart, scheduler } = await setup(t);
  assert.equal(await serveOne(), 'first', 'of equals the first');
  market().lose(market().open()[0]?.id ?? '');
  await bench.until('its end is seen', () => market().open().length === 0);
  const after = async (ms: number): Promise<string | undefined> => {
    for (const { id } of market().open()) await scheduler().closeLease(id);
    await bench.until('nothing is leased', () => market().open().length === 0);
    bench.kill();
    await bench.clock.advance(ms);
    return serveOne(await restart());
  };
  assert.equal(await after(HOUR), 'second', 'its quarantine of 30 s is over, its record is not');
  const [order] = await bench.records.listOrders();
  const table = order?.choice?.table ?? [];
  assert.match(table.find(({ provider }) => provider === 'first')?.note ?? '', /1 lease, 1 failed: \d/);
  assert.equal(await after(7 * DAY), 'second');
  assert.equal(await after(90 * DAY), 'first');
});

test('a failure is recorded with its cause, its quarantine, and the time it took', async (t) => {
  const causes: Record<string, (bench: Bench, market: FakeMarket) => Promise<void> | void> = {
    closed_by_provider: (_, market) => market.lose(market.open()[0]?.id ?? ''),
    died: (_, market) => market.deliver(market.open()[0]?.id ?? '', 'failed', 'out of memory'),
    silent: ({ probe, run }) => {
      probe.answer = () => Promise.reject(new Error('ECONNREFUSED'));
      run.pool.router.tryTake()?.release('failed');
    },
  };
  for (const [cause, happen] of Object.entries(causes)) {
    const { bench, market, serveOne } = await setup(t);
    await serveOne();
    await bench.pass(10_000);
    await happen(bench, market());
    await bench.until('it failed', async () => (await bench.decisions('replica.failed')).length === 1);
    const { book } = bench.run.scheduler;
    const record = book.find({ market: 'akash', provider: 'first' });
    assert.deepEqual(Object.keys(record?.failures ?? {}), [cause]);
    assert.deepEqual([record?.bids, record?.won, record?.started.count], [1, 1, 1]);
    assert.ok((record?.readyMs ?? 0) >= 10_000 && (record?.lostMs ?? 0) > 0);
    assert.match(book.quarantine({ market: 'akash', provider: 'first' })?.reason ?? '', new RegExp(`^${cause}: `));
    assert.equal((await bench.decisions('replica.failed'))[0]?.detail['cause'], cause);
  }
});

test('a start-up that comes to nothing counts for a third while nobody has brought that description up, then in full', async (t) => {
  const providers: FakeProvider[] = [
    { id: 'first', price: 100_000n, delivers: 'failed' },
    { id: 'second', price: 200_000n, delivers: 'running' },
  ];
  const { bench, market, serveOne, book } = await setup(t, { providers });
  assert.equal(await serveOne(), 'second');
  const weight = (): number =>
    book().find({ market: 'akash', provider: 'first' })?.failures.delivery_failed?.weight ?? 0;
  assert.ok(Math.abs(weight() - 0.3) < 0.001, 'it may have been the description');
  const [lease] = market().open();
  await market().close(lease?.id ?? '', 'tenant');
  // Ten minutes long it would be passed over while another bids.
  await bench.pass(600_000);
  await serveOne();
  assert.ok(weight() > 1.29, 'another has brought it up: it was the provider');
});

test('nobody is blamed for what was ours: a close by the operator, an idle end, a roll-out, an empty escrow, a stop', async (t) => {
  const ends: Record<string, (on: Setup) => Promise<void>> = {
    operator: async ({ bench, market }) => void (await bench.run.scheduler.closeLease(market().open()[0]?.id ?? '')),
    idle: ({ bench }) => bench.pass(61_000),
    'roll-out': async ({ bench }) => {
      bench.run.pools.put(testSpec({ model: 'another' }), 2, 'api');
      await bench.pass(61_000);
    },
    overdrawn: async ({ bench, market }) => {
      const [lease] = market().open();
      assert.ok(lease);
      market().world.leases.set(lease.id, { ...lease, state: 'closed', closeReason: 'overdrawn' });
      await bench.pass(5000);
    },
    budget: async ({ bench }) => {
      bench.run.pools.put(testSpec({ budget: { usd_per_day: '0.000001' } }), 2, 'api');
      await bench.pass(5000);
    },
    panic: async ({ bench }) => {
      await bench.run.scheduler.panic.on('a test');
      bench.run.scheduler.wake();
      await bench.pass(5000);
    },
    stop: async ({ bench }) => {
      // What was asked of it when the gateway stopped stays unanswered.
      bench.probe.answer = (_, __, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('stopped'))));
      for (let n = 0; n < 3; n += 1) bench.run.pool.router.tryTake()?.release('failed');
      await bench.pass(1000);
      const stopping = bench.run.scheduler.stop({ closeLeases: true });
      await bench.pass(30_000);
      await stopping;
    },
  };
  for (const [what, end] of Object.entries(ends)) {
    const on = await setup(t);
    await on.serveOne();
    await on.bench.pass(1000);
    const lease = on.market().open()[0]?.id ?? '';
    await end(on);
    await on.bench.until(`it is over (${what})`, () => on.market().world.leases.get(lease)?.state === 'closed');
    await on.bench.pass(3000);
    const record = on.book().find({ market: 'akash', provider: 'first' });
    assert.deepEqual(record?.failures, {}, what);
    assert.equal(on.book().quarantine({ market: 'akash', provider: 'first' }), null, what);
    assert.ok((record?.readyMs ?? 0) > 0, `what it served counts (${what})`);
  }
});

test('records outlive a restart; what a crash kept from being written is made up for from the replicas, once', async (t) => {
  const { bench, market, serveOne, restart, book } = await setup(t);
  await serveOne();
  await bench.pass(10_000);
  market().lose(market().open()[0]?.id ?? '');
  await bench.until('its end is seen', () => market().open().length === 0);
  const who = { market: 'akash', provider: 'first' };
  const before = book().find(who);
  assert.ok(before);
  await restart();
  assert.deepEqual(book().find(who), before);
  assert.equal(book().quarantine(who)?.inRow, 1);
  // As if the process had died between the replica's row and its provider's.
  await bench.records.tracks.save('provider', 'akash/first', {
    ...before,
    atMs: 0,
    started: { count: 0, weight: 0 },
    failures: {},
  });
  for (const times of [1, 2]) {
    await restart();
    const after = book().find(who);
    assert.deepEqual([after?.started.count, after?.failures.closed_by_provider?.count], [1, 1], `start ${times}`);
  }
});

test('operators are told each term of a score, and of a quarantine its end and reason', async (t) => {
  const { bench, market, serveOne } = await setup(t);
  await serveOne();
  market().lose(market().open()[0]?.id ?? '');
  await bench.until('its end is seen', () => market().open().length === 0);
  const { scheduler } = bench.run;
  const markets = new Map([['akash', market()]] as const);
  const deps = { clock: bench.clock, markets, book: scheduler.book, replicas: scheduler.replicas() };
  const [first, second] = await viewProviders(deps);
  assert.ok(first);
  assert.equal(first['id'], 'first');
  assert.ok(Number(first?.['failure_chance']) > Number(second?.['failure_chance']));
  assert.match(String(first?.['quarantined_until']), /^2023-11-/);
  assert.match(JSON.stringify(first?.['quarantine']), /closed_by_provider: its lease ended: provider/);
  assert.deepEqual(
    (first['terms'] as { name: string }[]).map(({ name }) => name),
    ['start_failure', 'loss_per_hour', 'start_ms', 'speed'],
  );
  const record = first?.['record'] as { failures: unknown; start_ups: { count: number; phases_mean_ms: object } };
  assert.deepEqual(record.failures, [{ cause: 'closed_by_provider', count: 1, weight: 1 }]);
  assert.equal(record.start_ups.count, 1);
  assert.deepEqual(Object.keys(record.start_ups.phases_mean_ms), [
    'bid',
    'choice_and_lease',
    'image',
    'weights',
    'load',
  ]);
  assert.equal(second?.['quarantined_until'], null);
  const left = await viewProviders({ ...deps, markets: new Map() });
  assert.ok(
    left.some(({ id, listed }) => id === 'first' && listed === false),
    'one that is gone is still known',
  );
});

interface Setup {
  readonly bench: Bench;
  readonly market: () => FakeMarket;
  readonly book: () => Run['scheduler']['book'];
  readonly scheduler: () => Run['scheduler'];
  /** Asks for a slot and says whose machine it was on. */
  readonly serveOne: (run?: Run) => Promise<string | undefined>;
  /** Another process over the same file and market. */
  readonly restart: () => Promise<Run>;
}

async function setup(
  t: TestContext,
  { providers = EQUAL }: { providers?: readonly FakeProvider[] } = {},
): Promise<Setup> {
  const world = newWorld();
  let made: FakeMarket | null = null;
  const markets: BenchOptions['markets'] = (clock) => [(made = fakeMarket(clock, { providers, world }))];
  const bench = await openBench(t, { markets });
  let last = bench.run;
  return {
    bench,
    market: () => made ?? assert.fail('no market'),
    book: () => last.scheduler.book,
    scheduler: () => last.scheduler,
    restart: async () => (last = await bench.start()),
    serveOne: async (run = last) => {
      const asking = bench.ask(1, run);
      await bench.until('it is served', () => served(asking).length === 1);
      const [one] = asking;
      one?.slot?.release('served');
      return one?.slot?.target.provider;
    },
  };
}
