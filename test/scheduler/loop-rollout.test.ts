import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { FakeMarket, FakeProvider } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import type { PoolInput } from '../../src/spec.ts';
import { fakeMarket, openBench, served, type Bench } from './loop-bench.ts';

const IMAGE = `server@sha256:${'a'.repeat(64)}`;
const NEWER = `server@sha256:${'b'.repeat(64)}`;
const TWO: Partial<PoolInput> = { replicas: { min: 2, max: 2 }, image: IMAGE };

test('a new image comes by a second lease, one after the other, and there are never fewer than before', async (t) => {
  const { bench, market, fewest, change } = await setup(t, TWO);
  const before = market.open().map(({ id }) => id);
  change({ ...TWO, image: NEWER });
  await bench.until('both are of the new image', () => market.open().every(({ id }) => !before.includes(id)));
  assert.equal(market.open().length, 2);
  assert.deepEqual([fewest(), market.most], [2, 3], 'one lease more than wanted, and never one less');
  const images = market.open().map(({ orderId }) => market.world.requests.get(orderId)?.workload.image);
  assert.deepEqual(images, [NEWER, NEWER]);
  const drained = await bench.decisions('replica.draining');
  assert.equal(drained.length, 2);
  assert.match(drained[0]?.reason ?? '', /has taken its place: the pool was changed/);
  await bench.pass(60_000);
  assert.equal(market.count('accept'), 4, 'and then it is over');
});

test('what is asked of the pool meanwhile is served, and an answer in work ends on the old replica', async (t) => {
  const { bench, market, change } = await setup(t, {
    replicas: { min: 1, max: 1 },
    image: IMAGE,
    limits: { drain_s: 600 },
  });
  const [old] = market.open();
  const working = bench.run.pool.router.tryTake();
  change({ replicas: { min: 1, max: 1 }, image: NEWER, limits: { drain_s: 600 } });
  await bench.until('the new one is there', () => bench.run.pool.router.targetFor()?.leaseId !== old?.id);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  assert.notEqual(asking[0]?.slot?.target.leaseId, old?.id);
  assert.equal(working?.lost, false);
  working?.release('served');
  await bench.until('the old lease is closed', () => market.world.leases.get(old?.id ?? '')?.state === 'closed');
});

test('a new version that does not come up leaves the old one where it is, and the operator is told', async (t) => {
  const { bench, market, change } = await setup(t, { replicas: { min: 1, max: 1 }, image: IMAGE });
  const [old] = market.open();
  for (const provider of market.providersOf) provider.delivers = 'failed';
  change({ replicas: { min: 1, max: 1 }, image: NEWER });
  await bench.until('it failed three times', async () => (await bench.decisions('rollout.failed')).length === 3);
  await bench.pass(120_000);
  assert.deepEqual(
    market.open().map(({ id }) => id),
    [old?.id],
  );
  assert.equal(bench.run.pool.router.stats.ready, 1);
  const told = await bench.decisions('rollout.failed');
  assert.equal(told.length, 3, 'and is left alone for a while');
  assert.match(told[2]?.reason ?? '', /in 3 tries: the old replicas stay, next try in 10 minutes: /);
  assert.equal(told[2]?.detail['old'], (await bench.replicas()).find(({ state }) => state === 'ready')?.id);
  // Mended: the next description is tried at once.
  for (const provider of market.providersOf) provider.delivers = 'running';
  change({ replicas: { min: 1, max: 1 }, image: `server@sha256:${'c'.repeat(64)}` });
  await bench.until('it is replaced', () => market.world.leases.get(old?.id ?? '')?.state === 'closed', 240_000);
  assert.equal(bench.run.pool.router.stats.ready, 1);
});

test('a budget that pays for no second lease holds the roll-out back, and says so', async (t) => {
  const budget = { usd_per_hour: '0.61' };
  const { bench, market, change } = await setup(t, { replicas: { min: 1, max: 1 }, image: IMAGE, budget });
  const [old] = market.open();
  change({ replicas: { min: 1, max: 1 }, image: NEWER, budget });
  await bench.until('it is told', async () => (await bench.decisions('pool.held_back')).length > 0);
  await bench.pass(120_000);
  assert.deepEqual([market.open().map(({ id }) => id), market.most], [[old?.id], 1]);
  const told = await bench.decisions('pool.held_back');
  assert.deepEqual(
    told.map(({ reason }) => reason),
    ["the pool's budget for the hour does not allow another"],
  );
});

test('what changes nothing of a replica moves none', async (t) => {
  const { bench, market, change } = await setup(t, TWO);
  change({ ...TWO, price: { input: '1', output: '2' }, idle_s: 30, limits: { max_wait_s: 5 } });
  await bench.pass(60_000);
  assert.equal(market.count('accept'), 2);
});

test('a start-up of the old description is given up at once', async (t) => {
  const providers: FakeProvider[] = [{ id: 'slow', price: 100_000n, delivers: 'never' }];
  const { bench, market, change } = await setup(t, { replicas: { min: 1, max: 1 }, image: IMAGE }, providers, 0);
  await bench.until('it starts', () => market.open().length === 1);
  const [old] = market.open();
  change({ replicas: { min: 1, max: 1 }, image: NEWER });
  await bench.until('another starts', () => market.open().length === 1 && market.open()[0]?.id !== old?.id);
});

test('a restart with another description keeps the replicas that serve until theirs have come', async (t) => {
  const { bench, market, fewest } = await setup(t, TWO);
  const before = market.open().map(({ id }) => id);
  await bench.start({ specs: [testSpec({ ...TWO, image: NEWER })] });
  await bench.until('both are of the new image', () => market.open().every(({ id }) => !before.includes(id)), 240_000);
  assert.ok(fewest() >= 2, 'never below two leases');
});

test('an engine that changes is spoken to in its own words: each replica as what it was started', async (t) => {
  const { bench, change } = await setup(t, { replicas: { min: 1, max: 1 }, engine: 'vllm', model: 'one' });
  const before = bench.run.pool.router.targetFor();
  change({ replicas: { min: 1, max: 1 }, engine: 'sglang', model: 'two' });
  assert.deepEqual([before?.engine, before?.model], ['vllm', 'one']);
  await bench.until('the new one is there', () => bench.run.pool.router.targetFor()?.engine === 'sglang');
  assert.equal(bench.run.pool.router.targetFor()?.model, 'two');
});

test('a pool that makes something else now lets its old replicas go at once', async (t) => {
  const { bench, market } = await setup(t, { replicas: { min: 1, max: 1 } });
  const [old] = market.open();
  await bench.start({ specs: [testSpec({ replicas: { min: 1, max: 1 }, kind: 'embeddings' })] });
  await bench.until('it is gone', () => market.world.leases.get(old?.id ?? '')?.state === 'closed');
});

/** A pool with its replicas ready; `change` describes it anew, `fewest` is the least number of ready leases since then. */
async function setup(
  t: TestContext,
  input: Partial<PoolInput>,
  providers?: FakeProvider[],
  ready = input.replicas?.min ?? 0,
): Promise<{
  bench: Bench;
  market: FakeMarket & { most: number };
  fewest: () => number;
  change: (next: Partial<PoolInput>) => void;
}> {
  let made: FakeMarket | null = null;
  const bench = await openBench(t, {
    specs: [testSpec(input)],
    markets: (clock) => [(made ??= fakeMarket(clock, providers ? { providers } : {}))],
  });
  assert.ok(made);
  const market = Object.assign(made as FakeMarket, { most: 0 });
  await bench.until('they are ready', () => bench.run.pool.router.stats.ready === ready);
  let fewest = Infinity;
  const { open } = market;
  const watch = (): void => {
    const count = open.call(market).filter(({ id }) => market.world.deliveries.get(id)?.state === 'running').length;
    fewest = Math.min(fewest, count);
    market.most = Math.max(market.most, open.call(market).length);
  };
  const until = bench.until;
  const watched: Bench = {
    ...bench,
    until: (what, check, withinMs) =>
      until(
        what,
        () => {
          watch();
          return check();
        },
        withinMs,
      ),
  };
  const change = (next: Partial<PoolInput>): void => {
    bench.run.pools.put(testSpec(next), 1, 'api');
    bench.run.scheduler.wake();
  };
  return { bench: watched, market, fewest: () => fewest, change };
}
