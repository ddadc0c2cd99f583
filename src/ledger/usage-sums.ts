import { bigintOf, textOf, textOrNull, type Sql } from '../store/sql.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { SpendReset } from './access.ts';
import { windowOf } from './spend.ts';

/** What was charged before this start, in one window of one key of one customer. */
export interface UsageSum {
  readonly customer: string;
  readonly key: string | null;
  readonly reset: SpendReset;
  /** A moment in the window. */
  readonly atMs: EpochMs;
  readonly amount: NanoUsd;
}

/**
 * Reads all of the usage once, one to two seconds for every million requests: what each key was charged ever, and in the
 * windows of now and the ones before them.
 */
export function* sumUsage(sql: Sql, nowMs: EpochMs): Generator<UsageSum> {
  const windows = (['day', 'week', 'month'] as const).flatMap((reset) => {
    const current = windowOf(reset, nowMs);
    const before = windowOf(reset, current.startMs - 1);
    return [current, before].map((span) => ({ reset, ...span }));
  });
  // A row of version 1 does not say when its hold was made; what it was charged for ended at at_ms.
  const inWindow = 'SUM(CASE WHEN made_ms >= ? AND made_ms < ? THEN charged ELSE 0 END)';
  const query = `SELECT account, key, SUM(charged) AS ever, ${windows.map((_, at) => `${inWindow} AS w${at}`).join(', ')}
    FROM (SELECT account, key, charged + COALESCE(wake_fee, 0) AS charged, COALESCE(held_ms, at_ms) AS made_ms FROM usage)
    GROUP BY account, key`;
  const bounds = windows.flatMap(({ startMs, endMs }) => [BigInt(startMs), BigInt(endMs)]);
  for (const row of sql.all(query, bounds)) {
    const owner = { customer: textOf(row, 'account'), key: textOrNull(row, 'key') };
    yield { ...owner, reset: 'none', atMs: nowMs, amount: bigintOf(row, 'ever') };
    for (const [at, { reset, startMs }] of windows.entries()) {
      const amount = bigintOf(row, `w${at}`);
      if (amount > 0n) yield { ...owner, reset, atMs: startMs, amount };
    }
  }
}
