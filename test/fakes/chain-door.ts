import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';

/** One call of the chain's JSON-RPC as it passes the door. */
export interface Call {
  readonly method: string;
  /** Path of a query, and the bytes asked with or sent, one character a byte: names of messages can be read in it. */
  readonly text: string;
}

interface Hold {
  readonly fits: (call: Call) => boolean;
  readonly when: 'before' | 'after';
  readonly reached: (call: Call) => void;
}

/**
 * Stands between a gateway and the chain's node, so that a call can be stopped on its way in or out: what comes after it
 * does not happen until the gateway is dead, on however slow a machine. It can also be shut, as if every node were down.
 */
export class ChainDoor {
  readonly url: string;
  readonly #node: string;
  readonly #holds: Hold[] = [];
  #shut = false;

  static async open(t: TestContext, node: string): Promise<ChainDoor> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    const door = new ChainDoor(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, node);
    server.on('request', (request, response) => {
      door.#pass(request, response).catch(() => response.destroy());
    });
    return door;
  }

  private constructor(url: string, node: string) {
    this.url = url;
    this.#node = node;
  }

  /** Holds every call that fits, before the node hears of it or after it has answered; resolves at the first one. */
  hold(fits: (call: Call) => boolean, when: Hold['when']): Promise<Call> {
    return new Promise((resolve) => this.#holds.push({ fits, when, reached: resolve }));
  }

  /** Calls pass again; those that were held stay where they are, their asker is dead. */
  release(): void {
    this.#holds.length = 0;
  }

  /** Every connection breaks, as long as it is shut. */
  set shut(shut: boolean) {
    this.#shut = shut;
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    if (this.#shut) {
      response.destroy();
      return;
    }
    const body = Buffer.concat(chunks);
    const call = readCall(body);
    if (this.#held(call, 'before')) return;
    const headers = { 'content-type': 'application/json' };
    const reply = await fetch(this.#node, { method: 'POST', headers, body });
    const answer = Buffer.from(await reply.arrayBuffer());
    if (this.#held(call, 'after')) return;
    response.writeHead(reply.status, headers).end(answer);
  }

  #held(call: Call, when: Hold['when']): boolean {
    const holds = this.#holds.filter((hold) => hold.when === when && hold.fits(call));
    for (const { reached } of holds) reached(call);
    return holds.length > 0;
  }
}

function readCall(body: Buffer): Call {
  const { method = '', params = {} } = JSON.parse(body.toString('utf8')) as {
    method?: string;
    params?: { path?: string; data?: string; tx?: string };
  };
  const bytes = Buffer.concat([Buffer.from(params.data ?? '', 'hex'), Buffer.from(params.tx ?? '', 'base64')]);
  return { method, text: `${params.path ?? ''} ${bytes.toString('latin1')}` };
}
