import type { Clock } from '../../../clock.ts';
import type { Chain } from './chain.ts';
import { LeaseService, type KubeEvent, type LogLine, type StartContainer } from './container.ts';
import { crossFault, manifestHash, readManifest, type Manifest } from './manifest.ts';
import { bidKey, deploymentKey, groupKey, type BidId, type Lease } from './state.ts';

/** A provider's leases and what runs for them. */

interface Running {
  readonly id: BidId;
  readonly sinceMs: number;
  manifest: Manifest | null;
  manifestMs: number | null;
  services: LeaseService[];
  readonly listeners: Set<Listener>;
}

export interface Listener {
  line(line: LogLine): void;
  event(event: KubeEvent): void;
  /** The lease is over. */
  end(): void;
}

export interface Answer {
  readonly status: number;
  readonly message: string;
}

export class ProviderLeases {
  readonly #chain: Chain;
  readonly #clock: Clock;
  readonly #start: StartContainer;
  readonly #name: string;
  readonly #running = new Map<string, Running>();
  /** Stops that are under way. */
  readonly #stopping = new Set<Promise<void>>();

  constructor(options: {
    /** The provider's. */
    readonly name: string;
    readonly chain: Chain;
    readonly clock: Clock;
    readonly start: StartContainer;
  }) {
    this.#name = options.name;
    this.#chain = options.chain;
    this.#clock = options.clock;
    this.#start = options.start;
  }

  get count(): number {
    return this.#running.size;
  }

  get withManifest(): number {
    return [...this.#running.values()].filter(({ manifest }) => manifest !== null).length;
  }

  begin(lease: Lease, nowMs: number): void {
    const key = bidKey(lease.id);
    if (this.#running.has(key)) return;
    const { id } = lease;
    this.#running.set(key, {
      id,
      sinceMs: nowMs,
      manifest: null,
      manifestMs: null,
      services: [],
      listeners: new Set(),
    });
  }

  end(key: string): void {
    const running = this.#running.get(key);
    if (running === undefined) return;
    this.#running.delete(key);
    for (const listener of running.listeners) listener.end();
    this.#track(stopServices(running.services));
  }

  idleMs(key: string, nowMs: number): { readonly withoutManifest: number; readonly unhealthy: number } {
    const running = this.#running.get(key);
    if (running === undefined) return { withoutManifest: 0, unhealthy: 0 };
    const { sinceMs, manifestMs, services } = running;
    const ready = services.every((service) => service.ready);
    return {
      withoutManifest: manifestMs === null ? nowMs - sinceMs : 0,
      unhealthy: manifestMs === null || ready ? 0 : nowMs - manifestMs,
    };
  }

  find(key: string): Running | undefined {
    return this.#running.get(key);
  }

  /** Null: taken. */
  submit(owner: string, dseq: bigint, json: string, provider: string): Answer | null {
    const { state, faults } = this.#chain;
    const manifest = readManifest(json);
    if (manifest === null) return { status: 422, message: 'invalid manifest: the JSON does not decode' };
    const deployment = state.deployments.get(deploymentKey({ owner, dseq }));
    const leases = [...this.#running.values()].filter(
      ({ id }) => id.owner === owner && id.dseq === dseq && id.provider === provider,
    );
    if (deployment === undefined || leases.length === 0) return { status: 404, message: 'no lease for deployment' };
    const hash = manifestHash(manifest);
    if (faults.has('manifest-refused', this.#name) || !Buffer.from(hash).equals(deployment.hash)) {
      return { status: 422, message: 'manifest version validation failed' };
    }
    const groups = state.groups.values().filter(({ id }) => deploymentKey(id) === deploymentKey({ owner, dseq }));
    const fault = crossFault(
      manifest,
      groups.map(({ spec }) => spec),
    );
    if (fault !== null) return { status: 422, message: fault };
    for (const running of leases) this.#deploy(running, manifest, hash);
    return null;
  }

  /** The same manifest again changes nothing; another one replaces what runs. */
  #deploy(running: Running, manifest: Manifest, hash: Uint8Array): void {
    const group = this.#chain.state.groups.get(groupKey(running.id));
    const own = manifest.find(({ name }) => name === group?.spec.name);
    if (own === undefined) return;
    const same = running.manifest !== null && Buffer.from(manifestHash(running.manifest)).equals(hash);
    if (same) return;
    this.#track(stopServices(running.services));
    running.manifest = manifest;
    running.manifestMs = this.#chain.timeMs;
    running.services = (own.services ?? []).map(
      (service) =>
        new LeaseService({
          lease: bidKey(running.id),
          service,
          start: this.#start,
          dark: () => this.#chain.faults.has('dark-provider', this.#name),
          clock: this.#clock,
          onLine: (line) => {
            for (const listener of running.listeners) listener.line(line);
          },
          onEvent: (event) => {
            for (const listener of running.listeners) listener.event(event);
          },
        }),
    );
    for (const service of running.services) this.#track(service.start());
  }

  /** Everything of every lease that is reached from outside. */
  services(): LeaseService[] {
    return [...this.#running.values()].flatMap(({ services }) => services);
  }

  async stop(): Promise<void> {
    for (const key of this.#running.keys()) this.end(key);
    await Promise.all(this.#stopping);
  }

  #track(work: Promise<void>): void {
    const tracked = work.catch(() => undefined).finally(() => this.#stopping.delete(tracked));
    this.#stopping.add(tracked);
  }
}

async function stopServices(services: readonly LeaseService[]): Promise<void> {
  await Promise.all(services.map((service) => service.stop()));
}
