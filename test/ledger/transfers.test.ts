import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { cash, customerPaid, escrow, operatorEquity, treasury } from '../../src/ledger/accounts.ts';
import { checkLedger } from '../../src/ledger/check.ts';
import { createMemoryLedger } from '../../src/ledger/memory.ts';
import { systemClock } from '../../src/clock.ts';
import { booksOn, customer, grant, hold, key, price, promo, settle, tokens, transfer } from './fixtures/books.ts';

const TREASURY = treasury('local');
const ESCROW = escrow('local', 'l1');
const into = { debit: TREASURY, credit: operatorEquity('local') };
const deposit = { debit: ESCROW, credit: TREASURY };

test('a transfer moves its amount from credit to debit account, on the natural side of each', (t) => {
  const { ledger } = setup(t);
  assert.deepEqual(ledger.do(transfer('t1', 100n, into)), { ok: true, existed: false });
  assert.deepEqual(ledger.do(transfer('t2', 30n, deposit)), { ok: true, existed: false });
  assert.equal(ledger.account(TREASURY.name).posted, 70n);
  assert.equal(ledger.account(ESCROW.name).posted, 30n);
  assert.equal(ledger.account('equity:local').posted, 100n);
});

test('the same transfer again changes nothing: before the commit, after it and after a restart', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(transfer('t1', 100n, into));
  assert.deepEqual(ledger.do(transfer('t1', 100n, into)), { ok: true, existed: true });
  ledger.book.commit();
  assert.deepEqual(ledger.do(transfer('t1', 100n, into)), { ok: true, existed: true });
  const again = open();
  assert.deepEqual(again.do(transfer('t1', 100n, into)), { ok: true, existed: true });
  assert.equal(again.account(TREASURY.name).posted, 100n);
  assert.equal(again.book.seq, 1n);
});

test('an id used for another amount, type or account is refused', (t) => {
  const { ledger } = setup(t);
  ledger.do(transfer('t1', 100n, into));
  ledger.book.commit();
  const others = [{ amount: 99n }, { type: 'other' }, { debit: cash() }, { credit: operatorEquity('other') }];
  for (const other of others) {
    const result = ledger.do(transfer('t1', 100n, { ...into, ...other }));
    assert.ok(!result.ok && /used for another transfer/.test(result.why), JSON.stringify(Object.keys(other)));
  }
  assert.equal(ledger.book.dirty, false);
});

test('a bounded account never falls below zero, and what is held cannot be moved away', (t) => {
  const { ledger } = setup(t);
  ledger.do(transfer('t1', 100n, into));
  assert.equal(ledger.do(transfer('t2', 101n, deposit)).ok, false);
  assert.equal(ledger.do(transfer('t2', 100n, deposit)).ok, true);
  ledger.do(grant('g1', 50n));
  ledger.do(hold('r1', 30n));
  const refund = { debit: customerPaid('ann'), credit: cash() };
  assert.equal(ledger.do(transfer('t3', 21n, refund)).ok, false);
  assert.equal(ledger.do(transfer('t3', 20n, refund)).ok, true);
  ledger.do(settle('r1', tokens(30)));
  ledger.book.commit();
  assert.equal(ledger.account('user:ann:paid').posted, 0n);
});

test('several transfers are all made or none', (t) => {
  const { ledger } = setup(t);
  ledger.do(transfer('t1', 100n, into));
  const parts = (second: bigint) => [
    transfer('a', 60n, deposit),
    transfer('b', second, { debit: cash(), credit: TREASURY }),
  ];
  assert.equal(ledger.do({ op: 'transfers', transfers: parts(41n) }).ok, false);
  assert.equal(ledger.account(TREASURY.name).posted, 100n);
  assert.equal(ledger.do({ op: 'account', name: ESCROW.name }), null);
  assert.deepEqual(ledger.do({ op: 'transfers', transfers: parts(40n) }), { ok: true, existed: false });
  assert.deepEqual(ledger.do({ op: 'transfers', transfers: parts(40n) }), { ok: true, existed: true });
  assert.equal(ledger.do({ op: 'transfers', transfers: parts(39n) }).ok, false);
  assert.equal(ledger.account(TREASURY.name).posted, 0n);
});

test('an id twice in one list counts once, and two movements under one id are refused', (t) => {
  const { ledger } = setup(t);
  const twice = [transfer('t1', 100n, into), transfer('t1', 100n, into)];
  assert.deepEqual(ledger.do({ op: 'transfers', transfers: twice }), { ok: true, existed: false });
  const different = [transfer('t2', 100n, into), transfer('t2', 99n, into)];
  assert.equal(ledger.do({ op: 'transfers', transfers: different }).ok, false);
  ledger.book.commit();
  assert.equal(ledger.account(TREASURY.name).posted, 100n);
});

test('amounts of zero and below, one account twice and two assets are refused', (t) => {
  const { ledger } = setup(t);
  assert.equal(ledger.do(transfer('t1', 0n, into)).ok, false);
  assert.equal(ledger.do(transfer('t1', -1n, into)).ok, false);
  assert.equal(ledger.do(transfer('t1', 1n, { debit: TREASURY, credit: TREASURY })).ok, false);
  assert.equal(ledger.do(transfer('t1', 1n, { ...into, debit: { ...TREASURY, asset: 'uakt' } })).ok, false);
  assert.equal(ledger.book.dirty, false);
});

test('an account cannot be addressed as one of another kind, asset or bound', (t) => {
  const { ledger } = setup(t);
  ledger.do(transfer('t1', 100n, into));
  const others = [{ kind: 'liability' }, { bounded: false }] as const;
  for (const other of others) {
    const debit = { ...TREASURY, ...other };
    assert.equal(ledger.do(transfer('t2', 1n, { debit, credit: operatorEquity('local') })).ok, false);
  }
  const foreign = { debit: { ...TREASURY, asset: 'uakt' }, credit: { ...operatorEquity('x'), asset: 'uakt' } };
  assert.equal(ledger.do(transfer('t2', 1n, foreign)).ok, false);
});

test('what would not fit into 64 bits is refused instead of ending the writer', (t) => {
  const { ledger, open } = setup(t);
  const most = 2n ** 63n - 1n;
  assert.equal(ledger.do(transfer('t1', most, into)).ok, true);
  assert.equal(ledger.do(transfer('t2', 1n, into)).ok, false);
  assert.equal(ledger.do(transfer('t3', 1n, { debit: cash(), credit: operatorEquity('local') })).ok, false);
  ledger.book.commit();
  assert.equal(open().account(TREASURY.name).posted, most);
});

test('grants of one account that would not add up in 64 bits are refused, also when the first is spent', (t) => {
  const { ledger, open } = setup(t);
  const most = 4_000_000_000_000_000_000n;
  assert.equal(ledger.do(grant('g1', most)).ok, true);
  assert.equal(ledger.do(transfer('t1', most, { debit: customerPaid('ann'), credit: cash() })).ok, true);
  assert.equal(ledger.do(grant('g2', 1n)).ok, false);
  ledger.book.commit();
  assert.equal(open().do({ op: 'balance', customer: 'ann' })?.credits, most);
});

test('a grant with a known id changes nothing, and is refused when it is for another amount or kind', (t) => {
  const { ledger, open } = setup(t);
  assert.deepEqual(ledger.do(grant('g1', 10n)), { ok: true, existed: false });
  assert.deepEqual(ledger.do(grant('g1', 10n)), { ok: true, existed: true });
  ledger.book.commit();
  const again = open();
  assert.deepEqual(again.do(grant('g1', 10n)), { ok: true, existed: true });
  assert.equal(again.do(grant('g1', 11n)).ok, false);
  assert.equal(again.do(promo('g1', 10n)).ok, false);
  assert.equal(again.do(grant('g1', 10n, { customer: 'nobody' })).ok, false);
  assert.deepEqual(again.do({ op: 'balance', customer: 'ann' }), { credits: 10n, used: 0n, posted: 10n, held: 0n });
});

test('a NUL in a reason does not break the chain', (t) => {
  const { ledger } = setup(t);
  ledger.do(grant('g1', 10n, { reason: 'before\0after' }));
  ledger.do(grant('g2', 10n, { reason: 'half a pair: \ud800' }));
  ledger.book.commit();
  assert.equal(checkLedger(ledger.sql).ok, true);
});

test('customers, keys and prices are known again after a restart', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(key('k1', 5n));
  ledger.do(key('k2'));
  assert.deepEqual(ledger.do(key('k1', 5n)), { ok: true, existed: true });
  const other = ledger.do(key('k1', 9n));
  assert.equal(!other.ok && other.code, 'idempotency_mismatch');
  const secret = ledger.do({ ...key('k1', 5n), hash: 'of another secret' });
  assert.equal(!secret.ok && secret.code, 'idempotency_completed');
  assert.equal(ledger.do(key('k3', null, 'nobody')).ok, false);
  ledger.do({ op: 'revoke', id: 'k2', atMs: 7 });
  assert.deepEqual(ledger.do({ op: 'revoke', id: 'k2', atMs: 8 }), { ok: true, existed: true });
  assert.equal(ledger.do({ op: 'revoke', id: 'nobody', atMs: 8 }).ok, false);
  ledger.book.commit();
  const [before, after] = [ledger, open()].map((one) => ({
    keys: one.do({ op: 'keys' }),
    customers: one.do({ op: 'customers' }),
  }));
  assert.deepEqual(after, before);
  assert.deepEqual(
    after?.keys.map(({ id, revokedMs, settings }) => [id, revokedMs, settings.spendLimit]),
    [
      ['k1', null, 5n],
      ['k2', 7, null],
    ],
  );
});

test('a price keeps its version until it changes, and a hold keeps the price of its admission', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(grant('g1', 1000n));
  ledger.do(hold('r1', 100n));
  assert.equal(ledger.do(price()), 1);
  const dearer = { inputPico: 5000n, cachedInputPico: 5000n, outputPico: 5000n };
  assert.equal(ledger.do(price('m', dearer)), 2);
  assert.equal(ledger.do(price('other')), 3);
  assert.equal(ledger.do(price()), 4, 'back to the old price is a new version');
  assert.deepEqual(ledger.do(settle('r1', tokens(10))), { ok: true, charged: 10n, priceVersion: 1 });
  ledger.book.commit();
  assert.equal(open().do(price()), 4);
});

test('a ledger in memory knows a transfer again too', async () => {
  const ledger = createMemoryLedger(systemClock);
  await ledger.ask(customer());
  await ledger.ask(grant('g1', 10n));
  assert.deepEqual(await ledger.ask(grant('g1', 10n)), { ok: true, existed: true });
  assert.equal((await ledger.ask({ op: 'balance', customer: 'ann' }))?.posted, 10n);
});

/** A book with one customer and one price. */
function setup(t: TestContext) {
  const { open } = booksOn(t);
  const ledger = open();
  ledger.do(customer());
  ledger.do(price());
  ledger.book.commit();
  return { ledger, open };
}
