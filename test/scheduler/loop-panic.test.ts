import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { AppError } from '../../src/errors.ts';
import { systemClock } from '../../src/clock.ts';
import { createMemoryLedger } from '../../src/ledger/memory.ts';
import { moneyOperations } from '../../src/node/money-operations.ts';
import type { FakeClock } from '../fakes/clock.ts';
import type { SchedulerRecords } from '../../src/scheduler/records.ts';
import { FakeMarket, newWorld, type FakeWorld, type Mishap, type Operation } from '../fakes/markets.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { openBench, providers, served, type Bench, type Run } from './loop-bench.ts';

const MANY = 60;

test('every lease of every market ends, requests are turned away, nothing is ordered until it is taken back', async (t) => {
  const { bench, markets, run } = await setup(t);
  const asking = bench.ask(2);
  await bench.until('served', () => served(asking).length === 2);
  // A lease that no replica has: of an earlier life, or made by hand.
  const [first, second] = markets;
  await stranger(second, 'ord-stranger');
  await press(run, { markets, records: bench.records }, 'drill');
  const took = await bench.until('all is closed', () => open(markets).length === 0, 20_000);
  assert.ok(took < 10_000, `${took} ms, though requests are at work`);
  assert.deepEqual(run.scheduler.replicas(), []);
  const orders = first.count('tender');
  const [late] = bench.ask(1);
  await bench.pass(5000);
  assert.ok(late?.error instanceof AppError && late.error.code === 'no_capacity');
  assert.equal(late.error.message, 'no machine can be had: stopped by the operator');
  assert.equal(first.count('tender'), orders, 'no order');
  const view = (await buttonOf(run, { markets, records: bench.records }).panic()) as View;
  assert.deepEqual([view.done, view.open, view.unchecked], [true, [], []]);
  await buttonOf(run, { markets, records: bench.records }).endPanic();
  const [next] = bench.ask(1);
  await bench.until('served again', () => next?.slot !== null);
});

test('a market that will not close is asked until it does, and what it said is shown', async (t) => {
  const { bench, markets, run } = await setup(t);
  bench.ask(1);
  await bench.until('ready', () => run.pool.router.stats.ready === 1);
  for (const market of markets) market.mishaps.close = Array.from({ length: 5 }, () => 'refused' as const);
  await press(run, { markets, records: bench.records }, 'drill');
  await bench.pass(2000);
  const view = (await buttonOf(run, { markets, records: bench.records }).panic()) as View;
  assert.deepEqual([view.stopped, view.reason, view.done], [true, 'drill', false]);
  assert.deepEqual(
    view.open.map(({ lease, state, market }) => [lease, state, market]),
    [[open(markets)[0], 'closing', 'akash']],
  );
  assert.equal(view.open[0]?.why, 'not today');
  await press(run, { markets, records: bench.records }, 'again, with another reason');
  assert.equal(run.scheduler.panic.stop?.reason, 'drill', 'pressed twice is pressed once');
  await bench.until('it is closed', () => open(markets).length === 0, 60_000);
});

test('a lease whose market is not configured any more is named: nobody here can close it', async (t) => {
  const { bench, markets, run, restart } = await setup(t);
  bench.ask(1);
  await bench.until('ready', () => run.pool.router.stats.ready === 1);
  const [lease] = open(markets);
  bench.kill();
  const next = await restart([]);
  const button = { markets: [] as unknown as Markets, records: bench.records };
  await press(next.run, button, 'drill');
  await bench.until('its replica is gone', () => next.run.scheduler.replicas().length === 0, 30_000);
  const view = (await buttonOf(next.run, button).panic()) as View;
  assert.equal(open(markets).length, 1);
  assert.deepEqual(
    view.abandoned.map((one) => one.lease),
    [lease],
  );
  assert.match(view.abandoned[0]?.why ?? '', /not configured/);
});

test('a restart does not take it back, and what was left open is closed by the next run', async (t) => {
  const { bench, markets, run, restart } = await setup(t);
  bench.ask(1);
  await bench.until('ready', () => run.pool.router.stats.ready === 1);
  for (const market of markets) market.mishaps.close = Array.from({ length: MANY }, () => 'unknown' as const);
  await press(run, { markets, records: bench.records }, 'drill');
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
      await press(run, { markets, records: bench.records }, 'drill');
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

interface View {
  readonly stopped: boolean;
  readonly reason: string | null;
  readonly done: boolean;
  readonly unchecked: readonly string[];
  readonly abandoned: readonly { readonly lease: unknown; readonly why: string }[];
  readonly open: readonly { lease: string | null; state: string; market: string | null; why: string }[];
}

type Markets = readonly [FakeMarket, FakeMarket];

interface Pressed {
  readonly markets: Markets;
  readonly records: SchedulerRecords;
}

/** As the admin route does it. */
function buttonOf({ scheduler }: Run, { markets, records }: Pressed): ReturnType<typeof moneyOperations> {
  const ledger = createMemoryLedger(systemClock);
  return moneyOperations({
    scheduler,
    records,
    markets: new Map(markets.map((market) => [market.name, market])),
    ledger,
  });
}

async function press(run: Run, pressed: Pressed, reason: string): Promise<void> {
  await buttonOf(run, pressed).startPanic(reason);
}

function open(markets: Markets): string[] {
  return markets.flatMap((market) => market.open().map(({ id }) => id));
}

async function stranger(market: FakeMarket, orderId: string): Promise<void> {
  await market.tender(testOrder(orderId));
  const [bid] = (await market.order(orderId))?.bids ?? [];
  await market.accept(orderId, bid?.id ?? '', 1_000_000_000n);
  assert.ok(market.open().length > 0);
}

interface Setup {
  readonly bench: Bench;
  readonly markets: Markets;
  readonly run: Run;
  readonly restart: (without?: readonly []) => Promise<{ readonly run: Run; readonly markets: Markets }>;
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
  const restart: Setup['restart'] = async (without) => ({
    run: await bench.start(without ? { markets: () => without } : {}),
    markets: made(),
  });
  return { bench, markets: made(), run: bench.run, restart };
}
