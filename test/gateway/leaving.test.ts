import assert from 'node:assert/strict';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { test, type TestContext } from 'node:test';
import { until } from '../fakes/clock.ts';
import { MODEL, NANO, onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { deltaEvent, endless, eventsOf, silence, stallAfter } from '../fakes/model-replies.ts';
import { parseStream, streamOf, StreamReader } from '../fakes/reply.ts';

/** Clients that leave, and clients that read slowly or not at all. */

const STREAM = { stream: true };
const BEGUN = stallAfter(eventsOf().slice(0, 3));
const BIG = 'x'.repeat(10_000);

onBothDoors('a client that leaves in mid-stream stops the model server and pays for what was made', async (t, door) => {
  const { chat, server, ledger, router } = await setup(t, { door });
  server.play(BEGUN);
  const reader = new StreamReader(await chat(STREAM));
  await reader.until(' wor');
  await reader.leave();
  await server.requests[0]?.left;
  await until('it is settled', () => ledger.settlements.length > 0);
  const [settled] = ledger.settlements;
  assert.deepEqual([settled?.status, settled?.detail.error], ['cancelled', 'client_closed']);
  assert.deepEqual(settled?.tokens, { inputTokens: 12, cachedTokens: 0, outputTokens: 2 });
  assert.equal(settled?.charged, 12n * NANO.input + 2n * NANO.output);
  assert.deepEqual([router.load('replica-0')?.served, router.load('replica-0')?.failed], [0, 0]);
});

for (const fields of [STREAM, { max_tokens: 5 }, { max_tokens: 500 }, { n: 3, max_tokens: 5 }]) {
  onBothDoors(
    `a client that leaves before the first token pays nothing: ${JSON.stringify(fields)}`,
    async (t, door) => {
      const { chat, server, ledger } = await setup(t, { door });
      server.usually(silence);
      const leave = new AbortController();
      const reply = chat(fields, { signal: leave.signal }).catch(() => null);
      const choices = 'n' in fields ? 3 : 1;
      await server.request(choices - 1);
      leave.abort();
      await Promise.all(server.requests.map(({ left }) => left));
      await until('it is settled', () => ledger.settlements.length > 0);
      assert.deepEqual([ledger.settlements[0]?.status, ledger.settlements[0]?.charged], ['cancelled', 0n]);
      assert.equal(server.requests.length, choices);
      await reply;
    },
  );
}

onBothDoors('a client that leaves while it waits for a machine leaves the line', async (t, door) => {
  const { chat, router, ledger } = await setup(t, { door, servers: 0 });
  const leave = new AbortController();
  const reply = chat(STREAM, { signal: leave.signal }).catch(() => null);
  await until('it waits', () => router.stats.waiting === 1);
  leave.abort();
  await until('it is settled', () => ledger.settlements.length > 0);
  assert.deepEqual([ledger.settlements[0]?.status, ledger.settlements[0]?.charged], ['cancelled', 0n]);
  assert.equal(router.stats.waiting, 0);
  await reply;
});

test('a client that leaves in the very turn in which a machine is had is not sent to it', async (t) => {
  const { chat, router, ledger, server, addReplica } = await setup(t, { door: 'web', servers: 0 });
  server.usually(silence);
  const leave = new AbortController();
  const reply = chat(STREAM, { signal: leave.signal }).catch(() => null);
  await until('it waits', () => router.stats.waiting === 1);
  addReplica(server, { id: 'late' });
  leave.abort();
  await until('it is settled', () => ledger.settlements.length > 0);
  assert.deepEqual([router.load('late')?.inFlight, server.requests.length], [0, 0]);
  await reply;
});

onBothDoors('a client that leaves while its hold is asked for is never sent to a replica', async (t, door) => {
  const { chat, server, ledger } = await setup(t, { door });
  let allow = (): void => undefined;
  ledger.before('hold', () => new Promise((resolve) => (allow = resolve)));
  const leave = new AbortController();
  const reply = chat(STREAM, { signal: leave.signal }).catch(() => null);
  await until('the hold is asked for', () => ledger.asks('hold').length === 1);
  leave.abort();
  await new Promise((resolve) => setTimeout(resolve, 50));
  allow();
  await until('it is settled', () => ledger.settlements.length > 0);
  assert.equal(server.requests.length, 0);
  await reply;
});

onBothDoors(
  'a client that reads nothing holds the model server back instead of filling our memory',
  async (t, door) => {
    const { server, ledger, ...gateway } = await setup(t, { door });
    server.play(endless(deltaEvent({ content: BIG })));
    const before = process.memoryUsage();
    const client = await openUnread({ ...gateway, server, ledger });
    const turn = await server.request(0);
    await settled(() => turn.bytesWritten);
    const { rss, external } = process.memoryUsage();
    // Buffers of the kernel, of two sockets and of their streams; endless is above any of that.
    assert.ok(turn.bytesWritten < 40_000_000, `${turn.bytesWritten} bytes were taken from the model server`);
    assert.ok(external - before.external < 60_000_000, `external memory grew by ${external - before.external}`);
    assert.ok(rss - before.rss < 200_000_000, `the process grew by ${rss - before.rss}`);
    client.leave();
    await turn.left;
    await until('it is settled', () => ledger.settlements.length > 0);
    assert.equal(ledger.settlements[0]?.status, 'cancelled');
  },
);

onBothDoors('a client that reads nothing for too long is cut off, and no replica is blamed', async (t, door) => {
  const { server, ledger, router, ...gateway } = await setup(t, { door, pool: { limits: { between_tokens_s: 0.3 } } });
  server.play(endless(deltaEvent({ content: BIG })));
  const client = await openUnread({ ...gateway, server, ledger, router });
  await server.request(0);
  await until('it is cut off', () => server.requests[0]?.hasLeft === true);
  await until('it is settled', () => ledger.settlements.length > 0);
  assert.equal(ledger.settlements[0]?.status, 'cancelled');
  assert.equal(router.load('replica-0')?.failed, 0);
  client.leave();
});

test('a slow client gets every byte in the end', async (t) => {
  const gateway = await setup(t, {});
  const pieces = Array.from({ length: 800 }, (_, at) => `${at}:${BIG}`);
  gateway.server.play(async (turn) => {
    turn.streamHead();
    for (const event of eventsOf({ pieces })) await turn.write(event);
    turn.end();
  });
  const response = await openRaw(gateway);
  response.pause();
  const turn = await gateway.server.request(0);
  await settled(() => turn.bytesWritten);
  let text = '';
  response.setEncoding('utf8').on('data', (part: string) => {
    text += part;
    // A breath at each part: the model server is held back again and again.
    response.pause();
    setImmediate(() => response.resume());
  });
  response.resume();
  await new Promise((resolve) => response.once('end', resolve));
  const { texts, done } = parseStream(text);
  assert.equal(done, true);
  assert.equal(texts[0], pieces.join(''));
  assert.equal(gateway.ledger.settlements[0]?.detail.slowClient, true, 'its time says nothing of the machine');
});

onBothDoors('a client that keeps up is not noted as slow', async (t, door) => {
  const { chat, ledger } = await setup(t, { door });
  assert.equal((await streamOf(await chat(STREAM))).done, true);
  assert.equal('slowClient' in (ledger.settlements[0]?.detail ?? assert.fail('not settled')), false);
});

test('others are served while one client reads nothing', async (t) => {
  const gateway = await setup(t, {});
  gateway.server.play(endless(deltaEvent({ content: BIG })));
  const client = await openUnread(gateway);
  await settled(() => gateway.server.requests[0]?.bytesWritten ?? 0);
  assert.equal((await streamOf(await gateway.chat(STREAM))).done, true);
  client.leave();
});

test('a client that cuts its request short is no fault of ours', async (t) => {
  const { url, key, logs, server } = await setup(t, {});
  const headers = { authorization: `Bearer ${key}`, 'content-length': '1000' };
  const sent = httpRequest(`${url}/v1/chat/completions`, { method: 'POST', headers });
  sent.on('error', () => undefined);
  sent.write('{"model":');
  await new Promise((resolve) => setTimeout(resolve, 50));
  sent.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([logs, server.requests.length], [[], 0]);
});

/** A stream that is asked for and then not read. */
async function openUnread(gateway: Gateway): Promise<{ leave(): void }> {
  if (gateway.door === 'node') {
    const response = await openRaw(gateway);
    response.pause();
    return { leave: () => response.destroy() };
  }
  const reader = (await gateway.chat(STREAM)).body?.getReader();
  return { leave: () => void reader?.cancel().catch(() => undefined) };
}

function openRaw({ url, key }: Gateway): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
    const sent = httpRequest(`${url}/v1/chat/completions`, { method: 'POST', headers, agent: false });
    sent.on('response', (response) => resolve(response.on('error', () => undefined)));
    sent.on('error', reject);
    sent.end(JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: 'hi' }], ...STREAM }));
  });
}

/** Waits until a figure has stood still for a while. */
async function settled(figure: () => number): Promise<void> {
  let last = -1;
  let still = 0;
  await until('nothing moves any more', async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    still = figure() === last ? still + 1 : 0;
    last = figure();
    return still >= 5;
  });
}

function setup(t: TestContext, settings: GatewaySettings): Promise<Gateway> {
  return startGateway(t, { ...settings, pool: { context: 1_000_000, ...settings.pool }, creditUsd: '100.00' });
}
