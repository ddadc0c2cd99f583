import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jitterLoad, loadOf } from '../../../src/scheduler/simulation/load.ts';
import { drawGamma, seeded } from '../../../src/scheduler/simulation/seeded.ts';
import { drawServeGen, readTrace } from '../../../src/scheduler/simulation/traces.ts';

test('three public shapes of traces are read, their first request at 0', () => {
  const azure =
    'TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 23:59:59.5000000,374,44\n2023-11-17 00:00:01.0000000,396,0\n';
  const burst =
    'Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,374,44,418,x\n6.5,GPT-4,396,1,397,x\n';
  const mooncake =
    '{"timestamp": 1000, "input_length": 374, "output_length": 44, "hash_ids": [0]}\n' +
    '{"timestamp": 2500, "input_length": 396, "output_length": 1, "hash_ids": []}\n';
  for (const text of [azure, burst, mooncake]) {
    const load = readTrace(text);
    assert.deepEqual([...load.atMs], [0, 1500]);
    assert.deepEqual([...load.inputTokens], [374, 396]);
    assert.deepEqual([...load.outputTokens], [44, 1]);
  }
});

test('what is no trace is refused, with its line', () => {
  assert.throws(() => readTrace('a,b,c\n1,2,3\n'), /not a trace of a known shape/);
  assert.throws(() => readTrace('TIMESTAMP,ContextTokens,GeneratedTokens\n'), /no requests/);
  assert.throws(() => readTrace('TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n'), /line 2 has no time/);
  assert.throws(() => readTrace('{"timestamp": 1, "input_length": 2}\n'), /line 1 has no output_length/);
});

test("ServeGen's clients are drawn at the rate that is asked for, busy windows busier", () => {
  const rows = (scale: number): string =>
    Array.from({ length: 20 }, (_, at) => `${at * 600},${at < 10 ? scale : 3 * scale},1,Gamma,1,0.1`).join('\n');
  const sizes = loadOf([1, 2, 3].map((tokens) => ({ atMs: tokens, inputTokens: tokens, outputTokens: 9 })));
  const load = drawServeGen([rows(100), rows(50)], sizes, 0.5, seeded(1, 'test'));
  const count = load.atMs.length;
  assert.equal(load.spanMs, 12_000_000);
  assert.ok(Math.abs(count - 6000) < 400, `${count} requests`);
  const early = load.atMs.filter((atMs) => atMs < 6_000_000).length;
  assert.ok(Math.abs(early / count - 0.25) < 0.03, `${early} of ${count} in the quiet half`);
  assert.deepEqual(new Set(load.inputTokens), new Set([1, 2, 3]));
});

test('a trace for another seed has as many requests, in order, near where they were', () => {
  const load = loadOf(Array.from({ length: 500 }, (_, at) => ({ atMs: at * 1000, inputTokens: at, outputTokens: 1 })));
  const other = jitterLoad(load, seeded(2, 'jitter'), 400);
  assert.equal(other.atMs.length, 500);
  assert.ok(other.atMs.every((atMs, at) => Math.abs(atMs - at * 1000) <= 400));
  assert.notDeepEqual(other.atMs, load.atMs);
});

test('drawn numbers have their mean, and each purpose its own', () => {
  for (const shape of [0.3, 1, 4]) {
    const random = seeded(5, `gamma ${shape}`);
    let sum = 0;
    for (let at = 0; at < 20_000; at += 1) sum += drawGamma(random, shape);
    assert.ok(Math.abs(sum / 20_000 - 1) < 0.06, `${shape}: ${sum / 20_000}`);
  }
  assert.notEqual(seeded(1, 'a')(), seeded(1, 'b')());
  assert.equal(seeded(1, 'a')(), seeded(1, 'a')());
});
