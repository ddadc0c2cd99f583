import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkLedger } from '../../src/ledger/check.ts';
import { booksOn, customer, grant, hold, price, settle, tokens, type OpenBook } from './fixtures/books.ts';

/** Tokens bought from others for an answer: owed with its charge, in one commit. */

test('what was bought is an expense of the pool and owed to who sold it, once', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 60n));
  const purchases = [
    { provider: 'api-1', amount: 7n },
    { provider: 'api-2', amount: 5n },
  ];
  assert.equal(ledger.do(settle('r1', tokens(10, 5), { purchases })).charged, 20n);
  ledger.do(settle('r1', tokens(10, 5), { purchases }));
  ledger.book.commit();
  for (const again of [ledger, open()]) {
    assert.equal(again.account('expense:tokens:m').posted, 12n);
    assert.equal(again.account('payable:api:api-1').posted, 7n);
    assert.equal(again.account('payable:api:api-2').posted, 5n);
    assert.equal(again.account('user:ann:paid').posted, 80n);
  }
  assert.equal(checkLedger(ledger.sql).ok, true);
});

test('a request that failed is owed for as well, and nothing is no purchase', (t) => {
  const { ledger } = setup(t);
  ledger.do(hold('r1', 60n));
  ledger.do(settle('r1', tokens(0), { status: 'failed', purchases: [{ provider: 'api-1', amount: 3n }] }));
  ledger.do(hold('r2', 60n));
  ledger.do(settle('r2', tokens(1), { purchases: [{ provider: 'api-1', amount: 0n }] }));
  ledger.book.commit();
  assert.equal(ledger.account('payable:api:api-1').posted, 3n);
  assert.equal(ledger.sql.all("SELECT 1 AS one FROM transfers WHERE type = 'token_cost'").length, 1);
  assert.equal(checkLedger(ledger.sql).ok, true);
});

function setup(t: TestContext): { ledger: OpenBook; open: () => OpenBook } {
  const { open } = booksOn(t);
  const ledger = open();
  for (const operation of [customer(), grant('g', 100n), price()]) ledger.do(operation);
  return { ledger, open };
}
