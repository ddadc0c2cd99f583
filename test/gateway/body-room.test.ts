import assert from 'node:assert/strict';
import { test } from 'node:test';
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
        if (byte > 127) await new Promise((resolve) => setTimeout(resolve, 2));
      }
      controller.close();
    },
  });
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const init = { method: 'POST', headers, body, duplex: 'half' } as RequestInit;
  await completionOf(await fetch('/v1/chat/completions', init));
});
