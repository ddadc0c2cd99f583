import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../../src/errors.ts';
import { Pools } from '../../../src/scheduler/pool/pools.ts';
import { parsePool, type PoolSpec } from '../../../src/spec.ts';
import { FakeClock } from '../../fakes/clock.ts';

test('a changed pool keeps its router: who waits and works there is not lost', async () => {
  const { pools, spec } = setup();
  const { router } = pools.put(spec('m', '1'), 1, 'api');
  const waiting = router.take({ account: 'a', maxWaitMs: 1000, signal: new AbortController().signal });
  const changed = pools.put(spec('m', '2'), 2, 'api');
  assert.equal(changed.router, router);
  assert.deepEqual([pools.get('m')?.priceVersion, router.spec.price.inputPico], [2, 2_000_000n]);
  assert.equal(router.stats.waiting, 1);
  router.close(new AppError('no_capacity', 'the test is over'));
  await assert.rejects(waiting);
});

test('a removed pool takes no requests, wants no replicas, and is found until it is put anew', async () => {
  const { pools, spec, demands } = setup();
  const { router } = pools.put(spec('m', '1'), 1, 'api');
  const waiting = router.take({ account: 'a', maxWaitMs: 1000, signal: new AbortController().signal });
  const before = demands.count;
  assert.equal(pools.remove('m'), true);
  await assert.rejects(waiting, (error: unknown) => error instanceof AppError && error.code === 'model_not_found');
  assert.deepEqual([pools.get('m'), pools.list(), pools.find('m')?.router], [undefined, [], router]);
  assert.deepEqual([router.spec.replicasMin, router.spec.replicasMax], [0, 0]);
  assert.deepEqual([pools.retired().length, demands.count > before, pools.remove('m')], [1, true, false]);
  assert.equal(pools.put(spec('m', '3'), 3, 'api').router, router);
  assert.deepEqual([pools.retired(), router.spec.replicasMax], [[], 1]);
});

test('one listener hears of the demand of every pool', async () => {
  const { pools, spec, demands } = setup();
  const signal = new AbortController().signal;
  for (const id of ['a', 'b']) {
    const { router } = pools.put(spec(id, '1'), 1, 'file');
    router.take({ account: 'a', maxWaitMs: 1000, signal }).catch(() => undefined);
    router.close(new AppError('no_capacity', 'the test is over'));
  }
  assert.equal(demands.count, 2);
  assert.deepEqual(
    pools.list().map(({ source }) => source),
    ['file', 'file'],
  );
});

function setup() {
  const clock = new FakeClock();
  const pools = new Pools(clock);
  const demands = { count: 0 };
  pools.onDemand(() => (demands.count += 1));
  const spec = (id: string, input: string): PoolSpec => {
    const pool = { engine: 'vllm', model: 'm', context: 100, price: { input, output: '1' }, ceiling_usd_per_hour: '1' };
    return parsePool(id, pool, clock.now());
  };
  return { pools, spec, demands };
}
