import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';

/**
 * A model server on a real socket that does what a script tells it, one script per request. What it says stands in
 * `model-replies.ts`; this file knows HTTP and keeps a record of what was asked.
 */
export type Script = (turn: Turn) => Promise<void> | void;

export interface FakeModelServer {
  readonly url: string;
  readonly requests: readonly Turn[];
  /** Connections that were ever opened: a kept one serves many requests. */
  readonly connections: number;
  /** Scripts for the next requests, in order; after them the usual one plays. */
  play(...scripts: readonly Script[]): void;
  usually(script: Script): void;
  /** Plays for questions of tokens, which are no requests; unless told otherwise it has no tokenizer. */
  tokenizes(script: Script): void;
  /** Plays for what it is asked of itself, which are no requests either; unless told otherwise it says nothing. */
  tells(script: Script): void;
  readonly questions: readonly Turn[];
  /** The request with this number (0 is the first), as soon as its body has come. */
  request(number: number): Promise<Turn>;
  /** Refuses connections from now on. */
  stop(): Promise<void>;
}

/** One request and the means to answer it, well or badly. */
export class Turn {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly text: string;
  /** Resolves when the client closed the connection before the answer's end. */
  readonly left: Promise<void>;
  #hasLeft = false;
  #bytes = 0;
  readonly #response: ServerResponse;

  constructor(request: IncomingMessage, text: string, response: ServerResponse) {
    this.path = request.url ?? '';
    this.headers = request.headers;
    this.text = text;
    this.#response = response;
    this.left = new Promise((resolve) => {
      response.once('close', () => {
        if (response.writableFinished) return;
        this.#hasLeft = true;
        resolve();
      });
    });
  }

  get body(): Record<string, unknown> {
    return JSON.parse(this.text) as Record<string, unknown>;
  }

  get hasLeft(): boolean {
    return this.#hasLeft;
  }

  /** Bytes of the body that were written so far. */
  get bytesWritten(): number {
    return this.#bytes;
  }

  head(status: number, headers: Record<string, string>): void {
    this.#response.writeHead(status, headers);
    this.#response.flushHeaders();
  }

  streamHead(): void {
    this.head(200, { 'content-type': 'text/event-stream' });
  }

  /** One TCP write; waits when the client does not read. */
  async write(bytes: string | Uint8Array): Promise<void> {
    if (this.#response.destroyed) return;
    this.#bytes += bytes.length;
    if (this.#response.write(bytes)) {
      await new Promise((resolve) => setImmediate(resolve));
      return;
    }
    await new Promise<void>((resolve) => {
      const go = (): void => {
        this.#response.off('drain', go).off('close', go);
        resolve();
      };
      this.#response.on('drain', go).on('close', go);
    });
  }

  end(text = ''): void {
    this.#response.end(text);
  }

  /** The connection is reset: no goodbye. */
  reset(): void {
    this.#response.socket?.resetAndDestroy();
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const go = (): void => {
        clearTimeout(timer);
        this.#response.off('close', go);
        resolve();
      };
      const timer = setTimeout(go, ms);
      this.#response.on('close', go);
    });
  }
}

export async function startModelServer(t: TestContext, usual: Script): Promise<FakeModelServer> {
  const requests: Turn[] = [];
  const scripts: Script[] = [];
  const waiting: { readonly number: number; readonly give: (turn: Turn) => void }[] = [];
  const questions: Turn[] = [];
  const nothing: Script = (turn) => (turn.head(404, {}), turn.end());
  let tokenizer = nothing;
  let about = nothing;
  let connections = 0;
  let fallback = usual;
  const server = createServer({ noDelay: true, keepAliveTimeout: 60_000 }, (request, response) => {
    response.on('error', () => undefined);
    readAll(request).then(
      async (text) => {
        const turn = new Turn(request, text, response);
        if (turn.path === '/tokenize' || turn.path === '/apply-template') {
          questions.push(turn);
          await tokenizer(turn);
          return;
        }
        if (turn.path === '/props' || turn.path === '/get_server_info') {
          await about(turn);
          return;
        }
        requests.push(turn);
        for (const { number, give } of waiting) if (number === requests.length - 1) give(turn);
        await (scripts.shift() ?? fallback)(turn);
      },
      // A client that leaves in the middle of its own request.
      () => response.destroy(),
    );
  });
  server.on('connection', () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => close(server));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    get connections() {
      return connections;
    },
    play: (...more) => scripts.push(...more),
    usually: (script) => {
      fallback = script;
    },
    questions,
    tokenizes: (script) => {
      tokenizer = script;
    },
    tells: (script) => {
      about = script;
    },
    request: (number) => {
      const known = requests[number];
      return known ? Promise.resolve(known) : new Promise((give) => waiting.push({ number, give }));
    },
    stop: () => close(server),
  };
}

async function readAll(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString('utf8');
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
