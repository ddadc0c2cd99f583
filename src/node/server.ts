import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { AppEnv } from '../gateway/deps.ts';

export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  readonly clock: Clock;
  readonly limits: {
    readonly headerBytes: number;
    readonly headersMax: number;
    readonly headerMs: number;
    readonly bodyMs: number;
    readonly keepAliveMs: number;
  };
}

/** Takes a request before the app sees it, or does not. */
export type DirectRoute = (incoming: IncomingMessage, outgoing: ServerResponse) => boolean;

export interface RunningServer {
  readonly url: string;
  /** From now on this app answers; requests that are being answered end with the one before. */
  replace(app: Hono<AppEnv>, direct: DirectRoute): void;
  /** Takes no more; resolves when every reply has ended, or after `graceMs` cuts them, or at once when hurried. */
  stop(graceMs: number, hurry: AbortSignal): Promise<void>;
}

const POLL_MS = 50;

/** The HTTP server: listens, counts replies that are not over, ends without cutting them short. */
export async function startServer(
  app: Hono<AppEnv>,
  options: ServerOptions,
  direct: DirectRoute = () => false,
): Promise<RunningServer> {
  const { host, port, clock, limits } = options;
  const listen = (to: Hono<AppEnv>) => getRequestListener(to.fetch, { overrideGlobalObjects: false });
  let answering = { listener: listen(app), direct };
  let active = 0;
  let stopping = false;
  const onClose = (): void => {
    active -= 1;
  };
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytes,
      headersTimeout: limits.headerMs,
      requestTimeout: limits.bodyMs,
      keepAliveTimeout: limits.keepAliveMs,
      noDelay: true,
    },
    (incoming, outgoing) => {
      active += 1;
      outgoing.on('close', onClose);
      if (stopping) outgoing.setHeader('connection', 'close');
      if (!answering.direct(incoming, outgoing)) void answering.listener(incoming, outgoing);
    },
  );
  server.maxHeadersCount = limits.headersMax;
  await bind(server, host, port);
  const address = server.address();
  const bound = typeof address === 'object' && address ? address.port : port;
  const stop = async (graceMs: number, hurry: AbortSignal): Promise<void> => {
    stopping = true;
    server.close();
    server.closeIdleConnections();
    const until = clock.now() + graceMs;
    while (active > 0 && clock.now() < until && !hurry.aborted) {
      await clock.sleep(POLL_MS);
      server.closeIdleConnections();
    }
    server.closeAllConnections();
  };
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${bound}`;
  const replace = (to: Hono<AppEnv>, way: DirectRoute): void =>
    void (answering = { listener: listen(to), direct: way });
  return { url, replace, stop };
}

function bind(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE'
          ? `port ${port} on ${host} is in use: stop what listens there or set UNDERBID_PORT`
          : `cannot listen on ${host}:${port} (${error.code ?? error.message})`;
      reject(new AppError('setup_failed', why, { cause: error }));
    });
    server.listen(port, host, () => {
      server.removeAllListeners('error');
      server.on('error', () => undefined);
      resolve();
    });
  });
}
