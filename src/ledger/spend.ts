import type { EpochMs, NanoUsd } from '../units.ts';
import { SPEND_RESETS, type SpendReset } from './access.ts';
import type { LimitSource } from './operations.ts';

const DAY_MS = 86_400_000;

export interface Span {
  readonly startMs: EpochMs;
  /** The first moment after it. */
  readonly endMs: EpochMs;
}

/** The calendar window in UTC that a moment lies in. */
export function windowOf(reset: SpendReset, atMs: EpochMs): Span {
  if (reset === 'none') return { startMs: -Infinity, endMs: Infinity };
  const day = Math.floor(atMs / DAY_MS);
  if (reset === 'day') return { startMs: day * DAY_MS, endMs: (day + 1) * DAY_MS };
  if (reset === 'week') {
    // 1970 began on a Thursday.
    const monday = day - ((((day + 3) % 7) + 7) % 7);
    return { startMs: monday * DAY_MS, endMs: (monday + 7) * DAY_MS };
  }
  const date = new Date(atMs);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return { startMs: Date.UTC(year, month), endMs: Date.UTC(year, month + 1) };
}

/** What counts into one window. */
export interface Bucket extends Span {
  spent: NanoUsd;
  held: NanoUsd;
  /** Requests in flight whose hold was made in it. */
  open: number;
}

/** The windows of one length that still matter: the current one, the one before it, and those with requests in flight. */
class Windows {
  readonly #reset: SpendReset;
  #current: Bucket;
  #older: Bucket[] = [];

  constructor(reset: SpendReset, nowMs: EpochMs) {
    this.#reset = reset;
    this.#current = emptyBucket(reset, nowMs);
  }

  at(ms: EpochMs): Bucket {
    const current = this.#current;
    return ms >= current.startMs && ms < current.endMs ? current : this.#find(ms);
  }

  /** Another window begins, or a request of an earlier one is charged. A clock that was set back finds the one before. */
  #find(ms: EpochMs): Bucket {
    const known = this.#older.find(({ startMs, endMs }) => ms >= startMs && ms < endMs);
    if (known) return known;
    const bucket = emptyBucket(this.#reset, ms);
    if (bucket.startMs < this.#current.startMs) {
      this.#older.push(bucket);
      return bucket;
    }
    this.#older = this.#older.filter(({ open }) => open > 0);
    this.#older.push(this.#current);
    this.#current = bucket;
    return bucket;
  }
}

function emptyBucket(reset: SpendReset, atMs: EpochMs): Bucket {
  const { startMs, endMs } = windowOf(reset, atMs);
  return { startMs, endMs, spent: 0n, held: 0n, open: 0 };
}

/**
 * What a key (with those it was rotated from) or a project has spent and holds, in windows of every length: a limit's
 * reset may change, and usage is shown by day, week and month. Everything of a request counts into the windows in which
 * its hold was made, so what was let in under a limit can never push a later window above it.
 */
export class Spend {
  readonly #windows: readonly Windows[];

  constructor(nowMs: EpochMs) {
    this.#windows = SPEND_RESETS.map((reset) => new Windows(reset, nowMs));
  }

  bucket(reset: SpendReset, atMs: EpochMs): Bucket {
    const windows = this.#windows[SPEND_RESETS.indexOf(reset)];
    if (!windows) throw new RangeError(`there is no window ${reset}`);
    return windows.at(atMs);
  }

  /** A request's first hold. */
  open(heldMs: EpochMs, amount: NanoUsd): void {
    for (const windows of this.#windows) {
      const bucket = windows.at(heldMs);
      bucket.held += amount;
      bucket.open += 1;
    }
  }

  extend(heldMs: EpochMs, amount: NanoUsd): void {
    for (const windows of this.#windows) windows.at(heldMs).held += amount;
  }

  close(heldMs: EpochMs, held: NanoUsd, charged: NanoUsd): void {
    for (const windows of this.#windows) {
      const bucket = windows.at(heldMs);
      bucket.held -= held;
      bucket.spent += charged;
      bucket.open -= 1;
    }
  }
}

/** A limit on what is spent in a window; null: none, but it is counted all the same. */
export interface Cap {
  readonly source: LimitSource;
  limit: NanoUsd | null;
  reset: SpendReset;
  readonly spend: Spend;
}
