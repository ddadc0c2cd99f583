import type { Clock } from '../clock.ts';
import type { Engine, MarketName, Price } from '../spec.ts';
import type { Breach, DisputeNote } from '../spec/dispute.ts';
import { poolNeeds, reaches, shortfall, type Needs, type Place, type Trust } from '../spec/trust.ts';
import type { Blocks, Ms, NanoUsd } from '../units.ts';
import type { Judgement } from './dispute.ts';
import type { Disputes } from './disputes.ts';
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
} from './market.ts';

/** Somebody who serves one pool and whose server runs already: there is nothing to start and nothing to escrow. */
export interface StandingBidder {
  readonly id: string;
  readonly pool: string;
  readonly url: string;
  readonly apiKey: string | null;
  /** Requests it takes at a time. */
  readonly slots: number;
  /** What is vouched for, and where it stands. */
  readonly trust: Trust;
  readonly region: string | null;
  /** What its server calls the model, and whose dialect it speaks; null: as the pool says. */
  readonly model: string | null;
  readonly engine: Engine | null;
  /** Where it is paid by tokens instead of time. */
  readonly tokenPrice: Price | null;
  /** What a block costs at what the order expects of it, and how that came about; a text: why it does not bid. */
  readonly price: (request: OrderRequest, blockMs: Ms) => { perBlock: NanoUsd; note: string } | string;
  /** What a block costs whatever is asked; left out: that depends. */
  readonly asks?: (blockMs: Ms) => NanoUsd;
}

export interface StandingMarketOptions {
  readonly name: MarketName;
  readonly clock: Clock;
  readonly bidders: readonly StandingBidder[];
  /** How the bidders make their prices. */
  readonly policy: string;
  /** Null: none are kept. */
  readonly disputes: Disputes | null;
}

const NO_DISPUTES = 'no disputes are kept here';
const BLOCK_MS = 6000;
const ORDERS_MAX = 1000;
/** Older ones make room for new ones. */
const ORDER_LIFE_MS = 300_000;
const CLOSED_KEPT = 200;

/** Servers that run already: each bids for its pool, one lease at a time, and is ready as soon as it is probed. */
export class StandingMarket implements Market {
  readonly name: MarketName;
  readonly #options: StandingMarketOptions;
  readonly #orders = new Map<string, { request: OrderRequest; view: OrderView }>();
  readonly #leases = new Map<string, Lease>();

  constructor(options: StandingMarketOptions) {
    this.name = options.name;
    this.#options = options;
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
    return Math.floor(this.#options.clock.now() / BLOCK_MS);
  }

  tender(request: OrderRequest): Promise<Outcome<OrderView>> {
    const known = this.#orders.get(request.id);
    if (known) return Promise.resolve(done(known.view));
    for (const [id, { view }] of this.#orders) {
      if (this.#orders.size < ORDERS_MAX) break;
      if (view.state !== 'open' || view.postedAtMs < this.#options.clock.now() - ORDER_LIFE_MS) this.#orders.delete(id);
    }
    if (this.#orders.size >= ORDERS_MAX) return Promise.resolve(refused('the market holds too many orders'));
    const bids: Bid[] = [];
    const declined: { provider: string; reason: string }[] = [];
    for (const bidder of this.#options.bidders) {
      if (bidder.pool !== request.pool) continue;
      const answer = this.#answer(bidder, request);
      if (typeof answer === 'string') declined.push({ provider: bidder.id, reason: answer });
      else bids.push(answer);
    }
    const posted = { postedAtMs: this.#options.clock.now(), postedBlock: this.block() };
    const view = { id: request.id, state: 'open' as const, ...posted, bids, declined, complete: true };
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
      openedAtMs: this.#options.clock.now(),
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
    return Promise.resolve(
      lease ? { lease: this.#options.disputes?.seen(lease) ?? lease, delivery: this.#delivery(lease) } : null,
    );
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
      closedAtMs: this.#options.clock.now(),
      closedBlock: block,
      settledBlock: block,
    };
    this.#leases.set(leaseId, closed);
    const ended = [...this.#leases.values()].filter(({ state }) => state === 'closed');
    for (const old of ended.slice(0, Math.max(0, ended.length - CLOSED_KEPT))) this.#leases.delete(old.id);
    return Promise.resolve(done(closed));
  }

  /** There is no rent to withhold and nobody to answer: it stays on our own record. */
  async dispute(leaseId: string, breach: Breach): Promise<Outcome<DisputeNote>> {
    const { disputes } = this.#options;
    const lease = this.#leases.get(leaseId);
    if (!lease || !disputes) return refused(lease ? NO_DISPUTES : 'there is no such lease, or it ended long ago');
    return done(await disputes.file(lease, breach, null));
  }

  async judge(disputeId: string, verdict: Judgement): Promise<Outcome<DisputeNote>> {
    return (await this.#options.disputes?.judge(disputeId, verdict)) ?? refused(NO_DISPUTES);
  }

  list(): Promise<{ orders: readonly OrderView[]; leases: readonly LeaseStatus[] }> {
    const orders = [...this.#orders.values()].map(({ view }) => view).filter(({ state }) => state === 'open');
    const leases = [...this.#leases.values()]
      .filter(({ state }) => state === 'active')
      .map((lease) => ({ lease, delivery: this.#delivery(lease) }));
    return Promise.resolve({ orders, leases });
  }

  providers(): Promise<readonly ProviderView[]> {
    const views = this.#options.bidders.map(({ id, trust, pool, region, asks }) => ({
      id,
      market: this.name,
      hardware: { cpu: 0, memoryBytes: 0, gpus: [] },
      capacity: 1,
      used: this.#leaseOf(id) ? 1 : 0,
      policy: this.#options.policy,
      audited: reaches(trust, 'audited'),
      asksNanoUsdPerBlock: asks?.(BLOCK_MS) ?? null,
      ...{ pool, region },
      leases: 0,
      failures: 0,
      disputes: 0,
    }));
    return Promise.resolve(this.#options.disputes?.counted(views) ?? views);
  }

  cannot(pool: string, needs: Needs): string | null {
    const own = this.#options.bidders.filter((bidder) => bidder.pool === pool);
    if (own.some((bidder) => shortfall(placeOf(bidder), needs) === null)) return null;
    return own.length === 0 ? 'nobody there serves it' : 'nobody there is like that';
  }

  /** Nothing changes by itself here: bids are there with the order. */
  onChange(): void {}

  stop(): Promise<void> {
    for (const { id, state } of this.#leases.values()) if (state === 'active') void this.close(id, 'shutdown');
    return this.#options.disputes?.stop() ?? Promise.resolve();
  }

  /** Replaces an open lease by what has become of it. */
  protected update(leaseId: string, change: (lease: Lease) => Lease): void {
    const lease = this.#leases.get(leaseId);
    if (lease?.state === 'active') this.#leases.set(leaseId, change(lease));
  }

  /** A bid, or why there is none. */
  #answer(bidder: StandingBidder, request: OrderRequest): Bid | string {
    if (this.#leaseOf(bidder.id)) return 'is in use';
    const price = bidder.price(request, BLOCK_MS);
    if (typeof price === 'string') return price;
    const less = shortfall(placeOf(bidder), poolNeeds({ trust: request.trust, region: request.region ?? null }));
    if (less !== null) return less;
    if (price.perBlock > request.ceilingNanoUsdPerBlock) return `its ${this.#options.policy} is above the ceiling`;
    return {
      id: `${request.id}/${bidder.id}`,
      orderId: request.id,
      provider: bidder.id,
      priceNanoUsdPerBlock: price.perBlock,
      atMs: this.#options.clock.now(),
      block: this.block(),
      note: price.note,
      startMs: 0,
      trust: bidder.trust,
      region: bidder.region,
    };
  }

  #leaseOf(bidder: string): Lease | undefined {
    return [...this.#leases.values()].find(({ provider, state }) => provider === bidder && state === 'active');
  }

  #delivery(lease: Lease): Delivery {
    const bidder = this.#options.bidders.find(({ id }) => id === lease.provider);
    if (!bidder || lease.state !== 'active') {
      return { state: 'none', sinceMs: null, url: null, apiKey: null, detail: 'closed' };
    }
    const { url, slots, apiKey, model, engine, tokenPrice } = bidder;
    return {
      state: 'running',
      sinceMs: lease.openedAtMs,
      url,
      slots,
      apiKey,
      model,
      engine,
      tokenPrice,
      detail: 'runs already',
    };
  }
}

function placeOf({ id, trust, region }: StandingBidder): Place {
  return { provider: id, trust, region };
}
