import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fifo, Heap } from '../../../src/scheduler/simulation/queue.ts';
import { Server } from '../../../src/scheduler/simulation/server.ts';

/** A thousand tokens of prompt a second, steps of 10 ms and 1 ms more for each stream. */
const RATE = { gpu: 'test', prefillTokensPerS: 1000, stepMs: 10, stepPerStreamMs: 1 };

test('an answer takes its prefill, which makes the first token, and a step for each other token', () => {
  assert.deepEqual(run([{ request: 1, inputTokens: 500, outputTokens: 101 }]), [
    ['first', 1, 500],
    ['ended', 1, 500 + 100 * 11],
  ]);
});

test('prompts are read one by one, and nobody gets tokens meanwhile', () => {
  const events = run([
    { request: 1, inputTokens: 100, outputTokens: 11 },
    { request: 2, inputTokens: 200, outputTokens: 11 },
  ]);
  // Both read by 300 ms; then ten steps of 12 ms for both.
  assert.deepEqual(events, [
    ['first', 1, 100],
    ['first', 2, 300],
    ['ended', 1, 420],
    ['ended', 2, 420],
  ]);
});

test('an answer of one token ends with its prefill', () => {
  assert.deepEqual(run([{ request: 7, inputTokens: 10, outputTokens: 1 }]), [
    ['first', 7, 10],
    ['ended', 7, 10],
  ]);
});

test('what is left of an answer that is cut is told', () => {
  const server = new Server(RATE, 0);
  server.accept({ request: 1, inputTokens: 100, outputTokens: 101 }, 0);
  server.step(100);
  server.accept({ request: 2, inputTokens: 100, outputTokens: 5 }, 100 + 40 * 11);
  assert.deepEqual(server.left(), [
    { request: 1, tokensLeft: 60 },
    { request: 2, tokensLeft: 5 },
  ]);
});

test('a heap gives the least key first, and of equal ones the first that came', () => {
  const heap = new Heap<string>();
  for (const [key, value] of [
    [3, 'c'],
    [1, 'a'],
    [2, 'b'],
    [1, 'a2'],
    [0, 'z'],
  ] as const)
    heap.push(key, value);
  const given = Array.from({ length: 5 }, () => heap.pop());
  assert.deepEqual(given, ['z', 'a', 'a2', 'b', 'c']);
  assert.equal(heap.pop(), undefined);
});

test('a line gives first what came first, and before it what was put back', () => {
  const line = new Fifo();
  for (let item = 0; item < 10_000; item += 1) line.push(item);
  for (let item = 0; item < 9000; item += 1) assert.equal(line.shift(), item);
  line.unshift([1, 2]);
  assert.deepEqual([line.size, line.shift(), line.shift(), line.shift()], [1002, 1, 2, 9000]);
});

function run(jobs: readonly { request: number; inputTokens: number; outputTokens: number }[]): unknown[] {
  const server = new Server(RATE, 0);
  for (const job of jobs) server.accept(job, 0);
  const events: unknown[] = [];
  for (let steps = 0; server.nextMs < Infinity && steps < 100; steps += 1) {
    const atMs = server.nextMs;
    const { first, ended } = server.step(atMs);
    for (const request of first) events.push(['first', request, Math.round(atMs)]);
    for (const request of ended) events.push(['ended', request, Math.round(atMs)]);
  }
  return events;
}
