import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AppError } from '../../src/errors.ts';
import { clientError, managedFields, MANAGED, refuseFields, reportedCounts } from '../../src/gateway/dialect.ts';

const ENGINES = ['llama.cpp', 'vllm', 'sglang', 'openai'] as const;

test('every field that the gateway sets is taken out of what the client wrote, or refused', () => {
  for (const engine of ENGINES) {
    for (const stream of [true, false]) {
      const fields = managedFields(engine, { model: 'm', maxTokens: 5, asked: true, stream });
      for (const key of Object.keys(fields)) {
        if (!MANAGED.has(key)) assert.throws(() => refuseFields({ [key]: 1 }), AppError, key);
      }
    }
  }
});

test('no field of ours passes in other letters, which a model server written in Go would take for it', () => {
  const ours = [...MANAGED, 'messages', 'tools', 'functions', 'response_format', 'logprobs', 'best_of', 'n_predict'];
  for (const key of ours) {
    const others = [key.toUpperCase(), `${key.slice(0, 1).toUpperCase()}${key.slice(1)}`];
    if (key.includes('s')) others.push(key.replace('s', '\u017f'));
    if (key.includes('k')) others.push(key.replace('k', '\u212a'));
    for (const other of others) assert.throws(() => refuseFields({ [other]: 1 }), { code: 'invalid_request' }, other);
  }
  for (const key of ['messages', 'tools', 'stream', 'Unknown', '\u00fc']) refuseFields({ [key]: 1 });
});

test('the model is written as JSON, whatever it is called', () => {
  fc.assert(
    fc.property(fc.string(), (model) => {
      const { model: text } = managedFields('vllm', { model, maxTokens: 1, asked: true, stream: false });
      assert.equal(JSON.parse(text ?? ''), model);
    }),
  );
});

const COUNTS: readonly {
  name: string;
  reply: Record<string, unknown>;
  input: number | null;
  cached: number | null;
  output: number | null;
}[] = [
  {
    name: "OpenAI's usage",
    reply: { usage: { prompt_tokens: 9, completion_tokens: 3, prompt_tokens_details: { cached_tokens: 4 } } },
    ...{ input: 9, cached: 4, output: 3 },
  },
  {
    name: "vLLM's usage without details",
    reply: { usage: { prompt_tokens: 9, completion_tokens: 3, prompt_tokens_details: null } },
    ...{ input: 9, cached: null, output: 3 },
  },
  {
    name: "llama.cpp's timings, whose prompt leaves the cache out",
    reply: { usage: null, timings: { cache_n: 4, prompt_n: 5, predicted_n: 3 } },
    ...{ input: 9, cached: 4, output: 3 },
  },
  {
    name: 'old timings without a cache',
    reply: { timings: { prompt_n: 5, predicted_n: 3 } },
    input: 5,
    cached: null,
    output: 3,
  },
  {
    name: 'usage before timings',
    reply: { usage: { completion_tokens: 1 }, timings: { predicted_n: 9 } },
    input: null,
    cached: null,
    output: 1,
  },
  {
    name: 'nothing that is no count',
    reply: { usage: { prompt_tokens: -1, completion_tokens: 1.5, prompt_tokens_details: { cached_tokens: '4' } } },
    ...{ input: null, cached: null, output: null },
  },
  {
    name: 'no float above what an integer holds',
    reply: { usage: { prompt_tokens: 1e300, completion_tokens: 2 ** 53 } },
    input: null,
    cached: null,
    output: null,
  },
];

for (const { name, reply, ...expected } of COUNTS) {
  test(`reads ${name}`, () => assert.deepEqual(reportedCounts(reply), expected));
}

test('a reply that says nothing of tokens says nothing', () => {
  for (const reply of [
    {},
    { usage: null },
    { usage: 3 },
    { timings: null },
    { usage: 'x', timings: [] as unknown[] },
  ]) {
    const told = reportedCounts(reply);
    assert.ok(told === null || (told.input === null && told.output === null), JSON.stringify(reply));
  }
});

const SAID: readonly { status: number; body: string; code: string | null; message?: string }[] = [
  { status: 400, body: '{"error":{"message":"bad"}}', code: 'invalid_request', message: 'bad' },
  { status: 400, body: '{"message":"bad"}', code: 'invalid_request', message: 'bad' },
  { status: 422, body: '{"detail":"bad"}', code: 'invalid_request', message: 'bad' },
  {
    status: 400,
    body: '{"detail":[{"msg":"bad"}]}',
    code: 'invalid_request',
    message: 'the model server refused the request',
  },
  { status: 400, body: '<html>', code: 'invalid_request', message: 'the model server refused the request' },
  {
    status: 400,
    body: '{"error":{"type":"exceed_context_size_error","message":"x"}}',
    code: 'context_length_exceeded',
    message: 'x',
  },
  {
    status: 413,
    body: 'too many tokens',
    code: 'context_length_exceeded',
    message: 'the request is longer than the context',
  },
  { status: 404, body: '{"error":{"message":"no such model"}}', code: null },
  { status: 401, body: '{}', code: null },
  { status: 429, body: '{}', code: null },
  { status: 500, body: '{"error":{"message":"maximum context"}}', code: null },
  { status: 200, body: '{}', code: null },
];

for (const { status, body, code, message } of SAID) {
  test(`${status} ${body} is ${code ?? 'no fault of the client'}`, () => {
    const error = clientError(status, body);
    assert.equal(error?.code ?? null, code);
    if (message !== undefined) assert.equal(error?.message, message);
  });
}

test('what a server says is cut to a line of 500 characters', () => {
  const error = clientError(400, JSON.stringify({ message: `a\r\n\u0000b${'x'.repeat(9000)}` }));
  assert.equal(error?.message.length, 500);
  assert.ok(error?.message.startsWith('a bx'));
});
