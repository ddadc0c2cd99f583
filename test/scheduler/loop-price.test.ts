import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { OrderRecord } from '../../src/scheduler/records.ts';
import type { FakeMarket, FakeProvider } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench } from './loop-bench.ts';

const SOLO = testSpec({ replicas: { min: 0, max: 1 } });

test('an order starts from the bids seen and is placed again at once, a step higher, when nobody bids', async (t) => {
  const { bench, market } = await setup(t);
  await useOnce(bench);
  market.providersOf.splice(0, 1, provider('dear', 160_000n));
  const asking = bench.ask(1);
  const tookMs = await bench.until('it is served', () => served(asking).length === 1);
  assert.ok(tookMs < 3000, `${tookMs} ms: a step is no failure that has to be waited out`);
  assert.deepEqual(await steps(bench), [
    ['won', 833_333n, "the operator's cap: no bid was seen yet"],
    ['fell', 112_000n, 'three quarters of 1 bid seen'],
    ['fell', 140_000n, 'three quarters of 1 bid seen, raised: step 1'],
    ['won', 180_000n, 'three quarters of 1 bid seen, raised: step 2'],
  ]);
  const [first] = await bench.decisions('order.fell');
  assert.equal(first?.reason, 'nobody bid at up to 0.08064 USD/h: the next order offers more');
  assert.equal(market.open()[0]?.provider, 'dear');
});

test('the step is remembered over a restart, and so is what was bid', async (t) => {
  const { bench, market } = await setup(t);
  await useOnce(bench);
  market.providersOf.splice(0, 1);
  bench.ask(1);
  await bench.until('two orders fell', async () => (await bench.decisions('order.fell')).length >= 2);
  bench.kill();
  const before = (await steps(bench)).map(([, ceiling]) => ceiling);
  assert.deepEqual(before.slice(0, 3), [833_333n, 112_000n, 140_000n]);
  const run = await bench.start();
  bench.ask(1, run);
  await bench.until('another one is placed', async () => (await steps(bench)).length > before.length);
  const all = await steps(bench);
  const fell = all.slice(1, before.length).flatMap(([state, ceiling]) => (state === 'fell' ? [ceiling] : []));
  const after = all[before.length]?.[1] ?? 0n;
  assert.ok(after > 140_000n && fell.slice(0, -1).every((one) => one < after), `${after} after ${before.join()}`);
});

test('steps end at the cap, and only then it is waited before the next order', async (t) => {
  const { bench, market } = await setup(t);
  await useOnce(bench);
  market.providersOf.splice(0, 1, provider('greedy', 840_000n));
  bench.ask(1);
  await bench.until('the cap is reached', async () =>
    (await steps(bench)).some(([, one], at) => at > 0 && one === 833_333n),
  );
  const placed = (await steps(bench)).length;
  assert.equal(placed, 11, 'once in the beginning, nine steps, and the cap');
  await bench.pass(4000);
  const later = await steps(bench);
  assert.ok(later.length <= placed + 2, `${later.length - placed} more orders in four seconds`);
  assert.ok(later.every(([, ceiling]) => ceiling <= 833_333n));
});

/** Somebody asks once; the machine is returned, and its bid was seen. */
async function useOnce(bench: Bench): Promise<void> {
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  asking[0]?.slot?.release('served');
  await bench.until('it is given back', () => bench.run.scheduler.replicas().length === 0, 240_000);
}

/** Of the orders so far: what became of each, its ceiling per block, and why it was so high. */
async function steps(bench: Bench): Promise<[OrderRecord['state'], bigint, string | undefined][]> {
  const orders = (await bench.records.listOrders()).toReversed();
  return orders.map(({ state, markets }) => [state, markets[0]?.ceilingNanoUsdPerBlock ?? 0n, markets[0]?.why]);
}

const provider = (id: string, price: bigint): FakeProvider => ({ id, price, delivers: 'running' });

async function setup(t: TestContext): Promise<{ bench: Bench; market: FakeMarket }> {
  let made: FakeMarket | null = null;
  const providers = [provider('cheap', 100_000n)];
  const markets = (clock: Bench['clock']): readonly FakeMarket[] => [(made ??= fakeMarket(clock, { providers }))];
  const bench = await openBench(t, { markets, specs: [SOLO] });
  assert.ok(made);
  return { bench, market: made };
}
