import { bigintOf, numberOf, textOf, type Sql } from '../store/sql.ts';
import type { EpochMs, NanoUsd } from '../units.ts';

/** What was earned and spent in a time, as the journal has it; on the file alone, beside the writer. */
export interface MarginSums {
  /** Charges, by who paid and for which pool. */
  readonly charges: readonly {
    readonly account: string;
    readonly pool: string;
    readonly requests: number;
    readonly tokensNanoUsd: NanoUsd;
    readonly wakesNanoUsd: NanoUsd;
  }[];
  /** Every movement of income and expense accounts; costs are above zero. `other`: the escrow or payee on the other side, or the id of an SLA credit. */
  readonly movements: readonly {
    readonly name: string;
    readonly kind: string;
    readonly asset: string;
    readonly other: string;
    readonly amount: bigint;
  }[];
  /** There was more than is read. */
  readonly truncated: boolean;
}

export const MARGIN_ROWS_MAX = 10_000;

const CHARGES = `SELECT account, model, COUNT(*) AS requests, SUM(charged) AS tokens, SUM(COALESCE(wake_fee, 0)) AS wakes
  FROM usage WHERE at_ms >= ? AND at_ms < ? GROUP BY account, model ORDER BY account, model LIMIT ?`;

/** The journal is read once, whole: it has no index of times, so as to be quick to write. */
const PAIRS = `SELECT debit, credit, CASE WHEN id LIKE 'sla:%' THEN id ELSE '' END AS sla, SUM(amount) AS amount
  FROM transfers WHERE at_ms >= ? AND at_ms < ? GROUP BY debit, credit, sla`;

const SIDE = (own: string, other: string, sign: string): string =>
  `SELECT ${own}.name AS name, ${own}.kind AS kind, ${own}.asset AS asset,
     CASE WHEN ${other}.name LIKE 'escrow:%' OR ${other}.name LIKE 'payable:%' OR ${other}.name LIKE 'withheld:%'
       THEN ${other}.name ELSE p.sla END AS other,
     ${sign}p.amount AS amount
   FROM pairs p JOIN accounts d ON d.no = p.debit JOIN accounts c ON c.no = p.credit WHERE ${own}.kind =`;

const MOVEMENTS = `WITH pairs AS MATERIALIZED (${PAIRS})
  SELECT name, kind, asset, other, SUM(amount) AS amount FROM (
    ${SIDE('d', 'c', '')} 'expense' UNION ALL ${SIDE('c', 'd', '-')} 'expense'
    UNION ALL ${SIDE('c', 'd', '')} 'income' UNION ALL ${SIDE('d', 'c', '-')} 'income'
  ) GROUP BY name, other ORDER BY name, other LIMIT ?`;

export function sumMargin(sql: Sql, fromMs: EpochMs, toMs: EpochMs): MarginSums {
  const span = [BigInt(fromMs), BigInt(toMs)];
  const most = BigInt(MARGIN_ROWS_MAX);
  sql.exec('BEGIN');
  try {
    const charges = sql.all(CHARGES, [...span, most + 1n]).map((row) => ({
      account: textOf(row, 'account'),
      pool: textOf(row, 'model'),
      requests: numberOf(row, 'requests'),
      tokensNanoUsd: bigintOf(row, 'tokens'),
      wakesNanoUsd: bigintOf(row, 'wakes'),
    }));
    const movements = sql.all(MOVEMENTS, [...span, most + 1n]).map((row) => ({
      name: textOf(row, 'name'),
      kind: textOf(row, 'kind'),
      asset: textOf(row, 'asset'),
      other: textOf(row, 'other'),
      amount: bigintOf(row, 'amount'),
    }));
    const truncated = charges.length > MARGIN_ROWS_MAX || movements.length > MARGIN_ROWS_MAX;
    return { charges: charges.slice(0, MARGIN_ROWS_MAX), movements: movements.slice(0, MARGIN_ROWS_MAX), truncated };
  } finally {
    sql.exec('COMMIT');
  }
}
