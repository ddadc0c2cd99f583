import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../../../clock.ts';
import type { KubeEvent, LeaseService, LogLine } from './container.ts';
import type { Listener } from './provider-leases.ts';
import { acceptWebSocket } from './websocket.ts';

/** `/logs` and `/kubeevents`: frames of JSON, a ping every 10 s, Akash's own close codes. */
const CLOSE = { normal: 1000, internal: 4000, leaseNotFound: 4001 };
const PING_MS = 10_000;

export interface StreamRequest {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  readonly what: 'logs' | 'kubeevents';
  readonly query: URLSearchParams;
  readonly running: { readonly services: readonly LeaseService[]; readonly listeners: Set<Listener> } | undefined;
  readonly clock: Clock;
}

export function streamLease({ request, socket, what, query, running, clock }: StreamRequest): void {
  const stream = acceptWebSocket(request, socket);
  if (stream === null) return;
  if (running === undefined) return stream.close(CLOSE.leaseNotFound);
  const wanted = (query.get('service') ?? '').split(',').filter((name) => name !== '');
  const services = running.services.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
  if (what === 'logs' && services.length === 0) return stream.close(CLOSE.internal, 'no running pods');
  const past = services.flatMap((service): (LogLine | KubeEvent)[] =>
    what === 'logs' ? service.lines : service.events,
  );
  const tail = Number(query.get('tail') ?? '-1');
  const shown = tail >= 0 && Number.isSafeInteger(tail) ? past.slice(Math.max(0, past.length - tail)) : past;
  for (const one of shown) stream.send(JSON.stringify(one));
  if (!['true', '1', 't'].includes(query.get('follow') ?? 'false')) return stream.close(CLOSE.normal);
  const isWanted = (name: string): boolean => services.some((service) => name.startsWith(`${service.name}-`));
  const listener: Listener = {
    line: (line) => {
      if (what === 'logs' && isWanted(line.name)) stream.send(JSON.stringify(line));
    },
    event: (event) => {
      if (what === 'kubeevents' && isWanted(event.object.name)) stream.send(JSON.stringify(event));
    },
    end: () => stream.close(CLOSE.normal),
  };
  running.listeners.add(listener);
  const stopper = new AbortController();
  void stream.closed.then(() => {
    running.listeners.delete(listener);
    stopper.abort(new Error('closed'));
  });
  void pingUntil(stopper.signal, stream.ping, clock);
}

async function pingUntil(signal: AbortSignal, ping: () => void, clock: Clock): Promise<void> {
  try {
    for (;;) {
      await clock.sleep(PING_MS, signal);
      ping();
    }
  } catch {
    // Closed.
  }
}
