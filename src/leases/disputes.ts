import type { Clock } from '../clock.ts';
import { AppError, describeError } from '../errors.ts';
import type { MarketName } from '../spec.ts';
import { disputeIdOf, EVIDENCE_MAX, type Breach, type DisputeNote } from '../spec/dispute.ts';
import type { Ms } from '../units.ts';
import {
  newDispute,
  WINDOWS,
  nextDispute,
  noteOf,
  type Dispute,
  type DisputeEvent,
  type Judgement,
  type Windows,
} from './dispute.ts';
import type { DisputeRecords } from './dispute-records.ts';
import { done, refused, type Lease, type LeaseStatus, type Outcome, type ProviderView } from './market.ts';
import { Turns } from './turns.ts';
import { withDisputes, withholdRent } from './withholding.ts';

/** Where withheld rent lies, and where it goes; each call may be repeated. */
export interface DisputeMoney {
  withhold(dispute: Dispute): Promise<void>;
  /** Back to the tenant, or to the provider, as the verdict says. */
  payOut(dispute: Dispute): Promise<void>;
}

export interface DisputesOptions {
  readonly market: MarketName;
  readonly records: DisputeRecords;
  readonly clock: Clock;
  readonly windows: Windows;
  /** Null: the market has no say and no money in it; disputes count on our own record of the provider only. */
  readonly money: DisputeMoney | null;
  readonly log: (line: string) => void;
  /** One was filed, or changed. */
  readonly onChange?: (dispute: Dispute) => void;
}

/** Of a market that has no say in them: they stay on our own record. */
export function localDisputes(options: Pick<DisputesOptions, 'market' | 'records' | 'clock' | 'log'>): Disputes {
  return new Disputes({ ...options, windows: WINDOWS, money: null });
}

/** What a block of the lease costs, to withhold it. */
export interface FiledTerms {
  readonly blockMs: Ms;
  readonly takeFeeBp: number;
  readonly makeFeeBp: number;
}

const LOOK_MS: Ms = 30_000;
/** Undecided at a time, in one market: more are a fault of ours. */
const UNDECIDED_MAX = 1000;
/** Far more than leases are remembered; decided ones beyond it are on disk. */
const KNOWN_MAX = 2 * UNDECIDED_MAX;

/**
 * A market's disputes. A dispute's row is always written before its money moves, and says enough to move it again: whoever
 * asks again, a look every half minute or the next start makes up for what failed in between.
 */
export class Disputes {
  readonly #options: DisputesOptions;
  readonly #turns = new Turns();
  /** Undecided ones, those whose money is still to move, and those filed by this process. */
  readonly #known = new Map<string, Dispute>();
  /** By lease, so that a lease is shown as it is without asking the disk. */
  readonly #ofLease = new Map<string, Set<string>>();
  #counts = new Map<string, number>();
  #stopTimer: (() => void) | null = null;

  constructor(options: DisputesOptions) {
    this.#options = options;
  }

  /** Moves the money that an earlier process did not, then lets time decide what is due. */
  async open(): Promise<void> {
    const { records, market } = this.#options;
    this.#counts = await records.counts(market);
    for (const dispute of await records.unfinished(market)) {
      this.#keep(dispute);
      await this.#move(dispute);
    }
    this.#look();
  }

  async stop(): Promise<void> {
    this.#stopTimer?.();
    this.#stopTimer = null;
    await this.#turns.idle();
  }

  countOf(provider: string): number {
    return this.#counts.get(provider) ?? 0;
  }

  /** That wait for a provider's answer. */
  openOf(provider: string): Dispute[] {
    return [...this.#known.values()].filter((one) => one.provider === provider && one.state === 'open');
  }

  /** A lease of this process with what its disputes make of it. */
  seen(lease: Lease): Lease {
    const ids = this.#ofLease.get(lease.id);
    if (ids === undefined) return lease;
    return withDisputes(
      lease,
      [...ids].flatMap((id) => this.#known.get(id) ?? []),
    );
  }

  /** The same for one of an earlier process. */
  async seenLater(lease: Lease): Promise<Lease> {
    return withDisputes(lease, await this.#options.records.ofLeases([lease.id]));
  }

  async statusOf(status: LeaseStatus | null): Promise<LeaseStatus | null> {
    if (status?.lease.state !== 'closed') return status && { ...status, lease: this.seen(status.lease) };
    return { ...status, lease: await this.seenLater(status.lease) };
  }

  /** Providers with what is counted against them here, besides what their records have. */
  counted(views: readonly ProviderView[]): ProviderView[] {
    return views.map((view) => ({ ...view, disputes: view.disputes + this.countOf(view.id) }));
  }

  /**
   * Files a dispute of a lease; the same kind again gives the one there is, its money where it belongs.
   * @param lease as it stands in the books, its rent drawn
   */
  file(lease: Lease, breach: Breach, terms: FiledTerms | null): Promise<DisputeNote> {
    const { market, records, clock, windows, money, log } = this.#options;
    return this.#turns.run(lease.id, async () => {
      const id = disputeIdOf(lease.id, breach.kind);
      const known = this.#known.get(id) ?? (await records.find(id));
      if (known) return noteOf(await this.#move(known));
      const undecided = [...this.#known.values()].filter(({ verdict }) => verdict === null);
      if (undecided.length >= UNDECIDED_MAX) throw new AppError('conflict', 'too many disputes wait for a decision');
      const others = await records.ofLeases([lease.id]);
      const withheld = money && terms ? withholdRent(lease, breach, terms, others) : null;
      const local = money === null;
      const dispute = newDispute({ market, lease, breach, atMs: clock.now(), local, withheld, windows });
      await records.save(dispute);
      this.#keep(dispute);
      if (dispute.state !== 'rejected') this.#count(dispute.provider, 1);
      log(`dispute ${id} of ${dispute.provider}: ${breach.reason.slice(0, 200)}`);
      return noteOf(await this.#move(dispute));
    });
  }

  /** @throws AppError `not_found`, or `conflict` when it cannot happen any more */
  change(id: string, event: DisputeEvent, by: { readonly provider?: string } = {}): Promise<Dispute> {
    const { records, clock, windows } = this.#options;
    const find = async (): Promise<Dispute> => {
      const dispute = this.#known.get(id) ?? (await records.find(id));
      // Of another provider it is told nothing, not even that it is there.
      const hidden = by.provider !== undefined && dispute?.provider !== by.provider;
      if (!dispute || hidden || dispute.market !== this.#options.market)
        throw new AppError('not_found', `there is no dispute ${id.slice(0, 200)}`);
      return dispute;
    };
    return find().then(({ lease }) =>
      this.#turns.run(lease, async () => {
        const dispute = await find();
        const step = nextDispute(dispute, event, { atMs: clock.now(), windows });
        if ('refused' in step) throw new AppError('conflict', step.refused);
        return this.#save(dispute, step.dispute);
      }),
    );
  }

  /** As an operator has it; refused when it was decided the other way. */
  async judge(id: string, { upheld, reason }: Judgement): Promise<Outcome<DisputeNote>> {
    try {
      const clipped = reason.slice(0, EVIDENCE_MAX.reason);
      return done(noteOf(await this.change(id, { type: 'judged', upheld, by: 'operator', reason: clipped })));
    } catch (error) {
      if (error instanceof AppError) return refused(error.message);
      throw error;
    }
  }

  async #save(before: Dispute, after: Dispute): Promise<Dispute> {
    if (after !== before) {
      await this.#options.records.save(after);
      this.#keep(after);
      if (after.state === 'rejected') this.#count(after.provider, -1);
    }
    return this.#move(after);
  }

  /** Its money to where its row says; most of it is there already. */
  async #move(dispute: Dispute): Promise<Dispute> {
    const { money, records, onChange } = this.#options;
    onChange?.(dispute);
    if (money === null || dispute.paidOut) return dispute;
    await money.withhold(dispute);
    if (dispute.verdict === null) return dispute;
    await money.payOut(dispute);
    const paid = { ...dispute, paidOut: true };
    await records.save(paid);
    this.#keep(paid);
    return paid;
  }

  #keep(dispute: Dispute): void {
    this.#known.set(dispute.id, dispute);
    const ids = this.#ofLease.get(dispute.lease) ?? new Set();
    this.#ofLease.set(dispute.lease, ids.add(dispute.id));
    for (const { id, lease, verdict, paidOut } of this.#known.values()) {
      if (this.#known.size <= KNOWN_MAX) break;
      if (verdict === null || !paidOut) continue;
      this.#known.delete(id);
      this.#ofLease.get(lease)?.delete(id);
      if (this.#ofLease.get(lease)?.size === 0) this.#ofLease.delete(lease);
    }
  }

  #count(provider: string, by: number): void {
    this.#counts.set(provider, this.countOf(provider) + by);
  }

  /** What time decides, and money that did not move when it should have. */
  #look(): void {
    const { clock, log } = this.#options;
    this.#stopTimer = clock.timer(LOOK_MS, () => {
      for (const dispute of this.#known.values()) {
        const due = dispute.dueMs !== null && clock.now() >= dispute.dueMs;
        if (!due && (dispute.paidOut || dispute.verdict === null)) continue;
        this.change(dispute.id, { type: 'time' }).catch((error: unknown) =>
          log(`dispute ${dispute.id}: ${describeError(error)}`),
        );
      }
      this.#look();
    });
  }
}
