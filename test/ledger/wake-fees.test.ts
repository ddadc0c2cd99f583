import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkLedger } from '../../src/ledger/check.ts';
import { booksOn, customer, grant, hold, key, price, promo, settle, tokens, type OpenBook } from './fixtures/books.ts';

/** What an account pays for having a pool woken: held with its tokens, taken besides them, never more than it offered. */

test('a fee is held with the tokens, taken beside them, and its rest goes back', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 60n, { wakeFee: 40n }));
  assert.equal(ledger.account('user:ann:paid').held, 60n);
  assert.deepEqual(ledger.do(settle('r1', tokens(10), { wakeFee: 25n })), {
    ...{ ok: true, charged: 35n, wakeFee: 25n, priceVersion: 1 },
  });
  ledger.book.commit();
  for (const again of [ledger, open()]) {
    assert.equal(again.account('revenue:wake:m').posted, 25n);
    assert.equal(again.account('revenue:usage:m').posted, 10n);
    assert.deepEqual(again.do({ op: 'balance', customer: 'ann' }), { credits: 100n, used: 35n, posted: 65n, held: 0n });
    const usage = again.do({ op: 'usage', request: 'r1' });
    assert.deepEqual([usage?.held, usage?.charged, usage?.wakeFee], [20n, 10n, 25n]);
  }
  assertWhole(ledger);
});

test('never more is taken than was offered, and what was offered for a wake pays for no token', (t) => {
  const { ledger } = setup(t);
  ledger.do(hold('r1', 30n, { wakeFee: 20n }));
  assert.deepEqual(ledger.do(settle('r1', tokens(50), { wakeFee: 99n })).charged, 30n);
  ledger.do(hold('r2', 30n, { wakeFee: 20n }));
  assert.equal(ledger.do(settle('r2', tokens(50))).charged, 10n);
  ledger.do(hold('r3', 10n));
  assert.equal(ledger.do(settle('r3', tokens(5), { wakeFee: 5n })).charged, 5n, 'nothing was offered');
  ledger.book.commit();
  assert.equal(ledger.account('revenue:wake:m').posted, 20n);
  assertWhole(ledger);
});

test('an answer that never came costs nothing but the wake that was due', (t) => {
  const { ledger } = setup(t);
  ledger.do(hold('r1', 30n, { wakeFee: 20n }));
  assert.equal(ledger.do(settle('r1', tokens(0), { status: 'cancelled', wakeFee: 20n })).charged, 20n);
  ledger.book.commit();
  assertWhole(ledger);
});

test('tokens come out of the first lot, the fee out of what is left of it and the next', (t) => {
  const { ledger } = setup(t, 15n);
  ledger.do(hold('r1', 40n, { wakeFee: 20n }));
  ledger.do(settle('r1', tokens(10), { wakeFee: 20n }));
  ledger.book.commit();
  assert.equal(ledger.account('user:ann:promo:p').posted, 0n);
  assert.equal(ledger.account('user:ann:paid').posted, 85n);
  const fees = ledger.sql.all(`SELECT amount FROM transfers WHERE type = 'wake_fee' ORDER BY seq`);
  assert.deepEqual(fees, [{ amount: 5n }, { amount: 15n }]);
  assertWhole(ledger);
});

test("a key's spend limit counts the fee, held and taken", (t) => {
  const { ledger, open } = setup(t);
  ledger.do(key('k', 50n));
  const short = ledger.do(hold('r1', 51n, { key: 'k', wakeFee: 45n }));
  assert.deepEqual([short.ok, short.ok || short.limitSource], [false, 'key']);
  ledger.do(hold('r2', 50n, { key: 'k', wakeFee: 40n }));
  ledger.do(settle('r2', tokens(5), { wakeFee: 40n }));
  ledger.book.commit();
  for (const again of [ledger, open()]) {
    assert.equal(again.do({ op: 'spending', key: 'k', atMs: 0 })?.total, 45n);
    assert.equal(again.do(hold('r3', 6n, { key: 'k' })).ok, false);
  }
  assertWhole(ledger);
});

test('after a crash the fee is taken where a checkpoint says that it was due, and else not', (t) => {
  const { ledger, open } = setup(t);
  for (const request of ['due', 'not']) ledger.do(hold(request, 30n, { wakeFee: 20n }));
  ledger.book.tick(1000);
  ledger.do({ op: 'progress', request: 'due', tokens: tokens(0), wakeFee: 12n });
  ledger.book.tick(1250);
  ledger.book.commit();
  const again = open(5000);
  assert.deepEqual(
    ['due', 'not'].map((request) => again.do({ op: 'usage', request })?.wakeFee),
    [12n, 0n],
  );
  assert.equal(again.do({ op: 'balance', customer: 'ann' })?.held, 0n);
  assertWhole(again);
});

test('the check names a request whose fee was made up, raised or forgotten', (t) => {
  const tamper = (statement: string): readonly string[] => {
    const { ledger } = setup(t);
    ledger.do(hold('r1', 30n, { wakeFee: 20n }));
    ledger.book.tick(1000);
    ledger.do(settle('r1', tokens(5), { wakeFee: 8n }));
    ledger.book.commit();
    const { sql } = ledger;
    for (const { name } of sql.all(`SELECT name FROM sqlite_master WHERE type = 'trigger'`))
      sql.exec(`DROP TRIGGER ${String(name)}`);
    sql.exec(`PRAGMA ignore_check_constraints = ON; ${statement}`);
    const { checks } = checkLedger(sql);
    return checks
      .filter(({ ok, name }) => !ok && /^I5 wake|^I11/.test(name))
      .map(({ name }) => name.split(' ')[0] ?? '');
  };
  assert.deepEqual(tamper('UPDATE usage SET wake_fee = 9'), ['I5', 'I11']);
  assert.deepEqual(tamper('UPDATE usage SET wake_held = 21'), ['I5', 'I11']);
  assert.deepEqual(tamper('UPDATE usage SET wake_fee = NULL, wake_held = NULL'), ['I5', 'I11']);
  assert.deepEqual(tamper(`UPDATE transfers SET request = 'r2' WHERE type = 'wake_fee'`), ['I5', 'I11']);
  assert.deepEqual(tamper(`DELETE FROM transfers WHERE type = 'wake_fee'`), ['I5', 'I11']);
  assert.deepEqual(tamper('UPDATE holds SET wake_held = 31'), ['I5']);
});

function assertWhole({ sql }: OpenBook): void {
  const { ok, checks } = checkLedger(sql);
  assert.ok(ok, JSON.stringify(checks.filter((check) => !check.ok)));
}

/** Ann has 100 paid, and before it a promo of so much. */
function setup(t: TestContext, first = 0n): { ledger: OpenBook; open: (nowMs?: number) => OpenBook } {
  const { open } = booksOn(t);
  const ledger = open();
  for (const operation of [customer(), grant('g', 100n), price()]) ledger.do(operation);
  if (first > 0n) ledger.do(promo('p', first));
  return { ledger, open };
}
