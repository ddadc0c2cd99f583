import type { EpochMs } from '../../units.ts';
import type { Micro } from './amounts.ts';

const HOUR_MS = 3_600_000;

/** The most that may go into escrows within an hour, whatever asks for it: a bug must not empty the treasury. */
export class Allowance {
  readonly #max: Micro | null;
  readonly #taken: { readonly amount: Micro; readonly atMs: EpochMs }[] = [];

  constructor(max: Micro | null) {
    this.#max = max;
  }

  /** Null: it may be spent, and is counted. Else why not. */
  take(amount: Micro, nowMs: EpochMs): string | null {
    if (this.#max === null) return null;
    while (this.#taken[0] && this.#taken[0].atMs <= nowMs - HOUR_MS) this.#taken.shift();
    const spent = this.#taken.reduce((sum, { amount: one }) => sum + one, 0n);
    if (spent + amount > this.#max) return 'deposits have reached the limit of an hour (deposits_max_usd_per_hour)';
    this.#taken.push({ amount, atMs: nowMs });
    return null;
  }
}
