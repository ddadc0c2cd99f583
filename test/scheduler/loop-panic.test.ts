import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { AppError } from '../../src/errors.ts';
import type { Scheduler } from '../../src/scheduler/loop.ts';
import type { FakeClock } from '../fakes/clock.ts';
import { FakeMarket, newWorld, type FakeWorld, type Mishap, type Operation } from '../fakes/markets.ts';
import { openBench, providers, served, type Bench, type Run } from './loop-bench.ts';

const MANY = 60;

test('every lease of every market ends, requests are turned away, nothing is ordered until it is taken back', async (t) => {
  const { bench, markets, run } = await setup(t);
  const asking = bench.ask(2);
  await bench.until('served', () => served(asking).length === 2);
  // A lease that no replica has: of an earlier life, or made by hand.
  const [first, second] = markets;
  await stranger(second, 'ord-stranger');
  await press(run, 'drill');
  const took = await bench.until('all is closed', () => open(markets).length === 0, 20_000);
  assert.ok(took < 10_000, `${took} ms, though requests are at work`);
  assert.deepEqual(run.scheduler.replicas(), []);
  const orders = first.count('tender');
  const [late] = bench.ask(1);
  await bench.pass(5000);
  assert.ok(late?.error instanceof AppError && late.error.code === 'no_capacity');
  assert.equal(late.error.message, 'no machine can be had: stopped by the operator');
  assert.equal(first.count('tender'), orders, 'no order');
  await run.scheduler.panic.off();
  run.scheduler.wake();
  const [next] = bench.ask(1);
  await bench.until('served again', () => next?.slot !== null);
});

test('a market that will not close is asked until it does, and what it said is shown', async (t) => {
  const { bench, markets, run } = await setup(t);
  await bench.until('ready', () => (bench.ask(1), run.pool.router.stats.ready > 0));
  for (const market of markets) market.mishaps.close = Array.from({ length: 5 }, () => 'refused' as const);
  await press(run, 'drill');
  await bench.pass(2000);
  const [replica] = run.scheduler.replicas();
  assert.equal(replica?.state, 'closing');
  assert.match(run.scheduler.whyOpen(replica.id) ?? '', /./);
  await press(run, 'again, with another reason');
  assert.equal(run.scheduler.panic.stop?.reason, 'drill', 'pressed twice is pressed once');
  await bench.until('it is closed', () => open(markets).length === 0, 60_000);
});

test('a restart does not take it back, and what was left open is closed by the next run', async (t) => {
  const { bench, markets, run, restart } = await setup(t);
  await bench.until('ready', () => (bench.ask(1), run.pool.router.stats.ready > 0));
  for (const market of markets) market.mishaps.close = Array.from({ length: MANY }, () => 'unknown' as const);
  await press(run, 'drill');
  await bench.pass(1000);
  assert.equal(open(markets).length, 1);
  bench.kill();
  const next = await restart();
  assert.equal(next.run.scheduler.panic.stop?.reason, 'drill');
  await bench.until('it is closed', () => open(next.markets).length === 0, 30_000);
  const [asking] = bench.ask(1, next.run);
  await bench.pass(3000);
  assert.ok(asking?.error instanceof AppError);
  await next.run.scheduler.panic.off();
  const last = await restart();
  assert.equal(last.run.scheduler.panic.stop, null, 'taken back for good');
});

test('whatever the markets do and whenever it is pressed, in the end no lease and no order is left', async (t) => {
  const mishap = fc.record({
    market: fc.nat(1),
    operation: fc.constantFrom<Operation>('tender', 'accept', 'cancel', 'deploy', 'close', 'list', 'status', 'order'),
    what: fc.constantFrom<Mishap>('unknown', 'unknown_but_done', 'throws'),
  });
  const story = fc.record({
    mishaps: fc.array(mishap, { maxLength: 20 }),
    asked: fc.integer({ min: 1, max: 8 }),
    pressMs: fc.integer({ min: 0, max: 8000 }),
    restart: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(story, async ({ mishaps, asked, pressMs, restart: again }) => {
      const { bench, markets, run, restart } = await setup(t);
      for (const { market, operation, what } of mishaps) {
        const row = markets[market]?.mishaps ?? {};
        row[operation] = [...(row[operation] ?? []), what];
      }
      bench.ask(asked);
      await bench.pass(pressMs);
      await press(run, 'drill');
      if (again) bench.kill();
      const now = again ? await restart() : { run, markets };
      await bench.until('all replicas are gone', () => now.run.scheduler.replicas().length === 0, 600_000);
      await bench.until('all markets were looked through', () => now.run.scheduler.unswept().length === 0, 60_000);
      assert.deepEqual(open(now.markets), []);
      const orders = now.markets.flatMap(({ world }) =>
        [...world.orders.values()].filter(({ state }) => state === 'open'),
      );
      assert.deepEqual(orders, []);
    }),
    { numRuns: 25 },
  );
});

type Markets = readonly [FakeMarket, FakeMarket];

async function press({ scheduler }: { readonly scheduler: Scheduler }, reason: string): Promise<void> {
  await scheduler.panic.on(reason);
  scheduler.sweepAgain();
}

function open(markets: Markets): string[] {
  return markets.flatMap((market) => market.open().map(({ id }) => id));
}

async function stranger(market: FakeMarket, orderId: string): Promise<void> {
  const { testOrder } = await import('../fakes/market-samples.ts');
  await market.tender(testOrder(orderId));
  const [bid] = (await market.order(orderId))?.bids ?? [];
  await market.accept(orderId, bid?.id ?? '', 1_000_000_000n);
  assert.ok(market.open().length > 0);
}

interface Setup {
  readonly bench: Bench;
  readonly markets: Markets;
  readonly run: Run;
  readonly restart: () => Promise<{ readonly run: Run; readonly markets: Markets }>;
}

async function setup(t: TestContext): Promise<Setup> {
  const worlds: readonly [FakeWorld, FakeWorld] = [newWorld(), newWorld()];
  let markets: Markets | null = null;
  const make = (clock: FakeClock): Markets => {
    const [a, b] = worlds;
    const common = { clock, providers: providers() };
    markets = [new FakeMarket({ ...common, world: a }), new FakeMarket({ ...common, name: 'owned', world: b })];
    return markets;
  };
  const made = (): Markets => {
    assert.ok(markets);
    return markets;
  };
  const bench = await openBench(t, { markets: make });
  const restart: Setup['restart'] = async () => ({ run: await bench.start(), markets: made() });
  return { bench, markets: made(), run: bench.run, restart };
}
