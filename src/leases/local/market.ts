import type { Clock } from '../../clock.ts';
import type { Blocks, EpochMs, NanoUsd } from '../../units.ts';
import {
  refused,
  type Bid,
  type CloseReason,
  type Lease,
  type LeaseStatus,
  type LogLine,
  type LogRequest,
  type Market,
  type MarketTerms,
  type OrderRequest,
  type OrderView,
  type Outcome,
  type ProviderView,
  type Workload,
} from '../market.ts';
import type { Dispute, Judgement, Windows } from '../dispute.ts';
import type { DisputeRecords } from '../dispute-records.ts';
import { Disputes, type DisputeMoney } from '../disputes.ts';
import type { MarketRecords, ProviderRecord } from '../records.ts';
import type { Breach, DisputeNote } from '../../spec/dispute.ts';
import { shortfall, type Needs } from '../../spec/trust.ts';
import { placeOf } from './auction.ts';
import type { Bidder } from './bidder.ts';
import type { Escrow } from './escrow.ts';
import { LocalLeases } from './leases.ts';
import { OrderBook } from './order-book.ts';
import type { OwnAnswer } from './own-answer.ts';
import { ProviderRecords } from './provider-records.ts';

export interface LocalMarketOptions {
  /** Who may bid, those on this machine and those who joined. */
  readonly bidders: () => readonly Bidder[];
  readonly terms: MarketTerms;
  readonly treasuryNanoUsd: NanoUsd;
  readonly records: MarketRecords;
  readonly escrow: Escrow;
  readonly disputes: DisputeParts;
  readonly clock: Clock;
  /** The bearer key of a lease's model server. */
  readonly leaseKey: (leaseId: string) => string;
  readonly log: (line: string) => void;
}

export interface DisputeParts {
  readonly records: DisputeRecords;
  readonly money: DisputeMoney;
  readonly windows: Windows;
}

/**
 * The embedded market: a reverse auction between providers that run real model servers, on this machine or joined from
 * others. It keeps Akash's
 * order of things (order, bids one by one, lease with deposit, rent per block from the lease's creation, refund at the
 * close), adds fees, idle discounts and disputes.
 */
export class LocalMarket implements Market {
  readonly name = 'local' as const;
  readonly #options: LocalMarketOptions;
  readonly #providers: ProviderRecords;
  readonly #leases: LocalLeases;
  readonly #orders: OrderBook;
  readonly #disputes: Disputes;
  readonly #listeners: (() => void)[] = [];
  #stopped = false;

  constructor(options: LocalMarketOptions) {
    this.#options = options;
    const onChange = (): void => {
      for (const listener of this.#listeners) listener();
    };
    this.#providers = new ProviderRecords(options.records);
    const { clock, log } = options;
    const tell = (dispute: Dispute): void => this.#tell(dispute);
    this.#disputes = new Disputes({ market: this.name, clock, log, ...options.disputes, onChange: tell });
    this.#leases = new LocalLeases({
      ...options,
      providers: this.#providers,
      disputes: this.#disputes,
      start: (provider, request) => {
        const bidder = this.#bidder(provider);
        return bidder ? bidder.start(request) : Promise.reject(new Error('the provider is gone'));
      },
      onChange,
    });
    const { bidders, terms } = options;
    this.#orders = new OrderBook({
      bidders,
      terms,
      clock,
      block: () => this.#leases.block(),
      leasesOf: (provider) => this.#leases.countOf(provider),
      onChange,
    });
  }

  /** Reads the books and ends what an earlier process left. */
  async open(): Promise<void> {
    await this.#options.escrow.openTreasury(this.#options.treasuryNanoUsd);
    await this.#providers.open();
    await this.#leases.start();
    await this.#disputes.open();
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
    return Promise.resolve(this.#stopped ? refused('the market has stopped') : this.#orders.post(request));
  }

  order(id: string): Promise<OrderView | null> {
    return Promise.resolve(this.#orders.find(id));
  }

  cancel(orderId: string): Promise<Outcome<void>> {
    return Promise.resolve(this.#orders.cancel(orderId));
  }

  accept(orderId: string, bidId: string, depositNanoUsd: NanoUsd): Promise<Outcome<Lease>> {
    return this.#leases.open(leaseIdOf(orderId), () => this.#newLease(orderId, bidId, depositNanoUsd));
  }

  deploy(leaseId: string, workload: Workload): Promise<Outcome<void>> {
    return this.#leases.deploy(leaseId, workload);
  }

  status(leaseId: string): Promise<LeaseStatus | null> {
    return this.#leases.status(leaseId);
  }

  /** The tail of its model server's output, as it is now. */
  async *logs(leaseId: string, { what, tail }: LogRequest): AsyncGenerator<LogLine, void> {
    const text = this.#leases.tail(leaseId);
    if (text === null) throw new Error('the lease has no model server');
    if (what === 'events' || tail === 0) return;
    for (const line of text.split('\n').slice(-tail)) yield { source: 'server', text: line };
  }

  fund(leaseId: string, amountNanoUsd: NanoUsd, fundingId: string): Promise<Outcome<Lease>> {
    return this.#leases.fund(leaseId, amountNanoUsd, fundingId);
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    return this.#leases.close(leaseId, reason);
  }

  dispute(leaseId: string, breach: Breach): Promise<Outcome<DisputeNote>> {
    return this.#leases.dispute(leaseId, breach);
  }

  judge(id: string, verdict: Judgement): Promise<Outcome<DisputeNote>> {
    return this.#disputes.judge(id, verdict);
  }

  list(): Promise<{ orders: readonly OrderView[]; leases: readonly LeaseStatus[] }> {
    return Promise.resolve({ orders: this.#orders.open(), leases: this.#leases.live() });
  }

  providers(): Promise<readonly ProviderView[]> {
    const views = this.#options.bidders().map((bidder) => this.#view(bidder));
    return Promise.resolve(views);
  }

  #view(bidder: Bidder): ProviderView {
    const { id, facts } = bidder;
    const used = this.#leases.countOf(id);
    return {
      id,
      market: this.name,
      hardware: { cpu: facts.cpu, memoryBytes: facts.memoryBytes, gpus: facts.gpus },
      capacity: facts.slots,
      used,
      policy: facts.policy,
      audited: facts.audited,
      region: facts.region,
      asksNanoUsdPerBlock: facts.slots > used ? (bidder.asks?.(used) ?? null) : null,
      ...this.#recordOf(id),
    };
  }

  cannot(_pool: string, needs: Needs): string | null {
    const like = this.#options.bidders().some((bidder) => shortfall(placeOf(bidder), needs) === null);
    return like ? null : 'no provider of the embedded market is like that';
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#orders.cancelAll();
    await this.#leases.stop();
    await this.#disputes.stop();
  }

  /** Counted anew from the disputes' rows, so that none is counted twice; those of earlier versions come on top. */
  #recordOf(provider: string): ProviderRecord {
    const record = this.#providers.find(provider);
    return { ...record, disputes: record.disputes + this.#disputes.countOf(provider) };
  }

  /** Its provider hears of a dispute, and may answer. */
  #tell(dispute: Dispute): void {
    const { clock } = this.#options;
    const { id, provider, lease } = dispute;
    const answer = async (own: OwnAnswer): Promise<void> => {
      const event = { type: 'answered' as const, answer: { ...own, atMs: clock.now() } };
      await this.#disputes.change(id, event, { provider });
    };
    this.#bidder(provider)?.disputed?.(dispute, { health: this.#leases.health(lease), answer });
  }

  #bidder(provider: string): Bidder | undefined {
    return this.#options.bidders().find(({ id }) => id === provider);
  }

  /** A lease for a bid, or why there can be none. The order is won. */
  #newLease(orderId: string, bidId: string, depositNanoUsd: NanoUsd): Lease | string {
    const order = this.#orders.find(orderId);
    const request = this.#orders.request(orderId);
    if (!order || !request) return 'there is no such order';
    if (order.state !== 'open') return 'the order is closed';
    const bid = order.bids.find(({ id }) => id === bidId);
    const provider = bid && this.#bidder(bid.provider);
    if (!bid || !provider) return 'there is no such bid';
    if (this.#leases.countOf(provider.id) >= provider.facts.slots) return 'the provider has no capacity left';
    if (depositNanoUsd < this.#options.terms.depositMinNanoUsd) return 'the deposit is too small';
    this.#orders.win(orderId);
    const openedAtMs = this.#options.clock.now();
    return openingLease({ bid, pool: request.pool, depositNanoUsd, openedAtMs, block: this.block() });
  }
}

/** One lease per order: its id follows from the order's, so an accept that is repeated finds it. */
function leaseIdOf(orderId: string): string {
  return `lease-${orderId}`;
}

function openingLease(from: {
  readonly bid: Bid;
  readonly pool: string;
  readonly depositNanoUsd: NanoUsd;
  readonly openedAtMs: EpochMs;
  readonly block: Blocks;
}): Lease {
  const { bid, pool, depositNanoUsd, openedAtMs, block } = from;
  return {
    id: leaseIdOf(bid.orderId),
    orderId: bid.orderId,
    bidId: bid.id,
    pool,
    provider: bid.provider,
    priceNanoUsdPerBlock: bid.priceNanoUsdPerBlock,
    state: 'opening',
    openedAtMs,
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
