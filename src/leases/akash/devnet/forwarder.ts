import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../../clock.ts';
import { listen } from './http.ts';

/** How a container is reached from outside: an ingress, which cuts what is silent for a minute, or a port of the node. */
export interface ForwarderOptions {
  readonly kind: 'ingress' | 'port';
  /** Null as long as nothing listens behind it. */
  readonly target: () => { readonly host: string; readonly port: number } | null;
  /** Connections are taken and nothing comes back. */
  readonly dark: () => boolean;
  readonly clock: Clock;
}

/** The most that a provider lets an HTTP answer be silent. */
const INGRESS_SILENCE_MS = 60_000;
const UNAVAILABLE = 'HTTP/1.1 503 Service Temporarily Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';
const CONNECTIONS_MAX = 1_000;

export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #server: Server;
  readonly #pairs = new Set<{ readonly client: Socket; upstream: Socket | null }>();
  #port = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (client) => this.#take(client));
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  get port(): number {
    return this.#port;
  }

  get kind(): 'ingress' | 'port' {
    return this.#options.kind;
  }

  /** Again on the same port after a stop. */
  async start(): Promise<void> {
    if (!this.#server.listening) this.#port = await listen(this.#server, this.#port);
  }

  /** Refuses connections from now on and cuts those that are. */
  async stop(): Promise<void> {
    for (const { client, upstream } of this.#pairs) {
      client.destroy();
      upstream?.destroy();
    }
    if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  /** What is under way falls silent, connections stay. */
  darken(): void {
    for (const pair of this.#pairs) {
      const { upstream } = pair;
      pair.upstream = null;
      if (upstream === null) continue;
      pair.client.unpipe(upstream);
      upstream.unpipe(pair.client);
      upstream.destroy();
      pair.client.resume();
    }
  }

  #take(client: Socket): void {
    const pair: { readonly client: Socket; upstream: Socket | null } = { client, upstream: null };
    this.#pairs.add(pair);
    client.on('error', () => client.destroy());
    client.once('close', () => {
      this.#pairs.delete(pair);
      pair.upstream?.destroy();
    });
    if (this.#options.dark()) {
      client.resume();
      return;
    }
    const target = this.#options.target();
    if (target === null) {
      if (this.#options.kind === 'ingress') client.end(UNAVAILABLE);
      else client.resetAndDestroy();
      return;
    }
    const upstream = connect({ ...target, noDelay: true });
    pair.upstream = upstream;
    upstream.on('error', () => client.destroy());
    upstream.once('close', () => {
      if (pair.upstream === upstream) client.end();
    });
    client.pipe(upstream, { end: true });
    upstream.pipe(client, { end: true });
    if (this.#options.kind === 'ingress') this.#cutSilence(client, upstream);
  }

  #cutSilence(client: Socket, upstream: Socket): void {
    let cancel = (): void => undefined;
    const again = (): void => {
      cancel();
      cancel = this.#options.clock.timer(INGRESS_SILENCE_MS, () => {
        client.destroy();
        upstream.destroy();
      });
    };
    again();
    client.on('data', again);
    upstream.on('data', again);
    client.once('close', () => cancel());
  }
}
