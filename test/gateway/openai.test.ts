import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, ERROR_CODES } from '../../src/errors.ts';
import {
  chatSchema,
  errorBody,
  errorHeaders,
  errorStatus,
  parseJsonBody,
  toAppError,
} from '../../src/gateway/openai.ts';

const ASK = { model: 'm', messages: [{ role: 'user', content: 'hi' }] };
const pairs = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, at) => [`k${at}`, 'v']));
const part = (value: object): Record<string, unknown> => ({ messages: [{ role: 'user', content: [value] }] });

/** Fields that break a rule of the contract or of OpenAI's schema, and the param that must be named. */
const BAD: readonly [fields: Record<string, unknown>, param: string][] = [
  [{ n: 0 }, 'n'],
  [{ n: 129 }, 'n'],
  [{ n: 1.5 }, 'n'],
  [{ n: '1' }, 'n'],
  [{ top_logprobs: 3 }, 'top_logprobs'],
  [{ top_logprobs: 0 }, 'top_logprobs'],
  [{ top_logprobs: 3, logprobs: false }, 'top_logprobs'],
  [{ top_logprobs: 21, logprobs: true }, 'top_logprobs'],
  [{ top_logprobs: 21, logprobs: true, stream: true }, 'top_logprobs'],
  [{ top_logprobs: -1, logprobs: true }, 'top_logprobs'],
  [{ metadata: pairs(17) }, 'metadata'],
  [{ metadata: { ['k'.repeat(65)]: 'v' } }, `metadata.${'k'.repeat(65)}`],
  [{ metadata: { k: 'v'.repeat(513) } }, 'metadata.k'],
  [{ metadata: { k: 1 } }, 'metadata.k'],
  [{ stream_options: { include_usage: true } }, 'stream_options'],
  [{ stream_options: {}, stream: false }, 'stream_options'],
  [{ stream_options: { include_usage: 'yes' }, stream: true }, 'stream_options.include_usage'],
  [{ stream: 'true' }, 'stream'],
  [{ max_tokens: 0 }, 'max_tokens'],
  [{ max_tokens: 1e300 }, 'max_tokens'],
  [{ max_completion_tokens: -5 }, 'max_completion_tokens'],
  [{ temperature: 2.1 }, 'temperature'],
  [{ top_p: 1.1 }, 'top_p'],
  [{ presence_penalty: -2.1 }, 'presence_penalty'],
  [{ frequency_penalty: 2.1 }, 'frequency_penalty'],
  [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop'],
  [{ seed: 'x' }, 'seed'],
  [{ logprobs: 1 }, 'logprobs'],
  [{ safety_identifier: 'x'.repeat(65) }, 'safety_identifier'],
  [{ logit_bias: { 5: 101 } }, 'logit_bias'],
  [{ grammar: 'root ::= ' + '('.repeat(65) }, 'grammar'],
  [{ messages: [] }, 'messages'],
  [{ messages: 'hi' }, 'messages'],
  [{ messages: [{ role: 'nobody', content: 'hi' }] }, 'messages[0].role'],
  [{ messages: [...ASK.messages, { content: 'hi' }] }, 'messages[1].role'],
  [{ messages: [{ role: 'user', content: 5 }] }, 'messages[0].content'],
  [part({ type: 'text' }), 'messages[0].content[0]'],
  [part({ type: 'text', text: 5 }), 'messages[0].content[0]'],
  [part({ text: 'a' }), 'messages[0].content'],
  [{ model: '' }, 'model'],
  [{ model: 'x'.repeat(129) }, 'model'],
  [{ tools: {} }, 'tools'],
  [{ response_format: 'json' }, 'response_format'],
];

for (const [fields, param] of BAD) {
  test(`${JSON.stringify(fields).slice(0, 80)} is refused and names ${param.slice(0, 30)}`, () => {
    const parse = (): unknown => parseJsonBody(JSON.stringify({ ...ASK, ...fields }), chatSchema);
    assert.throws(parse, (error: unknown) => {
      assert.ok(error instanceof AppError);
      assert.deepEqual([error.code, error.param], ['invalid_request', param]);
      assert.ok(error.message.startsWith(`${param}: `));
      return true;
    });
  });
}

const GOOD: readonly Record<string, unknown>[] = [
  { n: 128 },
  { top_logprobs: 20, logprobs: true },
  { top_logprobs: 0, logprobs: true },
  { metadata: pairs(16) },
  { metadata: { ['k'.repeat(64)]: 'v'.repeat(512) } },
  { stream: true, stream_options: { include_usage: true, more: 1 } },
  { seed: -9_007_199_254_740_991 },
  { stop: 'x' },
  { stop: ['a', 'b', 'c', 'd'] },
  { unknown: { a: [1] } },
  { messages: [{ role: 'developer', content: [{ type: 'text', text: 'a', cache_control: {} }], name: 'x' }] },
  {
    messages: [
      { role: 'assistant', content: null, tool_calls: [] },
      { role: 'tool', tool_call_id: 'a', content: 'b' },
    ],
  },
  Object.fromEntries(
    ['stream', 'stream_options', 'n', 'max_tokens', 'max_completion_tokens', 'temperature', 'top_p', 'logprobs'].map(
      (key) => [key, null],
    ),
  ),
  Object.fromEntries(
    ['top_logprobs', 'stop', 'seed', 'user', 'metadata', 'logit_bias', 'tools', 'response_format'].map((key) => [
      key,
      null,
    ]),
  ),
];

for (const fields of GOOD) {
  test(`${JSON.stringify(fields).slice(0, 80)} is taken`, () => {
    assert.deepEqual(parseJsonBody(JSON.stringify({ ...ASK, ...fields }), chatSchema), { ...ASK, ...fields });
  });
}

test('every code has a status, and every error all four fields', () => {
  const statuses = new Map(ERROR_CODES.map((code) => [code, errorStatus(new AppError(code, 'x'))]));
  for (const [code, status] of statuses) {
    assert.ok(status >= 400 && status < 600, code);
    const { error } = JSON.parse(errorBody(new AppError(code, 'why'))) as { error: Record<string, unknown> };
    assert.deepEqual(Object.keys(error), ['message', 'type', 'param', 'code']);
    assert.deepEqual([error['message'], error['param'], error['code']], ['why', null, code]);
  }
  const contract = {
    ...{ invalid_request: 400, context_length_exceeded: 400, invalid_api_key: 401, permission_denied: 403 },
    ...{ insufficient_credits: 402, model_not_found: 404, request_too_large: 413, idempotency_in_flight: 409 },
    ...{ idempotency_completed: 409, idempotency_mismatch: 422, rate_limit_exceeded: 429, upstream_error: 502 },
    ...{ upstream_timeout: 504, no_capacity: 503, queue_full: 503, internal_error: 500 },
  } as const;
  for (const [code, status] of Object.entries(contract))
    assert.equal(statuses.get(code as keyof typeof contract), status);
});

test('headers say when and whether to retry', () => {
  const headersOf = (...error: ConstructorParameters<typeof AppError>): Record<string, string> => {
    const { 'content-type': type, ...rest } = errorHeaders(new AppError(...error));
    assert.equal(type, 'application/json');
    return rest;
  };
  assert.deepEqual(headersOf('invalid_request', ''), {});
  assert.deepEqual(headersOf('no_capacity', '', { retryAfterS: 7 }), { 'retry-after': '7' });
  assert.deepEqual(headersOf('queue_full', '', { retryAfterS: 90, shouldRetry: false }), {
    'retry-after': '90',
    'x-should-retry': 'false',
  });
  // OpenAI's clients retry a 409 unless they are told not to.
  assert.deepEqual(headersOf('idempotency_completed', ''), { 'x-should-retry': 'false' });
  assert.deepEqual(headersOf('insufficient_credits', '', { shouldRetry: true }), { 'x-should-retry': 'true' });
});

test('what was not foreseen is told as a constant, its cause kept for logs', () => {
  const cause = new Error('password=1234');
  const error = toAppError(cause);
  assert.doesNotMatch(errorBody(error), /1234/);
  assert.deepEqual([error.code, error.cause], ['internal_error', cause]);
  const known = new AppError('not_found', 'x');
  assert.equal(toAppError(known), known);
});
