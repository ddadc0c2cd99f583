import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { KeySettings, RotateOp } from '../../src/ledger/access.ts';
import { checkLedger } from '../../src/ledger/check.ts';
import type { HoldResult } from '../../src/ledger/operations.ts';
import { booksOn, customer, grant, hold, key, price, settle, tokens } from './fixtures/books.ts';

test('a rotated key goes on with what the old one spent and holds, and both work until the overlap ends', (t) => {
  const { ledger, open } = setup(t, { spendLimit: 50n });
  ledger.do(hold('r1', 20n, { key: 'k' }));
  ledger.do(settle('r1', tokens(20)));
  ledger.do(hold('r2', 10n, { key: 'k' }));
  assert.deepEqual(ledger.do(rotate('k', 'k2', 5000, 1000)), { ok: true, existed: false });
  const short = refused(ledger.do(hold('r3', 21n, { key: 'k2', atMs: 2000 })));
  assert.deepEqual([short.available, short.limitSource, short.transient], [20n, 'key', true]);
  assert.equal(ledger.do(hold('r3', 15n, { key: 'k2', atMs: 2000 })).ok, true);
  assert.equal(refused(ledger.do(hold('r4', 6n, { key: 'k', atMs: 2000 }))).available, 5n);
  assert.equal(ledger.do(hold('r4', 5n, { key: 'k', atMs: 5999 })).ok, true);
  assert.equal(refused(ledger.do(hold('r5', 0n, { key: 'k', atMs: 6000 }))).why, 'key_ended');
  assert.equal(ledger.do({ op: 'extend', request: 'r4', amount: 0n }, 6000).ok, true, 'what runs goes on');
  for (const id of ['r2', 'r3', 'r4']) ledger.do(settle(id, tokens(100), { atMs: 7000 }));
  ledger.book.commit();
  const again = open(7000);
  for (const id of ['k', 'k2']) assert.equal(again.do({ op: 'spending', key: id, atMs: 7000 })?.total, 50n);
  assert.equal(refused(again.do(hold('r6', 1n, { key: 'k2', atMs: 7000 }))).available, 0n);
  assert.equal(refused(again.do(hold('r7', 0n, { key: 'k', atMs: 7000 }))).why, 'key_ended');
  assert.equal(checkLedger(again.sql).ok, true);
});

test('without an overlap the old key ends at once', (t) => {
  const { ledger } = setup(t, {});
  ledger.do(rotate('k', 'k2', 0, 1000));
  assert.equal(refused(ledger.do(hold('r1', 1n, { key: 'k', atMs: 1000 }))).why, 'key_ended');
  assert.equal(ledger.do(hold('r1', 1n, { key: 'k2', atMs: 1000 })).ok, true);
});

test('a key has the settings of the one that it replaces, its expiry too', (t) => {
  const settings = {
    models: ['m'],
    project: 'web',
    spendLimit: 5n,
    limitReset: 'week',
    rpm: 3,
    expiresMs: 9000,
  } as const;
  const { ledger, open } = setup(t, settings);
  ledger.do(rotate('k', 'k2', 100_000, 1000));
  ledger.do(rotate('k2', 'k3', 100_000, 2000));
  ledger.book.commit();
  for (const { do: apply } of [ledger, open(3000)]) {
    const [first, second, third] = apply({ op: 'keys' });
    assert.deepEqual(third?.settings, first?.settings);
    assert.deepEqual([first?.root, second?.root, third?.root], ['k', 'k', 'k']);
    assert.deepEqual([first?.replacedBy, second?.replacedBy, third?.replacedBy], ['k2', 'k3', null]);
    assert.deepEqual([first?.endsMs, second?.endsMs, third?.endsMs], [101_000, 102_000, null]);
    for (const id of ['k', 'k2', 'k3']) {
      assert.equal(refused(apply(hold('r1', 0n, { key: id, atMs: 9000 }))).why, 'key_ended');
    }
  }
});

test('a key is rotated once, and only while it works', (t) => {
  const { ledger } = setup(t, { expiresMs: 9000 });
  assert.equal(ledger.do(rotate('nobody', 'k2', 0, 0)).ok, false);
  ledger.do(rotate('k', 'k2', 5000, 1000));
  const again = ledger.do(rotate('k', 'k3', 5000, 1000));
  assert.ok(!again.ok && again.code === 'conflict' && again.why.includes('k2'), 'it names the successor');
  assert.deepEqual(
    ledger.do(rotate('k', 'k2', 5000, 1000)),
    { ok: true, existed: true },
    'the same again changes nothing',
  );
  const expired = ledger.do(rotate('k2', 'k3', 5000, 9000));
  assert.ok(!expired.ok && expired.code === 'conflict');
  ledger.do({ op: 'revoke', id: 'k2', atMs: 2000 });
  const revoked = ledger.do(rotate('k2', 'k3', 5000, 2000));
  assert.ok(!revoked.ok && revoked.code === 'conflict');
  assert.equal(ledger.do({ op: 'keys' }).length, 2);
});

test('revoking a key ends it alone: the one that it was rotated to, or from, goes on', (t) => {
  const { ledger } = setup(t, {});
  ledger.do(rotate('k', 'k2', 5000, 0));
  ledger.do({ op: 'revoke', id: 'k2', atMs: 1000 });
  assert.equal(refused(ledger.do(hold('r1', 0n, { key: 'k2', atMs: 1000 }))).why, 'key_ended');
  assert.equal(ledger.do(hold('r1', 0n, { key: 'k', atMs: 1000 })).ok, true);
});

test('the book itself refuses a hold by a revoked and by an expired key; what runs is charged', (t) => {
  const { ledger } = setup(t, { expiresMs: 5000 });
  ledger.do(hold('r1', 10n, { key: 'k', atMs: 4999 }));
  assert.equal(refused(ledger.do(hold('r2', 1n, { key: 'k', atMs: 5000 }))).why, 'key_ended');
  ledger.do({ op: 'revoke', id: 'k', atMs: 4999 });
  assert.equal(refused(ledger.do(hold('r2', 1n, { key: 'k', atMs: 4999 }))).why, 'key_ended');
  assert.equal(ledger.do({ op: 'extend', request: 'r1', amount: 5n }, 5000).ok, true);
  assert.equal(ledger.do(settle('r1', tokens(12))).charged, 12n);
});

test('keys of one project share its limit, which counts what they spent before it was set', (t) => {
  const { ledger, open } = setup(t, { project: 'web' });
  const other = key('other', null);
  ledger.do({ ...other, settings: { ...other.settings, project: 'web' } });
  ledger.do(hold('r1', 30n, { key: 'k' }));
  ledger.do(settle('r1', tokens(30)));
  const limit = { op: 'project' as const, customer: 'ann', name: 'web', reset: 'month' as const, atMs: 0 };
  assert.deepEqual(ledger.do({ ...limit, spendLimit: 50n }), { ok: true, existed: false });
  assert.deepEqual(ledger.do({ ...limit, spendLimit: 50n }), { ok: true, existed: true });
  ledger.do(hold('r2', 15n, { key: 'k' }));
  const short = refused(ledger.do(hold('r3', 6n, { key: 'other' })));
  assert.deepEqual([short.available, short.limitSource, short.transient], [5n, 'project', true]);
  assert.equal(ledger.do(hold('r3', 6n)).ok, true, 'a request without a key is of no project');
  ledger.do(settle('r2', tokens(15)));
  ledger.book.commit();
  const again = open();
  const later = refused(again.do(hold('r4', 6n, { key: 'other' })));
  assert.deepEqual([later.available, later.limitSource, later.transient], [5n, 'project', false]);
  again.do({ ...limit, spendLimit: null });
  assert.equal(again.do(hold('r4', 6n, { key: 'other' })).ok, true);
});

test('two accounts may each have a project of one name', (t) => {
  const { ledger } = setup(t, { project: 'web' });
  ledger.do(customer('bob'));
  ledger.do(grant('g2', 100n, { customer: 'bob' }));
  const bobs = key('bobs', null, 'bob');
  ledger.do({ ...bobs, settings: { ...bobs.settings, project: 'web' } });
  const limit = { op: 'project' as const, name: 'web', spendLimit: 1n, reset: 'none' as const, atMs: 0 };
  ledger.do({ ...limit, customer: 'bob' });
  assert.equal(ledger.do(hold('r1', 2n, { key: 'k' })).ok, true);
  assert.equal(refused(ledger.do(hold('r2', 2n, { customer: 'bob', key: 'bobs' }))).limitSource, 'project');
  assert.equal(ledger.do({ ...limit, customer: 'nobody' }).ok, false);
});

test('a frozen account holds nothing new; what runs is extended and charged; a restart keeps it frozen', (t) => {
  const { ledger, open } = setup(t, {});
  ledger.do(hold('r1', 10n, { key: 'k' }));
  assert.equal(ledger.do({ op: 'freeze', id: 'nobody', reason: 'x', atMs: 1 }).ok, false);
  assert.deepEqual(ledger.do({ op: 'freeze', id: 'ann', reason: 'unpaid', atMs: 1 }), { ok: true, existed: false });
  assert.equal(refused(ledger.do(hold('r2', 0n))).why, 'frozen');
  assert.equal(ledger.do({ op: 'extend', request: 'r1', amount: 10n }).ok, true);
  assert.equal(ledger.do(settle('r1', tokens(15))).charged, 15n);
  ledger.book.commit();
  const again = open();
  const [record] = again.do({ op: 'customers' });
  assert.deepEqual([record?.frozen, record?.frozenReason, record?.frozenMs], [true, 'unpaid', 1]);
  assert.equal(refused(again.do(hold('r2', 0n, { key: 'k' }))).why, 'frozen');
  again.do({ op: 'freeze', id: 'ann', reason: null, atMs: 2 });
  assert.equal(again.do(hold('r2', 0n, { key: 'k' })).ok, true);
  again.book.commit();
  assert.deepEqual(open().do({ op: 'customers' })[0]?.frozenReason, null);
});

function rotate(id: string, to: string, overlapMs: number, atMs: number): RotateOp {
  return { op: 'rotate', id, overlapMs, successor: { id: to, hash: `hash of ${to}`, hint: to }, atMs };
}

function refused(result: HoldResult): HoldResult & { ok: false } {
  assert.ok(!result.ok);
  return result;
}

/** ann has 100 nano-USD and the key k. */
function setup(t: TestContext, settings: Partial<KeySettings>) {
  const { open } = booksOn(t);
  const ledger = open();
  ledger.do(customer());
  ledger.do(price());
  ledger.do(grant('g1', 100n));
  const of = key('k');
  ledger.do({ ...of, settings: { ...of.settings, ...settings } });
  ledger.book.commit();
  return { ledger, open };
}
