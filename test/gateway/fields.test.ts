import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { topLevelMembers } from '../../src/gateway/json-splice.ts';
import { MODEL, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

const MESSAGES = '"messages":[{"role":"user","content":"hi"}]';

test('unknown fields reach the model server byte for byte, known ones of ours are replaced', async (t) => {
  const { chat, server } = await setup(t);
  const own = '"seed":9007199254740993,"temperature":1.0,"min_p":1e-2,"x":{"a" : [1.50,"\\u00e9\\n"]}';
  await completionOf(await chat({}, { body: `{"model":"${MODEL}",${own} , "max_tokens":7,\n${MESSAGES}}` }));
  const { text, headers } = server.requests[0] ?? assert.fail('no request');
  const expected = `{${own},${MESSAGES},"model":"name-on-the-server","stream":false,"max_tokens":7,"n_predict":7}`;
  const [sent, wanted] = [text, expected].map((body) => topLevelMembers(body).map(({ text: member }) => member));
  assert.deepEqual(sent, wanted);
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers.authorization, 'Bearer key-of-replica-0');
});

test('nothing of the client but its body reaches the model server', async (t) => {
  const { chat, server, key } = await setup(t);
  await completionOf(await chat({ max_tokens: 5 }, { headers: { 'x-own': 'secret', cookie: 'a=b' } }));
  const { headers, text } = server.requests[0] ?? assert.fail('no request');
  assert.ok(!('x-own' in headers) && !('cookie' in headers));
  assert.ok(!JSON.stringify(headers).includes(key) && !text.includes(key));
});

const REFUSED: readonly string[] = [
  ...['n_predict', 'max_new_tokens', 'best_of', 'chat_template', 'mm_processor_kwargs', 'use_beam_search'],
  ...['prompt_logprobs', 'prompt', 'prompt_token_ids', 'n_indent', 'id_slot', 'echo', 'continue_final_message'],
  ...['add_generation_prompt', 'return_token_ids', 'kv_transfer_params', 'priority', 'n_probs', 'lora', 'request_id'],
  ...['logits_processors', 'custom_logit_processor', 'bootstrap_host', 'return_hidden_states'],
];

test('fields that change cost or shape are refused by their name, and nothing is sent or held', async (t) => {
  const { chat, server, ledger } = await setup(t);
  for (const field of REFUSED) {
    const { code, param } = await errorOf(await chat({ [field]: 1 }), 400);
    assert.deepEqual([code, param], ['invalid_request', field]);
  }
  // An escape in the key changes nothing.
  const { param } = await errorOf(
    await chat({}, { body: `{"model":"${MODEL}","n\\u005fpredict":60,${MESSAGES}}` }),
    400,
  );
  assert.equal(param, 'n_predict');
  assert.equal(server.requests.length, 0);
  assert.equal(ledger.asks('hold').length, 0);
});

interface Maximum {
  readonly engine: 'llama.cpp' | 'vllm' | 'sglang' | 'openai';
  readonly asked: Record<string, number>;
  readonly sent: Record<string, number>;
}

const MAXIMA: readonly Maximum[] = [
  { engine: 'llama.cpp', asked: { max_tokens: 5 }, sent: { max_tokens: 5, n_predict: 5 } },
  { engine: 'llama.cpp', asked: { max_completion_tokens: 5, max_tokens: 9 }, sent: { max_tokens: 5, n_predict: 5 } },
  { engine: 'llama.cpp', asked: { max_tokens: 999_999 }, sent: { max_tokens: 4096, n_predict: 4096 } },
  { engine: 'llama.cpp', asked: {}, sent: { max_tokens: 4096, n_predict: 4096 } },
  { engine: 'vllm', asked: { max_completion_tokens: 5, max_tokens: 9 }, sent: { max_tokens: 5 } },
  { engine: 'sglang', asked: { max_completion_tokens: 5 }, sent: { max_tokens: 5 } },
  // These refuse a maximum that does not fit beside the prompt, so where none is asked none is sent.
  { engine: 'vllm', asked: {}, sent: {} },
  { engine: 'sglang', asked: {}, sent: {} },
  { engine: 'openai', asked: {}, sent: {} },
];
const ALIASES = ['max_tokens', 'max_completion_tokens', 'n_predict', 'max_new_tokens'];

for (const { engine, asked, sent } of MAXIMA) {
  test(`${engine} asked with ${JSON.stringify(asked)} is sent ${JSON.stringify(sent)}`, async (t) => {
    const { chat, server } = await setup(t, { pool: { engine } });
    await streamOf(await chat({ stream: true, ...asked }));
    const body = server.requests[0]?.body ?? {};
    assert.deepEqual(Object.fromEntries(ALIASES.filter((key) => key in body).map((key) => [key, body[key]])), sent);
  });
}

test('a field that is written twice is refused, however it is escaped: readers differ in which one counts', async (t) => {
  const { chat, server } = await setup(t);
  for (const [field, twice] of [
    ['max_tokens', '"max_tokens":3,"max\\u005ftokens":4'],
    ['messages', '"\\u006dessages":[]'],
    ['x', '"x":1,"x":1'],
  ] as const) {
    const error = await errorOf(await chat({}, { body: `{"model":"${MODEL}",${MESSAGES},${twice}}` }), 400);
    assert.deepEqual([error.code, error.param], ['invalid_request', field]);
  }
  assert.equal(server.requests.length, 0);
});

test('every alias of the maximum, however it is escaped, becomes ours', async (t) => {
  const { chat, server } = await setup(t);
  const maximum = `"max\\u005ftokens":4,"max_completion_tokens":5`;
  await completionOf(await chat({}, { body: `{"model":"${MODEL}",${maximum},${MESSAGES}}` }));
  const { text } = server.requests[0] ?? assert.fail('no request');
  const maxima = topLevelMembers(text).filter(({ key }) => ALIASES.includes(key));
  assert.deepEqual(
    maxima.map(({ key, value }) => [key, value]),
    [
      ['max_tokens', '5'],
      ['n_predict', '5'],
    ],
  );
});

const RUNNING: readonly { engine: 'llama.cpp' | 'vllm' | 'sglang' | 'openai'; fields: Record<string, unknown> }[] = [
  { engine: 'llama.cpp', fields: { stream_options: { include_usage: true }, timings_per_token: true } },
  { engine: 'vllm', fields: { stream_options: { include_usage: true, continuous_usage_stats: true } } },
  { engine: 'sglang', fields: { stream_options: { include_usage: true, continuous_usage_stats: true } } },
  { engine: 'openai', fields: { stream_options: { include_usage: true } } },
];

for (const { engine, fields } of RUNNING) {
  test(`${engine} is asked for running counts, whatever the client says of usage`, async (t) => {
    const { chat, server } = await setup(t, { pool: { engine } });
    const mine = { timings_per_token: false, return_progress: true };
    await streamOf(await chat({ stream: true, stream_options: { include_usage: false }, ...mine }));
    const body = server.requests[0]?.body ?? {};
    const told = ['stream_options', 'timings_per_token', 'return_progress'].filter((key) => key in body);
    assert.deepEqual(Object.fromEntries(told.map((key) => [key, body[key]])), fields);
  });
}

test('the model is known to its server by another name and to the client by the public one', async (t) => {
  const { chat, server } = await setup(t);
  const { model } = await completionOf(await chat({ max_tokens: 5 }));
  assert.equal(model, MODEL);
  assert.equal(server.requests[0]?.body['model'], 'name-on-the-server');
});

test('an API whose address has a path is asked below that path', async (t) => {
  const { chat, server, router, addReplica } = await setup(t);
  router.drain('replica-0');
  addReplica(server, { id: 'api', url: `${server.url}/api/` });
  await completionOf(await chat({ max_tokens: 5 }));
  assert.equal(server.requests[0]?.path, '/api/v1/chat/completions');
});

function setup(t: TestContext, settings: GatewaySettings = {}): Promise<Gateway> {
  return startGateway(t, settings);
}
