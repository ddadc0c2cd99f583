import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fitGpus, parseShape } from '../../src/spec/fit.ts';
import { testSpec } from '../fakes/market-samples.ts';

const GIB = 2 ** 30;
/** 8 GiB of weights; 64 KiB of cache a token. */
const SHAPE = parseShape({
  ...{ parameters_b: (8 * GIB) / 2 / 1e9, weight_bits: 16, layers: 16, kv_heads: 8, head_dim: 128 },
  ...{ kv_bits: 16, gpu_share: 1 },
});

function fit(gpus: number, ram: string | null, context: number, slots: number): ReturnType<typeof fitGpus> {
  const gpu = [{ model: 'a100', ...(ram === null ? {} : { ram }) }];
  return fitGpus(SHAPE, testSpec({ context, slots, hardware: { gpus, ...(gpus === 0 ? {} : { gpu }) } }));
}

test('weights, then the cache of every slot, have to fit what engines leave of the GPUs', () => {
  // 1.5 GiB on each go to the engine itself.
  const fits = fit(1, '11Gi', 8192, 3);
  assert.deepEqual([fits.usableBytes, fits.weightBytes, fits.tokenBytes], [9.5 * GIB, 8 * GIB, 65_536]);
  assert.deepEqual([fits.tokensMax, fits.problem], [24_576, null], 'three full contexts to the last byte');
  assert.match(fit(1, '11Gi', 8192, 4).problem ?? '', /3 full contexts at a time, not 4/);
  assert.match(fit(1, '11Gi', 32_768, 1).problem ?? '', /1\.5 GiB are left .*: 24576 tokens, less than its context/);
  assert.match(fit(1, '8Gi', 64, 1).problem ?? '', /its weights need 8\.0 GiB, the GPUs have 6\.5 GiB/);
  assert.equal(fit(2, '8Gi', 8192, 3).problem, null, 'two share them');
});

test('without the size of a GPU, or without any, nothing is claimed', () => {
  assert.deepEqual([fit(1, null, 64, 1).problem, fit(1, null, 64, 1).tokensMax], [null, null]);
  assert.equal(fit(0, null, 64, 1).usableBytes, null);
  const some = testSpec({ hardware: { gpus: 1, gpu: [{ model: 'a', ram: '1Gi' }, { model: 'b' }] } });
  assert.equal(fitGpus(SHAPE, some).problem, null);
});

test('of several GPUs that would do, the smallest has to', () => {
  const gpu = [
    { model: 'a', ram: '80Gi' },
    { model: 'b', ram: '8Gi' },
  ];
  assert.match(fitGpus(SHAPE, testSpec({ hardware: { gpus: 1, gpu } })).problem ?? '', /6\.5 GiB/);
});
