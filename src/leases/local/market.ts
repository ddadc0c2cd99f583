import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { Blocks, NanoUsd } from '../../units.ts';
import {
  done,
  refused,
  type Bid,
  type CloseReason,
  type Lease,
  type LeaseStatus,
  type Market,
  type MarketTerms,
  type OrderRequest,
  type OrderView,
  type Outcome,
  type ProviderView,
  type Workload,
} from '../market.ts';
import { NEW_PROVIDER, type MarketRecords, type ProviderRecord } from '../records.ts';
import { decideBid, type LocalProvider } from './auction.ts';
import { LeaseDelivery, NO_DELIVERY, type StartServer } from './delivery.ts';
import type { Escrow } from './escrow.ts';
import { LeaseBook } from './lease-book.ts';

/** Rent goes to the books every so many blocks, so an idle lease writes ten rows an hour, not six hundred. */
const SETTLE_EVERY_BLOCKS = 5;
/** An order that nobody takes falls, as on Akash. */
const ORDER_LIFE_MS = 300_000;
const ORDERS_MAX = 1000;
const CLOSED_KEPT = 200;

interface Order {
  readonly request: OrderRequest;
  readonly postedAtMs: number;
  readonly postedBlock: Blocks;
  readonly bids: Bid[];
  readonly declined: { provider: string; reason: string }[];
  readonly timers: (() => void)[];
  readonly asked: number;
  state: OrderView['state'];
  leaseId: string | null;
}

export interface LocalMarketOptions {
  readonly providers: readonly LocalProvider[];
  readonly terms: MarketTerms;
  readonly treasuryNanoUsd: NanoUsd;
  readonly records: MarketRecords;
  readonly escrow: Escrow;
  readonly clock: Clock;
  readonly startServer: StartServer;
  /** The bearer key of a lease's model server. */
  readonly leaseKey: (leaseId: string) => string;
  readonly log: (line: string) => void;
}

/**
 * The embedded market: a reverse auction between providers on this machine that run real model servers. It keeps Akash's
 * order of things (order, bids one by one, lease with deposit, rent per block from the lease's creation, refund at the
 * close), adds fees, idle discounts and disputes.
 */
export class LocalMarket implements Market {
  readonly name = 'local' as const;
  readonly #options: LocalMarketOptions;
  readonly #leases: LeaseBook;
  readonly #orders = new Map<string, Order>();
  readonly #deliveries = new Map<string, LeaseDelivery>();
  readonly #chains = new Map<string, Promise<unknown>>();
  readonly #closed: string[] = [];
  readonly #listeners: (() => void)[] = [];
  #providerRecords = new Map<string, ProviderRecord>();
  #stopTicking: (() => void) | null = null;

  constructor(options: LocalMarketOptions) {
    this.#options = options;
    const { records, escrow, clock, terms } = options;
    this.#leases = new LeaseBook({ records, escrow, clock, terms });
  }

  /** Reads the books and ends what an earlier process left. */
  async open(): Promise<void> {
    await this.#options.escrow.openTreasury(this.#options.treasuryNanoUsd);
    this.#providerRecords = await this.#options.records.providers();
    for (const lease of await this.#leases.recover()) {
      this.#options.log(`lease ${lease.id} of an earlier run ended at block ${lease.settledBlock}`);
    }
    this.#scheduleTick();
  }

  terms(): MarketTerms {
    return this.#options.terms;
  }

  block(): Blocks {
    return this.#leases.block();
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  tender(request: OrderRequest): Promise<Outcome<OrderView>> {
    const known = this.#orders.get(request.id);
    if (known) return Promise.resolve(done(view(known)));
    this.#pruneOrders();
    if (this.#orders.size >= ORDERS_MAX) return Promise.resolve(refused('the market holds too many orders'));
    const { clock, providers } = this.#options;
    const order: Order = {
      request,
      postedAtMs: clock.now(),
      postedBlock: this.block(),
      bids: [],
      declined: [],
      timers: [],
      asked: providers.length,
      state: 'open',
      leaseId: null,
    };
    this.#orders.set(request.id, order);
    for (const provider of providers)
      order.timers.push(clock.timer(provider.replyMs, () => this.#reply(order, provider)));
    order.timers.push(clock.timer(ORDER_LIFE_MS, () => this.#fall(order)));
    return Promise.resolve(done(view(order)));
  }

  order(id: string): Promise<OrderView | null> {
    const order = this.#orders.get(id);
    return Promise.resolve(order ? view(order) : null);
  }

  cancel(orderId: string): Promise<Outcome<void>> {
    const order = this.#orders.get(orderId);
    if (order?.state === 'leased') return Promise.resolve(refused('the order became a lease'));
    if (order) this.#fall(order);
    return Promise.resolve(done(undefined));
  }

  accept(orderId: string, bidId: string, depositNanoUsd: NanoUsd): Promise<Outcome<Lease>> {
    return this.#inTurn(orderId, async () => {
      const order = this.#orders.get(orderId);
      if (!order) return refused('there is no such order');
      if (order.leaseId !== null) return this.#foundLease(order.leaseId);
      if (order.state !== 'open') return refused('the order is closed');
      const bid = order.bids.find(({ id }) => id === bidId);
      const provider = this.#options.providers.find(({ id }) => id === bid?.provider);
      if (!bid || !provider) return refused('there is no such bid');
      if (this.#leasesOf(provider.id) >= provider.slots) return refused('the provider has no capacity left');
      if (depositNanoUsd < this.#options.terms.depositMinNanoUsd) return refused('the deposit is too small');
      const lease = this.#newLease(order, bid, depositNanoUsd);
      order.state = 'leased';
      order.leaseId = lease.id;
      for (const cancel of order.timers) cancel();
      if (!(await this.#leases.open(lease))) return refused('the treasury holds too little for the deposit');
      await this.#count(provider.id, (record) => ({ ...record, leases: record.leases + 1 }));
      return this.#foundLease(lease.id);
    });
  }

  deploy(leaseId: string, workload: Workload): Promise<Outcome<void>> {
    if (this.#leases.find(leaseId)?.state !== 'active') return Promise.resolve(refused('the lease is not active'));
    if (!this.#deliveries.has(leaseId)) {
      const { clock, startServer, leaseKey } = this.#options;
      const delivery = new LeaseDelivery({
        clock,
        start: startServer,
        workload,
        apiKey: leaseKey(leaseId),
        onChange: () => this.#changed(),
        onFailure: (detail) => this.#deliveryFailed(leaseId, detail),
      });
      this.#deliveries.set(leaseId, delivery);
    }
    return Promise.resolve(done(undefined));
  }

  async status(leaseId: string): Promise<LeaseStatus | null> {
    const lease = this.#leases.find(leaseId) ?? (await this.#options.records.findLease(leaseId))?.lease ?? null;
    return lease && { lease, delivery: this.#deliveries.get(leaseId)?.view ?? NO_DELIVERY };
  }

  fund(leaseId: string, amountNanoUsd: NanoUsd, fundingId: string): Promise<Outcome<Lease>> {
    return this.#inTurn(leaseId, async () => {
      if (!this.#leases.find(leaseId)) return refused('there is no such lease');
      const result = await this.#leases.fund(leaseId, amountNanoUsd, fundingId);
      if (result === 'funded') return this.#foundLease(leaseId);
      return refused(result === 'closed' ? 'the lease is closed' : 'the treasury holds too little');
    });
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    return this.#inTurn(leaseId, async () => {
      const lease = this.#leases.find(leaseId);
      if (!lease) {
        const row = await this.#options.records.findLease(leaseId);
        return row ? done(row.lease) : refused('there is no such lease');
      }
      if (lease.state === 'closed') return done(lease);
      await this.#leases.settle(leaseId);
      await this.#deliveries.get(leaseId)?.stop();
      return done(await this.#end(leaseId, reason));
    });
  }

  dispute(leaseId: string, reason: string): Promise<Outcome<void>> {
    return this.#inTurn(leaseId, async () => {
      const lease = this.#leases.find(leaseId);
      if (!lease) return refused('there is no such lease, or it ended long ago');
      if (lease.dispute) return refused('a lease is disputed once');
      await this.#leases.dispute(leaseId, reason.slice(0, 1000));
      await this.#count(lease.provider, (record) => ({ ...record, disputes: record.disputes + 1 }));
      return done(undefined);
    });
  }

  list(): Promise<{ orders: readonly OrderView[]; leases: readonly LeaseStatus[] }> {
    const orders = [...this.#orders.values()].filter(({ state }) => state === 'open').map(view);
    const leases = this.#leases
      .active()
      .map((lease) => ({ lease, delivery: this.#deliveries.get(lease.id)?.view ?? NO_DELIVERY }));
    return Promise.resolve({ orders, leases });
  }

  providers(): Promise<readonly ProviderView[]> {
    const views = this.#options.providers.map((provider) => ({
      id: provider.id,
      market: this.name,
      hardware: { cpu: provider.cpu, memoryBytes: provider.memoryBytes, gpus: provider.gpus },
      capacity: provider.slots,
      used: this.#leasesOf(provider.id),
      policy: provider.policy.kind,
      audited: provider.audited,
      ...(this.#providerRecords.get(provider.id) ?? NEW_PROVIDER),
    }));
    return Promise.resolve(views);
  }

  async stop(): Promise<void> {
    this.#stopTicking?.();
    for (const order of this.#orders.values()) this.#fall(order);
    const ends = this.#leases.active().map(({ id }) => this.close(id, 'shutdown'));
    await Promise.all(ends);
  }

  #reply(order: Order, provider: LocalProvider): void {
    if (order.state !== 'open') return;
    const { terms, clock } = this.#options;
    const decision = decideBid(provider, this.#leasesOf(provider.id), order.request, terms.blockMs);
    if (decision.bid) {
      order.bids.push({
        id: `${order.request.id}/${provider.id}`,
        orderId: order.request.id,
        provider: provider.id,
        priceNanoUsdPerBlock: decision.priceNanoUsdPerBlock,
        atMs: clock.now(),
        block: this.block(),
        note: decision.note,
        startMs: null,
      });
    } else {
      order.declined.push({ provider: provider.id, reason: decision.reason });
    }
    this.#changed();
  }

  #newLease(order: Order, bid: Bid, depositNanoUsd: NanoUsd): Lease {
    const block = this.block();
    return {
      id: `lease-${order.request.id}`,
      orderId: order.request.id,
      bidId: bid.id,
      pool: order.request.pool,
      provider: bid.provider,
      priceNanoUsdPerBlock: bid.priceNanoUsdPerBlock,
      state: 'opening',
      openedAtMs: this.#options.clock.now(),
      openedBlock: block,
      settledBlock: block,
      closedAtMs: null,
      closedBlock: null,
      closeReason: null,
      depositNanoUsd,
      rentNanoUsd: 0n,
      takeFeeNanoUsd: 0n,
      makeFeeNanoUsd: 0n,
      refundNanoUsd: 0n,
      dispute: null,
    };
  }

  #deliveryFailed(leaseId: string, detail: string): void {
    const provider = this.#leases.find(leaseId)?.provider;
    this.#options.log(`lease ${leaseId}: ${detail}`);
    const end = async (): Promise<void> => {
      if (provider !== undefined)
        await this.#count(provider, (record) => ({ ...record, failures: record.failures + 1 }));
      await this.#inTurn(leaseId, async () => {
        if (this.#leases.find(leaseId)?.state !== 'active') return;
        await this.#leases.settle(leaseId);
        await this.#end(leaseId, 'provider');
      });
    };
    end().catch((error: unknown) => this.#options.log(`lease ${leaseId} could not be ended: ${describeError(error)}`));
  }

  async #end(leaseId: string, reason: CloseReason): Promise<Lease> {
    const lease = await this.#leases.close(leaseId, reason);
    this.#closed.push(leaseId);
    while (this.#closed.length > CLOSED_KEPT) {
      const oldest = this.#closed.shift();
      if (oldest === undefined) break;
      this.#leases.forget(oldest);
      this.#deliveries.delete(oldest);
    }
    this.#changed();
    return lease;
  }

  #scheduleTick(): void {
    const { clock, terms, log } = this.#options;
    this.#stopTicking = clock.timer(terms.blockMs, () => {
      this.#tick().catch((error: unknown) => log(`rent could not be drawn: ${describeError(error)}`));
      this.#scheduleTick();
    });
  }

  async #tick(): Promise<void> {
    for (const { id } of this.#leases.active()) {
      if (!this.#leases.due(id, SETTLE_EVERY_BLOCKS)) continue;
      await this.#inTurn(id, async () => {
        if (this.#leases.find(id)?.state !== 'active' || !(await this.#leases.settle(id))) return;
        await this.#deliveries.get(id)?.stop();
        await this.#end(id, 'overdrawn');
      });
    }
  }

  #fall(order: Order): void {
    for (const cancel of order.timers) cancel();
    if (order.state === 'open') order.state = 'closed';
  }

  #pruneOrders(): void {
    const before = this.#options.clock.now() - 2 * ORDER_LIFE_MS;
    for (const [id, order] of this.#orders) {
      if (order.state !== 'open' && order.postedAtMs < before) this.#orders.delete(id);
    }
  }

  #leasesOf(provider: string): number {
    return this.#leases.live().filter((lease) => lease.provider === provider).length;
  }

  #foundLease(id: string): Outcome<Lease> {
    const lease = this.#leases.find(id);
    return lease && lease.state !== 'closed' ? done(lease) : refused('the lease is closed');
  }

  async #count(provider: string, change: (record: ProviderRecord) => ProviderRecord): Promise<void> {
    const record = change(this.#providerRecords.get(provider) ?? NEW_PROVIDER);
    this.#providerRecords.set(provider, record);
    await this.#options.records.saveProvider(provider, record);
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  /** One thing at a time for a lease or an order: rows and transfers of two calls never mix. */
  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#chains.get(id) ?? Promise.resolve()).then(work, work);
    const settled = turn.then(
      () => undefined,
      () => undefined,
    );
    this.#chains.set(id, settled);
    void settled.then(() => {
      if (this.#chains.get(id) === settled) this.#chains.delete(id);
    });
    return turn;
  }
}

function view(order: Order): OrderView {
  const { request, state, postedAtMs, postedBlock, bids, declined } = order;
  const complete = bids.length + declined.length >= order.asked;
  return { id: request.id, state, postedAtMs, postedBlock, bids: [...bids], declined: [...declined], complete };
}
