import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expectedSpeed, findGpu, GPUS } from '../../src/spec/gpu-table.ts';
import { parseHardware, hardwareSchema } from '../../src/spec/hardware.ts';
import { parseShape, shapeSchema } from '../../src/spec/fit.ts';

test("a GPU is found by Akash's name and by nvidia-smi's, the longest that fits", () => {
  const names: Record<string, string | null> = {
    rtx4090: 'rtx4090',
    'NVIDIA GeForce RTX 4090': 'rtx4090',
    'NVIDIA A100-SXM4-80GB': 'a100',
    'NVIDIA H100 80GB HBM3': 'h100',
    'NVIDIA H200': 'h200',
    'Tesla T4': 't4',
    'NVIDIA L40S': 'l40s',
    'NVIDIA L4': 'l4',
    'NVIDIA RTX 6000 Ada Generation': 'rtx6000ada',
    'NVIDIA RTX A6000': 'rtxa6000',
    'AMD Instinct MI300X': 'mi300x',
    'something new': null,
  };
  for (const [name, model] of Object.entries(names)) assert.equal(findGpu(name)?.model ?? null, model, name);
});

test('every GPU of the table is found by its own names, and its figures are above zero', () => {
  for (const gpu of GPUS) {
    for (const name of [gpu.model, ...gpu.names]) assert.equal(findGpu(name), gpu, name);
    assert.ok(gpu.gigabytesPerS > 0 && gpu.teraflops > 0 && gpu.memoryGib.every((gib) => gib > 0));
  }
});

test('an 8b model in 16 bits makes some forty tokens a second on a 4090, less in more bits, more on an H100 and on two', () => {
  const speed = (model: string, bits = 16, gpus = 1): number =>
    expectedSpeed(hardware([model], gpus), shape(8, bits))?.tokensPerS ?? 0;
  assert.ok(speed('rtx4090') > 30 && speed('rtx4090') < 50, String(speed('rtx4090')));
  assert.ok(speed('h100') > speed('rtx4090') && speed('rtx4090', 4) > speed('rtx4090'));
  assert.ok(speed('rtx4090', 16, 2) > speed('rtx4090') && speed('rtx4090', 16, 2) < 2 * speed('rtx4090'));
});

test('of several GPUs that a pool allows the slowest counts; where one is not known, nothing is expected', () => {
  const both = expectedSpeed(hardware(['h100', 't4']), shape(8, 16));
  assert.deepEqual(both, expectedSpeed(hardware(['t4']), shape(8, 16)));
  assert.equal(expectedSpeed(hardware(['h100', 'unheardof']), shape(8, 16)), null);
  assert.equal(expectedSpeed(hardware(['h100']), null), null);
  assert.equal(expectedSpeed(parseHardware(hardwareSchema.parse({})), shape(8, 16)), null);
});

function hardware(models: readonly string[], gpus = 1) {
  return parseHardware(hardwareSchema.parse({ gpus, gpu: models.map((model) => ({ model })) }));
}

function shape(parametersB: number, weightBits: number) {
  return parseShape(shapeSchema.parse({ parameters_b: parametersB, weight_bits: weightBits }));
}
