import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkLedger } from '../../src/ledger/check.ts';
import { booksOn, customer, grant, hold, price, promo, settle, tokens } from './fixtures/books.ts';

test('what is left of a promo at its expiry becomes breakage, once', (t) => {
  const { ledger } = setup(t);
  ledger.do(promo('p', 30n, 5000));
  ledger.book.tick(4999);
  assert.equal(ledger.account('user:ann:promo:p').posted, 30n);
  ledger.book.tick(5000);
  ledger.book.tick(5001);
  assert.equal(ledger.account('user:ann:promo:p').posted, 0n);
  assert.equal(ledger.account('revenue:breakage').posted, 30n);
  ledger.book.commit();
  assert.deepEqual(ledger.sql.all(`SELECT amount, actor FROM transfers WHERE type = 'promo_expire'`), [
    { amount: 30n, actor: 'ledger' },
  ]);
});

test('an expired promo cannot be held, even before it is written off', (t) => {
  const { ledger } = setup(t);
  ledger.do(promo('p', 30n, 5000));
  const refused = ledger.do(hold('r1', 1n, { atMs: 5000 }));
  assert.ok(!refused.ok);
  assert.deepEqual([refused.available, refused.transient], [0n, false]);
  assert.equal(ledger.do(hold('r2', 10n, { atMs: 4999 })).ok, true);
  assert.equal(ledger.do({ op: 'extend', request: 'r2', amount: 1n }, 5000).ok, false);
  assert.equal(ledger.do({ op: 'extend', request: 'r2', amount: 1n }, 4999).ok, true);
});

test('a request in flight may still use the promo it holds; the rest expires when it is settled', (t) => {
  const { ledger } = setup(t);
  ledger.do(promo('p', 30n, 5000));
  ledger.do(hold('r1', 20n, { atMs: 4000 }));
  ledger.book.tick(5000);
  assert.equal(ledger.account('user:ann:promo:p').posted, 20n);
  ledger.book.tick(6000);
  assert.equal(ledger.account('user:ann:promo:p').posted, 20n);
  assert.equal(ledger.do(settle('r1', tokens(15), { atMs: 7000 })).charged, 15n);
  ledger.book.tick(7000);
  assert.equal(ledger.account('user:ann:promo:p').posted, 0n);
  assert.equal(ledger.account('revenue:breakage').posted, 15n);
  assert.equal(ledger.account('revenue:usage:m').posted, 15n);
});

test('a crash with a hold on an expired promo charges the checkpoint and writes off the rest', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(promo('p', 30n, 5000));
  ledger.do(hold('r1', 20n, { atMs: 1000 }));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(6) });
  ledger.book.tick(4000);
  ledger.book.tick(5000);
  ledger.book.commit();
  const again = open(6000);
  again.book.tick(6000);
  again.book.commit();
  assert.equal(again.account('user:ann:promo:p').posted, 0n);
  assert.equal(again.account('revenue:usage:m').posted, 6n);
  assert.equal(again.account('revenue:breakage').posted, 24n);
  assert.deepEqual(checkLedger(again.sql).ok, true);
});

test('a promo that expired while the gateway was down is written off by the first tick, and not again', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(promo('p', 30n, 5000));
  ledger.book.commit();
  for (const now of [9000, 9500]) {
    const again = open(now);
    again.book.tick(now);
    again.book.commit();
    assert.equal(again.account('revenue:breakage').posted, 30n);
  }
});

test('promos expire each at its own time, in whatever order they were granted', (t) => {
  const { ledger } = setup(t);
  for (const [id, at] of [
    ['c', 3000],
    ['a', 1000],
    ['b', 2000],
  ] as const)
    ledger.do(promo(id, 10n, at));
  const left = (): bigint | undefined => ledger.do({ op: 'balance', customer: 'ann' })?.posted;
  const seen = [999, 1000, 2500, 3000].map((now) => {
    ledger.book.tick(now);
    return left();
  });
  assert.deepEqual(seen, [30n, 20n, 10n, 0n]);
});

test('paid credit never expires, whatever the grant says, and not after a restart either', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(grant('g1', 100n, { expiresMs: 5000 }));
  ledger.book.tick(9000);
  ledger.book.commit();
  assert.equal(ledger.account('user:ann:paid').posted, 100n);
  const again = open(9000);
  assert.equal(again.do(hold('r1', 100n, { atMs: 9000 })).ok, true);
  again.do(settle('r1', tokens(0)));
  again.book.tick(9000);
  assert.equal(again.account('user:ann:paid').posted, 100n);
});

test('a tick with nothing due leaves nothing to write', (t) => {
  const { ledger } = setup(t);
  ledger.do(promo('p', 30n, 5000));
  ledger.book.commit();
  ledger.book.tick(4000);
  assert.equal(ledger.book.dirty, false);
  ledger.book.tick(5000);
  ledger.book.commit();
  ledger.book.tick(6000);
  assert.equal(ledger.book.dirty, false);
});

function setup(t: TestContext) {
  const { open } = booksOn(t);
  const ledger = open();
  ledger.do(customer());
  ledger.do(price());
  return { ledger, open };
}
