/**
 * A model server that costs almost nothing, so that what is measured is the gateway before it: HTTP/1.1 keep-alive on
 * node:net, just enough of it for well-behaved clients on loopback. `node mock-server.ts [PORT]`
 */
import { createServer, type Socket } from 'node:net';
import { takeRequest, type Request } from './mock-requests.ts';
import { ANSWER, HEALTH, MODELS, NOT_FOUND, STREAM_WRITES, TINY_ANSWER } from './mock-replies.ts';

const REQUEST_CHARS_MAX = 1_000_000;
const server = createServer({ noDelay: true }, serve);

server.listen({ port: Number(process.argv[2] ?? 0), host: '127.0.0.1', backlog: 2048 }, () => {
  const address = server.address();
  if (address !== null && typeof address === 'object') console.log(`mock ready on http://127.0.0.1:${address.port}`);
});
// The pipe ends with whoever started this, however that ended.
process.stdin.on('end', () => process.exit(0)).resume();
process.once('SIGTERM', () => process.exit(0));

function serve(socket: Socket): void {
  let pending = '';
  let busy = false;
  const next = (): void => {
    busy = false;
    while (!busy && pending.length > 0) {
      const request = takeRequest(pending);
      if (request === undefined) break;
      pending = request.rest;
      busy = reply({ socket, request, done: next });
    }
    if (pending.length > REQUEST_CHARS_MAX) socket.destroy();
  };
  socket.on('data', (chunk: Buffer) => {
    pending += chunk.toString('latin1');
    if (!busy) next();
  });
  socket.on('error', () => socket.destroy());
}

const STREAM = /"stream" ?: ?true/;
const TINY = /"max_(?:completion_)?tokens" ?: ?1[,}]/;

/** Whether the answer is still being written; then `done` is called at its end. */
function reply(turn: { socket: Socket; request: Request; done: () => void }): boolean {
  const { socket, request } = turn;
  if (request.head.startsWith('POST /v1/chat/completions')) {
    if (STREAM.test(request.body)) {
      writeStream(socket, turn.done);
      return true;
    }
    socket.write(TINY.test(request.body) ? TINY_ANSWER : ANSWER);
  } else if (request.head.startsWith('GET /health')) socket.write(HEALTH);
  else if (request.head.startsWith('GET /v1/models')) socket.write(MODELS);
  else socket.write(NOT_FOUND);
  return false;
}

interface Stream {
  readonly socket: Socket;
  readonly done: () => void;
  written: number;
}

let streams: Stream[] = [];

/** Every event is a write of its own on a tick of its own, as tokens come from a model: nothing to coalesce. */
function writeStream(socket: Socket, done: () => void): void {
  if (streams.length === 0) setImmediate(writeNext);
  streams.push({ socket, done, written: 0 });
}

/** One tick for all streams: a timer each would cost more than the rest of this server. */
function writeNext(): void {
  const ended: Stream[] = [];
  const going: Stream[] = [];
  for (const stream of streams) {
    const bytes = STREAM_WRITES[stream.written++];
    if (bytes === undefined || stream.socket.destroyed) continue;
    stream.socket.write(bytes);
    (stream.written < STREAM_WRITES.length ? going : ended).push(stream);
  }
  streams = going;
  if (going.length > 0) setImmediate(writeNext);
  for (const stream of ended) stream.done();
}
