import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { nodeExchange } from '../../src/gateway/node-transport.ts';
import type { ReplySink } from '../../src/gateway/transport.ts';

test('what one turn writes leaves as one chunk, in its order, and the next turn waits for nothing', async (t) => {
  const chunks = await reply(t, async (sink) => {
    sink.head(200, { 'content-type': 'text/event-stream' });
    sink.write('a');
    sink.write('ü');
    await turn();
    sink.write('c');
    await turn();
    sink.write('d');
    sink.end('e');
  });
  assert.deepEqual(chunks, ['aü', 'c', 'de']);
});

test('an end without words sends what was written in its turn', async (t) => {
  const chunks = await reply(t, async (sink) => {
    sink.head(200, {});
    sink.write('a');
    sink.end();
    await turn();
  });
  assert.deepEqual(chunks, ['a']);
});

test('a client that does not read is told of in time, and what waits for it comes when it reads', async (t) => {
  const piece = 'x'.repeat(60_000);
  let written = 0;
  const chunks = await reply(t, async (sink) => {
    sink.head(200, {});
    for (let going = true; going && written < 1000; written += 1) going = sink.write(piece);
    await sink.drained();
    sink.end('the end');
  });
  assert.ok(written < 1000);
  assert.equal(chunks.join('').length, written * piece.length + 'the end'.length);
});

/** The chunks of one reply, as they came. */
async function reply(t: TestContext, run: (sink: ReplySink) => Promise<void>): Promise<string[]> {
  const server = createServer((incoming, outgoing) => {
    incoming.resume();
    void run(nodeExchange(incoming, outgoing).sink);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  t.after(() => server.close());
  const address = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  const socket = connect(address.port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
  const bytes = Buffer.from(await text(socket));
  return chunksOf(bytes.subarray(bytes.indexOf('\r\n\r\n') + 4));
}

function chunksOf(body: Buffer): string[] {
  const chunks: string[] = [];
  for (let at = 0; ;) {
    const lineEnd = body.indexOf('\r\n', at);
    const size = Number.parseInt(body.toString('latin1', at, lineEnd), 16);
    if (size === 0) return chunks;
    chunks.push(body.toString('utf8', lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}
