import type { Clock } from '../../clock.ts';
import type { EpochMs, Ms } from '../../units.ts';
import type { Micro } from './amounts.ts';
import type { Spending, SpendingKind, TreasuryRecords } from './treasury-records.ts';

export interface SpendingLimit {
  readonly kind: SpendingKind;
  readonly windowMs: Ms;
  readonly max: Micro;
  /** Of the setting, for people. */
  readonly setting: string;
}

export type Taken =
  { readonly ok: true; readonly spending: Spending | null } | { readonly ok: false; readonly reason: string };

export const HOUR_MS: Ms = 3_600_000;
export const DAY_MS: Ms = 86_400_000;

const WHAT: Record<SpendingKind, string> = { deposit: 'deposits', mint: 'mints', fee: 'fees' };

/**
 * The most that may go out within any hour or day, whatever asks for it: a bug must not empty the treasury. Each amount is on
 * disk before it is spent, so a restart forgets nothing; what a crash leaves in doubt stays counted. Rows of a later time than
 * now count as well: a clock that is set back opens no window anew.
 */
export class SpendingLimits {
  readonly #records: TreasuryRecords;
  readonly #limits: readonly SpendingLimit[];
  readonly #clock: Clock;
  readonly #rows = new Map<number, Spending>();
  #seq = 0;
  #opened: Promise<void> | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(records: TreasuryRecords, limits: readonly SpendingLimit[], clock: Clock) {
    this.#records = records;
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Counts an amount, or says which limit forbids it. Rejects when it could not be written: then nothing may be spent. */
  take(kind: SpendingKind, amount: Micro, { mustPass = false } = {}): Promise<Taken> {
    return this.#alone(async () => {
      if (amount < 0n) return { ok: false, reason: 'an amount below zero was asked for' };
      if (amount === 0n || !this.#limits.some((limit) => limit.kind === kind)) return { ok: true, spending: null };
      await this.#open();
      const atMs = this.#clock.now();
      await this.#forget(atMs);
      const broken = this.#limits.find((limit) => limit.kind === kind && this.#left(limit, atMs) < amount);
      if (broken && !mustPass) return { ok: false, reason: describe(broken) };
      const spending: Spending = { seq: this.#seq + 1, kind, amount, atMs, tx: null };
      // Even when the writing fails, since the row may be there.
      this.#seq = spending.seq;
      await this.#records.addSpending(spending);
      this.#rows.set(spending.seq, spending);
      return { ok: true, spending };
    });
  }

  /** It is certain that it was not spent. */
  giveBack(spending: Spending): Promise<void> {
    return this.#alone(() => this.#remove(spending));
  }

  /** Which transaction pays it: what becomes of that may be known only after a restart. */
  mark(spending: Spending, tx: string): Promise<void> {
    return this.#alone(async () => {
      await this.#records.markSpending(spending.seq, tx);
      this.#rows.set(spending.seq, { ...spending, tx });
    });
  }

  /** It is certain that a transaction did not pay: whatever it was to pay of that kind, or of any. Again, it does nothing. */
  giveBackOf(tx: string, kind: SpendingKind | null = null): Promise<void> {
    return this.#alone(async () => {
      await this.#open();
      const found = [...this.#rows.values()].filter((row) => row.tx === tx && (kind === null || row.kind === kind));
      for (const spending of found) await this.#remove(spending);
    });
  }

  async #remove({ seq }: Spending): Promise<void> {
    await this.#records.removeSpending(seq);
    this.#rows.delete(seq);
  }

  /** What may still be spent now; null: no limit. */
  left(kind: SpendingKind): Promise<Micro | null> {
    return this.#alone(async () => {
      await this.#open();
      const now = this.#clock.now();
      const lefts = this.#limits.filter((limit) => limit.kind === kind).map((limit) => this.#left(limit, now));
      return lefts.reduce<Micro | null>((least, one) => (least === null || one < least ? one : least), null);
    });
  }

  /** Each limit with what was spent in its window. */
  usage(): Promise<readonly (SpendingLimit & { readonly used: Micro })[]> {
    return this.#alone(async () => {
      await this.#open();
      const now = this.#clock.now();
      return this.#limits.map((limit) => ({ ...limit, used: this.#used(limit, now) }));
    });
  }

  #left(limit: SpendingLimit, nowMs: EpochMs): Micro {
    const left = limit.max - this.#used(limit, nowMs);
    return left > 0n ? left : 0n;
  }

  #used({ kind, windowMs }: SpendingLimit, nowMs: EpochMs): Micro {
    let used = 0n;
    for (const row of this.#rows.values()) if (row.kind === kind && row.atMs > nowMs - windowMs) used += row.amount;
    return used;
  }

  /** Read once, when first asked. */
  async #open(): Promise<void> {
    this.#opened ??= (async () => {
      for (const row of await this.#records.spendingAfter(this.#clock.now() - this.#longest)) {
        this.#rows.set(row.seq, row);
      }
      this.#seq = await this.#records.lastSpending();
    })();
    try {
      await this.#opened;
    } catch (error) {
      this.#opened = null;
      throw error;
    }
  }

  async #forget(nowMs: EpochMs): Promise<void> {
    const endMs = nowMs - this.#longest;
    const old = [...this.#rows.values()].filter(({ atMs }) => atMs <= endMs);
    if (old.length === 0) return;
    await this.#records.forgetSpending(endMs);
    for (const { seq } of old) this.#rows.delete(seq);
  }

  get #longest(): Ms {
    return Math.max(0, ...this.#limits.map(({ windowMs }) => windowMs));
  }

  /** One after the other: nobody counts while another one writes. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

function describe({ kind, windowMs, setting }: SpendingLimit): string {
  const window = windowMs === HOUR_MS ? 'an hour' : 'a day';
  return `${WHAT[kind]} have reached the limit of ${window} (${setting})`;
}
