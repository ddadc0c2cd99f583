/**
 * A model server with thousands of streams at once, each of which gets a chunk per interval until it is told to end
 * them. `node paced-server.ts PORTS INTERVAL_MS`: so many ports to be asked on, and one to be steered by, where
 * `POST /finish` ends the streams that are open and `GET /open` says how many there are.
 */
import { createServer as createHttpServer } from 'node:http';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { HEALTH, MODELS, NOT_FOUND, TINY_ANSWER } from '../overhead/mock-replies.ts';
import { takeRequest, type Request } from '../overhead/mock-requests.ts';
import { ending, monotonicUs, OPENING, stampedChunk } from './paced-replies.ts';

interface Stream {
  readonly socket: Socket;
  readonly done: () => void;
  written: number;
  ending: boolean;
}

const TICK_MS = 1;
/** Streams by the millisecond of the interval in which they are due: however they came, their chunks are spread evenly. */
const slots: Set<Stream>[] = Array.from({ length: Math.max(Number(process.argv[3] ?? 1000), 10) }, () => new Set());
const GOLDEN = 0.618_033_988_75;
let opened = 0;
let slotsDone = Math.floor(performance.now());

setInterval(() => {
  for (const now = Math.floor(performance.now()); slotsDone < now; slotsDone += TICK_MS) {
    const slot = slots[slotsDone % slots.length];
    if (slot !== undefined) for (const stream of slot) writeNext(stream, slot);
  }
}, TICK_MS);

function writeNext(stream: Stream, slot: Set<Stream>): void {
  const { socket } = stream;
  if (socket.destroyed) slot.delete(stream);
  else if (stream.ending) {
    slot.delete(stream);
    socket.write(ending(stream.written), 'latin1');
    stream.done();
  } else socket.write(stampedChunk(monotonicUs(), stream.written++), 'latin1');
}

function open(socket: Socket, done: () => void): void {
  const stream = { socket, done, written: 1, ending: false };
  opened += 1;
  slots[Math.floor(((opened * GOLDEN) % 1) * slots.length)]?.add(stream);
  socket.write(OPENING + stampedChunk(monotonicUs(), 0), 'latin1');
}

const STREAM = /"stream" ?: ?true/;
const REQUEST_CHARS_MAX = 1_000_000;

function serve(socket: Socket): void {
  let pending = '';
  let busy = false;
  const next = (): void => {
    busy = false;
    while (!busy && pending.length > 0) {
      const request = takeRequest(pending);
      if (request === undefined) break;
      pending = request.rest;
      busy = reply(socket, request, next);
    }
    if (pending.length > REQUEST_CHARS_MAX) socket.destroy();
  };
  socket.on('data', (chunk: Buffer) => {
    pending += chunk.toString('latin1');
    if (!busy) next();
  });
  socket.on('error', () => socket.destroy());
}

/** Whether the answer is still being written; then `done` is called at its end. */
function reply(socket: Socket, request: Request, done: () => void): boolean {
  if (request.head.startsWith('POST /v1/chat/completions')) {
    if (STREAM.test(request.body)) {
      open(socket, done);
      return true;
    }
    socket.write(TINY_ANSWER);
  } else if (request.head.startsWith('GET /health')) socket.write(HEALTH);
  else if (request.head.startsWith('GET /v1/models')) socket.write(MODELS);
  else socket.write(NOT_FOUND);
  return false;
}

const control = createHttpServer((request, response) => {
  if (request.method === 'POST' && request.url === '/finish') {
    for (const slot of slots) for (const stream of slot) stream.ending = true;
  }
  const open = slots.reduce((sum, slot) => sum + slot.size, 0);
  response.end(JSON.stringify({ open }));
});

function listen(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
      resolve((server.address() as AddressInfo).port);
    });
  });
}

process.stdin.on('end', () => process.exit(0)).resume();
process.once('SIGTERM', () => process.exit(0));
const servers = Array.from({ length: Number(process.argv[2] ?? 1) }, () => createServer({ noDelay: true }, serve));
const ports = await Promise.all(servers.map(listen));
console.log(`paced server ready on ${ports.join(',')} steered by http://127.0.0.1:${await listen(control)}`);
