import type { Clock } from '../clock.ts';
import type { EpochMs } from '../units.ts';
import type { ReplicaRecord } from './records.ts';

interface Row {
  readonly inRow: number;
  readonly untilMs: EpochMs;
}

const BACKOFF_MAX_MS = 60_000;

/** What pauses after a failure: a pool's machines for its load, its reserve, and what has needs of its own each alone. */
export function backoffKey({ pool, beside }: Pick<ReplicaRecord, 'pool' | 'beside'>, reserve: boolean): string {
  if (reserve) return reserveOf(pool);
  return beside?.needs ? specialOf(pool) : pool;
}

/** What the failures of a pool's reserve are kept under: they hold up no machine. */
export function reserveOf(pool: string): string {
  return `${pool} (reserve)`;
}

/** Pools whose orders or start-ups failed lately: they pause before the next one. Providers have records of their own. */
export class Failures {
  readonly #clock: Clock;
  readonly #pools = new Map<string, Row>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  backoffUntil(pool: string): EpochMs {
    return this.#pools.get(pool)?.untilMs ?? 0;
  }

  /** A start-up or a lease failed: the pool pauses for 1 s, doubled each time, at most a minute. */
  failed(pool: string, atMs: EpochMs = this.#clock.now()): void {
    const inRow = (this.#pools.get(pool)?.inRow ?? 0) + 1;
    this.#pools.set(pool, { inRow, untilMs: atMs + Math.min(BACKOFF_MAX_MS, 1000 * 2 ** (inRow - 1)) });
  }

  /** What an earlier run saw, told by its replicas' rows. */
  recall(records: readonly ReplicaRecord[]): void {
    const events = records.flatMap(({ pool, readyMs, failedMs = null }) => [
      ...(readyMs !== null ? [{ atMs: readyMs, tell: () => this.succeeded(pool) }] : []),
      ...(failedMs !== null ? [{ atMs: failedMs, tell: () => this.failed(pool, failedMs) }] : []),
    ]);
    for (const { tell } of events.sort((a, b) => a.atMs - b.atMs)) tell();
  }

  succeeded(pool: string): void {
    this.#pools.delete(pool);
  }
}

/** What a pool's failures for requests with needs of their own are kept under: they hold up nobody else. */
export function specialOf(pool: string): string {
  return `${pool} (special)`;
}
