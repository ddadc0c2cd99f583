import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { FakeClock } from '../fakes/clock.ts';
import { DOORS, MODEL, onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { json } from '../fakes/model-replies.ts';
import { completionOf, errorOf } from '../fakes/reply.ts';

const MESSAGES = [{ role: 'user', content: 'hi' }];

onBothDoors('a key that is missing, unknown, revoked or expired is refused, in the same words', async (t, door) => {
  const clock = new FakeClock();
  const { fetch, keys, ledger, addKey } = await setup(t, { door, clock });
  const old = await addKey({ expiresMs: clock.now() + 1000 });
  const gone = await addKey({});
  await ledger.ask({ op: 'revoke', id: gone.id, atMs: clock.now() });
  await keys.refresh();
  const ask = (authorization?: string): Promise<Response> =>
    fetch('/v1/models', { headers: authorization === undefined ? {} : { authorization } });
  assert.equal((await ask(`Bearer ${old.key}`)).status, 200);
  await clock.advance(1000);
  const said = new Set<string>();
  for (const key of [old.key, gone.key, 'sk-ub-unknown', 'x']) {
    const { code, type, message, param } = await errorOf(await ask(`Bearer ${key}`), 401);
    assert.deepEqual([code, type, param], ['invalid_api_key', 'authentication_error', null]);
    said.add(message);
  }
  assert.equal(said.size, 1);
  for (const header of [undefined, '', 'Bearer', `Basic ${old.key}`, 'Bearer two words']) {
    assert.equal((await errorOf(await ask(header), 401)).code, 'invalid_api_key');
  }
});

onBothDoors('a request without a valid key is refused before its body is read', async (t, door) => {
  const { chat, server } = await setup(t, { door });
  const response = await chat({ padding: 'x'.repeat(100_000) }, { headers: { authorization: 'Bearer no' } });
  assert.equal((await errorOf(response, 401)).code, 'invalid_api_key');
  assert.equal(server.requests.length, 0);
});

test('a refusal leaves the connection open for the next request', async (t) => {
  const { chat, fetch } = await setup(t, {});
  for (const response of [
    await chat({}, { headers: { authorization: 'Bearer no' } }),
    await chat({ model: 'none' }),
    await fetch('/nowhere', { method: 'POST', body: 'x' }),
  ]) {
    assert.equal(response.headers.get('connection'), 'keep-alive');
    await response.text();
  }
});

onBothDoors('a key may be bound to models: others are 403, and not listed', async (t, door) => {
  const { chat, get } = await setup(t, { door, key: { models: ['other'] } });
  const { code, type, param } = await errorOf(await chat(), 403);
  assert.deepEqual([code, type, param], ['permission_denied', 'permission_error', 'model']);
  assert.deepEqual(await (await get('/v1/models')).json(), { object: 'list', data: [] });
  assert.equal((await errorOf(await get(`/v1/models/${MODEL}`), 404)).code, 'model_not_found');
});

onBothDoors('what the account has left is told when a request does not fit', async (t, door) => {
  const { chat, server } = await setup(t, { door, creditUsd: '0.001' });
  const body = JSON.stringify({ model: MODEL, max_tokens: 4000, messages: MESSAGES });
  const response = await chat({}, { body });
  assert.equal(response.headers.get('retry-after'), null);
  assert.equal(response.headers.get('x-should-retry'), null);
  const input = BigInt(body.length + 16) * 1000n;
  const { code, type, metadata } = await errorOf(response, 402);
  assert.deepEqual([code, type], ['insufficient_credits', 'insufficient_credits']);
  assert.deepEqual(metadata, {
    needed_usd: `0.00${input + 8_000_000n}`.replace(/0+$/, ''),
    available_usd: '0.001',
    max_affordable_tokens: Number((1_000_000n - input) / 2000n),
    limit_source: 'account',
    transient: false,
  });
  assert.equal(server.requests.length, 0);
});

onBothDoors('a 402 that passes once others are done says so and asks to retry', async (t, door) => {
  const { chat, server } = await setup(t, { door, creditUsd: '0.015' });
  server.play(async (turn) => {
    await turn.left;
  });
  const leave = new AbortController();
  const first = chat({ max_tokens: 4000, stream: true }, { signal: leave.signal });
  await server.request(0);
  const response = await chat({ max_tokens: 4000, stream: true });
  assert.equal(response.headers.get('retry-after'), '1');
  assert.equal(response.headers.get('x-should-retry'), 'true');
  assert.equal((await errorOf(response, 402)).metadata?.['transient'], true);
  leave.abort();
  await first.then((reply) => reply.text()).catch(() => undefined);
});

test("a key's own spend limit is named as the limit", async (t) => {
  const { chat } = await setup(t, { key: { spendLimit: 100n } });
  const { metadata, message } = await errorOf(await chat({ max_tokens: 100 }), 402);
  assert.deepEqual([metadata?.['limit_source'], metadata?.['available_usd']], ['key', '0.0000001']);
  assert.match(message, /this API key's spend limit/);
});

onBothDoors('a model that is not there is 404, with the param that names it', async (t, door) => {
  const { chat, get } = await setup(t, { door });
  for (const response of [await chat({ model: 'none' }), await get('/v1/models/none')]) {
    const { code, type, param } = await errorOf(response, 404);
    assert.deepEqual([code, type, param], ['model_not_found', 'invalid_request_error', 'model']);
  }
});

onBothDoors('a route that is not there is 404', async (t, door) => {
  const { fetch } = await setup(t, { door });
  for (const [method, path] of [
    ['GET', '/'],
    ['POST', '/v1/nothing'],
    ['GET', '/v1/chat/completions'],
    ['DELETE', '/v1/models'],
  ] as const) {
    assert.equal((await errorOf(await fetch(path, { method }), 404)).code, 'not_found', path);
  }
});

onBothDoors('a body above the limit is 413, told or not', async (t, door) => {
  const { chat, server } = await setup(t, { door, limits: { bodyBytes: 2000 } });
  const padding = 'x'.repeat(2000);
  assert.equal((await errorOf(await chat({ padding }), 413)).code, 'request_too_large');
  const body = JSON.stringify({ model: MODEL, messages: MESSAGES, padding });
  const stream = new Blob([body]).stream();
  const untold = await chat({}, { body: stream, duplex: 'half' } as RequestInit);
  assert.equal((await errorOf(untold, 413)).code, 'request_too_large');
  assert.equal(server.requests.length, 0);
});

test('a client that is still sending a body that is too large reads the 413', async (t) => {
  const { chat } = await setup(t, { limits: { bodyBytes: 2000 } });
  for (let count = 0; count < 5; count += 1) {
    const response = await chat({ padding: 'x'.repeat(8_000_000) });
    assert.equal((await errorOf(response, 413)).code, 'request_too_large');
  }
});

for (const door of DOORS) {
  for (const body of ['', '{', 'null', '[]', '"a"', '1', '{"model":1}', '{"messages":[]}', '\u0000']) {
    test(`${JSON.stringify(body)} is no request [${door}]`, async (t) => {
      const { chat } = await setup(t, { door });
      assert.equal((await errorOf(await chat({}, { body }), 400)).code, 'invalid_request');
    });
  }
}

const LLAMA = { error: { code: 400, message: 'request (9 tokens) exceeds the available context size', type: 'x' } };
const VLLM = { object: 'error', message: "This model's maximum context length is 9 tokens.\nSo no.", code: 400 };

const CLIENTS_FAULT: readonly { status: number; body: unknown; code: string; message: string; param: string | null }[] =
  [
    { status: 400, body: { detail: 'bad\ngrammar' }, code: 'invalid_request', message: 'bad grammar', param: null },
    { status: 422, body: 'no', code: 'invalid_request', message: 'the model server refused the request', param: null },
    { status: 400, body: LLAMA, code: 'context_length_exceeded', message: LLAMA.error.message, param: 'messages' },
    {
      status: 400,
      body: VLLM,
      code: 'context_length_exceeded',
      message: VLLM.message.replace('\n', ' '),
      param: 'messages',
    },
  ];

for (const { status, body, code, message, param } of CLIENTS_FAULT) {
  onBothDoors(
    `what a model server says against a request is passed on, without fail-over: ${message}`,
    async (t, door) => {
      const { chat, servers, router, ledger } = await setup(t, { door, servers: 2 });
      for (const server of servers) server.usually(json(status, body));
      for (const stream of [false, true]) {
        const error = await errorOf(await chat({ max_tokens: 5, stream }), 400);
        assert.deepEqual([error.code, error.message, error.param], [code, message, param]);
      }
      assert.equal(
        servers.reduce((sum, { requests }) => sum + requests.length, 0),
        2,
      );
      assert.equal(router.load('replica-0')?.failed, 0);
      assert.deepEqual(
        ledger.settlements.map(({ charged, status: end }) => [charged, end]),
        [
          [0n, 'failed'],
          [0n, 'failed'],
        ],
      );
    },
  );
}

onBothDoors('a handler that throws tells strangers nothing but a constant', async (t, door) => {
  const { chat, ledger, logs } = await setup(t, { door });
  ledger.before('hold', () => Promise.reject(new Error('the secret of /var/lib')));
  const { code, type, message, param } = await errorOf(await chat(), 500);
  assert.deepEqual([code, type, param], ['internal_error', 'api_error', null]);
  assert.equal(message, 'an internal error happened');
  assert.match(logs.join('\n'), /^req-\w+: .*the secret of \/var\/lib/);
});

onBothDoors('a gateway that is not ready, or full, is 503 with Retry-After', async (t, door) => {
  let why: string | null = 'starting';
  const { get, chat, fetch } = await setup(t, { door, notReady: () => why, limits: { requestsMax: 0 } });
  const starting = await chat();
  assert.equal(starting.headers.get('retry-after'), '5');
  assert.equal((await errorOf(starting, 503)).code, 'no_capacity');
  assert.equal((await fetch('/readyz')).status, 503);
  assert.equal((await fetch('/healthz')).status, 200);
  why = null;
  const full = await get('/v1/models');
  assert.equal(full.headers.get('retry-after'), '1');
  assert.equal((await errorOf(full, 503)).code, 'queue_full');
  assert.equal((await fetch('/readyz')).status, 200);
});

onBothDoors('a gateway that may have one request at a time has one after the other', async (t, door) => {
  const { chat, get } = await setup(t, { door, limits: { requestsMax: 1 } });
  for (let count = 0; count < 3; count += 1) {
    await completionOf(await chat({ max_tokens: 5 }));
    await errorOf(await chat({ model: 'none' }), 404);
    await errorOf(await get('/nowhere'), 404);
  }
});

onBothDoors('every reply has a request id of its own, error or not', async (t, door) => {
  const { chat, get, fetch } = await setup(t, { door });
  const replies = [
    ...[await chat({ max_tokens: 5 }), await chat({ stream: true }), await chat({ max_tokens: 0 })],
    ...[await get('/v1/models'), await get('/v1/credits'), await get('/v1/generation?id=x'), await get('/none')],
    ...[await fetch('/v1/models'), await fetch('/healthz'), await fetch('/readyz'), await fetch('/admin/pools')],
  ];
  const ids = replies.map((reply) => reply.headers.get('x-request-id'));
  for (const id of ids) assert.match(id ?? '', /^req-\w+$/);
  assert.equal(new Set(ids).size, replies.length);
  await Promise.all(replies.map((reply) => reply.text()));
});

test('a refused request costs nothing and the next one is served', async (t) => {
  const { chat, ledger } = await setup(t, {});
  await errorOf(await chat({ top_logprobs: 3 }), 400);
  await completionOf(await chat({ max_tokens: 5 }));
  assert.deepEqual(
    ledger.settlements.map(({ status }) => status),
    ['done'],
  );
});

function setup(t: TestContext, settings: GatewaySettings): Promise<Gateway> {
  return startGateway(t, settings);
}
