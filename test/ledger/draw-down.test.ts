import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { compareLots } from '../../src/ledger/customers.ts';
import { customerPaid } from '../../src/ledger/accounts.ts';
import { booksOn, customer, grant, hold, price, promo, settle, tokens } from './fixtures/books.ts';

test('promo credit is used before paid credit', (t) => {
  const { ledger, posted } = setup(t);
  ledger.do(grant('paid', 100n));
  ledger.do(promo('p', 30n));
  ledger.do(hold('r1', 50n));
  ledger.do(settle('r1', tokens(40)));
  assert.deepEqual(posted('promo:p', 'paid'), [0n, 90n]);
});

test('the promo that expires first is used first, one without expiry last', (t) => {
  const { ledger, posted } = setup(t);
  ledger.do(promo('never', 10n));
  ledger.do(promo('late', 10n, 9000));
  ledger.do(promo('soon', 10n, 5000));
  ledger.do(hold('r1', 25n));
  ledger.do(settle('r1', tokens(25)));
  assert.deepEqual(posted('promo:soon', 'promo:late', 'promo:never'), [0n, 0n, 5n]);
});

test('of promos with one expiry the older is used first, also after a restart', (t) => {
  const { ledger, open } = setup(t);
  ledger.do({ ...promo('b', 10n, 5000), atMs: 2 });
  ledger.do({ ...promo('a', 10n, 5000), atMs: 1 });
  ledger.do({ ...promo('c', 10n, 5000), atMs: 2 });
  ledger.book.commit();
  const again = open();
  again.do(hold('r1', 21n));
  again.do(settle('r1', tokens(21)));
  const posted = ['a', 'b', 'c'].map((id) => again.account(`user:ann:promo:${id}`).posted);
  assert.deepEqual(posted, [0n, 0n, 9n]);
});

test('a hold takes only what others do not hold, lot by lot', (t) => {
  const { ledger, posted } = setup(t);
  ledger.do(grant('paid', 100n));
  ledger.do(promo('p', 30n));
  ledger.do(hold('r1', 20n));
  ledger.do(hold('r2', 20n));
  assert.equal(ledger.account('user:ann:promo:p').held, 30n);
  assert.equal(ledger.account('user:ann:paid').held, 10n);
  ledger.do(settle('r2', tokens(15)));
  assert.deepEqual(posted('promo:p', 'paid'), [20n, 95n]);
});

test('an extension into a newer promo is charged before paid credit', (t) => {
  const { ledger, posted } = setup(t);
  ledger.do(grant('paid', 100n));
  ledger.do(hold('r1', 20n));
  ledger.do(promo('p', 30n));
  ledger.do({ op: 'extend', request: 'r1', amount: 20n });
  ledger.do(settle('r1', tokens(25)));
  assert.deepEqual(posted('promo:p', 'paid'), [10n, 95n]);
});

test('an extension of one lot stays one leg', (t) => {
  const { ledger } = setup(t);
  ledger.do(grant('paid', 100n));
  ledger.do(hold('r1', 20n));
  ledger.do({ op: 'extend', request: 'r1', amount: 20n });
  ledger.do(settle('r1', tokens(35)));
  ledger.book.commit();
  const captures = ledger.sql.all(`SELECT amount FROM transfers WHERE type = 'capture'`);
  assert.deepEqual(captures, [{ amount: 35n }]);
});

test('the order of lots is a total order', () => {
  const lot = fc.record({
    kind: fc.constantFrom('paid' as const, 'promo' as const),
    expiresMs: fc.option(fc.integer({ min: 0, max: 3 })),
    atMs: fc.integer({ min: 0, max: 3 }),
    account: fc.bigInt({ min: 0n, max: 3n }).map((no) => ({
      no,
      spec: customerPaid('ann'),
      posted: 0n,
      held: 0n,
      journaled: 0n,
    })),
  });
  fc.assert(
    fc.property(lot, lot, lot, (a, b, c) => {
      assert.equal(Math.sign(compareLots(a, b)), -Math.sign(compareLots(b, a)) || 0);
      if (compareLots(a, b) <= 0 && compareLots(b, c) <= 0) assert.ok(compareLots(a, c) <= 0);
    }),
    { numRuns: 1000 },
  );
});

function setup(t: TestContext) {
  const { open } = booksOn(t);
  const ledger = open();
  ledger.do(customer());
  ledger.do(price());
  const posted = (...names: string[]): bigint[] => names.map((name) => ledger.account(`user:ann:${name}`).posted);
  return { ledger, open, posted };
}
