import { openSql } from '../../src/store/libsql.ts';

/**
 * The usual way: one transaction to hold before the request, one to charge after it, each with its own commit. The same
 * file format, durability and checks, prepared statements kept: as fast as this design gets.
 */
export interface NaiveLedger {
  pair(request: string, amount: bigint): void;
  close(): void;
}

const SCHEMA = `
CREATE TABLE accounts (id INTEGER PRIMARY KEY, posted INTEGER NOT NULL, held INTEGER NOT NULL, CHECK (posted - held >= 0)) STRICT;
CREATE TABLE holds (request TEXT PRIMARY KEY, amount INTEGER NOT NULL, state TEXT NOT NULL) STRICT;
CREATE TABLE transfers (seq INTEGER PRIMARY KEY, request TEXT NOT NULL, debit INTEGER NOT NULL, credit INTEGER NOT NULL,
  amount INTEGER NOT NULL) STRICT;
CREATE TABLE usage (request TEXT PRIMARY KEY, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  charged INTEGER NOT NULL) STRICT;
`;

const CHARGED = 3960n;

export function openNaive(path: string, credit: bigint): NaiveLedger {
  const sql = openSql(path);
  sql.exec(SCHEMA);
  sql.run('INSERT INTO accounts VALUES (1, ?, 0), (2, 0, 0)', [credit]);
  return {
    pair: (request, amount) => {
      sql.transaction(() => {
        sql.run('UPDATE accounts SET held = held + ? WHERE id = 1 AND posted - held >= ?', [amount, amount]);
        sql.run(`INSERT INTO holds VALUES (?, ?, 'pending')`, [request, amount]);
      });
      sql.transaction(() => {
        sql.run('UPDATE accounts SET posted = posted - ?, held = held - ? WHERE id = 1', [CHARGED, amount]);
        sql.run('UPDATE accounts SET posted = posted + ? WHERE id = 2', [CHARGED]);
        sql.run(`UPDATE holds SET state = 'settled' WHERE request = ?`, [request]);
        sql.run('INSERT INTO transfers (request, debit, credit, amount) VALUES (?, 1, 2, ?)', [request, CHARGED]);
        sql.run('INSERT INTO usage VALUES (?, 148, 20, ?)', [request, CHARGED]);
      });
    },
    close: () => sql.close(),
  };
}
