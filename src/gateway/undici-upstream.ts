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

/**
 * `dispatch` is undici's lowest level: no web streams and no promises a chunk, a tenth of `fetch`'s cost. Time limits after
 * the connection are the relay's, so undici's own are off.
 */
export function createUndiciUpstream({ connectMs, connectionsMax, headerBytesMax }: UndiciUpstreamOptions): Upstream {
  const agent = new Agent({
    connections: connectionsMax,
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: 4000,
    maxHeaderSize: headerBytesMax,
    connect: { timeout: connectMs, noDelay: true },
  });
  return {
    send: ({ url, path, method, headers, body }, handler) => {
      let controller: Dispatcher.DispatchController | null = null;
      let over = false;
      let paused = false;
      // An API's address may have a path of its own; an origin has none.
      const slash = url.indexOf('/', url.indexOf('//') + 2);
      const origin = slash < 0 ? url : url.slice(0, slash);
      const prefix = slash < 0 ? '' : url.slice(slash).replace(/\/+$/, '');
      agent.dispatch(
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
    close: () => agent.destroy(),
  };
}
