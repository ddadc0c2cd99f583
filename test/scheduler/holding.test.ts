import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mismatchOf, promisedSpeed, slownessOf } from '../../src/scheduler/holding.ts';
import { testSpec } from '../fakes/market-samples.ts';

const GPU = { gpus: 1, gpu: [{ model: 'rtx4090', ram: '24Gi' }] };
const SHAPE = { parameters_b: 8, weight_bits: 16 };

test('a replica is too slow when three measures in a row are well below what the pool promises', () => {
  const spec = testSpec({ hardware: GPU, slo: { tokens_per_second: 20 } });
  assert.equal(slownessOf([], spec), null);
  assert.equal(slownessOf([3, 3], spec), null, 'twice may be chance');
  assert.equal(slownessOf([3, 15, 3], spec), null, 'one of them was well enough');
  assert.match(slownessOf([40, 13, 12, 3], spec) ?? '', /^a stream got 13, 12, 3 tokens\/s, the pool promises 20$/);
  assert.equal(slownessOf([3, 3, 14.1], spec), null, 'a little below is not well below');
});

test('or below half of what arithmetic says of its GPU', () => {
  const spec = testSpec({ hardware: GPU, shape: SHAPE, slo: { tokens_per_second: 1 } });
  const promised = promisedSpeed(spec) ?? 0;
  assert.match(slownessOf([15, 15, 15], spec) ?? '', /its GPU should make about \d+/);
  assert.equal(slownessOf([15, 15, promised * 0.51], spec), null);
});

test('a machine without GPUs is not judged, and neither are embeddings', () => {
  assert.equal(slownessOf([1, 1, 1], testSpec({ slo: { tokens_per_second: 20 } })), null);
  assert.equal(slownessOf([1, 1, 1], testSpec({ hardware: GPU, kind: 'embeddings' })), null);
});

test('another GPU than was ordered is seen by its name or its memory; what nobody says proves nothing', () => {
  const spec = testSpec({ hardware: GPU });
  const says = (gpu: string | null, gib: number | null): string | null =>
    mismatchOf({ gpu, memoryBytes: gib === null ? null : gib * 2 ** 30 }, spec);
  assert.equal(says('NVIDIA GeForce RTX 4090', 23.6), null);
  assert.equal(says('Tesla T4', null), 'its GPU says that it is Tesla T4, ordered was rtx4090');
  assert.equal(says(null, 15.7), 'its GPU has 15.7 GiB, ordered were 24.0');
  assert.deepEqual([says(null, null), says('a name that nobody knows', null)], [null, null]);
  const either = testSpec({ hardware: { gpus: 1, gpu: [{ model: 'rtx4090' }, { model: 't4' }] } });
  assert.equal(mismatchOf({ gpu: 'Tesla T4', memoryBytes: 2 ** 30 }, either), null, 'no size was asked for');
  assert.equal(mismatchOf({ gpu: 'Tesla T4', memoryBytes: null }, testSpec()), null, 'no GPU was');
});
