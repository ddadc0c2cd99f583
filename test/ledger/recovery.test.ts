import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkLedger } from '../../src/ledger/check.ts';
import { booksOn, customer, grant, hold, key, price, promo, settle, tokens, type OpenBook } from './fixtures/books.ts';

test('a hold younger than a second lives in memory only: a crash forgets it', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n, { atMs: 0 }));
  ledger.do(hold('r2', 40n, { atMs: 0 }));
  ledger.do(settle('r2', tokens(1)));
  ledger.book.tick(999);
  ledger.book.commit();
  assert.deepEqual(holdsOf(ledger), []);
  assert.equal(heldOnDisk(ledger), 0n, 'though the account itself was written');
  const again = open(1000);
  assert.equal(again.book.pendingHolds, 0);
  assert.deepEqual(again.do({ op: 'balance', customer: 'ann' }), { credits: 100n, used: 1n, posted: 99n, held: 0n });
});

test('a hold that is a second old is on disk with its progress, and so is what accounts hold', (t) => {
  const { ledger } = setup(t);
  ledger.do(hold('r1', 40n, { atMs: 0, deadlineMs: 9000 }));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(3, 2) });
  ledger.book.tick(1000);
  ledger.book.commit();
  const [row] = holdsOf(ledger);
  assert.deepEqual(JSON.parse(row?.progress ?? ''), tokens(3, 2));
  assert.deepEqual([row?.request, row?.state, row?.amount], ['r1', 'pending', 40n]);
  assert.equal(heldOnDisk(ledger), 40n);
});

test('progress reaches the disk with the next tick and never goes back', (t) => {
  const { ledger } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.book.tick(1000);
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(3, 5) });
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(3, 4) });
  ledger.book.tick(2000);
  ledger.book.commit();
  assert.deepEqual(JSON.parse(holdsOf(ledger)[0]?.progress ?? ''), tokens(3, 5));
});

test('progress that did not move is not written again', (t) => {
  const { ledger } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.book.tick(1000);
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(3, 5) });
  ledger.book.tick(2000);
  ledger.book.commit();
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(3, 5) });
  ledger.book.tick(3000);
  assert.equal(ledger.book.dirty, false);
});

test('what was known of the answer at the last checkpoint is in the row that a crash leaves', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  const detail = { stream: true, lease: 'lease-1', provider: 'desk', market: 'local', firstTokenMs: 70, totalMs: 900 };
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(10, 1), detail });
  ledger.book.tick(1000);
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(10, 2), detail: { ...detail, totalMs: 1900 } });
  ledger.book.tick(2000);
  ledger.book.commit();
  const usage = open(3000).do({ op: 'usage', request: 'r1' });
  assert.equal(usage?.tokens.outputTokens, 2);
  const { error, ...known } = usage.detail;
  assert.deepEqual(known, { ...detail, totalMs: 1900 });
  assert.match(error ?? '', /./);
});

test('a crash charges what the last checkpoint had, frees the rest and says so', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(10, 1) });
  ledger.book.tick(1000);
  ledger.book.commit();
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(10, 9) });
  const again = open(5000);
  const usage = again.do({ op: 'usage', request: 'r1' });
  assert.ok(usage);
  assert.deepEqual([usage.status, usage.charged, usage.held, usage.atMs], ['recovered', 12n, 40n, 5000]);
  assert.match(usage.detail.error ?? '', /gateway ended/);
  assert.deepEqual(again.do({ op: 'balance', customer: 'ann' }), { credits: 100n, used: 12n, posted: 88n, held: 0n });
  assert.equal(heldOnDisk(again), 0n);
  assert.equal(checkLedger(again.sql).ok, true);
});

test('a checkpoint is what the tick saw, whatever came between the tick and the commit', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(10) });
  ledger.book.tick(1000);
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(20) });
  ledger.book.commit();
  assert.equal(open(2000).do({ op: 'usage', request: 'r1' })?.charged, 10n);
});

test('a checkpoint above the hold is charged up to the hold', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(500) });
  ledger.book.tick(1000);
  ledger.book.commit();
  assert.equal(open(2000).do({ op: 'usage', request: 'r1' })?.charged, 40n);
});

test('a second restart changes nothing', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(10) });
  ledger.book.tick(1000);
  ledger.book.commit();
  const seen = [2000, 3000].map((now) => {
    const again = open(now);
    again.book.tick(now);
    again.book.commit();
    return { seq: again.book.seq, balance: again.do({ op: 'balance', customer: 'ann' }), holds: holdsOf(again) };
  });
  assert.deepEqual(seen[1], seen[0]);
});

test('the request of a recovered hold cannot be settled any more', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.book.tick(1000);
  ledger.book.commit();
  assert.equal(open(2000).do(settle('r1', tokens(30))).ok, false);
});

test('an extension of a hold on disk is on disk with it: a crash right after it leaves nothing held', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(promo('p', 10n));
  ledger.do(hold('r1', 40n));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(45) });
  ledger.book.tick(1000);
  ledger.book.commit();
  assert.deepEqual(ledger.do({ op: 'extend', request: 'r1', amount: 20n }), { ok: true });
  ledger.book.commit();
  assert.equal(holdsOf(ledger)[0]?.amount, 60n);
  assert.equal(checkLedger(ledger.sql).ok, true);
  const again = open(2000);
  assert.equal(heldOnDisk(again), 0n);
  assert.equal(again.do({ op: 'usage', request: 'r1' })?.charged, 45n);
  assert.equal(again.do(hold('r2', 65n)).ok, true, 'all that is left can be held again');
  assert.equal(checkLedger(again.sql).ok, true);
});

test('a settled hold is settled on disk too, and stays so after a restart', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.book.tick(1000);
  ledger.book.commit();
  ledger.do(settle('r1', tokens(25)));
  ledger.book.commit();
  assert.equal(holdsOf(ledger)[0]?.state, 'settled');
  assert.equal(heldOnDisk(ledger), 0n);
  const again = open(2000);
  assert.equal(again.do({ op: 'usage', request: 'r1' })?.status, 'done');
  assert.equal(again.account('user:ann:paid').posted, 75n);
});

test('a settlement that was not committed is forgotten as a whole, and recovered from the checkpoint', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(hold('r1', 40n));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(7) });
  ledger.book.tick(1000);
  ledger.book.commit();
  ledger.do(settle('r1', tokens(25)));
  const again = open(2000);
  assert.equal(again.do({ op: 'usage', request: 'r1' })?.charged, 7n);
  assert.equal(again.account('user:ann:paid').posted, 93n);
});

test("a hold outlives no deadline: it is settled at its checkpoint and its owner's settlement comes too late", (t) => {
  const { ledger } = setup(t);
  ledger.do(hold('r1', 40n, { deadlineMs: 5000 }));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(8) });
  ledger.book.tick(4999);
  assert.equal(ledger.book.pendingHolds, 1);
  ledger.book.tick(5000);
  ledger.book.commit();
  assert.equal(ledger.book.pendingHolds, 0);
  const usage = ledger.do({ op: 'usage', request: 'r1' });
  assert.deepEqual([usage?.status, usage?.charged], ['recovered', 8n]);
  assert.match(usage?.detail.error ?? '', /deadline/);
  assert.equal(ledger.do(settle('r1', tokens(30))).ok, false);
  assert.equal(checkLedger(ledger.sql).ok, true);
});

test('what a key has spent is known after a restart, recovered holds included', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(key('k', 50n));
  ledger.do(hold('r1', 20n, { key: 'k' }));
  ledger.do(settle('r1', tokens(11)));
  ledger.do(hold('r2', 20n, { key: 'k' }));
  ledger.do({ op: 'progress', request: 'r2', tokens: tokens(9) });
  ledger.book.tick(1000);
  ledger.book.commit();
  const again = open(2000);
  const refused = again.do(hold('r3', 31n, { key: 'k' }));
  assert.ok(!refused.ok);
  assert.deepEqual([refused.available, refused.limitSource, refused.transient], [30n, 'key', false]);
  assert.equal(again.do(hold('r3', 30n, { key: 'k' })).ok, true);
});

test('rows and accounts are numbered on after a restart', (t) => {
  const { ledger, open } = setup(t);
  const before = ledger.book.seq;
  const again = open();
  again.do(promo('p', 5n));
  again.do(hold('r1', 5n));
  again.do(settle('r1', tokens(5)));
  again.book.commit();
  assert.equal(again.book.seq, before + 3n);
  const numbers = again.sql.all('SELECT no FROM accounts ORDER BY no').map(({ no }) => no);
  assert.deepEqual(numbers, [1n, 2n, 3n, 4n, 5n]);
  assert.equal(checkLedger(again.sql).ok, true);
});

test('a file of another schema is refused', (t) => {
  const { ledger, open } = setup(t);
  ledger.sql.run(`UPDATE meta SET value = '99' WHERE key = 'schema'`);
  assert.throws(() => open(), /schema 99/);
});

test('an account name with blanks and equals signs survives in a hold', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(promo('a b=3 =', 50n));
  ledger.do(hold('r1', 50n));
  ledger.book.tick(1000);
  ledger.book.commit();
  assert.equal(checkLedger(ledger.sql).ok, true);
  assert.equal(heldOnDisk(open(2000)), 0n);
});

function holdsOf({ sql }: OpenBook) {
  return sql.all('SELECT request, state, amount, progress FROM holds ORDER BY request').map((row) => ({
    request: row['request'],
    state: row['state'],
    amount: row['amount'],
    progress: String(row['progress']),
  }));
}

function heldOnDisk({ sql }: OpenBook) {
  return sql.all('SELECT SUM(held) AS held FROM accounts')[0]?.['held'];
}

/** A book with one customer who has 100 nano-USD, and one price. */
function setup(t: TestContext) {
  const { open } = booksOn(t);
  const ledger = open();
  ledger.do(customer());
  ledger.do(price());
  ledger.do(grant('g1', 100n));
  ledger.book.commit();
  return { ledger, open };
}
