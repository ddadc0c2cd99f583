import type { Clock } from '../../clock.ts';
import { poolNeeds, reaches, shortfall, type Needs, type Place, type Trust } from '../../spec/trust.ts';
import { perBlockFromPerHour, type Blocks, type NanoUsd } from '../../units.ts';
import {
  done,
  refused,
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
} from '../market.ts';

/** A server of the operator's own that already runs. */
export interface OwnedServer {
  readonly id: string;
  readonly url: string;
  readonly apiKey: string | null;
  readonly pool: string;
  readonly slots: number;
  readonly costNanoUsdPerHour: NanoUsd;
  /** What the operator vouches for; left out: audited, it is the operator's own. */
  readonly trust?: Trust;
  /** Where it stands; left out: not said. */
  readonly region?: string | null;
}

const BLOCK_MS = 6000;
const ORDERS_MAX = 1000;
/** Older ones make room for new ones. */
const ORDER_LIFE_MS = 300_000;
const CLOSED_KEPT = 200;
const OWN_TRUST: Trust = 'audited';

/**
 * The operator's own machines as bidders: each bids its cost per hour for its pool, one lease at a time, and is there as
 * soon as it is probed. Nothing is paid to anybody, so there is no escrow; the price stands for what the machine costs.
 */
export class OwnedMarket implements Market {
  readonly name = 'owned' as const;
  readonly #servers: readonly OwnedServer[];
  readonly #clock: Clock;
  readonly #orders = new Map<string, { request: OrderRequest; view: OrderView }>();
  readonly #leases = new Map<string, Lease>();

  constructor(servers: readonly OwnedServer[], clock: Clock) {
    this.#servers = servers;
    this.#clock = clock;
  }

  terms(): MarketTerms {
    return {
      blockMs: BLOCK_MS,
      takeFeeBp: 0,
      makeFeeBp: 0,
      depositMinNanoUsd: 0n,
      settlement: 'none',
      endsWithProcess: true,
    };
  }

  block(): Blocks {
    return Math.floor(this.#clock.now() / BLOCK_MS);
  }

  tender(request: OrderRequest): Promise<Outcome<OrderView>> {
    const known = this.#orders.get(request.id);
    if (known) return Promise.resolve(done(known.view));
    for (const [id, { view }] of this.#orders) {
      if (this.#orders.size < ORDERS_MAX) break;
      if (view.state !== 'open' || view.postedAtMs < this.#clock.now() - ORDER_LIFE_MS) this.#orders.delete(id);
    }
    if (this.#orders.size >= ORDERS_MAX) return Promise.resolve(refused('the market holds too many orders'));
    const bids: Bid[] = [];
    const declined: { provider: string; reason: string }[] = [];
    for (const server of this.#servers) {
      if (server.pool !== request.pool) continue;
      const answer = this.#answer(server, request);
      if (typeof answer === 'string') declined.push({ provider: server.id, reason: answer });
      else bids.push(answer);
    }
    const view = {
      id: request.id,
      state: 'open' as const,
      postedAtMs: this.#clock.now(),
      postedBlock: this.block(),
      bids,
      declined,
      complete: true,
    };
    this.#orders.set(request.id, { request, view });
    return Promise.resolve(done(view));
  }

  order(id: string): Promise<OrderView | null> {
    return Promise.resolve(this.#orders.get(id)?.view ?? null);
  }

  accept(orderId: string, bidId: string): Promise<Outcome<Lease>> {
    const id = `lease-${orderId}`;
    const known = this.#leases.get(id);
    if (known) return Promise.resolve(known.state === 'closed' ? refused('the lease is closed') : done(known));
    const order = this.#orders.get(orderId);
    const bid = order?.view.bids.find((one) => one.id === bidId);
    if (!order || !bid || order.view.state !== 'open') return Promise.resolve(refused('there is no such bid'));
    if (this.#leaseOf(bid.provider)) return Promise.resolve(refused('the machine is in use'));
    const block = this.block();
    const lease: Lease = {
      id,
      orderId,
      bidId,
      pool: order.request.pool,
      provider: bid.provider,
      priceNanoUsdPerBlock: bid.priceNanoUsdPerBlock,
      state: 'active',
      openedAtMs: this.#clock.now(),
      openedBlock: block,
      settledBlock: block,
      closedAtMs: null,
      closedBlock: null,
      closeReason: null,
      depositNanoUsd: 0n,
      rentNanoUsd: 0n,
      takeFeeNanoUsd: 0n,
      makeFeeNanoUsd: 0n,
      refundNanoUsd: 0n,
      dispute: null,
    };
    this.#leases.set(id, lease);
    this.#orders.set(orderId, { ...order, view: { ...order.view, state: 'leased' } });
    return Promise.resolve(done(lease));
  }

  cancel(orderId: string): Promise<Outcome<void>> {
    const order = this.#orders.get(orderId);
    if (order?.view.state === 'leased') return Promise.resolve(refused('the order became a lease'));
    if (order) this.#orders.set(orderId, { ...order, view: { ...order.view, state: 'closed' } });
    return Promise.resolve(done(undefined));
  }

  deploy(leaseId: string): Promise<Outcome<void>> {
    const active = this.#leases.get(leaseId)?.state === 'active';
    return Promise.resolve(active ? done(undefined) : refused('the lease is not active'));
  }

  status(leaseId: string): Promise<LeaseStatus | null> {
    const lease = this.#leases.get(leaseId);
    return Promise.resolve(lease ? { lease, delivery: this.#delivery(lease) } : null);
  }

  fund(leaseId: string): Promise<Outcome<Lease>> {
    const lease = this.#leases.get(leaseId);
    return Promise.resolve(lease?.state === 'active' ? done(lease) : refused('the lease is not active'));
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    const lease = this.#leases.get(leaseId);
    if (!lease) return Promise.resolve(refused('there is no such lease'));
    if (lease.state === 'closed') return Promise.resolve(done(lease));
    const block = this.block();
    const closed: Lease = {
      ...lease,
      state: 'closed',
      closeReason: reason,
      closedAtMs: this.#clock.now(),
      closedBlock: block,
      settledBlock: block,
    };
    this.#leases.set(leaseId, closed);
    const ended = [...this.#leases.values()].filter(({ state }) => state === 'closed');
    for (const old of ended.slice(0, Math.max(0, ended.length - CLOSED_KEPT))) this.#leases.delete(old.id);
    return Promise.resolve(done(closed));
  }

  dispute(): Promise<Outcome<void>> {
    return Promise.resolve(refused("the operator's own machines cannot be disputed"));
  }

  list(): Promise<{ orders: readonly OrderView[]; leases: readonly LeaseStatus[] }> {
    const orders = [...this.#orders.values()].map(({ view }) => view).filter(({ state }) => state === 'open');
    const leases = [...this.#leases.values()]
      .filter(({ state }) => state === 'active')
      .map((lease) => ({ lease, delivery: this.#delivery(lease) }));
    return Promise.resolve({ orders, leases });
  }

  providers(): Promise<readonly ProviderView[]> {
    const views = this.#servers.map(({ id, trust = OWN_TRUST }) => ({
      id,
      market: this.name,
      hardware: { cpu: 0, memoryBytes: 0, gpus: [] },
      capacity: 1,
      used: this.#leaseOf(id) ? 1 : 0,
      policy: 'at cost',
      audited: reaches(trust, 'audited'),
      leases: 0,
      failures: 0,
      disputes: 0,
    }));
    return Promise.resolve(views);
  }

  cannot(pool: string, needs: Needs): string | null {
    const own = this.#servers.filter((server) => server.pool === pool);
    if (own.some((server) => shortfall(placeOf(server), needs) === null)) return null;
    return own.length === 0 ? 'no server of our own serves it' : 'no server of our own is like that';
  }

  /** Nothing changes by itself here: bids are there with the order. */
  onChange(): void {}

  stop(): Promise<void> {
    for (const { id, state } of this.#leases.values()) if (state === 'active') void this.close(id, 'shutdown');
    return Promise.resolve();
  }

  /** A server's bid, or why it makes none. */
  #answer(server: OwnedServer, request: OrderRequest): Bid | string {
    const price = perBlockFromPerHour(server.costNanoUsdPerHour, BLOCK_MS);
    if (this.#leaseOf(server.id)) return 'is in use';
    if (price > request.ceilingNanoUsdPerBlock) return 'its cost is above the ceiling';
    const place = placeOf(server);
    const less = shortfall(place, poolNeeds({ trust: request.trust, region: request.region ?? null }));
    if (less !== null) return less;
    return {
      id: `${request.id}/${server.id}`,
      orderId: request.id,
      provider: server.id,
      priceNanoUsdPerBlock: price,
      atMs: this.#clock.now(),
      block: this.block(),
      note: 'own machine, at cost',
      startMs: 0,
      trust: place.trust ?? 'any',
      region: place.region ?? null,
    };
  }

  #leaseOf(server: string): Lease | undefined {
    return [...this.#leases.values()].find(({ provider, state }) => provider === server && state === 'active');
  }

  #delivery(lease: Lease): Delivery {
    const server = this.#servers.find(({ id }) => id === lease.provider);
    if (!server || lease.state !== 'active') {
      return { state: 'none', sinceMs: null, url: null, apiKey: null, detail: 'closed' };
    }
    return {
      state: 'running',
      sinceMs: lease.openedAtMs,
      url: server.url,
      slots: server.slots,
      apiKey: server.apiKey,
      detail: 'own machine',
    };
  }
}

function placeOf({ id, trust = OWN_TRUST, region = null }: OwnedServer): Place {
  return { provider: id, trust, region };
}
