import { bigintOf, numberOf, textOf, type Sql } from '../store/sql.ts';
import type { EpochMs, Ms, NanoUsd, Tokens } from '../units.ts';

/** What of a usage row's detail tells whether a machine served it well. */
export interface LeaseUsageDetail {
  readonly lease?: string | null;
  readonly before?: readonly string[];
  readonly resumed?: number;
  readonly firstTokenMs?: Ms | null;
  readonly waitedMs?: Ms;
  readonly totalMs?: Ms;
  readonly slowClient?: boolean;
}

/** A request that a lease's machine worked on. */
export interface LeaseUsage {
  readonly request: string;
  /** Its end. */
  readonly atMs: EpochMs;
  readonly customer: string;
  readonly outputTokens: Tokens;
  readonly charged: NanoUsd;
  /** As in its usage row: `failed` and others. */
  readonly status: string;
  readonly detail: LeaseUsageDetail;
}

export interface LeaseUsageQuery {
  readonly op: 'leaseUsage';
  readonly lease: string;
  /** Of the requests' ends. */
  readonly fromMs: EpochMs;
  readonly toMs: EpochMs;
}

/** Rows at most: what one machine can have served in its worst hours. */
const ROWS_MAX = 50_000n;

/** Requests that ended within a time and were worked on by a lease's machine, last or before another took over. */
export function leaseUsage(sql: Sql | null, { lease, fromMs, toMs }: LeaseUsageQuery): LeaseUsage[] {
  const rows =
    sql?.all(
      `SELECT request, at_ms, account, output_tokens, charged, status, detail FROM usage WHERE at_ms >= ? AND at_ms <= ?
       AND (json_extract(detail, '$.lease') = ?
         OR EXISTS (SELECT 1 FROM json_each(detail, '$.before') WHERE value = ?)) ORDER BY seq LIMIT ?`,
      [BigInt(fromMs), BigInt(toMs), lease, lease, ROWS_MAX],
    ) ?? [];
  return rows.map((row) => ({
    request: textOf(row, 'request'),
    atMs: numberOf(row, 'at_ms'),
    customer: textOf(row, 'account'),
    outputTokens: numberOf(row, 'output_tokens'),
    charged: bigintOf(row, 'charged'),
    status: textOf(row, 'status'),
    detail: JSON.parse(textOf(row, 'detail')) as LeaseUsageDetail,
  }));
}
