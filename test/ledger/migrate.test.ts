import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { dirname } from 'node:path';
import { test, type TestContext } from 'node:test';
import { checkLedger } from '../../src/ledger/check.ts';
import { checkLedger as checkOffline } from '../../src/ledger/offline.ts';
import { LEDGER_SCHEMA_VERSION } from '../../src/store/ledger-schema.ts';
import { openSql } from '../../src/store/libsql.ts';
import type { Sql, SqlValue } from '../../src/store/sql.ts';
import { booksOn, hold, settle, tokens } from './fixtures/books.ts';
import { SCHEMA_1 } from './fixtures/schema-1.ts';

test('a file of version 1 opens, keeps every row and every balance, and goes on from there', (t) => {
  const { open, before } = setup(t);
  const { sql, book, do: apply } = open(5000);
  assert.deepEqual(rowsOf(sql), before);
  assert.deepEqual(sql.all(`SELECT value FROM meta WHERE key = 'schema'`), [{ value: String(LEDGER_SCHEMA_VERSION) }]);
  assert.deepEqual(apply({ op: 'balance', customer: 'ann' }), { credits: 100n, used: 20n, posted: 80n, held: 0n });
  const [key] = apply({ op: 'keys' });
  assert.deepEqual([key?.id, key?.settings.spendLimit, key?.settings.models], ['k', 50n, ['m']]);
  assert.equal(apply(hold('r2', 31n, { key: 'k', atMs: 5000 })).ok, false, 'what the key spent before counts');
  assert.equal(apply(hold('r2', 30n, { key: 'k', atMs: 5000 })).ok, true);
  apply(settle('r2', tokens(5), { atMs: 6000 }));
  book.commit();
  const report = checkLedger(sql);
  assert.ok(report.ok, JSON.stringify(report.checks.filter(({ ok }) => !ok)));
});

test('a pending hold of version 1 is recovered by the start that migrates its file', (t) => {
  const { open, file } = setup(t);
  file.run(`INSERT INTO holds VALUES ('r9', 'ann', 'k', 'm', 1, 30, '[["user:ann:paid","30"]]',
    '{"inputTokens":7,"cachedTokens":0,"outputTokens":0}', 'pending', 1, 100, 9000)`);
  file.run(`UPDATE accounts SET held = 30 WHERE name = 'user:ann:paid'`);
  const { sql, do: apply } = open(5000);
  assert.equal(apply({ op: 'usage', request: 'r9' })?.charged, 7n);
  assert.deepEqual(sql.all(`SELECT held_ms, at_ms FROM usage WHERE request = 'r9'`), [{ held_ms: 100n, at_ms: 5000n }]);
  assert.equal(checkLedger(sql).ok, true);
});

test('a migration that fails changes nothing, and the file still opens once its cause is gone', (t) => {
  const { open, file } = setup(t);
  // The last table that the step makes is there already.
  file.exec('CREATE TABLE audit (x INTEGER)');
  assert.throws(() => open(), /audit/);
  assert.deepEqual(file.all(`SELECT value FROM meta WHERE key = 'schema'`), [{ value: '1' }]);
  assert.deepEqual(file.all(`SELECT 1 FROM pragma_table_info('usage') WHERE name = 'held_ms'`), []);
  file.exec('DROP TABLE audit');
  assert.equal(checkLedger(open().sql).ok, true);
});

test('opening again migrates no second time, and a migrated file has the tables of a new one', (t) => {
  const { open } = setup(t);
  const first = schemaOf(open().sql);
  assert.deepEqual(schemaOf(open().sql), first);
  assert.deepEqual(first, schemaOf(booksOn(t).open().sql));
});

test('the check of a file that no start has migrated yet says what to do, and leaves it as it is', async (t) => {
  const { path, file, open } = setup(t);
  const before = schemaOf(file);
  const folder = dirname(path);
  await assert.rejects(checkOffline(folder), { code: 'setup_failed', message: /schema 1, .* start the gateway once/ });
  assert.deepEqual(schemaOf(file), before);
  open();
  assert.equal((await checkOffline(folder)).ok, true);
  file.run(`UPDATE meta SET value = '99' WHERE key = 'schema'`);
  await assert.rejects(checkOffline(folder), {
    code: 'setup_failed',
    message: /schema 99, .* the version that wrote it/,
  });
});

for (const version of ['99', '0', '-1', 'x', '1.5']) {
  test(`a file of schema ${version} is refused and left as it is`, (t) => {
    const { open, file } = setup(t);
    file.run(`UPDATE meta SET value = ? WHERE key = 'schema'`, [version]);
    const before = schemaOf(file);
    assert.throws(() => open(), new RegExp(`has schema ${version}, this version speaks ${LEDGER_SCHEMA_VERSION}`));
    assert.deepEqual(schemaOf(file), before);
  });
}

const TABLES = ['transfers', 'usage', 'accounts', 'holds', 'price_versions', 'lots'];

/** Every row of version 1, by the columns that it had. */
function rowsOf(sql: Sql): Record<string, unknown> {
  return Object.fromEntries(
    TABLES.map((table) => {
      const rows = sql.all(`SELECT * FROM ${table}`);
      // Added by later versions, and empty in rows of version 1.
      const later = ['held_ms', 'wake_held', 'wake_fee'];
      const old = rows.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !later.includes(name))));
      return [table, old];
    }),
  );
}

function schemaOf(sql: Sql) {
  return sql.all('SELECT type, name, sql FROM sqlite_master ORDER BY name');
}

/** A file as version 1 left it: ann was granted 100, her key k (limit 50) has spent 20. */
function setup(t: TestContext) {
  const { path, open } = booksOn(t);
  const file = openSql(path);
  t.after(() => file.close());
  const run = (text: string, values: readonly SqlValue[] = []): void => void file.run(text, values);
  file.exec(SCHEMA_1);
  run(`INSERT INTO meta VALUES ('schema', '1'), ('epoch', '4')`);
  run(`INSERT INTO accounts VALUES (1, 'cash:operator', 'asset', 'USD', 0, 100, 0),
    (2, 'user:ann:paid', 'liability', 'USD', 1, 80, 0), (3, 'revenue:usage:m', 'income', 'USD', 0, 20, 0)`);
  run(`INSERT INTO customers VALUES ('ann', 'ann', 0, 1)`);
  run(`INSERT INTO lots VALUES (2, 'ann', 'paid', NULL, 1)`);
  const settings = { models: ['m'], expiresMs: null, rpm: null, tpm: null, concurrency: null };
  const written = JSON.stringify({ ...settings, spendLimitUsd: '0.00000005' });
  run(`INSERT INTO api_keys VALUES ('k', 'h', 'sk', 'ann', 'k', ?, 1, NULL)`, [written]);
  run(`INSERT INTO price_versions VALUES (1, 'm', 1000, 500, 2000, 1)`);
  const granted = ['t', '1', 'g1', 'grant', 'cash:operator', 'user:ann:paid', '100', '1', '', 'admin', 'a grant'];
  const first = linked(new Uint8Array(32), granted);
  run(`INSERT INTO transfers VALUES (1, 'g1', 'grant', 1, 2, 100, 1, NULL, 'admin', 'a grant', ?)`, [first]);
  const capture = [
    't',
    '2',
    '',
    'capture',
    'user:ann:paid',
    'revenue:usage:m',
    '20',
    '2',
    'r1',
    'gateway',
    'usage of m',
  ];
  const second = linked(first, capture);
  run(`INSERT INTO transfers VALUES (2, NULL, 'capture', 2, 3, 20, 2, 'r1', 'gateway', 'usage of m', ?)`, [second]);
  const counts = ['20', '0', '0', '20000', '40', '20'];
  const third = linked(second, ['u', '3', 'r1', 'ann', 'k', 'm', '1', ...counts, 'done', '{}', '2']);
  run(`INSERT INTO usage VALUES (3, 'r1', 'ann', 'k', 'm', 1, 20, 0, 0, 20000, 40, 20, 'done', '{}', 2, ?)`, [third]);
  return { path, open, file, before: rowsOf(file) };
}

/** As version 1 linked a row to the one before it. */
function linked(previous: Uint8Array, fields: readonly string[]): Uint8Array {
  return new Uint8Array(createHash('sha256').update(previous).update(fields.join('\u001f')).digest());
}
