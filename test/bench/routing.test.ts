import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drawConversations, readMooncake } from '../../bench/routing/loads.ts';
import { Machine, SERVER } from '../../bench/routing/machines.ts';
import { openingOfAsk } from '../../bench/routing/policies.ts';

test('reads a trace with hashes in order of time, and refuses another', () => {
  const line = (timestamp: number): string =>
    JSON.stringify({ timestamp, input_length: 1000, output_length: 10, hash_ids: [0, timestamp] });
  assert.deepEqual(
    readMooncake(`${line(9)}\n${line(3)}\n`).map(({ atMs, blocks }) => [atMs, blocks]),
    [
      [3, [0, 3]],
      [9, [0, 9]],
    ],
  );
  assert.throws(() => readMooncake('{"timestamp":1,"input_length":2}'), /line 1/);
});

test('each turn of a made-up conversation begins with the turn before', () => {
  const asks = drawConversations(1);
  const grown = asks.filter(({ blocks }) => asks.some((other) => other.blocks.at(-1) === blocks.at(-2)));
  assert.ok(grown.length > asks.length / 4);
  assert.deepEqual(drawConversations(1), asks);
});

test('a machine reads a prompt once, and others wait for that', () => {
  const machine = new Machine(0, 64);
  const ask = { atMs: 0, inputTokens: 1024, outputTokens: 10, blocks: [1, 2] };
  const readMs = (1024 * 1000) / SERVER.prefillTokensPerS;
  assert.deepEqual(machine.serve(ask, 0), { firstTokenMs: readMs, endMs: readMs + 300, hitTokens: 0 });
  assert.deepEqual(machine.serve({ ...ask, blocks: [3, 4] }, 0).firstTokenMs, 2 * readMs);
  assert.equal(machine.serve(ask, 10_000).hitTokens, 1024);
});

test('the gateway sees the first 8,192 tokens of a long prompt, and how long it is', () => {
  const blocks = Array.from({ length: 40 }, (_, at) => at);
  const opening = openingOfAsk({ atMs: 0, inputTokens: 20_480, outputTokens: 1, blocks });
  assert.deepEqual([opening.blocks.length, opening.size], [128, 320]);
});
