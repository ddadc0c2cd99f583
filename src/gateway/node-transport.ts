import { isUtf8 } from 'node:buffer';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';
import { AppError, describeError } from '../errors.ts';
import { notUtf8, refuseEncoding, type BodyShare } from './body-room.ts';
import type { Ms } from '../units.ts';
import type { Exchange, ReplySink, RequestBody, Transport } from './transport.ts';

interface NodeBindings {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

/** How long a client may take nothing of a reply that has ended: Node itself would keep it in memory for ever. */
const UNREAD_MS = 30_000;
/** Above it a turn's text is written in parts, so that the client's buffers tell when they are full. */
const GATHERED_MAX = 65_536;

/**
 * Replies straight to Node's response: a web stream in between costs as much as all the rest together. After `head`
 * nothing may throw past the handler, or node-server would append its own error to the stream.
 */
export function createNodeTransport(unreadMs: Ms): Transport {
  return (context: Context): Exchange => {
    const { incoming, outgoing } = context.env as NodeBindings;
    return nodeExchange(incoming, outgoing, unreadMs);
  };
}

/** @param unreadMs how long a client may read nothing of a reply that is written */
export function nodeExchange(incoming: IncomingMessage, outgoing: ServerResponse, unreadMs: Ms = UNREAD_MS): Exchange {
  return {
    sink: new NodeSink(outgoing, unreadMs),
    readBody: (bytesMax, share) => readIncoming(incoming, bytesMax, share),
    respond: async (run) => {
      await run;
      return RESPONSE_ALREADY_SENT;
    },
  };
}

export const nodeTransport = createNodeTransport(UNREAD_MS);

type Headers = Readonly<Record<string, string>>;

class NodeSink implements ReplySink {
  readonly #outgoing: ServerResponse;
  readonly #unreadMs: Ms;
  #gone = false;
  #listener: (() => void) | null = null;
  /** Of this turn of the loop: a read of many events is one write, with one length before it. */
  #gathered = '';

  constructor(outgoing: ServerResponse, unreadMs: Ms) {
    this.#outgoing = outgoing;
    this.#unreadMs = unreadMs;
    outgoing.on('close', () => {
      if (!outgoing.writableFinished) this.#leave();
    });
    outgoing.on('error', () => this.#leave());
  }

  get gone(): boolean {
    return this.#gone;
  }

  onGone(listener: () => void): void {
    this.#listener = listener;
  }

  get started(): boolean {
    return this.#outgoing.headersSent;
  }

  head(status: number, headers: Readonly<Record<string, string>>): void {
    this.#outgoing.writeHead(status, headers);
  }

  whole(status: number, headers: Headers, body: string, more?: Headers): void {
    if (this.#outgoing.destroyed) return;
    // In one flat list: objects put together cost as much as the rest of the head.
    const flat: string[] = [];
    for (const name in headers) flat.push(name, headers[name] ?? '');
    for (const name in more) flat.push(name, more[name] ?? '');
    flat.push('content-length', String(Buffer.byteLength(body)));
    this.#outgoing.writeHead(status, flat);
    this.#outgoing.end(body);
    this.#bound();
  }

  write(text: string): boolean {
    if (this.#outgoing.destroyed) return true;
    if (this.#gathered === '') process.nextTick(flushSink, this);
    this.#gathered += text;
    if (this.#gathered.length > GATHERED_MAX) this.flush();
    return !this.#outgoing.writableNeedDrain;
  }

  /** Writes out what one turn of the loop has made. */
  flush(): void {
    const text = this.#take();
    if (text !== '' && !this.#outgoing.destroyed) this.#outgoing.write(text);
  }

  #take(): string {
    const text = this.#gathered;
    this.#gathered = '';
    return text;
  }

  drained(): Promise<void> {
    this.flush();
    const outgoing = this.#outgoing;
    if (!outgoing.writableNeedDrain || outgoing.destroyed) return Promise.resolve();
    return new Promise((resolve) => {
      const go = (): void => {
        outgoing.off('drain', go);
        outgoing.off('close', go);
        resolve();
      };
      outgoing.on('drain', go);
      outgoing.on('close', go);
    });
  }

  end(text?: string): void {
    const rest = this.#take() + (text ?? '');
    if (this.#outgoing.destroyed) return;
    if (rest === '') this.#outgoing.end();
    else this.#outgoing.end(rest);
    this.#bound();
  }

  sent(): Promise<void> {
    const outgoing = this.#outgoing;
    if (outgoing.destroyed || outgoing.writableLength === 0) return Promise.resolve();
    return new Promise((resolve) => outgoing.once('close', () => resolve()));
  }

  cut(): void {
    this.#outgoing.destroy();
  }

  /** The socket's own limit: it begins anew with whatever the client takes, and the next request on it has its own. */
  #bound(): void {
    if (this.#outgoing.writableLength > 0) this.#outgoing.setTimeout(this.#unreadMs);
  }

  #leave(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#listener?.();
  }
}

/** One function for all: no closure for each turn. */
function flushSink(sink: NodeSink): void {
  sink.flush();
}

function readIncoming(incoming: IncomingMessage, bytesMax: number, share: BodyShare): Promise<RequestBody> {
  return new Promise((resolve, reject) => {
    const tooLarge = (): AppError =>
      new AppError('request_too_large', `the request body is larger than ${bytesMax} bytes`);
    refuseEncoding(incoming.headers['content-encoding']);
    if (Number(incoming.headers['content-length'] ?? 0) > bytesMax) {
      reject(tooLarge());
      return;
    }
    const parts: Buffer[] = [];
    let size = 0;
    const take = (part: Buffer): void => {
      size += part.length;
      try {
        if (size > bytesMax) throw tooLarge();
        share.take(part.length);
        parts.push(part);
      } catch (error) {
        // The rest is not kept: Node reads it away once the reply is sent, and nobody would give back what that took.
        incoming.off('data', take).pause();
        parts.length = 0;
        reject(error instanceof AppError ? error : new Error(describeError(error)));
      }
    };
    incoming.on('data', take);
    let over = false;
    incoming.on('end', () => {
      over = true;
      const whole = (parts.length === 1 ? parts[0] : null) ?? Buffer.concat(parts);
      if (isUtf8(whole)) resolve({ text: whole.toString('utf8'), bytes: size });
      else reject(notUtf8());
    });
    const gone = (): void => {
      // 'close' follows every 'end': an error with its stack is only made when there was none.
      if (!over) reject(new AppError('client_closed', 'the client has gone'));
    };
    incoming.on('error', gone);
    incoming.on('close', gone);
  });
}
