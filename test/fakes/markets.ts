import type { Clock } from '../../src/clock.ts';
import {
  done,
  refused,
  unknown,
  type Bid,
  type CloseReason,
  type Delivery,
  type Lease,
  type LeaseStatus,
  type Market,
  type MarketTerms,
  type OrderRequest,
  type OrderView,
  type Outcome,
  type ProviderView,
} from '../../src/leases/market.ts';
import { blockPrice, drawRent } from '../../src/leases/rent.ts';
import type { MarketName } from '../../src/spec.ts';
import { noteOfBreach, type Breach, type DisputeNote } from '../../src/spec/dispute.ts';
import { testLease } from './market-samples.ts';

export interface FakeProvider {
  readonly id: string;
  readonly price: bigint;
  /** What becomes of its model server once deployed; 'never' stays starting. */
  delivers: 'running' | 'never' | 'failed';
  readonly failures?: number;
  readonly trust?: Bid['trust'];
  readonly region?: string;
}

/** How one call of an operation ends, other than well: the effect may have happened all the same. */
export type Mishap = 'refused' | 'unknown' | 'unknown_but_done' | 'throws' | Promise<void>;
export type Operation =
  'tender' | 'accept' | 'cancel' | 'deploy' | 'fund' | 'close' | 'dispute' | 'list' | 'status' | 'order';

/** What a market remembers: handed to a second `FakeMarket`, it has outlived a restart of the gateway. */
export interface FakeWorld {
  readonly orders: Map<string, OrderView>;
  readonly requests: Map<string, OrderRequest>;
  readonly leases: Map<string, Lease>;
  readonly deliveries: Map<string, Delivery>;
  readonly fundings: Set<string>;
}

export const newWorld = (): FakeWorld => ({
  orders: new Map(),
  requests: new Map(),
  leases: new Map(),
  deliveries: new Map(),
  fundings: new Set(),
});

const NO_DELIVERY: Delivery = { state: 'none', sinceMs: null, url: null, apiKey: null, detail: '' };

/** A market in memory that does what a test tells it to. Bids are there with the order. */
export class FakeMarket implements Market {
  readonly name: MarketName;
  readonly providersOf: FakeProvider[];
  readonly world: FakeWorld;
  /** Every call in order: "accept ord-1-1". */
  readonly calls: string[] = [];
  /** Of the disputes that were filed. */
  readonly breaches: Breach[] = [];
  /** What the next calls of an operation meet; after that all goes well. */
  readonly mishaps: Partial<Record<Operation, Mishap[]>> = {};
  readonly #clock: Clock;
  readonly #terms: MarketTerms;
  readonly #listeners: (() => void)[] = [];

  constructor(options: {
    readonly clock: Clock;
    readonly providers: readonly FakeProvider[];
    readonly name?: MarketName;
    readonly world?: FakeWorld;
    readonly terms?: Partial<MarketTerms>;
  }) {
    const { clock, providers, name = 'akash', world = newWorld(), terms = {} } = options;
    this.name = name;
    this.world = world;
    this.providersOf = [...providers];
    this.#clock = clock;
    const fees = { takeFeeBp: 2000, makeFeeBp: 0, depositMinNanoUsd: 1n };
    this.#terms = { blockMs: 6000, ...fees, settlement: 'USDC', endsWithProcess: false, ...terms };
  }

  terms(): MarketTerms {
    return this.#terms;
  }

  block(): number {
    return Math.floor(this.#clock.now() / this.#terms.blockMs);
  }

  open(): Lease[] {
    return [...this.world.leases.values()].filter(({ state }) => state !== 'closed');
  }

  count(operation: Operation): number {
    return this.calls.filter((call) => call.startsWith(`${operation} `)).length;
  }

  tender(request: OrderRequest): Promise<Outcome<OrderView>> {
    return this.#call('tender', request.id, () => {
      const known = this.world.orders.get(request.id);
      if (known) return done(known);
      const view: OrderView = {
        id: request.id,
        state: 'open',
        postedAtMs: this.#clock.now(),
        postedBlock: this.block(),
        bids: this.providersOf
          .filter(({ price }) => price <= request.ceilingNanoUsdPerBlock)
          .map((provider) => this.#bid(request.id, provider)),
        complete: true,
        declined: [],
      };
      this.world.requests.set(request.id, request);
      this.world.orders.set(request.id, view);
      return done(view);
    });
  }

  async order(id: string): Promise<OrderView | null> {
    await this.#reads('order', id);
    return this.world.orders.get(id) ?? null;
  }

  accept(orderId: string, bidId: string, depositNanoUsd: bigint): Promise<Outcome<Lease>> {
    return this.#call('accept', orderId, () => {
      const known = this.world.leases.get(`lease-${orderId}`);
      if (known) return known.state === 'closed' ? refused('the lease is closed') : done(known);
      const order = this.world.orders.get(orderId);
      const bid = order?.bids.find(({ id }) => id === bidId);
      if (order?.state !== 'open' || !bid) return refused('there is no such bid');
      if (depositNanoUsd < this.#terms.depositMinNanoUsd) return refused('the deposit is too small');
      const pool = this.world.requests.get(orderId)?.pool ?? '';
      const lease = testLease({ bid, pool, depositNanoUsd, openedAtMs: this.#clock.now(), block: this.block() });
      this.world.leases.set(lease.id, lease);
      this.world.orders.set(orderId, { ...order, state: 'leased' });
      return done(lease);
    });
  }

  cancel(orderId: string): Promise<Outcome<void>> {
    return this.#call('cancel', orderId, () => {
      const order = this.world.orders.get(orderId);
      if (order?.state === 'leased') return refused('the order became a lease');
      if (order) this.world.orders.set(orderId, { ...order, state: 'closed' });
      return done(undefined);
    });
  }

  deploy(leaseId: string): Promise<Outcome<void>> {
    return this.#call('deploy', leaseId, () => {
      const lease = this.world.leases.get(leaseId);
      if (lease?.state !== 'active') return refused('the lease is not active');
      const delivers = this.providersOf.find(({ id }) => id === lease.provider)?.delivers ?? 'never';
      this.deliver(leaseId, delivers === 'never' ? 'starting' : delivers);
      return done(undefined);
    });
  }

  /** The provider's part: its model server is in this state from now on. */
  deliver(leaseId: string, state: Delivery['state'], detail: string = state): void {
    const url = state === 'running' ? `http://${leaseId}.test` : null;
    const apiKey = state === 'running' ? 'lease-key' : null;
    this.world.deliveries.set(leaseId, { state, sinceMs: this.#clock.now(), url, apiKey, detail });
    this.changed();
  }

  /** The provider walks away. */
  lose(leaseId: string): void {
    this.#end(leaseId, 'provider');
    this.changed();
  }

  changed(): void {
    for (const listener of this.#listeners) listener();
  }

  async status(leaseId: string): Promise<LeaseStatus | null> {
    await this.#reads('status', leaseId);
    const lease = this.#settled(leaseId);
    return lease && { lease, delivery: this.world.deliveries.get(leaseId) ?? NO_DELIVERY };
  }

  fund(leaseId: string, amountNanoUsd: bigint, fundingId: string): Promise<Outcome<Lease>> {
    return this.#call('fund', `${leaseId} ${fundingId}`, () => {
      const lease = this.#settled(leaseId);
      if (!lease) return refused('there is no such lease');
      const id = `${leaseId} ${fundingId}`;
      if (this.world.fundings.has(id)) return done(lease);
      if (lease.state !== 'active') return refused('the lease is not active');
      this.world.fundings.add(id);
      return done(this.#put({ ...lease, depositNanoUsd: lease.depositNanoUsd + amountNanoUsd }));
    });
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    return this.#call('close', leaseId, () => {
      const lease = this.#end(leaseId, reason);
      return lease ? done(lease) : refused('there is no such lease');
    });
  }

  dispute(leaseId: string, breach: Breach): Promise<Outcome<DisputeNote>> {
    return this.#call('dispute', leaseId, () => {
      const lease = this.world.leases.get(leaseId);
      if (!lease) return refused('there is no such lease');
      if (lease.dispute?.kind === breach.kind) return done(lease.dispute);
      this.breaches.push(breach);
      const dispute = noteOfBreach(leaseId, breach, { atMs: this.#clock.now(), local: true });
      this.#put({ ...lease, dispute });
      return done(dispute);
    });
  }

  judge(disputeId: string, { upheld }: { readonly upheld: boolean }): Promise<Outcome<DisputeNote>> {
    const lease = [...this.world.leases.values()].find(({ dispute }) => dispute?.id === disputeId);
    if (!lease?.dispute) return Promise.resolve(refused('there is no such dispute'));
    const dispute: DisputeNote = { ...lease.dispute, state: upheld ? 'upheld' : 'rejected' };
    this.#put({ ...lease, dispute });
    return Promise.resolve(done(dispute));
  }

  async list(): Promise<{ orders: readonly OrderView[]; leases: readonly LeaseStatus[] }> {
    await this.#reads('list', '');
    const leases = this.open().map((lease) => ({
      lease,
      delivery: this.world.deliveries.get(lease.id) ?? NO_DELIVERY,
    }));
    return { orders: [...this.world.orders.values()].filter(({ state }) => state === 'open'), leases };
  }

  providers(): Promise<readonly ProviderView[]> {
    const hardware = { cpu: 8, memoryBytes: 2 ** 34, gpus: [] };
    const views = this.providersOf.map(({ id, price, failures = 0 }) => {
      const used = this.open().filter(({ provider }) => provider === id).length;
      const disputes = [...this.world.leases.values()].filter((one) => one.provider === id && one.dispute).length;
      const record = { leases: failures, failures, disputes };
      const asksNanoUsdPerBlock = this.name === 'akash' ? null : price;
      const told = { capacity: 9, used, policy: 'fixed', audited: true, asksNanoUsdPerBlock };
      return { id, market: this.name, hardware, ...told, ...record };
    });
    return Promise.resolve(views);
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }

  #bid(orderId: string, { id, price, trust, region }: FakeProvider): Bid {
    const at = { atMs: this.#clock.now(), block: this.block() };
    return {
      id: `${orderId}/${id}`,
      orderId,
      provider: id,
      priceNanoUsdPerBlock: price,
      ...at,
      note: 'fixed',
      startMs: null,
      ...(trust === undefined ? {} : { trust }),
      ...(region === undefined ? {} : { region }),
    };
  }

  /** Rent is drawn when somebody looks. */
  #settled(leaseId: string): Lease | null {
    const lease = this.world.leases.get(leaseId);
    if (!lease || lease.state === 'closed') return lease ?? null;
    const price = blockPrice(lease.priceNanoUsdPerBlock, this.#terms.takeFeeBp, this.#terms.makeFeeBp);
    const left = lease.depositNanoUsd - lease.rentNanoUsd - lease.takeFeeNanoUsd;
    const draw = drawRent(price, this.block() - lease.settledBlock, left);
    return this.#put({
      ...lease,
      settledBlock: lease.settledBlock + draw.blocks,
      rentNanoUsd: lease.rentNanoUsd + draw.rent,
      takeFeeNanoUsd: lease.takeFeeNanoUsd + draw.takeFee,
    });
  }

  #end(leaseId: string, closeReason: CloseReason): Lease | null {
    const lease = this.#settled(leaseId);
    if (!lease || lease.state === 'closed') return lease;
    this.world.deliveries.delete(leaseId);
    const refundNanoUsd = lease.depositNanoUsd - lease.rentNanoUsd - lease.takeFeeNanoUsd;
    const closed = { closedAtMs: this.#clock.now(), closedBlock: this.block(), closeReason };
    return this.#put({ ...lease, state: 'closed', refundNanoUsd, ...closed });
  }

  #put(lease: Lease): Lease {
    return this.world.leases.set(lease.id, lease) && lease;
  }

  async #reads(operation: Operation, id: string): Promise<void> {
    this.calls.push(`${operation} ${id}`);
    const mishap = this.mishaps[operation]?.shift();
    if (mishap instanceof Promise) await mishap;
    else if (mishap !== undefined) throw new Error(`${operation}: the market cannot be reached`);
  }

  async #call<T>(operation: Operation, id: string, effect: () => Outcome<T>): Promise<Outcome<T>> {
    this.calls.push(`${operation} ${id}`);
    const mishap = this.mishaps[operation]?.shift();
    if (mishap instanceof Promise) await mishap;
    if (mishap === 'refused') return refused('not today');
    if (mishap === 'unknown') return unknown('no answer in time');
    if (mishap === 'throws') throw new Error(`${operation}: the market cannot be reached`);
    const outcome = effect();
    return mishap === 'unknown_but_done' ? unknown('no answer in time') : outcome;
  }
}
