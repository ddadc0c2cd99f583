import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { MODEL, onBothDoors, startGateway, type Door, type Gateway } from '../fakes/gateway.ts';
import { answer, deltaEvent, events, eventsOf, PIECES, resliced, type Answer } from '../fakes/model-replies.ts';
import { streamOf } from '../fakes/reply.ts';

const STREAM = { stream: true };
const WITH_USAGE = { stream: true, stream_options: { include_usage: true } };

onBothDoors('streams role, deltas, finish_reason, usage and [DONE] in the shape of the contract', async (t, door) => {
  const { chat, server } = await setup(t, door);
  server.play(answer({ prompt: 12, cached: 4 }));
  const response = await chat(WITH_USAGE);
  const requestId = response.headers.get('x-request-id') ?? '';
  const { chunks, done, error } = await streamOf(response);
  const { id, created } = chunks[0] ?? assert.fail('no chunk');
  assert.match(requestId, /^req-/);
  assert.match(id, /^chatcmpl-[0-9A-Za-z]{20,}$/);
  assert.ok(Math.abs(created - Date.now() / 1000) < 10);
  const head = { id, object: 'chat.completion.chunk', created, model: MODEL };
  const choice = (delta: object, finish: string | null = null): object => ({
    ...head,
    choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
    usage: null,
  });
  const usage = {
    prompt_tokens: 12,
    completion_tokens: 4,
    total_tokens: 16,
    prompt_tokens_details: { cached_tokens: 4, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0 },
    cost: 0.000018,
  };
  assert.deepEqual(chunks, [
    choice({ role: 'assistant', content: '', refusal: null }),
    ...PIECES.map((content) => choice({ content })),
    choice({}, 'stop'),
    { ...head, choices: [], usage },
  ]);
  assert.deepEqual([done, error], [true, null]);
});

onBothDoors('without include_usage no chunk says anything of usage', async (t, door) => {
  const { chat, ledger } = await setup(t, door);
  for (const fields of [STREAM, { stream: true, stream_options: null }, { ...STREAM, stream_options: {} }]) {
    const { chunks, done } = await streamOf(await chat(fields));
    assert.equal(chunks.length, PIECES.length + 2);
    assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && !('usage' in chunk)));
    assert.equal(done, true);
  }
  assert.deepEqual(
    ledger.settlements.map(({ charged, status }) => [charged, status]),
    Array.from({ length: 3 }, () => [12n * 1000n + 4n * 2000n, 'done']),
  );
});

onBothDoors('each request has an id and a request id of its own', async (t, door) => {
  const { chat } = await setup(t, door);
  const replies = [await chat(STREAM), await chat(STREAM)];
  const requestIds = replies.map((reply) => reply.headers.get('x-request-id'));
  const ids = await Promise.all(replies.map(async (reply) => (await streamOf(reply)).chunks[0]?.id));
  assert.equal(new Set([...ids, ...requestIds]).size, 4);
});

for (const shape of ['llama.cpp', 'vllm', 'openai'] as const) {
  test(`counts the tokens of a stream in the shape of ${shape}`, async (t) => {
    const { chat, server, ledger } = await setup(t, 'node');
    server.play(events(eventsOf({ shape, prompt: 30, cached: 10, claims: 7 })));
    const { chunks, texts, done } = await streamOf(await chat(WITH_USAGE));
    assert.deepEqual([texts, done], [['Hello world!'], true]);
    assert.equal(chunks.at(-1)?.usage?.completion_tokens, 7);
    assert.deepEqual(ledger.settlements[0]?.tokens, { inputTokens: 30, cachedTokens: 10, outputTokens: 7 });
  });
}

for (const bytesEach of [1, 3, 7, 100, 1_000_000]) {
  test(`reads a stream that comes in writes of ${bytesEach} bytes`, async (t) => {
    const { chat, server } = await setup(t, 'node');
    const pieces = ['Grüße', ' 你好', ' 🎉', '\n\n', 'data: no\r\n'];
    server.play(resliced(eventsOf({ pieces }), bytesEach));
    const { texts, done } = await streamOf(await chat(STREAM));
    assert.deepEqual([texts, done], [[pieces.join('')], true]);
  });
}

const DELTAS: readonly { name: string; answer: Answer; expected: readonly object[] }[] = [
  {
    name: 'tool calls',
    answer: {
      finish: 'tool_calls',
      deltas: [
        { tool_calls: [{ index: 0, id: 'call-1', type: 'function', function: { name: 'look', arguments: '' } }] },
        { content: null, tool_calls: [{ index: 0, function: { arguments: '{"a":1}' } }] },
      ],
    },
    expected: [
      { tool_calls: [{ index: 0, id: 'call-1', type: 'function', function: { name: 'look', arguments: '' } }] },
      { content: null, tool_calls: [{ index: 0, function: { arguments: '{"a":1}' } }] },
    ],
  },
  {
    name: 'reasoning',
    answer: {
      deltas: [
        { role: 'assistant', reasoning_content: 'hm' },
        { content: 'yes', reasoning_content: null },
      ],
    },
    expected: [{ reasoning_content: 'hm' }, { content: 'yes' }],
  },
  {
    name: 'empty deltas, which say nothing,',
    answer: { deltas: [{ content: '' }, {}, { content: 'a' }, { content: null }] },
    expected: [{ content: 'a' }],
  },
];

for (const { name, answer: said, expected } of DELTAS) {
  test(`passes on ${name} after one role delta`, async (t) => {
    const { chat, server } = await setup(t, 'node');
    server.play(answer(said));
    const { chunks, finishes } = await streamOf(await chat(STREAM));
    const deltas = chunks.map((chunk) => chunk.choices[0]?.delta);
    assert.deepEqual(deltas, [{ role: 'assistant', content: '', refusal: null }, ...expected, {}]);
    assert.deepEqual(finishes, [said.finish ?? 'stop']);
  });
}

test('passes log-probabilities on, beside deltas that have none', async (t) => {
  const { chat, server } = await setup(t, 'node');
  const logprobs = [{ token: 'a', logprob: -0.5, bytes: [97], top_logprobs: [] }, undefined];
  server.play(answer({ deltas: [{ role: 'assistant', content: 'a' }, { content: 'b' }], logprobs }));
  const { chunks } = await streamOf(await chat({ ...STREAM, logprobs: true }));
  const choices = chunks.map(({ choices: [choice] }) => [choice?.delta, choice?.logprobs]);
  assert.deepEqual(choices.slice(1, 3), [
    [{ content: 'a' }, { content: [logprobs[0]] }],
    [{ content: 'b' }, null],
  ]);
});

test('takes a whole answer for whole when only [DONE] is missing', async (t) => {
  const { chat, server, ledger } = await setup(t, 'node');
  server.play(events(eventsOf().slice(0, -1)));
  const { texts, finishes, done } = await streamOf(await chat(STREAM));
  assert.deepEqual([texts, finishes, done], [['Hello world!'], ['stop'], true]);
  assert.equal(ledger.settlements[0]?.status, 'done');
});

test('a null error in a chunk is none, and what follows [DONE] is not read', async (t) => {
  const { chat, server } = await setup(t, 'node');
  const list = eventsOf().map((event) => event.replace('data: {', 'data: {"error":null,'));
  server.play(events([[...list, deltaEvent({ content: 'too late' })].join('')]));
  const { texts, done } = await streamOf(await chat(STREAM));
  assert.deepEqual([texts, done], [['Hello world!'], true]);
});

test('an unknown finish_reason is told as stop, an empty one is none', async (t) => {
  const { chat, server } = await setup(t, 'node');
  const early = deltaEvent({ content: 'a' }).replace('"finish_reason":null', '"finish_reason":""');
  server.play(events([early, ...eventsOf({ finish: 'eos_token' })]));
  const { chunks, finishes } = await streamOf(await chat(STREAM));
  assert.deepEqual(finishes, ['stop']);
  assert.equal(chunks.filter(({ choices }) => choices[0]?.finish_reason === 'stop').length, 1);
});

test('the connection to the model server and the one to the client are kept for the next request', async (t) => {
  const gateway = await setup(t, 'node');
  for (let count = 0; count < 5; count += 1) {
    const response = await gateway.chat(count % 2 === 0 ? STREAM : {});
    assert.equal(response.headers.get('connection'), 'keep-alive');
    await response.text();
  }
  assert.equal(gateway.server.requests.length, 5);
  assert.equal(gateway.server.connections, 1);
});

function setup(t: TestContext, door: Door): Promise<Gateway> {
  return startGateway(t, { door });
}
