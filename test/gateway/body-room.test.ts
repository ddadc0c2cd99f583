import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { until } from '../fakes/clock.ts';
import { BodyRoom, BodyShare } from '../../src/gateway/body-room.ts';
import { onBothDoors, startGateway } from '../fakes/gateway.ts';
import { silence } from '../fakes/model-replies.ts';
import { completionOf, errorOf } from '../fakes/reply.ts';

onBothDoors('bodies of all requests together are bounded, while they are at work too', async (t, door) => {
  const gateway = await startGateway(t, { door, bodiesBytes: 10_000 });
  gateway.server.play(silence);
  const leave = new AbortController();
  const padding = 'x'.repeat(7000);
  const first = gateway.chat({ padding }, { signal: leave.signal }).catch(() => null);
  await gateway.server.request(0);
  const error = await errorOf(await gateway.chat({ padding }), 503);
  assert.deepEqual([error.code, error.message], ['queue_full', 'too many large requests at once']);
  await completionOf(await gateway.chat({ max_tokens: 5 }));
  leave.abort();
  await first;
});

test('what a client goes on sending after it was refused takes no room from anybody', async (t) => {
  const { url, key, chat } = await startGateway(t, { bodiesBytes: 10_000 });
  const { hostname, port } = new URL(url ?? '');
  const send = (bytes: number): Socket => {
    const socket = connect(Number(port), hostname);
    t.after(() => socket.destroy());
    const head = `host: x\r\nauthorization: Bearer ${key}\r\ncontent-length: 16000`;
    socket.write(`POST /v1/chat/completions HTTP/1.1\r\n${head}\r\n\r\n${' '.repeat(bytes)}`);
    return socket;
  };
  const slow = send(7000);
  await until('its bytes have come', async () => (await chat({ padding: 'x'.repeat(5000) })).status === 503);
  const refused = send(7000);
  const [reply] = (await once(refused, 'data')) as [Buffer];
  assert.match(reply.toString(), /^HTTP\/1.1 503 /);
  slow.destroy();
  await until('there is room', async () => (await chat({ padding: 'x'.repeat(5000), max_tokens: 5 })).status === 200);
  refused.write(' '.repeat(8000));
  await setTimeout(100);
  await completionOf(await chat({ padding: 'x'.repeat(9000), max_tokens: 5 }));
  refused.destroy();
});

test('one key has a part of the room, and gives it back', () => {
  const room = new BodyRoom(100, 25);
  const share = new BodyShare(room, 'greedy');
  share.take(20);
  assert.throws(() => share.take(10), { code: 'queue_full' });
  for (const owner of ['a', 'b', 'c']) room.take(owner, 25);
  assert.throws(() => room.take('d', 10), { code: 'queue_full' }, 'all together have no more than the room');
  assert.equal(room.taken, 95);
  share.give();
  share.give();
  room.take('greedy', 25);
  assert.equal(room.taken, 100);
});

onBothDoors('a packed body, and one that is not UTF-8, are refused with a reason', async (t, door) => {
  const { chat, server } = await startGateway(t, { door });
  const packed = await errorOf(await chat({}, { headers: { 'content-encoding': 'gzip' } }), 400);
  assert.match(packed.message, /Content-Encoding is not understood/);
  const bad = Buffer.concat([Buffer.from('{"model":"m","messages":["'), Buffer.from([0xff, 0xfe]), Buffer.from('"]}')]);
  const broken = await errorOf(await chat({}, { body: bad as unknown as string }), 400);
  assert.match(broken.message, /not valid UTF-8/);
  assert.equal(server.requests.length, 0);
});

test('a character cut between two packets is one character', async (t) => {
  const { fetch, key } = await startGateway(t);
  const bytes = Buffer.from('{"model":"org/tiny","messages":[{"role":"user","content":"🎉"}],"max_tokens":3}');
  const body = new ReadableStream({
    async start(controller) {
      for (const byte of bytes) {
        controller.enqueue(Uint8Array.of(byte));
        if (byte > 127) await new Promise((resolve) => globalThis.setTimeout(resolve, 2));
      }
      controller.close();
    },
  });
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const init = { method: 'POST', headers, body, duplex: 'half' } as RequestInit;
  await completionOf(await fetch('/v1/chat/completions', init));
});
