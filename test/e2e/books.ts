import assert from 'node:assert/strict';
import { checkLedger } from '../../src/ledger/check.ts';
import { openSql } from '../../src/store/libsql.ts';
import { bigintOf, textOf, type Sql } from '../../src/store/sql.ts';
import type { Told } from './load.ts';

/** Reads a database beside the gateway that writes it, or after that one's death. */
export function withBooks<T>(path: string, read: (sql: Sql) => T): T {
  const sql = openSql(path, { readonly: true });
  try {
    return read(sql);
  } finally {
    sql.close();
  }
}

/** Every acknowledged charge is there, exactly; none came twice; a broken stream costs no more than it delivered. */
export function assertCharges(sql: Sql, told: readonly Told[], where: string): void {
  const { ok, checks } = checkLedger(sql);
  assert.ok(ok, `${where}: ${JSON.stringify(checks.filter((check) => !check.ok))}`);
  const rows = sql.all('SELECT request AS id, charged AS amount, output_tokens AS output FROM usage');
  const charged = new Map(rows.map((row) => [textOf(row, 'id'), bigintOf(row, 'amount')]));
  const outputs = new Map(rows.map((row) => [textOf(row, 'id'), Number(bigintOf(row, 'output'))]));
  assert.equal(charged.size, rows.length, `${where}: a request was charged twice`);
  for (const { id, acknowledged, tokens } of told) {
    if (id === null) continue;
    if (acknowledged !== null) assert.equal(charged.get(id), acknowledged, `${where}: ${id} is not what was told`);
    else assert.ok((outputs.get(id) ?? 0) <= tokens, `${where}: ${id} was charged for more than it delivered`);
  }
  const captured = sql.all(
    `SELECT request AS id, SUM(amount) AS amount FROM transfers WHERE type = 'capture' GROUP BY request`,
  );
  for (const row of captured) {
    const id = textOf(row, 'id');
    assert.equal(bigintOf(row, 'amount'), charged.get(id), `${where}: ${id} was captured twice`);
  }
}
