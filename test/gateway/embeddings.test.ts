import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import OpenAI from 'openai';
import { systemClock } from '../../src/clock.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { probeModelServer } from '../../src/gateway/probe.ts';
import { until } from '../fakes/clock.ts';
import { VECTOR, vectors } from '../fakes/embedding-replies.ts';
import {
  CUSTOMER,
  MODEL,
  NANO,
  onBothDoors,
  startGateway,
  type Gateway,
  type GatewaySettings,
} from '../fakes/gateway.ts';
import { json, reset, silence } from '../fakes/model-replies.ts';
import type { Script } from '../fakes/model-server.ts';
import { errorOf } from '../fakes/reply.ts';

const PATH = '/v1/embeddings';

onBothDoors('a text becomes a vector, and what the server read of it is charged exactly', async (t, door) => {
  const { embed, server, ledger, get } = await setup(t, { door });
  server.play(vectors({ prompt: 5 }));
  const response = await embed({ input: 'Köln at night', dimensions: 3, user: 'u', odd: 1 });
  const { data, usage, model, object, id } = await listOf(response);
  assert.deepEqual([data, model, object], [[{ object: 'embedding', embedding: VECTOR, index: 0 }], MODEL, 'list']);
  const [settled] = ledger.settlements;
  assert.equal(settled?.charged, 5n * NANO.input);
  assert.deepEqual(usage, { prompt_tokens: 5, total_tokens: 5, cost: 0.000005 });
  // Fourteen bytes and what a server may put around them.
  assert.equal(ledger.asks('hold')[0]?.amount, 30n * NANO.input);
  assert.equal(response.headers.get('x-underbid-cost-usd'), '0.000005');
  assert.equal(response.headers.get('x-underbid-cold-start-ms'), '0');
  assert.equal(response.headers.get('x-underbid-provider'), 'provider-of-replica-0');
  assert.match(response.headers.get('x-request-id') ?? '', /^req-/);
  assert.ok(response.headers.get('x-ratelimit-remaining-tokens'));
  const sent = { input: 'Köln at night', dimensions: 3, user: 'u', odd: 1, model: 'name-on-the-server' };
  assert.deepEqual([server.requests[0]?.path, server.requests[0]?.body], [PATH, sent]);
  const shown = (await (await get(`/v1/generation?id=${id}`)).json()) as { data: Record<string, unknown> };
  assert.deepEqual(
    [shown.data['tokens_prompt'], shown.data['tokens_completion'], shown.data['total_cost']],
    [5, 0, 0.000005],
  );
});

const INPUTS: readonly (readonly [string, unknown, number, bigint, bigint])[] = [
  ['texts', ['a', 'bc', '€'], 3, 6n + 48n, 0n],
  ['an array of tokens', [1, 2, 3, 4], 1, 20n, 4n],
  ['arrays of tokens', [[1, 2], [3]], 2, 35n, 3n],
  ['texts of which one may be longer than the context', ['x'.repeat(9000), 'y'], 2, 4096n + 17n, 1125n],
];
for (const [what, input, count, bound, least] of INPUTS) {
  onBothDoors(`held by the most that they can be, charged within it: ${what}`, async (t, door) => {
    const { embed, server, ledger } = await setup(t, { door });
    for (const prompt of [3, 1_000_000, null, 0]) {
      server.play(vectors({ prompt }));
      const { data, usage } = await listOf(await embed({ input }));
      assert.equal(data.length, count);
      const charged = prompt === 3 ? 3n : prompt === 1_000_000 ? bound : least;
      const settled = ledger.settlements.at(-1);
      assert.equal(settled?.charged, charged * NANO.input);
      assert.equal(usage.prompt_tokens, Number(charged));
      assert.equal(usage.cost, Number(settled?.charged) / 1e9);
      assert.equal(settled?.detail.refusedTokens, prompt === 1_000_000 ? 1_000_000 - Number(bound) : undefined);
      assert.equal(ledger.asks('hold').at(-1)?.amount, bound * NANO.input);
    }
  });
}

test('tokens claimed beyond the bound stand on the record of who claimed them', async (t) => {
  const { embed, server, router } = await setup(t, {});
  server.play(vectors({ prompt: 1000 }));
  await listOf(await embed({ input: 'ab' }));
  assert.equal(router.load('replica-0')?.overclaimed, 982);
});

test('the numbers of the server reach the client as it wrote them', async (t) => {
  const { embed, server } = await setup(t, {});
  const data = '"data":[{"index":0,"embedding":[1.0,-0.012149487622082233,1e-7,12345678901234567890]}]';
  server.play((turn) => (turn.head(200, {}), turn.end(`{ "model":"x", ${data} , "timings":{} }`)));
  const text = await (await embed({ input: 'a' })).text();
  assert.ok(text.startsWith(`{${data},"object":"list","id":"embd-`), text);
});

const FAULTS: readonly (readonly [string, Script])[] = [
  ['a reset', reset],
  ['500', json(500, { error: { message: 'crashed' } })],
  ['404', json(404, {})],
  ['a reply that is no JSON', (turn) => (turn.head(200, {}), turn.end('<html>'))],
  ['a reply that is null', json(200, null)],
  ['too few vectors', vectors({ count: 1 })],
  ['too many vectors', vectors({ count: 3 })],
  ['no list', vectors({ change: () => ({}) })],
  ['vectors in another order', vectors({ change: (entries) => entries.toReversed() })],
  ['a vector that is none', vectors({ change: (entries) => entries.map((entry) => ({ ...entry, embedding: 1 })) })],
  ['an empty vector', vectors({ change: (entries) => entries.map((entry) => ({ ...entry, embedding: [] })) })],
  ['nothing in the list', vectors({ change: (entries) => entries.map(() => null) })],
  ['a key twice', (turn) => (turn.head(200, {}), turn.end('{"data":[],"data":[]}'))],
];
for (const [what, script] of FAULTS) {
  onBothDoors(`${what}: another replica makes them, under one hold and one charge`, async (t, door) => {
    const { embed, servers, ledger, router } = await setup(t, { door, servers: 2 });
    servers[0]?.usually(script);
    const { data } = await listOf(await embed({ input: ['a', 'b'] }));
    assert.equal(data.length, 2);
    assert.deepEqual([ledger.asks('hold').length, ledger.settlements.length], [1, 1]);
    assert.equal(ledger.settlements[0]?.charged, 7n * NANO.input);
    assert.deepEqual([router.load('replica-0')?.served, router.load('replica-1')?.served], [0, 1]);
    assert.equal(servers[0]?.requests.length, 1);
  });

  test(`${what}: with no other replica it is a true status, and free`, async (t) => {
    const { embed, server, ledger } = await setup(t, {});
    server.usually(script);
    const { code, message } = await errorOf(await embed({ input: ['a', 'b'] }), 502);
    assert.deepEqual([code, message], ['upstream_error', 'the model server failed']);
    assert.deepEqual([ledger.settlements[0]?.charged, ledger.settlements[0]?.status], [0n, 'failed']);
  });
}

onBothDoors('a server that is silent past the limits is replaced, or told of as late', async (t, door) => {
  const { embed, servers } = await setup(t, { door, servers: 2, pool: { limits: { first_token_s: 0.3 } } });
  servers[0]?.usually(silence);
  await listOf(await embed({ input: 'a' }));
  servers[1]?.usually(silence);
  assert.equal((await errorOf(await embed({ input: 'a' }), 504)).code, 'upstream_timeout');
});

test('many inputs have more time than one', async (t) => {
  const { embed, server } = await setup(t, { pool: { context: 64, limits: { first_token_s: 0.3 } } });
  const slow: Script = async (turn) => {
    await turn.sleep(900);
    await vectors()(turn);
  };
  server.play(slow, slow);
  await listOf(await embed({ input: Array.from({ length: 10 }, () => 'x'.repeat(64)) }));
  assert.equal((await errorOf(await embed({ input: 'x' }), 504)).code, 'upstream_timeout');
});

test('a server that is busy for a moment is asked again', async (t) => {
  const { embed, server } = await setup(t, {});
  server.play(json(429, 'busy', { 'retry-after': '1' }));
  await listOf(await embed({ input: 'a' }));
  assert.equal(server.requests.length, 2);
});

const BAD: readonly (readonly [string, Record<string, unknown>, string])[] = [
  ['no input', { input: undefined }, 'input'],
  ['an empty text', { input: '' }, 'input'],
  ['an empty list', { input: [] }, 'input'],
  ['an empty text in a list', { input: ['a', ''] }, 'input'],
  ['an empty list of tokens', { input: [[1], []] }, 'input'],
  ['texts and tokens', { input: ['a', 1] }, 'input'],
  ['tokens and texts', { input: [1, 'a'] }, 'input'],
  ['half a token', { input: [[1.5]] }, 'input'],
  ['a negative token', { input: [-1] }, 'input'],
  ['2049 texts', { input: Array.from({ length: 2049 }, () => 'a') }, 'input'],
  ['an object', { input: { text: 'a' } }, 'input'],
  ['another encoding', { input: 'a', encoding_format: 'hex' }, 'encoding_format'],
  ['no dimensions', { input: 'a', dimensions: 0 }, 'dimensions'],
  ['messages beside the input', { input: 'a', messages: [] }, 'messages'],
  ['a stream', { input: 'a', stream: true }, 'stream'],
  ['an adapter', { input: 'a', lora: [] }, 'lora'],
];
for (const [what, fields, param] of BAD) {
  test(`refused before anything is held or sent: ${what}`, async (t) => {
    const { embed, server, ledger } = await setup(t, {});
    const error = await errorOf(await embed(fields), 400);
    assert.deepEqual([error.code, error.param], ['invalid_request', param]);
    assert.deepEqual([server.requests.length, ledger.asks('hold').length], [0, 0]);
  });
}

test('a key that is given twice is refused', async (t) => {
  const { embed } = await setup(t, {});
  const body = `{"model":"${MODEL}","input":"a","input":"b"}`;
  assert.equal((await errorOf(await embed({}, { body }), 400)).param, 'input');
});

onBothDoors('an input longer than the context is refused, by us or by the server', async (t, door) => {
  const { embed, server } = await setup(t, { door, servers: 2 });
  const tokens = { input: [[1], Array.from({ length: 4097 }, () => 1)] };
  assert.deepEqual(codeOf(await errorOf(await embed(tokens), 400)), ['context_length_exceeded', 'input']);
  assert.equal(server.requests.length, 0);
  const vllm = json(400, { error: { message: "This model's maximum context length is 4096 tokens" } });
  const llama = json(500, { error: { message: 'input (5001 tokens) is too large to process. increase the batch' } });
  for (const script of [vllm, llama]) {
    server.play(script);
    const error = await errorOf(await embed({ input: 'x '.repeat(5000) }), 400);
    assert.deepEqual(codeOf(error), ['context_length_exceeded', 'input']);
  }
});

onBothDoors(
  'more vectors than a reply may be large are the fault of the request, not of a machine',
  async (t, door) => {
    const { embed, servers, ledger, router } = await setup(t, { door, servers: 2, limits: { replyBytes: 1_000_000 } });
    const large = (entries: Record<string, unknown>[]) =>
      entries.map((entry) => ({ ...entry, embedding: 'A'.repeat(600_000) }));
    for (const server of servers) server.usually(vectors({ change: large }));
    const { message, ...rest } = await errorOf(await embed({ input: ['a', 'b'] }), 400);
    assert.deepEqual([rest.code, rest.param], ['invalid_request', 'input']);
    assert.match(message, /more than 1 MB: send less at a time/);
    assert.deepEqual([ledger.settlements[0]?.charged, router.load('replica-0')?.failed], [0n, 0]);
    assert.equal(servers[0]?.requests.length, 1);
    await listOf(await embed({ input: 'a' }));
  },
);

onBothDoors('402, 404, 413 and 429 come before anything is sent', async (t, door) => {
  const { embed, server, addKey, ledger } = await setup(t, { door, creditUsd: '0.00005', limits: { bodyBytes: 5000 } });
  const { code, metadata } = await errorOf(await embed({ input: 'x'.repeat(35) }), 402);
  assert.deepEqual(
    [code, metadata?.['needed_usd'], metadata?.['available_usd']],
    ['insufficient_credits', '0.000051', '0.00005'],
  );
  assert.equal((await errorOf(await embed({ input: 'a', model: 'none' }), 404)).code, 'model_not_found');
  assert.equal((await errorOf(await embed({ input: 'x'.repeat(5000) }), 413)).code, 'request_too_large');
  const { key } = await addKey({ tpm: 50 });
  const headers = { authorization: `Bearer ${key}` };
  await listOf(await embed({ input: 'x'.repeat(34) }, { headers }));
  const limited = await embed({ input: 'x'.repeat(34) }, { headers });
  assert.ok(limited.headers.get('retry-after'));
  assert.equal((await errorOf(limited, 429)).code, 'rate_limit_exceeded');
  assert.equal(server.requests.length, 1);
  assert.equal(ledger.settlements.length, 1);
});

onBothDoors('a chat with a model of embeddings is refused in clear words, and the reverse', async (t, door) => {
  const { chat, get } = await setup(t, { door });
  const { code, param, message } = await errorOf(await chat(), 400);
  assert.deepEqual([code, param], ['invalid_request', 'model']);
  assert.match(message, /makes embeddings: ask it at \/v1\/embeddings/);
  assert.equal(((await (await get(`/v1/models/${MODEL}`)).json()) as { kind: string }).kind, 'embeddings');
  const other = await setup(t, { door, pool: { kind: 'chat' } });
  const reverse = await errorOf(await other.embed({ input: 'a' }), 400);
  assert.deepEqual([reverse.code, reverse.param], ['invalid_request', 'model']);
  assert.match(reverse.message, /answers chats: ask it at \/v1\/chat\/completions/);
});

onBothDoors('a cold pool: waits for a machine as long as the client says', async (t, door) => {
  const { embed, router, server, addReplica } = await setup(t, { door, servers: 0 });
  const none = await embed({ input: 'a' }, { headers: { 'x-underbid-max-wait': '0' } });
  assert.equal((await errorOf(none, 503)).code, 'no_capacity');
  const waiting = embed({ input: 'a' });
  await until('it waits', () => router.stats.waiting === 1);
  await systemClock.sleep(20);
  server.usually(vectors());
  addReplica(server);
  const response = await waiting;
  assert.ok(Number(response.headers.get('x-underbid-cold-start-ms')) > 0);
  await listOf(response);
});

onBothDoors(
  'a repeat under an Idempotency-Key gets the same bytes, and nothing is asked or charged',
  async (t, door) => {
    const { embed, server, ledger, chat } = await setup(t, { door, limits: { replayBytes: 2000 } });
    const headers = { 'idempotency-key': 'key-of-a-test' };
    const first = await embed({ input: ['a', 'b'] }, { headers });
    const text = await first.text();
    const again = await embed({ input: ['a', 'b'] }, { headers });
    assert.equal(await again.text(), text);
    assert.equal(again.headers.get('x-underbid-idempotent-replay'), 'true');
    assert.equal(again.headers.get('x-underbid-cost-usd'), first.headers.get('x-underbid-cost-usd'));
    assert.equal((await errorOf(await embed({ input: ['a', 'c'] }, { headers }), 422)).code, 'idempotency_mismatch');
    // Another route is another key.
    assert.equal((await errorOf(await chat({}, { headers }), 400)).code, 'invalid_request');
    assert.deepEqual([server.requests.length, ledger.settlements.length], [1, 1]);
    const large = { 'idempotency-key': 'another' };
    const input = Array.from({ length: 100 }, () => 'a');
    const { id } = await listOf(await embed({ input }, { headers: large }));
    const { code, metadata } = await errorOf(await embed({ input }, { headers: large }), 409);
    assert.deepEqual([code, metadata], ['idempotency_completed', { generation_id: id }]);
    assert.equal((await ledger.ask({ op: 'balance', customer: CUSTOMER }))?.used, 14n * NANO.input);
  },
);

onBothDoors('a client that leaves pays nothing, and its model server is told to stop', async (t, door) => {
  const { embed, server, ledger, router } = await setup(t, { door });
  server.play(silence);
  const leave = new AbortController();
  const gone = embed({ input: 'a' }, { signal: leave.signal }).catch(() => null);
  const turn = await server.request(0);
  leave.abort();
  await until('the model server is told to stop', () => turn.hasLeft);
  await until('it is settled', () => ledger.settlements.length > 0);
  await gone;
  assert.deepEqual([ledger.settlements[0]?.charged, ledger.settlements[0]?.status], [0n, 'cancelled']);
  assert.equal(router.load('replica-0')?.failed, 0);
});

test('a charge that fails is an error, not free vectors', async (t) => {
  const { embed, ledger } = await setup(t, {});
  let failing = true;
  ledger.before('settle', () => (failing ? Promise.reject(new Error('disk full')) : Promise.resolve()));
  assert.equal((await errorOf(await embed({ input: 'a' }), 500)).code, 'internal_error');
  failing = false;
  const nothing = { inputTokens: 0, cachedTokens: 0, outputTokens: 0 };
  for (const { request } of ledger.asks('hold'))
    await ledger.ask({ op: 'settle', request, tokens: nothing, status: 'failed', detail: {}, atMs: 0 });
});

test("OpenAI's client gets its vectors, which it asks for in base64", async (t) => {
  const { url, key, server } = await setup(t, {});
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
  const { data, usage, model } = await client.embeddings.create({ model: MODEL, input: ['a', 'b'] });
  assert.equal(server.requests[0]?.body['encoding_format'], 'base64');
  assert.deepEqual(
    data.map(({ embedding }) => Array.from(embedding)),
    [VECTOR, VECTOR],
  );
  assert.deepEqual([usage.prompt_tokens, model], [7, MODEL]);
  const plain = await client.embeddings.create({ model: MODEL, input: 'a', encoding_format: 'float' });
  assert.deepEqual(plain.data[0]?.embedding, VECTOR);
});

test('a model server of embeddings is probed with a word, and must give a vector', async (t) => {
  const { server, router } = await setup(t, {});
  const upstream = createUndiciUpstream({ connectMs: 2000, connectionsMax: 4, headerBytesMax: 16_384 });
  t.after(() => upstream.close());
  const probe = (): Promise<void> =>
    probeModelServer(
      upstream,
      { url: server.url, apiKey: null, engine: 'llama.cpp' },
      router.spec,
      new AbortController().signal,
    );
  await probe();
  assert.deepEqual([server.requests[0]?.path, server.requests[0]?.body['input']], [PATH, ['yes']]);
  server.play(vectors({ count: 0 }), json(503, 'loading'));
  await assert.rejects(probe(), /has not 1 vectors/);
  await assert.rejects(probe(), /answered 503/);
});

interface List {
  readonly id: string;
  readonly object: string;
  readonly model: string;
  readonly data: readonly { readonly embedding: unknown; readonly index: number }[];
  readonly usage: { readonly prompt_tokens: number; readonly total_tokens: number; readonly cost: number };
}

async function listOf(response: Response): Promise<List> {
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text) as List;
}

const codeOf = ({ code, param }: { code: string; param: string | null }): (string | null)[] => [code, param];

interface Embedding extends Gateway {
  /** POST /v1/embeddings with the pool's model. */
  embed(fields: Record<string, unknown>, init?: RequestInit): Promise<Response>;
}

async function setup(t: TestContext, settings: GatewaySettings): Promise<Embedding> {
  const gateway = await startGateway(t, { ...settings, pool: { kind: 'embeddings', ...settings.pool } });
  for (const server of gateway.servers) server.usually(vectors());
  return {
    ...gateway,
    embed: (fields, init = {}) => {
      const own = { authorization: `Bearer ${gateway.key}`, 'content-type': 'application/json' };
      const headers = { ...own, ...(init.headers as object) };
      const body = JSON.stringify({ model: MODEL, ...fields });
      return gateway.fetch(PATH, { method: 'POST', body, ...init, headers });
    },
  };
}
