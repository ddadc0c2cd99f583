import { X509Certificate } from 'node:crypto';
import type { PeerCertificate } from 'node:tls';
import { Agent, type Dispatcher } from 'undici';
import type { Upstream, UpstreamCall, UpstreamHandler } from './upstream.ts';

export interface UndiciUpstreamOptions {
  readonly connectMs: number;
  /** Connections to one model server; above its slots nothing is gained. */
  readonly connectionsMax: number;
  /** Bytes of headers a model server may send. */
  readonly headerBytesMax: number;
}

/** One for all: an error made for each request would cost its stack trace, a twentieth of the whole. */
const STOPPED = new Error('aborted');

/** Servers with certificates of their own whose connections are kept: as many as there may be replicas, about. */
const PINNED_MAX = 1000;

/**
 * `dispatch` is undici's lowest level: no web streams and no promises a chunk, a tenth of `fetch`'s cost. Time limits after
 * the connection are the relay's, so undici's own are off.
 */
export function createUndiciUpstream({ connectMs, connectionsMax, headerBytesMax }: UndiciUpstreamOptions): Upstream {
  const open = (tls: object): Agent =>
    new Agent({
      connections: connectionsMax,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: 4000,
      maxHeaderSize: headerBytesMax,
      connect: { timeout: connectMs, noDelay: true, ...tls },
    });
  const agent = open({});
  const pinned = new Map<string, Agent>();
  return {
    send: ({ url, certificate = null, path, method, headers, body }, handler) => {
      const { origin, prefix } = addressOf(url);
      const through = certificate === null ? agent : pinnedAgent(pinned, certificate, open);
      const call = new Call(handler);
      through.dispatch({ origin, path: prefix + path, method, headers, body }, call);
      return call;
    },
    close: async () => {
      await Promise.all([agent, ...pinned.values()].map((one) => one.destroy()));
    },
  };
}

/** One request on its way: what undici tells goes to its handler until one of the two has ended it. */
class Call implements UpstreamCall, Dispatcher.DispatchHandler {
  readonly #handler: UpstreamHandler;
  #controller: Dispatcher.DispatchController | null = null;
  #over = false;
  #paused = false;

  constructor(handler: UpstreamHandler) {
    this.#handler = handler;
  }

  pause(): void {
    this.#paused = true;
    this.#controller?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#controller?.resume();
  }

  abort(): void {
    if (this.#over) return;
    this.#over = true;
    this.#controller?.abort(STOPPED);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#over) {
      controller.abort(STOPPED);
      return;
    }
    if (this.#paused) controller.pause();
    this.#handler.onSent?.();
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: object): void {
    if (!this.#over) this.#handler.onHead(status, headers as Record<string, string>);
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (!this.#over) this.#handler.onData(chunk);
  }

  onResponseEnd(): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler.onEnd();
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#handler.onError(error);
  }
}

interface Address {
  readonly origin: string;
  readonly prefix: string;
}

const ADDRESSES_MAX = 1000;
const addresses = new Map<string, Address>();

/** An API's address may have a path of its own; an origin has none. */
function addressOf(url: string): Address {
  const known = addresses.get(url);
  if (known) return known;
  const slash = url.indexOf('/', url.indexOf('//') + 2);
  const origin = slash < 0 ? url : url.slice(0, slash);
  const address = { origin, prefix: slash < 0 ? '' : url.slice(slash).replace(/\/+$/, '') };
  if (addresses.size >= ADDRESSES_MAX) addresses.clear();
  addresses.set(url, address);
  return address;
}

/** Connections by certificate: one that was made to show another is none of them, even at the same address. */
function pinnedAgent(pinned: Map<string, Agent>, certificate: string, open: (tls: object) => Agent): Agent {
  const agent = pinned.get(certificate) ?? open(onlyTo(certificate));
  pinned.delete(certificate);
  pinned.set(certificate, agent);
  const [oldest] = pinned;
  if (pinned.size > PINNED_MAX && oldest) {
    pinned.delete(oldest[0]);
    // What is under way there ends by itself.
    oldest[1].close().catch(() => undefined);
  }
  return agent;
}

/**
 * Verification stays on, whatever the environment says: without it Node does not even ask `checkServerIdentity`, and the
 * request is written. No session is resumed: then there would be no certificate to look at.
 */
function onlyTo(certificate: string): object {
  const { fingerprint256 } = new X509Certificate(certificate);
  return {
    ca: [certificate],
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    maxCachedSessions: 0,
    checkServerIdentity: (_host: string, shown: PeerCertificate) =>
      shown.fingerprint256 === fingerprint256 ? undefined : new Error('the model server shows another certificate'),
  };
}
