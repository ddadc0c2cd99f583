import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { AppError } from '../../src/errors.ts';
import type { FakeClock } from '../fakes/clock.ts';
import type { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, served, type Bench, type BenchOptions } from './loop-bench.ts';

test('a replica that fails requests and answers its probe is taken back at once', async (t) => {
  const { bench, ready } = await setup(t);
  const id = await ready();
  const { router } = bench.run.pool;
  for (let count = 0; count < 3; count += 1) router.tryTake()?.release('failed');
  assert.equal(router.tryTake(), null, 'its circuit is open');
  await bench.until('it is verified', async () => (await bench.decisions('replica.verified')).length === 1, 5000);
  assert.equal(router.load(id)?.suspectMs, null);
  const slot = router.tryTake();
  assert.equal(slot?.target.id, id);
  slot?.release('served');
});

test('one that refuses what it is sent is asked itself before it is kept from others', async (t) => {
  const { bench, ready } = await setup(t);
  const id = await ready();
  const { router } = bench.run.pool;
  for (let count = 0; count < 5; count += 1) {
    const slot = router.tryTake();
    assert.equal(slot?.target.id, id, 'a bad request of one client takes no machine from the others');
    slot?.release('refused');
  }
  assert.equal(router.hasOther(new Map([[id, bench.clock.now()]])), false, 'but is not sent there again');
  await bench.until('it is verified', async () => (await bench.decisions('replica.verified')).length === 1, 5000);
});

test('one that stays silent is replaced, within seconds when it refuses connections', async (t) => {
  const { bench, market, ready } = await setup(t);
  const id = await ready();
  const dead = market.open()[0]?.id;
  bench.probe.answer = ({ leaseId }) =>
    leaseId === dead ? Promise.reject(new Error('ECONNREFUSED')) : Promise.resolve();
  const { router } = bench.run.pool;
  router.tryTake({ request: 'refused' })?.release('failed');
  const excluded = new Map([[id, bench.clock.now()]]);
  const waiting = router.take({
    account: 'a',
    maxWaitMs: 60_000,
    signal: new AbortController().signal,
    exclude: excluded,
  });
  const took = await bench.until('another is ready', () => router.load(id) === null && router.stats.ready === 1);
  assert.ok(took < 15_000, `${took} ms`);
  const slot = await waiting;
  assert.notEqual(slot.target.id, id);
  slot.release('served');
  const [failed] = await bench.decisions('replica.failed');
  assert.deepEqual(market.breaches[0]?.requests, ['refused']);
  assert.match(failed?.reason ?? '', /has not answered for \d+ s: ECONNREFUSED/);
});

test('one that is too busy for a probe but streams tokens to others is left alone', async (t) => {
  const { bench, ready } = await setup(t);
  const id = await ready();
  bench.probe.answer = () => Promise.reject(new Error('no answer within 20 s'));
  const { router } = bench.run.pool;
  const streaming = router.tryTake();
  router.tryTake()?.release('failed');
  await bench.clock.advance(10);
  streaming?.alive();
  await bench.until('it is verified', async () => (await bench.decisions('replica.verified')).length === 1, 5000);
  assert.notEqual(router.load(id), null);
  streaming?.release('served');
});

test('one that says that it is busy is not taken for dead, however often it says so', async (t) => {
  const { bench, ready } = await setup(t);
  const id = await ready();
  let asked = 0;
  bench.probe.answer = () => {
    asked += 1;
    return Promise.reject(new AppError('queue_full', 'the model server answered 429'));
  };
  const { router } = bench.run.pool;
  const working = router.tryTake();
  router.tryTake()?.release('refused');
  await bench.until('it was asked again and again', () => asked >= 6);
  assert.notEqual(router.load(id), null);
  assert.deepEqual(await bench.decisions('replica.failed'), []);
  assert.deepEqual(await bench.decisions('replica.verified'), []);
  working?.release('served');
});

test('a pool is asked once whether it resumes, by its first replica, and again when its description changes', async (t) => {
  const asked: string[] = [];
  const proveResumption: BenchOptions['proveResumption'] = (target) => {
    asked.push(target.id);
    return Promise.resolve(null);
  };
  const { bench, ready } = await setup(t, { proveResumption });
  const id = await ready();
  const { router } = bench.run.pool;
  await bench.until('it was asked', () => router.resumes);
  await bench.pass(10_000);
  assert.deepEqual(asked, [id]);
  assert.match((await bench.decisions('pool.resumes'))[0]?.reason ?? '', /nothing doubled or lost/);
  router.update({ ...router.spec, model: 'another' });
  assert.equal(router.resumes, false, 'what was shown was another model');
  await bench.until('it was asked again', () => router.resumes);
  assert.equal(asked.length, 2);
  assert.notEqual(asked[1], id, 'by the first of the new description, which came in its place');
});

test('a pool whose answers do not fit at the seam, or that is told not to, is not resumed', async (t) => {
  const { bench, ready } = await setup(t, { proveResumption: () => Promise.resolve('it began its answer anew') });
  await ready();
  await bench.until('it was asked', async () => (await bench.decisions('pool.does_not_resume')).length === 1);
  assert.equal(bench.run.pool.router.resumes, false);
  let asked = 0;
  const off = await setup(t, {
    specs: [testSpec({ resume: 'off' })],
    proveResumption: () => Promise.resolve(String((asked += 1))),
  });
  await off.ready();
  await off.bench.pass(5000);
  assert.equal(asked, 0);
});

test('a pool of embeddings is not asked whether it resumes', async (t) => {
  let asked = 0;
  const { bench, ready } = await setup(t, {
    specs: [testSpec({ kind: 'embeddings', replicas: { min: 1, max: 1 } })],
    proveResumption: () => Promise.resolve(String((asked += 1))),
  });
  await ready();
  await bench.pass(5000);
  assert.equal(asked, 0);
});

async function setup(t: TestContext, options: Partial<BenchOptions> = {}) {
  let made: FakeMarket | null = null;
  const markets = (clock: FakeClock): FakeMarket[] => [(made = fakeMarket(clock))];
  const bench: Bench = await openBench(t, { specs: [testSpec({ replicas: { min: 1, max: 2 } })], markets, ...options });
  const market = made as FakeMarket | null;
  assert.ok(market);
  return {
    bench,
    market,
    /** One replica, ready and idle. */
    ready: async (): Promise<string> => {
      const asking = bench.ask(1);
      await bench.until('it is served', () => served(asking).length === 1);
      const [one] = asking;
      one?.slot?.release('served');
      return one?.slot?.target.id ?? assert.fail('no replica');
    },
  };
}
