import { LEDGER_SCHEMA_VERSION, LEDGER_STEPS } from '../store/ledger-schema.ts';
import { textOf, type Sql } from '../store/sql.ts';

/**
 * Brings the ledger's file to this version in one transaction, makes it on the first start, and counts this start.
 * @returns the number of this start
 * @throws Error when the file is of a newer version, or is no ledger
 */
export function migrateLedger(sql: Sql): number {
  const exists = sql.all(`SELECT 1 AS found FROM sqlite_master WHERE type = 'table' AND name = 'meta'`).length > 0;
  if (!exists) takeSteps(sql, 0);
  const written = readVersion(sql);
  const version = Number(written);
  const known = Number.isInteger(version) && version > 0 && version <= LEDGER_SCHEMA_VERSION;
  if (!known) {
    const what = `the ledger's file has schema ${written}, this version speaks ${LEDGER_SCHEMA_VERSION}`;
    throw new Error(`${what}: use the version that wrote it`);
  }
  if (version < LEDGER_SCHEMA_VERSION) takeSteps(sql, version);
  const epoch = Number(readMeta(sql).get('epoch')) + 1;
  sql.transaction(() => sql.run(`UPDATE meta SET value = ? WHERE key = 'epoch'`, [String(epoch)]));
  return epoch;
}

/** The version of a ledger's file; what it says when it is none. */
export function readVersion(sql: Sql): string | undefined {
  return readMeta(sql).get('schema');
}

function takeSteps(sql: Sql, from: number): void {
  const version = String(LEDGER_SCHEMA_VERSION);
  sql.transaction(() => {
    for (const step of LEDGER_STEPS.slice(from)) sql.exec(step);
    if (from === 0) sql.run(`INSERT INTO meta VALUES ('schema', ?), ('epoch', '0')`, [version]);
    else sql.run(`UPDATE meta SET value = ? WHERE key = 'schema'`, [version]);
  });
}

function readMeta(sql: Sql): Map<string, string> {
  return new Map(sql.all('SELECT key, value FROM meta').map((row) => [textOf(row, 'key'), textOf(row, 'value')]));
}
