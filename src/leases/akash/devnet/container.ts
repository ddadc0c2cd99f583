import type { Clock } from '../../../clock.ts';
import { describeError } from '../../../errors.ts';
import type { RunningServer } from '../../local/delivery.ts';
import { Forwarder } from './forwarder.ts';
import type { ManifestService } from './manifest.ts';

/** What a provider was told to run. */
export interface ContainerSpec {
  /** `owner/dseq/gseq/oseq/provider`. */
  readonly lease: string;
  readonly service: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Starts what a container holds; rejects when it cannot, leaving nothing behind. It dies with this process. */
export type StartContainer = (spec: ContainerSpec, signal: AbortSignal) => Promise<RunningServer>;

export interface LogLine {
  readonly name: string;
  readonly message: string;
}

export interface KubeEvent {
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly note: string;
  readonly object: { readonly kind: string; readonly namespace: string; readonly name: string };
}

const LINES_MAX = 1_000;

export interface ServiceOptions {
  readonly lease: string;
  readonly service: ManifestService;
  readonly start: StartContainer;
  /** Whether the way to it takes connections and gives nothing back. */
  readonly dark: () => boolean;
  readonly clock: Clock;
  readonly onLine: (line: LogLine) => void;
  readonly onEvent: (event: KubeEvent) => void;
}

/** One service of a lease: its container and the ways to it. */
export class LeaseService {
  readonly #options: ServiceOptions;
  readonly #abort = new AbortController();
  readonly forwarders: readonly { readonly forwarder: Forwarder; readonly expose: Expose }[];
  readonly lines: LogLine[] = [];
  readonly events: KubeEvent[] = [];
  #server: RunningServer | null = null;
  #starting: Promise<void> = Promise.resolve();

  constructor(options: ServiceOptions) {
    this.#options = options;
    const { service, dark, clock } = options;
    this.forwarders = (service.expose ?? [])
      .filter(({ global, proto }) => global && proto.toUpperCase() === 'TCP')
      .map((expose) => ({
        expose,
        forwarder: new Forwarder({
          kind: isIngress(expose) ? 'ingress' : 'port',
          target: () => this.#target(),
          dark,
          clock,
        }),
      }));
  }

  get name(): string {
    return this.#options.service.name;
  }

  get replicas(): number {
    return this.#options.service.count;
  }

  get ready(): boolean {
    return this.#server !== null;
  }

  /** The ways are open at once, what is behind them comes up by itself. */
  async start(): Promise<void> {
    for (const { forwarder } of this.forwarders) await forwarder.start();
    const { image } = this.#options.service;
    this.#event('Normal', 'Scheduled', 'Successfully assigned the pod to node-0');
    this.#event('Normal', 'Pulling', `Pulling image "${image}"`);
    this.#starting = this.#run();
  }

  async stop(): Promise<void> {
    this.#abort.abort(new Error('the lease ended'));
    for (const { forwarder } of this.forwarders) await forwarder.stop();
    await this.#starting;
    await this.#server?.stop();
    this.#server = null;
  }

  async #run(): Promise<void> {
    const { lease, service, start } = this.#options;
    const spec: ContainerSpec = {
      lease,
      service: service.name,
      image: service.image,
      command: service.command ?? [],
      args: service.args ?? [],
      env: readEnv(service.env ?? []),
    };
    try {
      this.#server = await start(spec, this.#abort.signal);
      this.#event('Normal', 'Started', `Started container ${service.name}`);
      this.#line('the model server answers');
      void this.#server.exited.then(({ detail }) => {
        this.#server = null;
        if (this.#abort.signal.aborted) return;
        this.#line(`the model server ended: ${detail.slice(0, 500)}`);
        this.#event('Warning', 'BackOff', 'Back-off restarting failed container');
      });
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      this.#line(`the model server did not start: ${describeError(error).slice(0, 500)}`);
      this.#event('Warning', 'Failed', 'Error: the container could not be started');
    }
  }

  #target(): { host: string; port: number } | null {
    if (this.#server === null) return null;
    const { hostname, port } = new URL(this.#server.url);
    return { host: hostname, port: Number(port) };
  }

  #line(message: string): void {
    const line = { name: `${this.name}-0`, message };
    this.lines.push(line);
    if (this.lines.length > LINES_MAX) this.lines.shift();
    this.#options.onLine(line);
  }

  #event(type: KubeEvent['type'], reason: string, note: string): void {
    const object = { kind: 'Pod', namespace: 'lease', name: `${this.name}-0` };
    const event = { type, reason, note, object };
    this.events.push(event);
    if (this.events.length > LINES_MAX) this.events.shift();
    this.#options.onEvent(event);
  }
}

type Expose = NonNullable<ManifestService['expose']>[number];

/** HTTP by the provider's host name only on port 80; anything else is a port of its own. */
export function isIngress({ externalPort, port }: Expose): boolean {
  return (externalPort === 0 ? port : externalPort) === 80;
}

export function readEnv(list: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    list.map((entry) => {
      const at = entry.indexOf('=');
      return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** A lease's status as the gateway shows it; maps without entries are null. */
export function leaseStatus(services: readonly LeaseService[]): unknown {
  const rows = services.map((service) => {
    const up = service.ready ? service.replicas : 0;
    const uris = service.forwarders
      .filter(({ forwarder }) => forwarder.kind === 'ingress')
      .map(({ forwarder }) => `127.0.0.1:${forwarder.port}`);
    const status = {
      name: service.name,
      available: up,
      total: service.replicas,
      uris: uris.length > 0 ? uris : null,
      observed_generation: 1,
      replicas: service.replicas,
      updated_replicas: service.replicas,
      ready_replicas: up,
      available_replicas: up,
    };
    return [service.name, status] as const;
  });
  const ports = services
    .map((service) => [service.name, portsOf(service)] as const)
    .filter(([, list]) => list.length > 0);
  const addresses = services
    .map((service) => [service.name, addressesOf(service)] as const)
    .filter(([, list]) => list.length > 0);
  return {
    services: Object.fromEntries(rows),
    forwarded_ports: ports.length > 0 ? Object.fromEntries(ports) : null,
    ips: addresses.length > 0 ? Object.fromEntries(addresses) : null,
  };
}

/** All of this network is one machine's loopback: a leased address is told as that, with a port of its own. */
function addressesOf(service: LeaseService): unknown[] {
  return service.forwarders
    .filter(({ expose }) => expose.ip !== undefined && expose.ip !== null && expose.ip !== '')
    .map(({ forwarder, expose }) => ({
      Port: expose.port,
      ExternalPort: forwarder.port,
      Protocol: expose.proto,
      IP: '127.0.0.1',
    }));
}

function portsOf(service: LeaseService): unknown[] {
  return service.forwarders
    .filter(({ forwarder }) => forwarder.kind === 'port')
    .map(({ forwarder, expose }) => ({
      host: '127.0.0.1',
      port: expose.port,
      externalPort: forwarder.port,
      proto: expose.proto,
      name: service.name,
    }));
}
