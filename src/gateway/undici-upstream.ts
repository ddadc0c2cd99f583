import { X509Certificate } from 'node:crypto';
import type { PeerCertificate } from 'node:tls';
import { Agent, type Dispatcher } from 'undici';
import type { Upstream, UpstreamCall } from './upstream.ts';

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
      let controller: Dispatcher.DispatchController | null = null;
      let over = false;
      let paused = false;
      // An API's address may have a path of its own; an origin has none.
      const slash = url.indexOf('/', url.indexOf('//') + 2);
      const origin = slash < 0 ? url : url.slice(0, slash);
      const prefix = slash < 0 ? '' : url.slice(slash).replace(/\/+$/, '');
      const through = certificate === null ? agent : pinnedAgent(pinned, certificate, open);
      through.dispatch(
        { origin, path: prefix + path, method, headers, body },
        {
          onRequestStart: (started) => {
            controller = started;
            if (over) {
              started.abort(STOPPED);
              return;
            }
            if (paused) started.pause();
            handler.onSent?.();
          },
          onResponseStart: (_controller, status, received) => {
            if (!over) handler.onHead(status, received as Record<string, string>);
          },
          onResponseData: (_controller, chunk) => {
            if (!over) handler.onData(chunk);
          },
          onResponseEnd: () => {
            if (over) return;
            over = true;
            handler.onEnd();
          },
          onResponseError: (_controller, error) => {
            if (over) return;
            over = true;
            handler.onError(error);
          },
        },
      );
      const call: UpstreamCall = {
        pause: () => {
          paused = true;
          controller?.pause();
        },
        resume: () => {
          paused = false;
          controller?.resume();
        },
        abort: () => {
          if (over) return;
          over = true;
          controller?.abort(STOPPED);
        },
      };
      return call;
    },
    close: async () => {
      await Promise.all([agent, ...pinned.values()].map((one) => one.destroy()));
    },
  };
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
