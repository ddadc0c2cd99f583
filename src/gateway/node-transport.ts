import type { IncomingMessage, ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';
import { AppError } from '../errors.ts';
import type { Exchange, ReplySink } from './transport.ts';

interface NodeBindings {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

/**
 * Replies straight to Node's response: a web stream in between costs as much as all the rest together. After `head`
 * nothing may throw past the handler, or node-server would append its own error to the stream.
 */
export function nodeTransport(context: Context): Exchange {
  const { incoming, outgoing } = context.env as NodeBindings;
  return {
    sink: new NodeSink(outgoing),
    readBody: (bytesMax) => readIncoming(incoming, bytesMax),
    response: () => RESPONSE_ALREADY_SENT,
  };
}

class NodeSink implements ReplySink {
  readonly #outgoing: ServerResponse;
  readonly #gone = new AbortController();

  constructor(outgoing: ServerResponse) {
    this.#outgoing = outgoing;
    outgoing.once('close', () => {
      if (!outgoing.writableFinished) this.#gone.abort(new AppError('client_closed', 'the client has gone'));
    });
    outgoing.on('error', () => this.#gone.abort(new AppError('client_closed', 'the client has gone')));
  }

  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  get started(): boolean {
    return this.#outgoing.headersSent;
  }

  head(status: number, headers: Readonly<Record<string, string>>): void {
    this.#outgoing.writeHead(status, headers);
  }

  write(text: string): boolean {
    if (this.#outgoing.destroyed) return true;
    return this.#outgoing.write(text);
  }

  drained(): Promise<void> {
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
    if (this.#outgoing.destroyed) return;
    if (text === undefined) this.#outgoing.end();
    else this.#outgoing.end(text);
  }
}

function readIncoming(incoming: IncomingMessage, bytesMax: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const tooLarge = (): AppError =>
      new AppError('request_too_large', `the request body is larger than ${bytesMax} bytes`);
    if (Number(incoming.headers['content-length'] ?? 0) > bytesMax) {
      reject(tooLarge());
      return;
    }
    const parts: Buffer[] = [];
    let size = 0;
    incoming.on('data', (part: Buffer) => {
      size += part.length;
      if (size <= bytesMax) parts.push(part);
      else {
        // The rest is not read: the reply is sent and the connection ended.
        incoming.pause();
        parts.length = 0;
        reject(tooLarge());
      }
    });
    incoming.once('end', () => resolve((parts.length === 1 ? parts[0] : Buffer.concat(parts))?.toString('utf8') ?? ''));
    const gone = (): void => reject(new AppError('client_closed', 'the client has gone'));
    incoming.once('error', gone);
    incoming.once('close', gone);
  });
}
