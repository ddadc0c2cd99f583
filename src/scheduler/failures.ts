import type { Clock } from '../clock.ts';
import type { EpochMs } from '../units.ts';
import type { ReplicaRecord } from './records.ts';
import { quarantineMs } from './reputation.ts';

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

/** Who failed lately: pools pause before their next order, providers are passed over. */
export class Failures {
  readonly #clock: Clock;
  readonly #providers = new Map<string, Row>();
  readonly #pools = new Map<string, Row>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  quarantinedUntil(provider: string): EpochMs {
    return this.#providers.get(provider)?.untilMs ?? 0;
  }

  backoffUntil(pool: string): EpochMs {
    return this.#pools.get(pool)?.untilMs ?? 0;
  }

  /** A start-up or a lease failed: the pool pauses (1 s, doubled, at most a minute); so does its provider, if to blame. */
  failed(pool: string, provider: string | null, atMs: EpochMs = this.#clock.now()): void {
    const inRow = (this.#pools.get(pool)?.inRow ?? 0) + 1;
    this.#pools.set(pool, { inRow, untilMs: atMs + Math.min(BACKOFF_MAX_MS, 1000 * 2 ** (inRow - 1)) });
    if (provider === null) return;
    const row = (this.#providers.get(provider)?.inRow ?? 0) + 1;
    this.#providers.set(provider, { inRow: row, untilMs: atMs + quarantineMs(row) });
  }

  /** What an earlier run saw, told by its replicas' rows: a provider that failed then is not trusted anew for a restart. */
  recall(records: readonly ReplicaRecord[]): void {
    const events = records.flatMap(({ pool, provider, readyMs, failedMs = null, blamed = null }) => [
      ...(readyMs !== null && provider !== null ? [{ atMs: readyMs, tell: () => this.succeeded(pool, provider) }] : []),
      ...(failedMs !== null ? [{ atMs: failedMs, tell: () => this.failed(pool, blamed, failedMs) }] : []),
    ]);
    for (const { tell } of events.sort((a, b) => a.atMs - b.atMs)) tell();
  }

  succeeded(pool: string, provider: string): void {
    this.#pools.delete(pool);
    this.#providers.delete(provider);
  }
}

/** What a pool's failures for requests with needs of their own are kept under: they hold up nobody else. */
export function specialOf(pool: string): string {
  return `${pool} (special)`;
}
