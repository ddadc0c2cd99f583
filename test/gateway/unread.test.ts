import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { Hono } from 'hono';
import { systemClock } from '../../src/clock.ts';
import type { AppEnv } from '../../src/gateway/deps.ts';
import { createNodeTransport } from '../../src/gateway/node-transport.ts';
import { startServer } from '../../src/node/server.ts';
import { until } from '../fakes/clock.ts';
import { MODEL, startGateway } from '../fakes/gateway.ts';
import { json, silence, wholeOf } from '../fakes/model-replies.ts';
import { errorOf } from '../fakes/reply.ts';

/** Clients that ask and never read: what waits for them is in our memory. */

/** More than the sockets of both ends hold. */
const LARGE = 'x'.repeat(15_000_000);
const LIMITS = { headerBytes: 16_384, headersMax: 100, headerMs: 5000, bodyMs: 5000, keepAliveMs: 5000 };

const VECTOR = { object: 'embedding', index: 0, embedding: LARGE };
const ROUTES = [
  {
    path: '/v1/chat/completions',
    pool: {},
    fields: { messages: [{ role: 'user', content: 'x' }], max_tokens: 5 },
    reply: wholeOf({ pieces: [LARGE] }),
  },
  {
    path: '/v1/embeddings',
    pool: { kind: 'embeddings' },
    fields: { input: 'x', encoding_format: 'base64' },
    reply: { object: 'list', data: [VECTOR], usage: { prompt_tokens: 1, total_tokens: 1 } },
  },
] as const;

for (const { path, pool, fields, reply } of ROUTES) {
  test(`a reply of ${path} that is not read counts among the requests that its key may have at a time`, async (t) => {
    const gateway = await startGateway(t, { key: { concurrency: 2 }, pool });
    gateway.server.play(json(200, reply), json(200, reply));
    gateway.server.usually(json(200, { ...reply, data: [{ ...VECTOR, embedding: 'AAAA' }] }));
    const body = JSON.stringify({ model: MODEL, ...fields });
    const head = `authorization: Bearer ${gateway.key}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
    const request = `POST ${path} HTTP/1.1\r\nhost: x\r\n${head}\r\n\r\n${body}`;
    const [first, second] = [deaf(t, gateway.url, request), deaf(t, gateway.url, request)];
    await until('both are charged', () => gateway.ledger.settlements.length === 2, 10_000);
    const headers = { authorization: `Bearer ${gateway.key}`, 'content-type': 'application/json' };
    const ask = (): Promise<Response> => gateway.fetch(path, { method: 'POST', headers, body });
    assert.match((await errorOf(await ask(), 429)).message, /2 requests at a time/);
    first.destroy();
    await until('there is room again', async () => {
      const { status, body: rest } = await ask();
      await rest?.cancel();
      return status === 200;
    });
    second.destroy();
  });
}

test('an answer that waits behind another on one connection is given up with it', async (t) => {
  const { url, key, chat, server, ledger } = await startGateway(t, { key: { concurrency: 2 } });
  server.play(silence);
  const body = JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: 'x' }], max_tokens: 5 });
  const head = `authorization: Bearer ${key}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}`;
  const request = `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n${head}\r\n\r\n${body}`;
  const client = deaf(t, url, request);
  await server.request(0);
  client.write(request);
  await until('the second is charged', () => ledger.settlements.length === 1);
  await errorOf(await chat({ max_tokens: 5 }), 429);
  client.destroy();
  const both = async (): Promise<boolean> => {
    const replies = await Promise.all([chat({ max_tokens: 5 }), chat({ max_tokens: 5 })]);
    return replies.every(({ status }) => status === 200);
  };
  await until('neither counts any more', both);
});

test('a client that takes nothing of an ended reply is cut off, one that is slow is not', async (t) => {
  const app = new Hono<AppEnv>();
  const transport = createNodeTransport(400);
  app.get('/whole', (context) => {
    const { sink, respond } = transport(context);
    sink.whole(200, {}, LARGE);
    return respond(sink.sent());
  });
  app.get('/stream', (context) => {
    const { sink, respond } = transport(context);
    sink.head(200, {});
    sink.write(LARGE);
    sink.end('end');
    return respond(sink.sent());
  });
  const server = await startServer(app, { host: '127.0.0.1', port: 0, clock: systemClock, limits: LIMITS });
  t.after(() => server.stop(0, AbortSignal.abort()));
  for (const path of ['/whole', '/stream']) {
    const request = `GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`;
    const silent = deaf(t, server.url, request);
    const slow = deaf(t, server.url, request);
    let bytes = 0;
    slow.on('data', (part: Buffer) => {
      bytes += part.length;
      slow.pause();
      setTimeout(() => slow.resume(), 3);
    });
    slow.resume();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    silent.resume();
    await until('the silent one is cut off', () => silent.destroyed);
    assert.ok(silent.bytesRead < LARGE.length, path);
    await until('the slow one has it all', () => bytes > LARGE.length, 20_000);
  }
});

function deaf(t: TestContext, url: string | null, request: string): Socket {
  const { hostname, port } = new URL(url ?? '');
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  socket.pause();
  socket.write(request);
  t.after(() => socket.destroy());
  return socket;
}
