import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Measured } from '../../src/scheduler/parts.ts';
import type { FakeClock } from '../fakes/clock.ts';
import type { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench } from './loop-bench.ts';

const MINUTE = 60_000;

test('a replica that is measured too slow three times is followed by another, drained, not cut, blamed and disputed', async (t) => {
  const { bench, market, ready } = await setup(t, { cheap: 4, dear: 40 });
  assert.equal(await ready(), 'cheap');
  const { router } = bench.run.pool;
  await bench.until('it was found too slow', async () => (await bench.decisions('replica.condemned')).length === 1);
  // A long answer is at work on it.
  const working = router.tryTake();
  assert.equal(working?.target.provider, 'cheap');
  const fewest = { ready: 9 };
  await bench.until('another is ready and it drains', async () => {
    fewest.ready = Math.min(fewest.ready, router.stats.ready);
    return (await bench.decisions('replica.draining')).length === 1;
  });
  assert.equal(fewest.ready, 1, 'there was always one to take requests');
  assert.equal(router.tryTake()?.target.provider, 'dear', 'new requests go to the other');
  assert.equal(working?.lost, false, 'and its answer goes on');
  working?.release('served');
  await bench.until('its lease is closed', () => market.open().length === 1);
  const [lease] = market.world.leases.values();
  assert.deepEqual([lease?.provider, lease?.closeReason], ['cheap', 'tenant']);
  assert.match(lease?.dispute?.reason ?? '', /a stream got 4, 4, 4 tokens\/s, the pool promises 20/);
  const record = bench.run.scheduler.book.find({ market: 'akash', provider: 'cheap' });
  assert.deepEqual([record?.failures.slow?.count, Object.keys(record?.failures ?? {})], [1, ['slow']]);
  assert.equal(record?.speeds[0]?.tokensPerS, 4);
  await bench.pass(10 * MINUTE);
  assert.equal((await bench.decisions('replica.condemned')).length, 1, 'the other is fast enough');
});

test('measures that are bad now and then condemn nobody', async (t) => {
  const speeds = [4, 40, 4, 4];
  const { bench, ready } = await setup(t, () => speeds.shift() ?? 40);
  await ready();
  await bench.pass(2 * MINUTE);
  const { router } = bench.run.pool;
  assert.deepEqual(await bench.decisions('replica.condemned'), []);
  assert.ok(router.stats.ready === 1);
  const { rates } = bench.run.scheduler.book.pool('tiny');
  assert.ok(rates.prefillTokensPerS);
  assert.equal(
    router.speeds.prefillTokensPerS,
    rates.prefillTokensPerS,
    'its router knows how many prompts it reads in time',
  );
});

test('a machine whose engine names another GPU than was ordered is replaced at once', async (t) => {
  const { bench, market, ready } = await setup(t, { cheap: 40, dear: 40 }, (provider) =>
    provider === 'cheap' ? 'Tesla T4' : 'NVIDIA GeForce RTX 4090',
  );
  await ready();
  await bench.until('its lease is closed', () => market.open().every(({ provider }) => provider === 'dear'));
  const record = bench.run.scheduler.book.find({ market: 'akash', provider: 'cheap' });
  assert.equal(record?.failures.wrong_hardware?.count, 1);
  const [lease] = market.world.leases.values();
  assert.match(lease?.dispute?.reason ?? '', /its GPU says that it is Tesla T4, ordered was rtx4090/);
});

test('where all that comes is too slow, three are tried in an hour, and the pool goes on with what there is', async (t) => {
  const { bench, ready } = await setup(t, () => 4);
  await ready();
  await bench.pass(40 * MINUTE);
  assert.ok((await bench.decisions('replica.condemned')).length <= 3);
  assert.ok(bench.run.pool.router.stats.ready >= 1);
});

test('what answers alone on a replica show counts like questions: a machine that is slow under real work is found', async (t) => {
  const { bench, ready } = await setup(t, null);
  await ready();
  const { router } = bench.run.pool;
  for (let answers = 0; answers < 24; answers += 1) {
    const slot = router.tryTake();
    slot?.began();
    await bench.pass(5000);
    slot?.used(100, 21, 0n);
    slot?.release('served');
  }
  await bench.until('it was found too slow', async () => (await bench.decisions('replica.condemned')).length === 1);
  const { rates } = bench.run.scheduler.book.pool('tiny');
  assert.equal(rates.streamTokensPerS, 4);
});

async function setup(
  t: TestContext,
  speed: Readonly<Record<string, number>> | (() => number) | null,
  gpuOf: (provider: string) => string | null = () => null,
) {
  let made: FakeMarket | null = null;
  const spec = testSpec({
    replicas: { min: 1, max: 2 },
    hardware: { gpus: 1, gpu: [{ model: 'rtx4090' }] },
    slo: { tokens_per_second: 20 },
    limits: { drain_s: 600 },
  });
  const measure = ({ provider }: { provider: string }): Promise<Measured> => {
    const perS = typeof speed === 'function' ? speed() : (speed?.[provider] ?? 0);
    const totalMs = 100 + (31 * 1000) / perS;
    const about = { gpu: gpuOf(provider), memoryBytes: null };
    return Promise.resolve({ inputTokens: 200, outputTokens: 32, firstMs: 100, totalMs, ...about });
  };
  const bench: Bench = await openBench(t, {
    specs: [spec],
    markets: (clock: FakeClock) => [(made = fakeMarket(clock))],
    ...(speed === null ? {} : { measure }),
  });
  const market = made as FakeMarket | null;
  assert.ok(market);
  return {
    bench,
    market,
    ready: async (): Promise<string | undefined> => {
      const asking = bench.ask(1);
      await bench.until('it is served', () => served(asking).length === 1);
      asking[0]?.slot?.release('served');
      return asking[0]?.slot?.target.provider;
    },
  };
}
