import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { NANO, onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import {
  answer,
  cutAfter,
  deltaEvent,
  events,
  eventsOf,
  eventsThen,
  json,
  reset,
  silence,
  slowFirst,
  stallAfter,
} from '../fakes/model-replies.ts';
import type { Script } from '../fakes/model-server.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

const STREAM = { stream: true, stream_options: { include_usage: true } };
/** Short limits: what they end takes some hundred milliseconds, a watch's step included. */
const LIMITS = { first_token_s: 0.3, between_tokens_s: 0.3 };
const ALL = eventsOf();
const ROLE = ALL.slice(0, 1);
const MALFORMED = 'data: {"choices":[\n\n';
const ERROR = 'data: {"error":{"message":"out of memory","code":500}}\n\n';

interface Failure {
  readonly name: string;
  readonly script: Script;
  readonly code?: string;
}

const BEFORE_A_TOKEN: readonly Failure[] = [
  { name: 'a reset', script: reset },
  { name: '500', script: json(500, { error: { message: 'crashed' } }) },
  { name: '503', script: json(503, { error: { message: 'Loading model' } }) },
  { name: '401: our key is wrong', script: json(401, { error: {} }) },
  { name: '404: it lost its model', script: json(404, { error: { message: 'no such model' } }) },
  { name: 'a redirect', script: json(307, {}, { location: 'http://127.0.0.1:1/' }) },
  { name: 'silence', script: silence, code: 'upstream_timeout' },
  { name: 'a reply that is not JSON', script: (turn) => (turn.head(200, {}), turn.end('<html>')) },
  { name: 'a reply without a choice', script: json(200, { choices: [] }) },
  { name: 'a reply that breaks off', script: (turn) => (turn.head(200, { 'content-length': '99' }), turn.reset()) },
];

/** A machine that is busy is no worse for it. */
const BUSY: readonly Failure[] = [
  { name: '429 with Retry-After', script: json(429, { error: {} }, { 'retry-after': '30' }) },
  { name: '429 without', script: json(429, 'busy') },
  { name: '503 with Retry-After', script: json(503, 'loading', { 'retry-after': '7' }) },
];

const STREAMED: readonly Failure[] = [
  { name: 'a stream cut after its role', script: cutAfter(ROLE) },
  { name: 'a stall after the role', script: stallAfter(ROLE), code: 'upstream_timeout' },
  { name: 'a slow first token', script: slowFirst(3000, ALL), code: 'upstream_timeout' },
  { name: 'a stream with nothing in it', script: events([]) },
  { name: 'a stream that ends after its role', script: events(ROLE) },
  { name: '[DONE] without an answer', script: events([...ROLE, 'data: [DONE]\n\n']) },
  { name: 'a malformed first chunk', script: stallAfter([MALFORMED]) },
  { name: 'chunks that are no objects', script: stallAfter(['data: null\n\n']) },
  { name: 'an error event first', script: stallAfter([ERROR]) },
  { name: 'an endless event', script: endlessLine },
];

for (const { name, script } of [...BEFORE_A_TOKEN, ...STREAMED]) {
  test(`${name}: before the first token another replica answers`, async (t) => {
    const { chat, servers, router, ledger } = await setup(t, { servers: 2 });
    servers[0]?.usually(script);
    const { texts, chunks, done } = await streamOf(await chat(STREAM));
    assert.deepEqual([texts, done], [['Hello world!'], true]);
    assert.equal(chunks.filter(({ choices }) => choices[0]?.delta.role).length, 1);
    expectLoads({ router, servers }, { 'replica-0': [0, 1], 'replica-1': [1, 0] });
    assert.equal(ledger.settlements[0]?.charged, 12n * NANO.input + 4n * NANO.output);
  });
}

for (const { name, script, code = 'upstream_error' } of BEFORE_A_TOKEN) {
  onBothDoors(`${name}: with no other replica it is a true status, and free`, async (t, door) => {
    const { chat, servers, ledger } = await setup(t, { door });
    servers[0]?.usually(script);
    const status = code === 'upstream_timeout' ? 504 : 502;
    const error = await errorOf(await chat({ max_tokens: 5, stream: door === 'web' }), status);
    assert.deepEqual([error.code, error.type], [code, 'api_error']);
    assert.doesNotMatch(error.message, /crashed|no such model|Loading|127\.0\.0\.1/);
    assert.equal(ledger.settlements[0]?.charged, 0n);
    assert.equal(servers[0]?.requests.length, 1);
  });
}

for (const { name, script } of BUSY) {
  onBothDoors(`${name}: another replica answers, and the busy one has not failed`, async (t, door) => {
    const { chat, servers, router } = await setup(t, { door, servers: 2 });
    servers[0]?.usually(script);
    assert.deepEqual((await streamOf(await chat(STREAM))).texts, ['Hello world!']);
    const { failed, suspectMs } = router.load('replica-0') ?? {};
    assert.deepEqual([failed, suspectMs, router.load('replica-1')?.served], [0, null, 1]);
    // It is left alone for as long as it asked for.
    await streamOf(await chat(STREAM));
    assert.equal(servers[0]?.requests.length, 1);
  });

  onBothDoors(`${name}: a client that does not wait is told so, and when to come back`, async (t, door) => {
    const { chat, server, ledger } = await setup(t, { door });
    server.usually(script);
    const reply = await chat({ max_tokens: 5 }, { headers: { 'x-underbid-max-wait': '0' } });
    assert.ok(Number(reply.headers.get('retry-after')) >= 1);
    assert.equal((await errorOf(reply, 502)).code, 'upstream_error');
    assert.equal(ledger.settlements[0]?.charged, 0n);
  });
}

onBothDoors('a machine that is busy for a moment is asked again when the moment is over', async (t, door) => {
  const { chat, server } = await setup(t, { door });
  server.play(json(429, 'busy', { 'retry-after': '1' }), answer());
  assert.deepEqual((await streamOf(await chat(STREAM))).texts, ['Hello world!']);
  assert.equal(server.requests.length, 2);
});

test('a request that breaks two model servers is not passed to all the others', async (t) => {
  const { chat, servers } = await setup(t, { servers: 5 });
  for (const server of servers) server.usually(reset);
  await errorOf(await chat({ max_tokens: 5 }), 502);
  assert.equal(servers.filter(({ requests }) => requests.length > 0).length, 3);
});

const AFTER_A_TOKEN: readonly Failure[] = [
  { name: 'cut', script: cutAfter(ALL.slice(0, 3)) },
  { name: 'stalled', script: stallAfter(ALL.slice(0, 3)), code: 'upstream_timeout' },
  { name: 'ended without finish_reason', script: events(ALL.slice(0, 3)) },
  { name: '[DONE] without finish_reason', script: events([...ALL.slice(0, 3), 'data: [DONE]\n\n']) },
  { name: 'malformed', script: stallAfter([...ALL.slice(0, 3), MALFORMED]) },
  { name: 'an error event', script: stallAfter([...ALL.slice(0, 3), ERROR]) },
  { name: 'in one write with its error', script: stallAfter([[...ALL.slice(0, 3), ERROR].join('')]) },
  {
    name: 'given up by its server',
    script: events([...ALL.slice(0, 3), ...eventsOf({ pieces: ['a', 'b'], finish: 'abort' }).slice(-3)]),
  },
];

for (const { name, script, code = 'upstream_error' } of AFTER_A_TOKEN) {
  onBothDoors(`after the first token it is an error event and never [DONE]: ${name}`, async (t, door) => {
    const { chat, servers, router, ledger } = await setup(t, { door, servers: 2 });
    servers[0]?.usually(script);
    const { texts, finishes, error, done } = await streamOf(await chat(STREAM));
    assert.deepEqual([texts, finishes, done], [['Hello wor'], [null], false]);
    assert.deepEqual([error?.code, error?.type, error?.param], [code, 'api_error', null]);
    expectLoads({ router, servers }, { 'replica-0': [0, 1], 'replica-1': [0, 0] });
    const [settled] = ledger.settlements;
    assert.deepEqual([settled?.status, settled?.detail.error], ['failed', code]);
    assert.equal(settled?.charged, 12n * NANO.input + 2n * NANO.output);
  });
}

onBothDoors('an answer that is put together may start anew: nobody has seen its beginning', async (t, door) => {
  const { chat, servers, ledger } = await setup(t, { door, servers: 2 });
  servers[0]?.usually(cutAfter(ALL.slice(0, 3)));
  const { choices, usage } = await completionOf(await chat({ max_tokens: 500 }));
  assert.equal(choices[0]?.message.content, 'Hello world!');
  assert.equal(usage?.completion_tokens, 4);
  assert.equal(ledger.settlements[0]?.charged, 12n * NANO.input + 4n * NANO.output);
});

onBothDoors('an answer in one piece that breaks off for good is free', async (t, door) => {
  const { chat, server, ledger } = await setup(t, { door });
  server.play(cutAfter(ALL.slice(0, 3)));
  assert.equal((await errorOf(await chat({ max_tokens: 500 }), 502)).code, 'upstream_error');
  assert.deepEqual([ledger.settlements[0]?.status, ledger.settlements[0]?.charged], ['failed', 0n]);
});

test('what a failed attempt claimed to have used is void', async (t) => {
  const { chat, servers, ledger } = await setup(t, { servers: 2 });
  servers[0]?.usually(cutAfter(eventsOf({ prompt: 60, claims: 50 }).slice(0, 1)));
  await streamOf(await chat(STREAM));
  assert.deepEqual(ledger.settlements[0]?.tokens, { inputTokens: 12, cachedTokens: 0, outputTokens: 4 });
});

test('no replica is asked twice, and no request asks more than three', async (t) => {
  for (const count of [2, 3, 5]) {
    const { chat, servers } = await setup(t, { servers: count });
    for (const server of servers) server.usually(reset);
    assert.equal((await errorOf(await chat({ max_tokens: 5 }), 502)).code, 'upstream_error');
    const asked = servers.map(({ requests }) => requests.length).toSorted();
    assert.deepEqual(asked, [
      ...Array<number>(Math.max(0, count - 3)).fill(0),
      ...Array<number>(Math.min(3, count)).fill(1),
    ]);
  }
});

test('a replica whose port is closed is passed over', async (t) => {
  const { chat, servers } = await setup(t, { servers: 2 });
  await servers[0]?.stop();
  await completionOf(await chat({ max_tokens: 5 }));
});

test('waits for another replica that is busy, rather than ask the failed one again', async (t) => {
  const { chat, servers } = await setup(t, { servers: 2, slots: 1 });
  const [broken, busy] = servers;
  busy?.play(slowFirst(200, ALL));
  broken?.usually(reset);
  // The least loaded is taken, so the first request fails on one, moves to the other and keeps it busy.
  const first = chat(STREAM).then(streamOf);
  await busy?.request(0);
  const second = chat(STREAM).then(streamOf);
  assert.deepEqual([(await first).done, (await second).done], [true, true]);
  assert.equal(busy?.requests.length, 2);
});

test('a machine that is lost before the first token: the request moves to the next one', async (t) => {
  const { chat, servers, router, server, addReplica } = await setup(t, {});
  server.play(silence, answer());
  const reply = chat(STREAM).then(streamOf);
  await server.request(0);
  router.remove('replica-0');
  await servers[0]?.requests[0]?.left;
  addReplica(server, { id: 'replica-new' });
  assert.deepEqual((await reply).texts, ['Hello world!']);
});

test('a machine that is lost after it: an error event', async (t) => {
  const { chat, server, router } = await setup(t, { pool: { limits: {} } });
  server.play(
    eventsThen(ALL.slice(0, 3), async (turn) => {
      await turn.sleep(50);
      router.remove('replica-0');
      await turn.left;
    }),
  );
  const { error, texts } = await streamOf(await chat(STREAM));
  assert.deepEqual([error?.code, texts], ['upstream_error', ['Hello wor']]);
});

test("a server's comments are no tokens: the limit of the first one holds", async (t) => {
  const { chat, server } = await setup(t, {});
  server.play(async (turn) => {
    turn.streamHead();
    for (; !turn.hasLeft; await turn.sleep(30)) await turn.write(': ping\n\n');
  });
  assert.equal((await errorOf(await chat(STREAM), 504)).code, 'upstream_timeout');
});

test('a role that comes early does not shorten the time the first token has', async (t) => {
  const { chat, server } = await setup(t, { pool: { limits: { first_token_s: 5, between_tokens_s: 0.1 } } });
  server.play(
    eventsThen(ROLE, async (turn) => {
      await turn.sleep(700);
      for (const event of ALL.slice(1)) await turn.write(event);
      turn.end();
    }),
  );
  const { done } = await streamOf(await chat(STREAM));
  assert.equal(done, true);
});

test('an answer that drips on ends at the limit of the whole', async (t) => {
  const { chat, server } = await setup(t, { pool: { limits: { total_s: 0.5 } } });
  server.play(async (turn) => {
    turn.streamHead();
    for (; !turn.hasLeft; await turn.sleep(20)) await turn.write(deltaEvent({ content: 'a' }));
  });
  const { error } = await streamOf(await chat(STREAM));
  assert.equal(error?.code, 'upstream_timeout');
});

test('a server that goes on past the maximum is cut off', async (t) => {
  const { chat, server } = await setup(t, {});
  server.play(async (turn) => {
    turn.streamHead();
    while (!turn.hasLeft) await turn.write(deltaEvent({ content: 'a' }));
  });
  const { error, texts } = await streamOf(await chat({ ...STREAM, max_tokens: 5 }));
  assert.equal(error?.code, 'upstream_error');
  assert.ok((texts[0] ?? '').length < 100);
});

async function endlessLine(turn: Parameters<Script>[0]): Promise<void> {
  turn.streamHead();
  while (!turn.hasLeft) await turn.write(`data: ${'x'.repeat(1_000_000)}`);
}

function expectLoads(
  { router, servers }: Pick<Gateway, 'router' | 'servers'>,
  expected: Record<string, [served: number, failed: number]>,
): void {
  const loads = Object.keys(expected).map((id) => [id, [router.load(id)?.served, router.load(id)?.failed]]);
  assert.deepEqual(Object.fromEntries(loads), expected);
  const asked = Object.values(expected).map(([served, failed]) => served + failed);
  assert.deepEqual(
    servers.map(({ requests }) => requests.length),
    asked,
  );
}

function setup(t: TestContext, settings: GatewaySettings): Promise<Gateway> {
  return startGateway(t, { ...settings, pool: { limits: LIMITS, ...settings.pool } });
}
