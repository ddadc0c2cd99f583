import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import type { AdminKeyOp, AuditNote } from '../../src/ledger/access.ts';
import { createMemoryLedger } from '../../src/ledger/memory.ts';
import { booksOn, customer, grant, type OpenBook } from './fixtures/books.ts';

const NOTE: AuditNote = {
  admin: 'admin-1',
  name: 'Ada',
  role: 'operator',
  action: 'account.created',
  target: 'ann',
  detail: { name: 'ann' },
  request: 'req-1',
};

test('an action is logged in the commit of the action itself: a crash loses both or neither', (t) => {
  const crashed = setup(t);
  crashed.ledger.do({ ...customer(), audit: NOTE }, 7);
  const lost = crashed.open();
  assert.deepEqual([lost.do({ op: 'customers' }), auditsOf(lost)], [[], []]);
  const { ledger, open } = setup(t);
  ledger.do({ ...customer(), audit: NOTE }, 7);
  ledger.book.commit();
  const kept = open();
  assert.equal(kept.do({ op: 'customers' }).length, 1);
  assert.deepEqual(auditsOf(kept), [{ ...NOTE, seq: 1, atMs: 7, outcome: 'ok' }]);
});

test('a refusal leaves no row; a repeat that changed nothing says so', (t) => {
  const { ledger } = setup(t);
  ledger.do({ ...grant('g1', 5n), audit: NOTE });
  assert.deepEqual(auditsOf(ledger), []);
  ledger.do({ ...customer(), audit: NOTE });
  ledger.do({ ...customer(), audit: NOTE });
  ledger.book.commit();
  assert.deepEqual(
    auditsOf(ledger).map(({ detail }) => detail),
    [{ name: 'ann', repeated: true }, { name: 'ann' }],
  );
});

test('what is not the ledger’s own is logged with its outcome', (t) => {
  const { ledger } = setup(t);
  const note = { ...NOTE, action: 'pool.deleted', target: null, detail: {} };
  ledger.do({ op: 'audit', note, outcome: 'not_found', atMs: 9 });
  ledger.book.commit();
  assert.deepEqual(auditsOf(ledger), [{ ...note, seq: 1, atMs: 9, outcome: 'not_found' }]);
});

test('the log is read newest first, page by page, and goes on numbering after a restart', (t) => {
  const { ledger, open } = setup(t);
  for (let at = 1; at <= 5; at += 1) ledger.do({ op: 'audit', note: NOTE, outcome: 'ok', atMs: at });
  ledger.book.commit();
  const again = open();
  again.do({ op: 'audit', note: NOTE, outcome: 'ok', atMs: 6 });
  again.book.commit();
  const seqs = (limit: number, before: number | null) =>
    again.do({ op: 'audits', limit, before }).map(({ seq }) => seq);
  assert.deepEqual([seqs(4, null), seqs(4, 3), seqs(4, 1)], [[6, 5, 4, 3], [2, 1], []]);
});

test('a row of the log can be neither changed nor removed, not even to what it is', (t) => {
  const { ledger } = setup(t);
  ledger.do({ op: 'audit', note: NOTE, outcome: 'ok', atMs: 1 });
  ledger.book.commit();
  const { sql } = ledger;
  assert.throws(() => sql.run('UPDATE audit SET outcome = outcome'), /append-only/);
  assert.throws(() => sql.run('DELETE FROM audit'), /append-only/);
  assert.throws(() => sql.run(`INSERT OR REPLACE INTO audit SELECT * FROM audit`), /append-only|UNIQUE/);
  assert.equal(auditsOf(ledger).length, 1);
});

test('a ledger in memory keeps a log too', async () => {
  const ledger = createMemoryLedger(systemClock);
  for (let at = 1; at <= 3; at += 1) await ledger.ask({ op: 'audit', note: NOTE, outcome: 'ok', atMs: at });
  const rows = await ledger.ask({ op: 'audits', limit: 2, before: 3 });
  assert.deepEqual(
    rows.map(({ seq }) => seq),
    [2, 1],
  );
});

test('admin keys are known again after a restart, by their hash alone', (t) => {
  const { ledger, open } = setup(t);
  const key: AdminKeyOp = {
    op: 'adminKey',
    id: 'admin-1',
    hash: 'h1',
    hint: 'ak-ub-abcd…',
    name: 'Ada',
    role: 'finance',
    expiresMs: 99,
    atMs: 1,
  };
  assert.deepEqual(ledger.do(key), { ok: true, existed: false });
  assert.deepEqual(ledger.do(key), { ok: true, existed: true });
  ledger.do({ ...key, id: 'admin-2', hash: 'h2', role: 'read-only', expiresMs: null });
  assert.deepEqual(ledger.do({ op: 'revokeAdminKey', id: 'admin-2', atMs: 5 }), { ok: true, existed: false });
  assert.deepEqual(ledger.do({ op: 'revokeAdminKey', id: 'admin-2', atMs: 6 }), { ok: true, existed: true });
  assert.equal(ledger.do({ op: 'revokeAdminKey', id: 'nobody', atMs: 6 }).ok, false);
  ledger.book.commit();
  const records = open().do({ op: 'adminKeys' });
  assert.deepEqual(records, ledger.do({ op: 'adminKeys' }));
  assert.deepEqual(
    records.map(({ id, role, expiresMs, revokedMs }) => [id, role, expiresMs, revokedMs]),
    [
      ['admin-1', 'finance', 99, null],
      ['admin-2', 'read-only', null, 5],
    ],
  );
});

function auditsOf({ do: apply }: OpenBook) {
  return apply({ op: 'audits', limit: 100, before: null });
}

function setup(t: TestContext) {
  const { open } = booksOn(t);
  return { ledger: open(), open };
}
