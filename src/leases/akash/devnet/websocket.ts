import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';

/** As much of RFC 6455 as a provider's logs need: text from the server, pings, a close. */
export interface WebSocketOut {
  readonly send: (text: string) => void;
  readonly ping: () => void;
  readonly close: (code: number, reason?: string) => void;
  readonly closed: Promise<void>;
}

const MAGIC = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const OPCODES = { text: 1, close: 8, ping: 9 } as const;
/** What may wait for a client that does not read. */
const BUFFER_MAX = 1024 * 1024;

/** Null: the request is none for a web socket; the socket is closed then. */
export function acceptWebSocket(request: IncomingMessage, socket: Duplex): WebSocketOut | null {
  const key = request.headers['sec-websocket-key'];
  if (key === undefined || request.headers.upgrade?.toLowerCase() !== 'websocket') {
    socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    return null;
  }
  const accept = createHash('sha1').update(`${key}${MAGIC}`).digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
  });
  socket.on('error', () => socket.destroy());
  // Whatever the client sends but a close (0x8) is of no interest; it may be cut into pieces, so only a first byte counts.
  socket.on('data', (chunk: Buffer) => {
    if (((chunk[0] ?? 0) & 0x0f) === OPCODES.close) socket.end();
  });
  socket.on('end', () => socket.end());
  let open = true;
  const write = (opcode: number, payload: Buffer): void => {
    if (!open || socket.destroyed) return;
    if (socket.writableLength > BUFFER_MAX) socket.destroy();
    else socket.write(Buffer.concat([frameHead(opcode, payload.length), payload]));
  };
  return {
    closed,
    send: (text) => write(OPCODES.text, Buffer.from(text)),
    ping: () => write(OPCODES.ping, Buffer.alloc(0)),
    close: (code, reason = '') => {
      write(OPCODES.close, Buffer.concat([Buffer.of(code >> 8, code & 0xff), Buffer.from(reason)]));
      open = false;
      socket.end();
    },
  };
}

function frameHead(opcode: number, length: number): Buffer {
  if (length < 126) return Buffer.of(0x80 | opcode, length);
  if (length < 65_536) return Buffer.of(0x80 | opcode, 126, length >> 8, length & 0xff);
  const head = Buffer.alloc(10);
  head.writeUInt8(0x80 | opcode, 0);
  head.writeUInt8(127, 1);
  head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

/** Refuses an upgrade as an ordinary answer. */
export function refuseUpgrade(socket: Duplex, status: number, body: string): void {
  const head = `HTTP/1.1 ${status} Refused\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}\r\nConnection: close\r\n\r\n${body}`);
}
