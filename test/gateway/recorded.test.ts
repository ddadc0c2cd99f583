import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { NANO, onBothDoors, startGateway, type Door, type Gateway } from '../fakes/gateway.ts';
import { json, resliced } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

/** What a real llama.cpp server said (SmolLM2, temperature 0, `timings_per_token`), byte for byte. */

const WITH_USAGE = { stream: true, stream_options: { include_usage: true } };

for (const bytesEach of [7, 1_000_000]) {
  onBothDoors(`an answer whose prompt was in the cache, in writes of ${bytesEach} bytes`, async (t, door) => {
    const { chat, server, ledger } = await setup(t, door);
    server.play(resliced([recorded('llama-cpp-cached.sse')], bytesEach));
    const { texts, finishes, chunks, done } = await streamOf(await chat(WITH_USAGE));
    assert.deepEqual([texts, finishes, done], [['Bonjour, je ne sais qua toi.'], ['length'], true]);
    const {
      prompt_tokens: prompt,
      completion_tokens: made,
      prompt_tokens_details: details,
    } = chunks.at(-1)?.usage ?? {};
    assert.deepEqual([prompt, made, details?.cached_tokens], [39, 12, 38]);
    assert.equal(ledger.settlements[0]?.charged, NANO.input + 38n * NANO.cached + 12n * NANO.output);
  });
}

test('an answer of more tokens than chunks: several tokens make one character', async (t) => {
  const { chat, server, ledger } = await setup(t, 'node');
  server.play(resliced([recorded('llama-cpp-emoji.sse')], 5));
  const { chunks } = await streamOf(await chat({ stream: true }));
  const deltas = chunks.filter(({ choices }) => choices[0]?.delta.content).length;
  const { outputTokens } = ledger.settlements[0]?.tokens ?? assert.fail('not settled');
  assert.ok(outputTokens > deltas, `${outputTokens} tokens in ${deltas} chunks`);
});

test('log-probabilities, streamed and put together', async (t) => {
  const { chat, server } = await setup(t, 'node');
  const script = resliced([recorded('llama-cpp-logprobs.sse')], 100);
  server.play(script, script);
  const asked = { logprobs: true, top_logprobs: 1 };
  const { chunks } = await streamOf(await chat({ ...asked, stream: true }));
  const streamed = chunks.flatMap(({ choices }) => (choices[0]?.logprobs as Logprobs)?.content ?? []);
  const { choices } = await completionOf(await chat({ ...asked, max_tokens: 500 }));
  assert.deepEqual((choices[0]?.logprobs as Logprobs)?.content, streamed);
  assert.equal(streamed.map(({ token }) => token).join(''), choices[0]?.message.content);
  assert.equal(streamed.length, 3);
});

test('an answer in one piece', async (t) => {
  const { chat, server, ledger } = await setup(t, 'node');
  server.play(json(200, JSON.parse(recorded('llama-cpp-whole.json'))));
  const { choices } = await completionOf(await chat({ max_tokens: 12 }));
  const message = { role: 'assistant', content: 'Bonjour, je ne sais qua toi.', refusal: null };
  assert.deepEqual(choices, [{ index: 0, message, logprobs: null, finish_reason: 'length' }]);
  assert.deepEqual(ledger.settlements[0]?.tokens, { inputTokens: 39, cachedTokens: 38, outputTokens: 12 });
});

test('a prompt that is too long', async (t) => {
  const { chat, server } = await setup(t, 'node');
  server.play(json(400, JSON.parse(recorded('llama-cpp-too-long.json'))));
  const { code, message } = await errorOf(await chat({ max_tokens: 12 }), 400);
  assert.equal(code, 'context_length_exceeded');
  assert.match(message, /^request \(2031 tokens\) exceeds the available context size \(512 tokens\)/);
});

type Logprobs = { readonly content: readonly { readonly token: string }[] } | null | undefined;

function recorded(name: string): string {
  return readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
}

function setup(t: TestContext, door: Door): Promise<Gateway> {
  return startGateway(t, { door });
}
