import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { PoolInput } from '../../src/spec.ts';
import type { FakeMarket, FakeProvider } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, type Bench } from './loop-bench.ts';

const ONE: Partial<PoolInput> = { replicas: { min: 1, max: 2 }, limits: { drain_s: 60 } };

test('a replica moves to a provider that has become cheaper: the new one is ready first, then the old one goes', async (t) => {
  const { bench, market } = await setup(t);
  const [old] = market.open();
  const working = bench.run.pool.router.tryTake();
  market.providersOf.push(provider('newcomer', 200_000n));
  let fewest = Infinity;
  await bench.until(
    'the old one drains',
    async () => {
      fewest = Math.min(fewest, bench.run.pool.router.stats.ready);
      return (await bench.decisions('replica.draining')).length === 1;
    },
    900_000,
  );
  assert.equal(fewest, 1);
  assert.equal(working?.lost, false, 'its answer may end');
  const placed = (await bench.decisions('order.placed')).at(-1);
  assert.match(
    placed?.reason ?? '',
    /^rep-1 at steady costs 0.288 USD\/h, newcomer asks 0.144: 3.4\d USD saved in the 24 h/,
  );
  assert.deepEqual([placed?.detail['why'], placed?.detail['to']], ['cheaper', 'newcomer']);
  const [drained] = await bench.decisions('replica.draining');
  assert.match(drained?.reason ?? '', /has taken its place: it costs less/);
  working?.release('served');
  await bench.until('the old lease is closed', () => market.world.leases.get(old?.id ?? '')?.state === 'closed');
  assert.deepEqual(
    market.open().map((lease) => lease.provider),
    ['newcomer'],
  );
  await bench.pass(1_800_000);
  assert.equal(market.count('accept'), 2, 'and there it stays');
});

test('an order for a move asks for no more than what makes it pay, and one that fell is not repeated for a while', async (t) => {
  const { bench, market } = await setup(t);
  market.providersOf.push(provider('tease', 200_000n));
  // It publishes a price at which it does not bid.
  market.mishaps.tender = ['refused'];
  await bench.until('the order fell', async () => (await bench.decisions('order.fell')).length === 1, 900_000);
  const [order] = await bench.records.listOrders(1);
  assert.equal(order?.offer.limited, true);
  assert.equal(order.offer.ceilingUsdPerHour, '0.2448', '15 % below what the replica costs');
  const atMs = bench.clock.now();
  await bench.until('it is tried again', async () => (await bench.decisions('order.placed')).length === 3, 900_000);
  assert.ok(bench.clock.now() - atMs > 590_000, 'ten minutes later');
  assert.equal(bench.run.pool.router.stats.ready, 1);
});

test('on a market that publishes no prices, only bids for orders of our own are known', async (t) => {
  const { bench, market } = await setup(t, 'akash', ONE);
  market.providersOf.push(provider('unseen', 100_000n));
  await bench.pass(900_000);
  assert.equal(market.count('tender'), 1, 'nobody is asked only to learn its price');
  const asking = bench.ask(3);
  await bench.until('a second replica is there', () => bench.run.pool.router.stats.ready === 2);
  for (const { slot } of asking) slot?.release('served');
  const second = market.open().find(({ provider: owner }) => owner === 'unseen');
  await bench.run.scheduler.closeLease(second?.id ?? '');
  const moved = async (): Promise<boolean> => (await bench.decisions('replica.draining')).length === 2;
  await bench.until('the first one moves there', moved, 900_000);
  const placed = (await bench.decisions('order.placed')).at(-1);
  assert.match(placed?.reason ?? '', /rep-1 at steady costs 0.288 USD\/h, unseen bid 0.072/);
});

const provider = (id: string, price: bigint): FakeProvider => ({ id, price, delivers: 'running' });

/** A pool with a ready replica at `steady`. */
async function setup(
  t: TestContext,
  name: 'local' | 'akash' = 'local',
  input: Partial<PoolInput> = ONE,
): Promise<{ bench: Bench; market: FakeMarket }> {
  let made: FakeMarket | null = null;
  const providers = [provider('steady', 400_000n)];
  const bench = await openBench(t, {
    specs: [testSpec(input)],
    markets: (clock) => [(made ??= fakeMarket(clock, { providers, name }))],
  });
  assert.ok(made);
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  return { bench, market: made };
}
