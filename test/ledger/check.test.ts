import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkLedger } from '../../src/ledger/check.ts';
import type { CheckReport } from '../../src/ledger/operations.ts';
import { cash, operatorEquity, treasury } from '../../src/ledger/accounts.ts';
import { openSql } from '../../src/store/libsql.ts';
import type { Sql } from '../../src/store/sql.ts';
import { booksOn, customer, grant, hold, key, price, promo, settle, tokens, transfer } from './fixtures/books.ts';

const I1 = 'I1 transfers balance per asset';
const SUMS = 'I2 balances are the sums of their entries';
const HELD = 'I2 held is the sum of pending holds';
const I3 = 'I3 no bounded account is below zero';
const I4 = 'I4 a hold is settled once';
const I5 = 'I5 captures equal the charge and stay within the hold';
const FEES = 'I5 wake fees were offered, held and taken once';
const I6 = 'I6 the journal is append-only';
const I7 = 'I7 an Idempotency-Key has one request';
const I10 = 'I10 charges are the priced tokens';
const I11 = 'I11 the hash chain is whole';
const I8 = 'I8 a deposit is credited once';
const I12 = 'I12 no key has spent more than its limit';
const I13 = 'I13 a rotated key leads to its successor';
const I14 = 'I14 the audit log has no gaps';

test('an untouched ledger passes every check, and each says what it saw', (t) => {
  const { sql } = setup(t);
  const { ok, checks } = checkLedger(sql);
  assert.ok(ok);
  assert.deepEqual(
    checks.map(({ name }) => name),
    [I1, SUMS, HELD, I3, I4, I5, FEES, I6, I7, I10, I11, I8, I12, I13, I14],
  );
  assert.ok(checks.every((check) => check.ok && check.detail !== ''));
  assert.match(detailOf({ ok, checks }, I11), /^9 rows, ends in [0-9a-f]{16}$/);
});

test('an empty ledger passes', (t) => {
  assert.equal(checkLedger(booksOn(t).open().sql).ok, true);
});

/** What is done to the file, which checks must say so, and what they must name. */
const TAMPERINGS: readonly (readonly [string, string, Readonly<Record<string, RegExp>>])[] = [
  [
    "a transfer's amount",
    'UPDATE transfers SET amount = amount + 1 WHERE seq = 1',
    { [SUMS]: /account user:ann:paid has 84 posted, its entries sum to 85/, [I11]: /row 1 / },
  ],
  ["a transfer's reason", `UPDATE transfers SET reason = 'x' WHERE seq = 2`, { [I11]: /row 2 / }],
  ["a transfer's time", 'UPDATE transfers SET at_ms = at_ms + 1 WHERE seq = 3', { [I11]: /row 3 / }],
  ["a transfer's hash", `UPDATE transfers SET hash = zeroblob(32) WHERE seq = 2`, { [I11]: /row 2 / }],
  [
    "a transfer's hash, cut short",
    `UPDATE transfers SET hash = substr(hash, 1, 31) WHERE seq = 2`,
    { [I11]: /row 2 / },
  ],
  [
    'a transfer turned around',
    'UPDATE transfers SET debit = credit, credit = debit WHERE seq = 1',
    { [SUMS]: /account user:ann:paid/, [I11]: /row 1 / },
  ],
  [
    'a transfer to nowhere',
    'UPDATE transfers SET credit = 99 WHERE seq = 1',
    { [I1]: /transfer 1 /, [SUMS]: /account user:ann:paid/, [I11]: /row 1 / },
  ],
  [
    'a missing transfer in the middle',
    'DELETE FROM transfers WHERE seq = 2',
    {
      [SUMS]: /account user:ann:promo:p has 0 posted, its entries sum to -30/,
      [I11]: /row 2 of the journal is missing/,
    },
  ],
  [
    'a missing usage row in the middle',
    `DELETE FROM usage WHERE request = 'r1'`,
    { [I4]: /hold r1 is settled/, [I5]: /request r1 /, [I11]: /row 5 of the journal is missing/ },
  ],
  [
    'a balance',
    `UPDATE accounts SET posted = posted + 1 WHERE name = 'user:ann:paid'`,
    { [SUMS]: /account user:ann:paid has 85 posted, its entries sum to 84/ },
  ],
  [
    'a balance below zero',
    `UPDATE accounts SET posted = -1, held = 0 WHERE name = 'user:ann:paid'`,
    { [SUMS]: /user:ann:paid has -1/, [HELD]: /user:ann:paid/, [I3]: /account user:ann:paid is below zero/ },
  ],
  [
    'more held than there is',
    `UPDATE accounts SET held = posted + 1 WHERE name = 'user:ann:paid'`,
    { [HELD]: /account user:ann:paid holds 85/, [I3]: /account user:ann:paid/ },
  ],
  [
    'something held that no hold knows of',
    `UPDATE accounts SET held = 1 WHERE name = 'treasury:local'`,
    { [HELD]: /account treasury:local holds 1/ },
  ],
  [
    "an account's name",
    `UPDATE accounts SET name = 'user:eve:paid' WHERE name = 'user:ann:paid'`,
    { [HELD]: /account user:eve:paid holds 20/, [I11]: /row 1 / },
  ],
  ["an account's asset", `UPDATE accounts SET asset = 'uakt' WHERE name = 'cash:operator'`, { [I1]: /transfer 1 / }],
  [
    "an account's kind",
    `UPDATE accounts SET kind = 'income' WHERE name = 'cash:operator'`,
    { [SUMS]: /cash:operator/ },
  ],
  [
    "a usage row's tokens",
    `UPDATE usage SET output_tokens = output_tokens - 1 WHERE request = 'r2'`,
    { [I10]: /charge of request r2 /, [I11]: /row 7 / },
  ],
  [
    "a usage row's tokens and cost, to an honest price",
    `UPDATE usage SET output_tokens = 0, cost_pico = 4000, charged = 4 WHERE request = 'r2'`,
    { [I5]: /request r2 /, [I11]: /row 7 / },
  ],
  [
    "a usage row's charge",
    `UPDATE usage SET charged = 1 WHERE request = 'r1'`,
    {
      [I5]: /request r1 /,
      [I10]: /request r1 /,
      [I11]: /row 5 /,
    },
  ],
  [
    "a usage row's request",
    `UPDATE usage SET request = 'r8' WHERE request = 'r2'`,
    { [I5]: /request r[28] /, [I11]: /row 7 / },
  ],
  ["a usage row's detail", `UPDATE usage SET detail = '{"error":"x"}' WHERE request = 'r2'`, { [I11]: /row 7 / }],
  [
    "a hold's state",
    `UPDATE holds SET state = 'pending' WHERE request = 'r1'`,
    { [HELD]: /account user:ann:promo:p holds 0/, [I4]: /hold r1 is pending/ },
  ],
  [
    'a pending hold said to be settled',
    `UPDATE holds SET state = 'settled' WHERE request = 'r3'`,
    { [HELD]: /account user:ann:paid holds 20/, [I4]: /hold r3 is settled/ },
  ],
  ["a hold's amount", `UPDATE holds SET amount = 19 WHERE request = 'r3'`, { [HELD]: /legs of hold r3 do not add up/ }],
  ["a hold's legs", `UPDATE holds SET legs = 'x' WHERE request = 'r3'`, { [HELD]: /unreadable/ }],
  [
    'a price',
    'UPDATE price_versions SET output_pico = output_pico - 1 WHERE version = 1',
    { [I10]: /charge of request r1 / },
  ],
  ['a price of another model', `UPDATE price_versions SET model = 'x'`, { [I10]: /charge of request r1 / }],
];

for (const [what, statement, expected] of TAMPERINGS) {
  test(`tampering with the file is found: ${what}`, (t) => {
    const { sql } = setup(t);
    tamperWith(sql, statement);
    assertBroken(checkLedger(sql), expected);
  });
}

for (const name of [
  'transfers_no_update',
  'transfers_no_delete',
  'usage_no_update',
  'usage_no_delete',
  'prices_no_update',
  'prices_no_delete',
  'holds_once',
  'holds_no_delete',
  'audit_no_update',
  'audit_no_delete',
  'audit_in_order',
]) {
  test(`the trigger ${name} is missed when it is gone, and when another one took its name`, (t) => {
    const { sql } = setup(t);
    sql.exec(`DROP TRIGGER ${name}`);
    assertBroken(checkLedger(sql), { [I6]: new RegExp(`trigger ${name} is gone`) });
    sql.exec(`CREATE TRIGGER ${name} BEFORE INSERT ON meta BEGIN SELECT 1; END`);
    assertBroken(checkLedger(sql), { [I6]: new RegExp(`trigger ${name} is another one`) });
  });
}

/** What is done to a file with deposits, rotated keys and a log. */
const ACCESS_TAMPERINGS: readonly (readonly [string, string, Readonly<Record<string, RegExp>>])[] = [
  [
    'a deposit credited twice',
    `DROP INDEX transfers_id; UPDATE transfers SET id = 'deposit:tx1' WHERE id = 'deposit:tx2'`,
    { [I8]: /the deposit tx1 is credited twice/, [I11]: /row/ },
  ],
  [
    'a deposit assigned twice',
    `DROP INDEX transfers_id; UPDATE transfers SET id = 'assign:tx2', type = 'deposit_assign' WHERE id = 'deposit:tx3'`,
    { [I8]: /tx2 is assigned/, [I11]: /row/ },
  ],
  [
    'a deposit without reference',
    `UPDATE transfers SET id = 'x' WHERE id = 'deposit:tx1'`,
    { [I8]: /transfer 2 /, [I11]: /row 2 / },
  ],
  [
    'an assignment of what was never in suspense',
    `UPDATE transfers SET id = 'assign:tx1' WHERE id = 'assign:tx2'`,
    { [I8]: /the deposit tx1 is assigned, though it was not in suspense/, [I11]: /row/ },
  ],
  [
    'a limit below what was spent',
    `UPDATE api_keys SET settings = replace(settings, '0.00000005', '0.000000019')`,
    { [I12]: /key k spent 0.00000002 USD from 1969-12-29, its limit is 0.000000019 USD/ },
  ],
  [
    'a key of another account in the chain',
    `UPDATE api_keys SET customer = 'eve' WHERE id = 'k2'`,
    { [I13]: /key k / },
  ],
  ['a successor that is gone', `UPDATE api_keys SET replaced_by = 'k9' WHERE id = 'k'`, { [I13]: /key k / }],
  ['a rotation without an end', `UPDATE api_keys SET ends_ms = NULL WHERE id = 'k'`, { [I13]: /key k / }],
  ['a row of the audit log', 'DELETE FROM audit WHERE seq = 2', { [I14]: /row 2 of the audit log is missing/ }],
  ['the first row of the audit log', 'DELETE FROM audit WHERE seq = 1', { [I14]: /row 1 / }],
];

for (const [what, statement, expected] of ACCESS_TAMPERINGS) {
  test(`tampering with who was let in and what came in is found: ${what}`, (t) => {
    const { sql } = setupAccess(t);
    assert.equal(checkLedger(sql).ok, true);
    tamperWith(sql, statement);
    assertBroken(checkLedger(sql), expected);
  });
}

test('a chain is whole over more rows than are read at once, and a change deep inside is found', (t) => {
  const ledger = booksOn(t).open();
  const into = { debit: treasury('local'), credit: operatorEquity('local') };
  for (let at = 1; at <= 10_001; at += 1) ledger.do(transfer(`t${at}`, 1n, into));
  ledger.book.commit();
  assert.match(detailOf(checkLedger(ledger.sql), I11), /^10001 rows/);
  tamperWith(ledger.sql, 'UPDATE transfers SET at_ms = 1 WHERE seq = 10000');
  assertBroken(checkLedger(ledger.sql), { [I11]: /row 10000 / });
});

test('the check sees what is committed, not what is being written beside it', (t) => {
  const { path, open } = booksOn(t);
  const ledger = open();
  ledger.do(customer());
  ledger.do(grant('g1', 100n));
  ledger.book.commit();
  const reader = openSql(path, { readonly: true });
  t.after(() => reader.close());
  ledger.sql.transaction(() => {
    ledger.sql.run('UPDATE accounts SET posted = posted + 1');
    assert.equal(checkLedger(reader).ok, true);
  });
  assertBroken(checkLedger(reader), { [SUMS]: /account/ });
});

function assertBroken(report: CheckReport, expected: Readonly<Record<string, RegExp>>): void {
  assert.equal(report.ok, false);
  const broken = report.checks.filter(({ ok }) => !ok);
  const names = broken.map(({ name }) => name);
  assert.deepEqual(new Set(names), new Set(Object.keys(expected)), JSON.stringify(broken, null, 1));
  for (const [name, detail] of Object.entries(expected)) assert.match(detailOf(report, name), detail);
}

function detailOf({ checks }: CheckReport, name: string): string {
  return checks.find((check) => check.name === name)?.detail ?? '';
}

/**
 * Rows 1 to 3: a paid grant of 100, a promo of 30, a treasury; 4 and 5: request r1, settled after it was journaled;
 * 6 and 7: r2, never journaled; r3: a pending hold of 20 on disk; 8 and 9: r4, in two lots.
 */
function setup(t: TestContext) {
  const { book, sql, do: apply } = booksOn(t).open();
  apply(customer());
  apply(price());
  apply(key('k'));
  apply(grant('g1', 100n));
  apply(promo('p', 30n));
  apply(transfer('t1', 50n, { debit: treasury('local'), credit: operatorEquity('local') }));
  apply(hold('r1', 20n, { key: 'k' }));
  book.tick(1000);
  apply(settle('r1', tokens(10, 5)));
  apply(hold('r2', 10n));
  apply(settle('r2', tokens(4, 3)));
  apply(hold('r3', 20n));
  book.tick(1000);
  apply(hold('r4', 16n));
  apply(settle('r4', tokens(16)));
  book.commit();
  return { sql };
}

/** Deposits tx1 of ann, tx2 and tx3 in suspense, tx2 then assigned; key k (limit 50 a week) rotated to k2; three rows logged. */
function setupAccess(t: TestContext) {
  const { book, sql, do: apply } = booksOn(t).open();
  apply(customer());
  apply(price());
  apply(grant('g1', 100n));
  const about = { source: cash(), actor: 'watcher', reason: 'a deposit', atMs: 0 };
  apply({ op: 'deposit', reference: 'tx1', customer: 'ann', amount: 5n, ...about });
  apply({ op: 'deposit', reference: 'tx2', customer: null, amount: 5n, ...about });
  apply({ op: 'deposit', reference: 'tx3', customer: null, amount: 5n, ...about });
  apply({ op: 'assign', reference: 'tx2', customer: 'ann', actor: 'a', reason: 'r', atMs: 0 });
  const of = key('k', 50n);
  apply({ ...of, settings: { ...of.settings, limitReset: 'week' } });
  apply(hold('r1', 12n, { key: 'k' }));
  apply(settle('r1', tokens(12)));
  apply({ op: 'rotate', id: 'k', successor: { id: 'k2', hash: 'h2', hint: '' }, overlapMs: 9, atMs: 0 });
  apply(hold('r2', 8n, { key: 'k2' }));
  apply(settle('r2', tokens(8)));
  const who = { admin: 'a', name: 'a', role: 'operator' as const };
  const note = { ...who, action: 'x.y', target: null, detail: {}, request: 'q' };
  for (let at = 1; at <= 3; at += 1) apply({ op: 'audit', note, outcome: 'ok', atMs: at });
  book.commit();
  return { sql };
}

/** With the guards off and on again, as somebody with the file in hand would do it. */
function tamperWith(sql: Sql, statement: string): void {
  const triggers = sql.all(`SELECT name, sql FROM sqlite_master WHERE type = 'trigger'`);
  sql.exec('PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON');
  for (const { name } of triggers) sql.exec(`DROP TRIGGER ${String(name)}`);
  sql.exec(statement);
  for (const { sql: text } of triggers) sql.exec(String(text));
  sql.exec('PRAGMA foreign_keys = ON; PRAGMA ignore_check_constraints = OFF');
}
