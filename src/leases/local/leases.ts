import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { Breach, DisputeNote } from '../../spec/dispute.ts';
import type { Blocks, NanoUsd } from '../../units.ts';
import {
  done,
  refused,
  type CloseReason,
  type Lease,
  type LeaseStatus,
  type MarketTerms,
  type Outcome,
  type Workload,
} from '../market.ts';
import type { Disputes } from '../disputes.ts';
import type { MarketRecords } from '../records.ts';
import { LeaseDelivery, NO_DELIVERY, type RunningServer, type StartRequest } from './delivery.ts';
import type { Escrow } from './escrow.ts';
import { LeaseBook } from './lease-book.ts';
import type { ProviderRecords } from './provider-records.ts';
import type { DeliveryHealth } from './own-answer.ts';
import { Turns } from '../turns.ts';

/** Rent goes to the books every so many blocks, so an idle lease writes ten rows an hour, not six hundred. */
const SETTLE_EVERY_BLOCKS = 5;
const CLOSED_KEPT = 200;

export interface LocalLeasesOptions {
  readonly terms: MarketTerms;
  readonly records: MarketRecords;
  readonly escrow: Escrow;
  readonly clock: Clock;
  readonly providers: ProviderRecords;
  readonly disputes: Disputes;
  /** Has a lease's provider start its model server. */
  readonly start: (provider: string, request: StartRequest) => Promise<RunningServer>;
  readonly leaseKey: (leaseId: string) => string;
  readonly onChange: () => void;
  readonly log: (line: string) => void;
}

/** Leases of the embedded market from deposit to refund: their rent at every block, their model servers, their end. */
export class LocalLeases {
  readonly #options: LocalLeasesOptions;
  readonly #book: LeaseBook;
  readonly #deliveries = new Map<string, LeaseDelivery>();
  /** By lease: what touches its row, money or model server follows one another. */
  readonly #turns = new Turns();
  /** Leases whose end has begun; one that failed half-way is tried again at the next block. */
  readonly #ending = new Map<string, CloseReason>();
  readonly #drawing = new Set<string>();
  /** Leases that are not in their provider's record yet. */
  readonly #uncounted = new Set<string>();
  readonly #closed: string[] = [];
  #stopTicking: (() => void) | null = null;
  #stopped = false;

  constructor(options: LocalLeasesOptions) {
    this.#options = options;
    const { records, escrow, clock, terms } = options;
    this.#book = new LeaseBook({ records, escrow, clock, terms });
  }

  /** Ends what an earlier process left, then draws rent at every block. */
  async start(): Promise<void> {
    for (const lease of await this.#book.recover()) {
      this.#options.log(`lease ${lease.id} of an earlier run ended at block ${lease.settledBlock}`);
    }
    this.#scheduleTick();
  }

  block(): Blocks {
    return this.#book.block();
  }

  countOf(provider: string): number {
    return this.#book.live().filter((lease) => lease.provider === provider).length;
  }

  live(): LeaseStatus[] {
    return this.#book.live().map((lease) => this.#view(lease));
  }

  /**
   * The lease with this id; `make` is asked for one when there never was any, and says why there can be none. Nothing is
   * awaited between its look at a provider's capacity and the lease that takes it up.
   */
  open(id: string, make: () => Lease | string): Promise<Outcome<Lease>> {
    return this.#turns.run(id, async () => {
      if (!this.#book.find(id)) {
        if (await this.#options.records.findLease(id)) return refused('the lease is closed');
        const lease = this.#stopped ? 'the market has stopped' : make();
        if (typeof lease === 'string') return refused(lease);
        this.#book.add(lease);
        this.#uncounted.add(id);
      }
      return this.#pay(id);
    });
  }

  deploy(leaseId: string, workload: Workload): Promise<Outcome<void>> {
    return this.#turns.run(leaseId, () => {
      const lease = this.#book.find(leaseId);
      if (lease?.state !== 'active' || this.#ending.has(leaseId) || this.#stopped)
        return Promise.resolve(refused('the lease is not active'));
      if (!this.#deliveries.has(leaseId)) {
        const { clock, start, leaseKey, onChange } = this.#options;
        const apiKey = leaseKey(leaseId);
        const delivery = new LeaseDelivery({
          clock,
          start: (signal) => start(lease.provider, { leaseId, workload, apiKey, signal }),
          apiKey,
          onChange,
          onFailure: (detail) => this.#deliveryFailed(leaseId, detail),
        });
        this.#deliveries.set(leaseId, delivery);
      }
      return Promise.resolve(done(undefined));
    });
  }

  async status(leaseId: string): Promise<LeaseStatus | null> {
    const lease = this.#book.find(leaseId);
    if (lease) return this.#view(lease);
    const { records, disputes } = this.#options;
    const row = await records.findLease(leaseId);
    return row && { ...this.#view(row.lease), lease: await disputes.seenLater(row.lease) };
  }

  /** Null: nothing was started for it, or it ended. */
  tail(leaseId: string): string | null {
    return this.#deliveries.get(leaseId)?.tail ?? null;
  }

  fund(leaseId: string, amountNanoUsd: NanoUsd, fundingId: string): Promise<Outcome<Lease>> {
    return this.#turns.run(leaseId, async () => {
      const lease = this.#book.find(leaseId);
      if (!lease) return refused('there is no such lease, or it ended long ago');
      if (amountNanoUsd <= 0n) return refused('an amount must be above zero');
      const result = await this.#book.fund(leaseId, amountNanoUsd, fundingId);
      if (result !== 'funded')
        return refused(result === 'closed' ? 'the lease is not active' : 'the treasury holds too little');
      return done(this.#book.find(leaseId) ?? lease);
    });
  }

  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>> {
    return this.#turns.run(leaseId, async () => {
      if (this.#book.find(leaseId)) return done(this.#options.disputes.seen(await this.#end(leaseId, reason)));
      const row = await this.#options.records.findLease(leaseId);
      return row ? done(await this.#options.disputes.seenLater(row.lease)) : refused('there is no such lease');
    });
  }

  /** Its rent is drawn up to now before, so that all of the bad interval is there to be withheld. */
  dispute(leaseId: string, breach: Breach): Promise<Outcome<DisputeNote>> {
    const { disputes, records, terms } = this.#options;
    return this.#turns.run(leaseId, async () => {
      if (this.#book.find(leaseId)?.state === 'active' && !this.#ending.has(leaseId)) await this.#book.settle(leaseId);
      const row = this.#book.row(leaseId) ?? (await records.findLease(leaseId));
      if (!row || row.lease.state === 'opening') return refused('there is no such lease, or it has not begun');
      const { lease, takeFeeBp, makeFeeBp } = row;
      return done(await disputes.file(lease, breach, { blockMs: terms.blockMs, takeFeeBp, makeFeeBp }));
    });
  }

  /** What was running when, by our own count; null: nothing was ever started for it. */
  health(leaseId: string): DeliveryHealth | null {
    return this.#deliveries.get(leaseId)?.health ?? null;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopTicking?.();
    const { log } = this.#options;
    const ends = this.#book.live().map(({ id }) =>
      this.close(id, 'shutdown').catch((error: unknown) => {
        // The next start ends it at its last persisted block.
        log(`lease ${id} could not be ended: ${describeError(error)}`);
      }),
    );
    await Promise.all(ends);
    await this.#turns.idle();
  }

  /** Pays for a lease that was made, if that is still to be done. */
  async #pay(id: string): Promise<Outcome<Lease>> {
    const opening = await this.#book.open(id);
    const lease = this.#book.find(id);
    if (opening === 'deposit_refused') {
      this.#uncounted.delete(id);
      this.#ended(id);
      return refused('the treasury holds too little for the deposit');
    }
    if (!lease || opening === 'closed' || this.#ending.has(id)) return refused('the lease is closed');
    if (this.#uncounted.delete(id)) await this.#options.providers.count(lease.provider, 'leases');
    return done(lease);
  }

  #deliveryFailed(leaseId: string, detail: string): void {
    const { log } = this.#options;
    log(`lease ${leaseId}: ${detail}`);
    this.#turns
      .run(leaseId, async () => {
        const lease = this.#book.find(leaseId);
        if (lease?.state !== 'active') return;
        await this.#options.providers.count(lease.provider, 'failures');
        await this.#end(leaseId, 'provider');
      })
      .catch((error: unknown) => log(`lease ${leaseId} could not be ended: ${describeError(error)}`));
  }

  /** Rent up to now, then the model server, then the refund. The server is ended even where the books cannot be kept. */
  async #end(leaseId: string, reason: CloseReason): Promise<Lease> {
    const before = this.#book.find(leaseId);
    if (before?.state === 'closed' && !this.#ending.has(leaseId)) return before;
    const first = this.#ending.get(leaseId) ?? reason;
    this.#ending.set(leaseId, first);
    try {
      await this.#book.settle(leaseId);
    } finally {
      await this.#deliveries.get(leaseId)?.stop();
    }
    const lease = await this.#book.close(leaseId, first);
    this.#ending.delete(leaseId);
    this.#ended(leaseId);
    this.#options.onChange();
    return lease;
  }

  /** Keeps what is known of the last ended leases in memory. */
  #ended(leaseId: string): void {
    if (!this.#closed.includes(leaseId)) this.#closed.push(leaseId);
    while (this.#closed.length > CLOSED_KEPT) {
      const oldest = this.#closed.shift();
      if (oldest === undefined) break;
      this.#book.forget(oldest);
      this.#deliveries.delete(oldest);
    }
  }

  #scheduleTick(): void {
    const { clock, terms } = this.#options;
    this.#stopTicking = clock.timer(terms.blockMs, () => {
      for (const { id } of this.#book.active()) this.#draw(id);
      for (const [id, reason] of this.#ending) this.#draw(id, reason);
      this.#scheduleTick();
    });
  }

  /** A block has passed for a lease. One that is slow or fails holds up no other. */
  #draw(id: string, ending?: CloseReason): void {
    if (this.#drawing.has(id) || (ending === undefined && !this.#book.due(id, SETTLE_EVERY_BLOCKS))) return;
    this.#drawing.add(id);
    const work = async (): Promise<void> => {
      const reason = this.#ending.get(id);
      if (reason !== undefined) await this.#end(id, reason);
      else if (this.#book.find(id)?.state === 'active' && (await this.#book.settle(id)))
        await this.#end(id, 'overdrawn');
    };
    this.#turns
      .run(id, work)
      .catch((error: unknown) => this.#options.log(`rent of ${id} could not be drawn: ${describeError(error)}`))
      .finally(() => this.#drawing.delete(id));
  }

  #view(lease: Lease): LeaseStatus {
    const delivery = this.#deliveries.get(lease.id)?.view ?? NO_DELIVERY;
    return { lease: this.#options.disputes.seen(lease), delivery };
  }
}
