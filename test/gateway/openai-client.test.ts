import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import OpenAI, { APIError } from 'openai';
import { MODEL, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { answer, cutAfter, eventsOf } from '../fakes/model-replies.ts';

/** The official client against the gateway on a socket: what most of our users run. */

const MESSAGES = [{ role: 'user' as const, content: 'Say hello.' }];
const ASK = { model: MODEL, messages: MESSAGES };

test('streams, and reads what it cost from the last usage', async (t) => {
  const { client, gateway } = await setup(t);
  gateway.server.play(answer({ prompt: 12, cached: 4 }));
  const stream = await client.chat.completions.create({
    ...ASK,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = '';
  let usage: (OpenAI.CompletionUsage & { cost?: number }) | null | undefined;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, 'Hello world!');
  assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens, usage?.cost], [12, 4, 0.000018]);
});

test('its own accumulator puts our stream together, tool calls too', async (t) => {
  const { client, gateway } = await setup(t);
  const call = { index: 0, id: 'c1', type: 'function', function: { name: 'look', arguments: '' } };
  const rest = { index: 0, function: { arguments: '{"a":1}' } };
  gateway.server.play(answer({ finish: 'tool_calls', deltas: [{ tool_calls: [call] }, { tool_calls: [rest] }] }));
  const runner = client.chat.completions.stream({ ...ASK, stream_options: { include_usage: true } });
  const { choices, usage } = await runner.finalChatCompletion();
  const [tool] = choices[0]?.message.tool_calls ?? [];
  assert.deepEqual([tool?.type, tool?.type === 'function' && tool.function.arguments], ['function', '{"a":1}']);
  assert.equal(usage?.completion_tokens, 2);
});

test('reads a whole answer, its id and its headers', async (t) => {
  const { client } = await setup(t);
  const { data, response, request_id: requestId } = await client.chat.completions.create(ASK).withResponse();
  assert.equal(data.choices[0]?.message.content, 'Hello world!');
  assert.match(requestId ?? '', /^req-/);
  assert.equal(response.headers.get('x-underbid-cost-usd'), '0.00002');
});

test('lists models and shows one whose id has a slash', async (t) => {
  const { client } = await setup(t);
  const ids: string[] = [];
  for await (const { id } of client.models.list()) ids.push(id);
  assert.deepEqual(ids, [MODEL]);
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

test('gets an error with code, type and param, and does not retry what is its own fault', async (t) => {
  const { client, gateway } = await setup(t);
  const failing = client.chat.completions.create({ ...ASK, top_logprobs: 2 });
  await assert.rejects(failing, (error: unknown) => {
    assert.ok(error instanceof APIError);
    const { status, code, type, param } = error;
    assert.deepEqual([status, code, type, param], [400, 'invalid_request', 'invalid_request_error', 'top_logprobs']);
    return true;
  });
  assert.equal(gateway.server.requests.length, 0);
});

test('retries a 402 that is said to pass, and gets its answer', async (t) => {
  const { client, gateway } = await setup(t, { creditUsd: '0.015' });
  const leave = new AbortController();
  gateway.server.play((turn) => turn.left);
  const first = gateway.chat({ max_tokens: 4000, stream: true }, { signal: leave.signal }).catch(() => null);
  await gateway.server.request(0);
  const second = client.chat.completions.create({ ...ASK, max_tokens: 4000 }, { maxRetries: 3 });
  setTimeout(() => leave.abort(), 100);
  assert.equal((await second).choices[0]?.finish_reason, 'stop');
  await first;
});

test('a stream that breaks throws, so nobody takes half an answer for a whole one', async (t) => {
  const { client, gateway } = await setup(t);
  gateway.server.play(cutAfter(eventsOf().slice(0, 3)));
  const stream = await client.chat.completions.create({ ...ASK, stream: true });
  let text = '';
  const reading = (async () => {
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
  })();
  await assert.rejects(reading, (error: unknown) => error instanceof APIError && error.code === 'upstream_error');
  assert.equal(text, 'Hello wor');
});

async function setup(
  t: TestContext,
  settings: GatewaySettings = {},
): Promise<{ readonly client: OpenAI; readonly gateway: Gateway }> {
  const gateway = await startGateway(t, settings);
  return { client: new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: gateway.key, maxRetries: 0 }), gateway };
}
