import { connect } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import type { RunningServer } from '../../local/delivery.ts';
import { TLS_VARIABLES } from '../engines.ts';
import type { ContainerSpec, StartContainer } from './container.ts';
import { listen } from './http.ts';

/**
 * What the emulated network runs for every image speaks plain HTTP. Where a container is told to speak TLS, this stands in
 * front of it and shows the certificate that the container was given.
 */
export function withTls(start: StartContainer): StartContainer {
  return async (spec, signal) => {
    const pair = readTls(spec);
    const server = await start(spec, signal);
    if (pair === null) return server;
    try {
      return await front(server, pair);
    } catch (error) {
      await server.stop();
      throw error;
    }
  };
}

interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** As the engines do: by an argument that names a file, which the start script fills from the environment. */
export function readTls({ command, args, env }: Pick<ContainerSpec, 'command' | 'args' | 'env'>): Pair | null {
  const asked = [...command, ...args].some((word) => word === '--ssl-certfile' || word === '--ssl-cert-file');
  const [certificate, key] = [env[TLS_VARIABLES.certificate], env[TLS_VARIABLES.key]];
  if (!asked) return null;
  if (certificate === undefined || key === undefined) throw new Error('there is no certificate, or no key of it');
  return { cert: certificate.replaceAll('|', '\n'), key: key.replaceAll('|', '\n') };
}

async function front(server: RunningServer, pair: Pair): Promise<RunningServer> {
  const { hostname, port } = new URL(server.url);
  const sockets = new Set<TLSSocket>();
  const shown = createServer({ ...pair, minVersion: 'TLSv1.3' }, (client) => {
    sockets.add(client);
    const upstream = connect({ host: hostname, port: Number(port), noDelay: true });
    client.setNoDelay(true);
    client.on('error', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
    client.once('close', () => {
      sockets.delete(client);
      upstream.destroy();
    });
    client.pipe(upstream).pipe(client);
  });
  // Who does not like the certificate hangs up.
  shown.on('tlsClientError', () => undefined);
  const own = await listen(shown, 0);
  const close = (): void => {
    shown.close();
    for (const socket of sockets) socket.destroy();
  };
  void server.exited.then(close);
  return {
    ...server,
    url: `https://${hostname}:${own}`,
    stop: async () => {
      close();
      await server.stop();
    },
  };
}
