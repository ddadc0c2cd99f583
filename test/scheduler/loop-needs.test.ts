import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { AppError } from '../../src/errors.ts';
import type { Slot } from '../../src/scheduler/pool/slot.ts';
import type { PoolInput } from '../../src/spec.ts';
import { NO_NEEDS, type Needs } from '../../src/spec/trust.ts';
import type { FakeMarket, FakeProvider } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench } from './loop-bench.ts';

const AUDITED: Needs = { ...NO_NEEDS, trust: 'audited' };
const PROVIDERS: FakeProvider[] = [
  { id: 'anybody', price: 50_000n, delivers: 'running', region: 'us' },
  { id: 'checked', price: 100_000n, delivers: 'running', trust: 'audited', region: 'us' },
  { id: 'here', price: 200_000n, delivers: 'running', trust: 'audited', region: 'eu' },
];
const ONE: Partial<PoolInput> = { replicas: { min: 0, max: 1 } };

test('a request that needs an audited machine never gets the cheaper one that waits for work', async (t) => {
  const { bench, market, take } = await setup(t, ONE);
  const [plain] = bench.ask(1);
  await bench.until('a plain request is served', () => plain?.slot?.target.provider === 'anybody');
  plain?.slot?.release('served');
  const strict = take(AUDITED);
  await bench.until('it is served', () => strict.slot !== null);
  assert.equal(strict.slot?.target.provider, 'checked');
  assert.equal(strict.slot?.target.trust, 'audited');
  const order = market.world.requests.get('ord-1-4');
  assert.equal(order?.trust, 'audited', 'and the market was asked for such a one');
  const table = (await bench.records.findOrder('ord-1-4'))?.choice?.table;
  assert.equal(table?.find(({ provider }) => provider === 'anybody')?.note, 'is not audited');
  await bench.until('the idle one is given up: one is the most', () => market.open().length === 1);
  assert.equal(market.open()[0]?.provider, 'checked');
});

test('of regions and providers, too; what nobody gives is refused in the end, with the reason', async (t) => {
  const { bench, take } = await setup(t, { replicas: { min: 0, max: 4 } });
  const eu = take({ ...NO_NEEDS, regions: ['eu', 'uk'] });
  await bench.until('it is served', () => eu.slot !== null);
  assert.equal(eu.slot?.target.provider, 'here');
  const named = take({ ...NO_NEEDS, providers: ['checked'] });
  await bench.until('it is served', () => named.slot !== null);
  assert.equal(named.slot?.target.provider, 'checked');
  const tee = take({ ...NO_NEEDS, trust: 'tee' }, 40_000);
  await bench.until('it is refused', () => tee.error !== null);
  assert.ok(tee.error instanceof AppError && tee.error.code === 'no_capacity');
  assert.match(tee.error.message, /that meets trust tee \(no machine: no bid meets trust tee: \w+ is not on trusted/);
});

test('requests that nobody can serve hold up no others, and cost them no machine', async (t) => {
  const { bench, market, take } = await setup(t, { replicas: { min: 1, max: 1 } });
  await bench.until('one is ready', () => bench.run.pool.router.stats.ready === 1);
  const [first] = market.open();
  take({ ...NO_NEEDS, providers: ['nobody'] }, 300_000);
  await bench.pass(100_000);
  assert.equal(market.world.leases.get(first?.id ?? '')?.state, 'active', 'the warm one stays');
  const asking = bench.ask(2);
  await bench.until('others are served by it', () => served(asking).length === 2, 5000);
  const fell = await bench.decisions('order.fell');
  assert.ok(fell.length >= 3 && fell.length <= 10, `${fell.length} orders within 100 s`);
  // More load than it can take: the failed orders for the other one hold nothing up.
  bench.run.pools.put(testSpec({ replicas: { min: 1, max: 2 } }), 1, 'api');
  const more = bench.ask(2);
  await bench.until('another machine comes for them', () => served(more).length === 2, 10_000);
});

test('a line of requests that all need the same is given machines like that, however long it is', async (t) => {
  const { bench, market, take } = await setup(t, { replicas: { min: 0, max: 3 } });
  const line = Array.from({ length: 6 }, () => take(AUDITED));
  await bench.until('all are served', () => line.every(({ slot }) => slot !== null));
  assert.deepEqual([...new Set(line.map(({ slot }) => slot?.target.trust))], ['audited']);
  assert.equal(market.open().length, 3);
  assert.ok(market.open().every(({ provider }) => provider !== 'anybody'));
});

test('an audited pool takes audited bids only, for prompts and for the secret of its weights', async (t) => {
  const { bench, market } = await setup(t, { ...ONE, trust: 'audited' });
  const [asking] = bench.ask(1);
  await bench.until('it is served', () => asking?.slot?.target.provider === 'checked');
  assert.equal(market.world.requests.get('ord-1-2')?.trust, 'audited');
});

test('weights whose secret only audited providers may see are sent to no other, whatever the pool says', async (t) => {
  const weights = { source: 'org/model', secret: 'env:HF_TOKEN', visible_to: 'audited' as const };
  const { bench, market } = await setup(t, { ...ONE, trust: 'any', weights });
  const [asking] = bench.ask(1);
  await bench.until('it is served', () => asking?.slot?.target.provider === 'checked');
  assert.equal(market.world.requests.get('ord-1-2')?.trust, 'audited');
});

test('replicas of before are used again after a restart, as what their bids said', async (t) => {
  const { bench, take } = await setup(t, { replicas: { min: 0, max: 2 } });
  const [plain, strict] = [bench.ask(1)[0], take(AUDITED)];
  await bench.until('both are served', () => plain?.slot !== null && strict.slot !== null);
  const run = await bench.start();
  await bench.until('they are ready again', () => run.pool.router.stats.ready === 2);
  const again = run.pool.router.tryTake({ needs: AUDITED });
  assert.equal(again?.target.provider, 'checked');
  assert.equal(run.pool.router.targetFor({ ...NO_NEEDS, regions: ['us'] })?.region, 'us');
});

interface Taking {
  slot: Slot | null;
  error: unknown;
}

async function setup(
  t: TestContext,
  input: Partial<PoolInput>,
): Promise<{ bench: Bench; market: FakeMarket; take: (needs: Needs, maxWaitMs?: number) => Taking }> {
  let made: FakeMarket | null = null;
  const bench = await openBench(t, {
    specs: [testSpec(input)],
    markets: (clock) => [(made ??= fakeMarket(clock, { providers: PROVIDERS.map((one) => ({ ...one })) }))],
  });
  assert.ok(made);
  const take = (needs: Needs, maxWaitMs = 600_000): Taking => {
    const taking: Taking = { slot: null, error: null };
    const { signal } = new AbortController();
    bench.run.pool.router.take({ account: 'strict', maxWaitMs, signal, needs }).then(
      (slot) => (taking.slot = slot),
      (error: unknown) => (taking.error = error),
    );
    return taking;
  };
  return { bench, market: made, take };
}
