import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { booksOn, customer, grant, hold, key, price, settle, tokens, type OpenBook } from './fixtures/books.ts';

test('a hold reserves its amount and nothing is charged yet', (t) => {
  const { ledger } = setup(t, 100n);
  assert.deepEqual(ledger.do(hold('r1', 60n)), { ok: true });
  assert.deepEqual(ledger.do({ op: 'balance', customer: 'ann' }), { credits: 100n, used: 0n, posted: 100n, held: 60n });
});

test('a settlement charges what was used and gives the rest back', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(hold('r1', 60n));
  assert.deepEqual(ledger.do(settle('r1', tokens(10, 5))), { ok: true, charged: 20n, priceVersion: 1 });
  assert.deepEqual(ledger.do({ op: 'balance', customer: 'ann' }), { credits: 100n, used: 20n, posted: 80n, held: 0n });
  assert.equal(ledger.account('revenue:usage:m').posted, 20n);
});

test('a settlement never charges more than was held, and its usage row keeps the exact cost', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(hold('r1', 7n));
  assert.equal(ledger.do(settle('r1', tokens(10, 5))).charged, 7n);
  ledger.book.commit();
  const [row] = ledger.sql.all('SELECT cost_pico, held, charged FROM usage');
  assert.deepEqual(row, { cost_pico: 20_000n, held: 7n, charged: 7n });
  assert.equal(ledger.account('user:ann:paid').posted, 93n);
});

test('a fraction of a nano-USD is charged as a whole one, once', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(hold('r1', 60n));
  assert.equal(ledger.do(settle('r1', tokens(3, 0, 3))).charged, 2n);
});

test('a second settlement of the same request charges nothing', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(hold('r1', 60n));
  ledger.do(settle('r1', tokens(10)));
  assert.deepEqual(ledger.do(settle('r1', tokens(50))), { ok: false, charged: 0n, priceVersion: 0 });
  assert.equal(ledger.account('user:ann:paid').posted, 90n);
});

test('a hold that was never made cannot be settled, extended or kept up to date', (t) => {
  const { ledger } = setup(t, 100n);
  assert.equal(ledger.do(settle('r1', tokens(50))).ok, false);
  assert.equal(refused(ledger.do({ op: 'extend', request: 'r1', amount: 1n })).why, 'no_hold');
  assert.equal(ledger.do({ op: 'progress', request: 'r1', tokens: tokens(1) }), null);
  assert.equal(ledger.book.pendingHolds, 0);
});

test('a hold of zero is granted to an account without any credit, and settled for nothing', (t) => {
  const { ledger } = setup(t, null);
  assert.deepEqual(ledger.do(hold('r1', 0n)), { ok: true });
  assert.deepEqual(ledger.do(settle('r1', tokens(10))), { ok: true, charged: 0n, priceVersion: 1 });
});

test('a negative hold is refused, as an extension too', (t) => {
  const { ledger } = setup(t, 100n);
  assert.equal(refused(ledger.do(hold('r1', -1n))).why, 'insufficient');
  ledger.do(hold('r1', 1n));
  assert.equal(refused(ledger.do({ op: 'extend', request: 'r1', amount: -1n })).why, 'insufficient');
});

test('the last nano-USD can be held, the one after it cannot', (t) => {
  const { ledger } = setup(t, 100n);
  assert.equal(ledger.do(hold('r1', 100n)).ok, true);
  assert.equal(ledger.do(hold('r2', 0n)).ok, true);
  const short = refused(ledger.do(hold('r3', 1n)));
  assert.deepEqual([short.needed, short.available], [1n, 0n]);
});

test('an extension raises a hold, and a refused one leaves it as it was', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(hold('r1', 60n));
  assert.deepEqual(ledger.do({ op: 'extend', request: 'r1', amount: 30n }), { ok: true });
  assert.equal(refused(ledger.do({ op: 'extend', request: 'r1', amount: 11n })).available, 10n);
  assert.equal(ledger.account('user:ann:paid').held, 90n);
  assert.equal(ledger.do(settle('r1', tokens(500))).charged, 90n);
});

test('a request id in flight is refused, whoever asks', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(hold('r1', 10n));
  assert.equal(refused(ledger.do(hold('r1', 10n))).why, 'exists');
  assert.equal(ledger.account('user:ann:paid').held, 10n);
});

test('a request id that was settled lately is refused, after a restart too', (t) => {
  const { ledger, open } = setup(t, 100n);
  ledger.do(hold('r1', 10n));
  ledger.do(settle('r1', tokens(4)));
  assert.equal(refused(ledger.do(hold('r1', 10n))).why, 'exists');
  ledger.book.commit();
  assert.equal(refused(ledger.do(hold('r1', 10n))).why, 'exists');
  const again = open();
  assert.equal(refused(again.do(hold('r1', 10n))).why, 'exists');
  assert.equal(again.account('user:ann:paid').posted, 96n);
});

test('an id that was settled long ago is never charged again: the commit fails and the file stays as it was', (t) => {
  const { ledger, open } = setup(t, 100n);
  const round = (id: string): void => {
    ledger.do(hold(id, 0n));
    ledger.do(settle(id, tokens(0)));
  };
  ledger.do(hold('r1', 10n));
  ledger.do(settle('r1', tokens(4)));
  // Twice as many as are remembered at least.
  for (let count = 0; count < 20_000; count += 1) round(`s${count}`);
  ledger.book.commit();
  ledger.do(hold('r1', 10n));
  ledger.do(settle('r1', tokens(4)));
  assert.throws(() => ledger.book.commit(), /UNIQUE/);
  assert.equal(open().account('user:ann:paid').posted, 96n);
});

test('an unknown customer, an unknown price and the price of another model are refused', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(price('other'));
  assert.equal(refused(ledger.do(hold('r1', 1n, { customer: 'bob' }))).why, 'unknown_customer');
  assert.equal(refused(ledger.do(hold('r1', 1n, { priceVersion: 9 }))).why, 'unknown_price');
  assert.equal(refused(ledger.do(hold('r1', 1n, { priceVersion: 2 }))).why, 'unknown_price');
});

test("an unknown key and another customer's key are refused: their limits would not count", (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(customer('bob'));
  ledger.do(key('k-bob', null, 'bob'));
  assert.equal(refused(ledger.do(hold('r1', 1n, { key: 'nobody' }))).why, 'unknown_customer');
  assert.equal(refused(ledger.do(hold('r1', 1n, { key: 'k-bob' }))).why, 'unknown_customer');
});

test("a key's spend limit counts what it has spent and what it holds", (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(key('k', 50n));
  ledger.do(hold('r1', 30n, { key: 'k' }));
  const short = refused(ledger.do(hold('r2', 21n, { key: 'k' })));
  assert.deepEqual([short.available, short.limitSource, short.transient], [20n, 'key', true]);
  ledger.do(settle('r1', tokens(30), {}));
  const later = refused(ledger.do(hold('r2', 21n, { key: 'k' })));
  assert.deepEqual([later.available, later.limitSource, later.transient], [20n, 'key', false]);
  assert.equal(ledger.do(hold('r2', 20n, { key: 'k' })).ok, true);
  assert.equal(refused(ledger.do({ op: 'extend', request: 'r2', amount: 1n })).limitSource, 'key');
  assert.equal(ledger.do(hold('r3', 50n)).ok, true, 'a request without the key has no such limit');
});

test('a refusal names the account when that is what runs out first', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(key('k', 1000n));
  const short = refused(ledger.do(hold('r1', 101n, { key: 'k' })));
  assert.deepEqual([short.available, short.limitSource, short.transient], [100n, 'account', false]);
});

test('a refusal is transient only when it would fit once nothing is held any more', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(hold('r1', 90n));
  assert.equal(refused(ledger.do(hold('r2', 100n))).transient, true);
  assert.equal(refused(ledger.do(hold('r2', 101n))).transient, false);
});

test('waiting is not advised where the key would never let the request through', (t) => {
  const { ledger } = setup(t, 100n);
  ledger.do(key('k', 30n));
  ledger.do(hold('r1', 90n));
  const short = refused(ledger.do(hold('r2', 50n, { key: 'k' })));
  assert.deepEqual([short.available, short.limitSource, short.transient], [10n, 'account', false]);
});

test('counts that no model server can mean are not charged and do not end the writer', (t) => {
  const { ledger } = setup(t, 100n);
  for (const [at, wrong] of [NaN, -5, 1e300, Infinity].entries()) {
    ledger.do(hold(`r${at}`, 10n));
    ledger.do({ op: 'progress', request: `r${at}`, tokens: tokens(wrong, wrong, wrong) });
    assert.equal(ledger.do(settle(`r${at}`, tokens(wrong, wrong, wrong))).charged, 0n);
  }
  ledger.do(hold('r9', 10n));
  assert.equal(ledger.do(settle('r9', tokens(2.5, 1.5, 7))).charged, 3n);
  ledger.book.commit();
});

test("a usage row is shown with the price of its time, whatever the model's price is now", (t) => {
  const { ledger } = setup(t, 100n);
  const before = price();
  ledger.do(hold('r1', 60n));
  ledger.do(settle('r1', tokens(10, 5)));
  ledger.do(price('m', { ...before.price, outputPico: before.price.outputPico * 2n }));
  ledger.book.commit();
  const usage = ledger.do({ op: 'usage', request: 'r1' });
  assert.deepEqual([usage?.priceVersion, usage?.price, usage?.charged], [1, before.price, 20n]);
});

function refused(result: ReturnType<OpenBook['do']>) {
  assert.ok(result !== null && typeof result === 'object' && 'limitSource' in result, 'the hold was not refused');
  return result;
}

/** A book with one customer who has paid credit, and one price. */
function setup(t: TestContext, credit: bigint | null) {
  const { open } = booksOn(t);
  const ledger = open();
  ledger.do(customer());
  ledger.do(price());
  if (credit !== null) ledger.do(grant('g1', credit));
  ledger.book.commit();
  return { ledger, open };
}
