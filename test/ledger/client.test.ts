import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { AppError } from '../../src/errors.ts';
import { cash } from '../../src/ledger/accounts.ts';
import { openLedger } from '../../src/ledger/client.ts';
import { checkLedger } from '../../src/ledger/offline.ts';
import type { LedgerOp } from '../../src/ledger/operations.ts';
import { openSql } from '../../src/store/libsql.ts';
import { lockDataFolder } from '../../src/store/lock.ts';
import type { Sql } from '../../src/store/sql.ts';
import { customer, grant, hold, key, price, settle, tempFolder, tokens, transfer } from './fixtures/books.ts';

test('of a thousand holds racing for one account, exactly as many are granted as fit', async (t) => {
  const { ledger } = await setup(t, 700n);
  const results = await Promise.all(range(1000).map((at) => ledger.ask(hold(`r${at}`, 100n))));
  const granted = results.flatMap((result, at) => (result.ok ? [at] : []));
  assert.deepEqual(granted, range(7), 'first come, first served');
  assert.ok(results.every((result) => result.ok || (result.why === 'insufficient' && result.available === 0n)));
  assert.equal((await ledger.ask({ op: 'balance', customer: 'ann' }))?.held, 700n);
});

test('of a thousand holds racing for the last cent of one key, exactly as many are granted as fit', async (t) => {
  const { ledger } = await setup(t, 1_000_000_000n);
  await ledger.ask(key('k', 10_000_000n));
  const asks = range(1000).map((at) => ledger.ask(hold(`r${at}`, 1_500_000n, { key: 'k' })));
  const results = await Promise.all(asks);
  assert.equal(results.filter(({ ok }) => ok).length, 6);
  const refused = results.find((result) => !result.ok);
  assert.deepEqual([refused?.limitSource, refused?.available], ['key', 1_000_000n]);
});

test('of a thousand holds by two keys racing for the last cent of their project, as many are granted as fit', async (t) => {
  const { ledger } = await setup(t, 1_000_000_000n);
  for (const id of ['k0', 'k1']) {
    const of = key(id);
    await ledger.ask({ ...of, settings: { ...of.settings, project: 'web' } });
  }
  const limit = { customer: 'ann', name: 'web', spendLimit: 10_000_000n, reset: 'day' as const, atMs: 0 };
  await ledger.ask({ op: 'project', ...limit });
  const asks = range(1000).map((at) => ledger.ask(hold(`r${at}`, 1_500_000n, { key: `k${at % 2}` })));
  const results = await Promise.all(asks);
  assert.equal(results.filter(({ ok }) => ok).length, 6);
  const refused = results.find((result) => !result.ok);
  assert.deepEqual([refused?.limitSource, refused?.available], ['project', 1_000_000n]);
});

test('a thousand holds that race while their key is rotated share one limit', async (t) => {
  const { ledger } = await setup(t, 1_000_000_000n);
  await ledger.ask(key('k0', 10_000_000n));
  const rotate = (at: number) => {
    const successor = { id: `k${at + 1}`, hash: `h${at + 1}`, hint: '' };
    return ledger.ask({ op: 'rotate', id: `k${at}`, overlapMs: 1000, successor, atMs: 0 });
  };
  const asks = range(1000).map((at) => {
    if (at % 100 === 0) void rotate(at / 100);
    return ledger.ask(hold(`r${at}`, 1_500_000n, { key: `k${Math.floor(at / 100) + (at % 2)}` }));
  });
  const results = await Promise.all(asks);
  assert.equal(results.filter(({ ok }) => ok).length, 6);
  assert.equal((await ledger.ask({ op: 'spending', key: 'k10', atMs: 0 }))?.cap.held, 9_000_000n);
});

test('holds, extensions and settlements at once never charge more than there is', async (t) => {
  const { ledger, file } = await setup(t, 1000n);
  const charges = await Promise.all(
    range(1000).map(async (at) => {
      const { ok } = await ledger.ask(hold(`r${at}`, 30n));
      if (!ok) return 0n;
      const extended = await ledger.ask({ op: 'extend', request: `r${at}`, amount: 20n });
      const { charged } = await ledger.ask(settle(`r${at}`, tokens(40 + (at % 20))));
      assert.ok(charged <= (extended.ok ? 50n : 30n));
      return charged;
    }),
  );
  const sum = charges.reduce((a, b) => a + b, 0n);
  assert.ok(sum > 0n && sum <= 1000n);
  const balance = await ledger.ask({ op: 'balance', customer: 'ann' });
  assert.deepEqual(balance, { credits: 1000n, used: sum, posted: 1000n - sum, held: 0n });
  assert.equal(amountOf(file(), `SELECT SUM(amount) AS n FROM transfers WHERE type = 'capture'`), sum);
});

const NOTE = {
  ...{ admin: 'a', name: 'a', role: 'operator' as const },
  ...{ action: 'x.y', target: null, detail: {}, request: 'q' },
};
const DEPOSIT = {
  ...{ op: 'deposit' as const, reference: 'tx1', customer: null, amount: 5n, source: cash() },
  ...{ actor: 'w', reason: 'r', atMs: 0 },
};

/** Each in its turn, and what another connection must see once it is answered. */
const DURABLE: readonly (readonly [LedgerOp, string])[] = [
  [key('k1'), `api_keys WHERE id = 'k1'`],
  [
    { op: 'rotate', id: 'k1', overlapMs: 5, successor: { id: 'k2', hash: 'h2', hint: '' }, atMs: 0 },
    `api_keys WHERE id = 'k2' AND root = 'k1'`,
  ],
  [{ op: 'revoke', id: 'k1', atMs: 0 }, `api_keys WHERE id = 'k1' AND revoked_ms = 0`],
  [{ op: 'freeze', id: 'ann', reason: 'x', atMs: 0 }, `customers WHERE frozen_reason = 'x'`],
  [
    { op: 'project', customer: 'ann', name: 'web', spendLimit: 5n, reset: 'day', atMs: 0 },
    `projects WHERE name = 'web'`,
  ],
  [
    { op: 'adminKey', id: 'a1', hash: 'h', hint: '', name: 'a', role: 'finance', expiresMs: null, atMs: 0 },
    `admin_keys WHERE id = 'a1'`,
  ],
  [{ op: 'revokeAdminKey', id: 'a1', atMs: 0 }, `admin_keys WHERE revoked_ms = 0`],
  [DEPOSIT, `transfers WHERE id = 'deposit:tx1'`],
  [
    { op: 'assign', reference: 'tx1', customer: 'ann', actor: 'a', reason: 'r', atMs: 0 },
    `transfers WHERE id = 'assign:tx1'`,
  ],
  [{ op: 'audit', note: NOTE, outcome: 'ok', atMs: 0 }, `audit WHERE action = 'x.y'`],
];

test('what admins do is on disk when it is answered', async (t) => {
  const { ledger, file } = await setup(t, 1000n);
  const reader = file();
  for (const [operation, where] of DURABLE) {
    await ledger.ask(operation);
    assert.equal(amountOf(reader, `SELECT COUNT(*) AS n FROM ${where}`), 1n, operation.op);
  }
});

test('an answer to what is durable comes when another connection can read it', async (t) => {
  const { ledger, file } = await setup(t, 1000n);
  const reader = file();
  const count = (table: string, where: string) => amountOf(reader, `SELECT COUNT(*) AS n FROM ${table} WHERE ${where}`);
  await ledger.ask(hold('r1', 10n));
  await ledger.ask(settle('r1', tokens(5)));
  assert.equal(count('usage', `request = 'r1' AND charged = 5`), 1n);
  await ledger.ask(grant('g2', 5n));
  assert.equal(count('transfers', `id = 'g2'`), 1n);
  await ledger.ask(transfer('t1', 5n));
  assert.equal(count('transfers', `id = 't1'`), 1n);
  await ledger.ask({ op: 'transfers', transfers: [transfer('t2', 5n), transfer('t3', 5n)] });
  assert.equal(count('transfers', `id IN ('t2', 't3')`), 2n);
  await ledger.ask(customer('bob'));
  assert.equal(count('customers', `id = 'bob'`), 1n);
  await ledger.ask(key('k'));
  assert.equal(count('api_keys', `id = 'k'`), 1n);
  await ledger.ask({ op: 'revoke', id: 'k', atMs: 1 });
  assert.equal(count('api_keys', 'revoked_ms = 1'), 1n);
  await ledger.ask(price('other'));
  assert.equal(count('price_versions', `model = 'other'`), 1n);
});

test('close answers and writes what was asked before it, and refuses what comes after', async (t) => {
  const { ledger, file } = await setup(t, 1000n);
  const asks = range(200).flatMap((at) => [ledger.ask(hold(`r${at}`, 5n)), ledger.ask(settle(`r${at}`, tokens(1)))]);
  const closed = ledger.close();
  await assert.rejects(ledger.ask(hold('late', 1n)), { code: 'internal_error' });
  const again = ledger.close();
  await Promise.all([closed, again]);
  assert.ok((await Promise.all(asks)).every(({ ok }) => ok));
  assert.equal(amountOf(file(), 'SELECT SUM(charged) AS n FROM usage'), 200n);
});

test('a hold that is a second old is written without anybody asking', async (t) => {
  const { ledger, file } = await setup(t, 1000n);
  const now = Date.now();
  await ledger.ask(hold('r1', 5n, { atMs: now - 1000, deadlineMs: now + 60_000 }));
  const reader = file();
  for (let tries = 0; reader.all('SELECT 1 FROM holds').length === 0; tries += 1) {
    assert.ok(tries < 100, 'the hold did not reach the file');
    await setTimeout(20);
  }
});

test('too many replies that wait for the disk are refused, but never the settlement of what was let in', async (t) => {
  const { ledger } = await setup(t, 1000n, 10);
  await Promise.all(range(5).map((at) => ledger.ask(hold(`r${at}`, 1n))));
  const asks = range(20).map((at) => ledger.ask(grant(`s${at}`, 1n)));
  const settlements = range(5).map((at) => ledger.ask(settle(`r${at}`, tokens(1))));
  await assert.rejects(ledger.ask(hold('full', 1n)), { code: 'queue_full' });
  assert.equal(await ledger.ask({ op: 'progress', request: 's1', tokens: tokens(1) }), null);
  const results = await Promise.allSettled(asks);
  const refused = results.filter(({ status }) => status === 'rejected');
  assert.equal(refused.length, 10);
  const [first] = refused;
  assert.ok(first?.status === 'rejected' && first.reason instanceof AppError && first.reason.code === 'queue_full');
  assert.ok((await Promise.all(settlements)).every(({ ok, charged }) => ok && charged === 1n));
  assert.equal((await ledger.ask(hold('free again', 1n))).ok, true);
});

test('an error of the book itself ends the ledger: memory is then in doubt', async (t) => {
  const { ledger, failures } = await setup(t, 1000n);
  const waiting = ledger.ask(grant('g2', 5n));
  const broken = ledger.ask({ ...hold('r2', 1n), amount: 1 as unknown as bigint });
  await assert.rejects(broken, { code: 'internal_error' });
  await assert.rejects(waiting, { code: 'internal_error' });
  assert.equal(failures.length, 1);
  await assert.rejects(ledger.ask(hold('r3', 1n)), { code: 'internal_error' });
  await ledger.close();
});

test('when the writer fails, whoever waits is told, nothing hangs and the failure is passed on', async (t) => {
  const { ledger, failures, file } = await setup(t, 1000n);
  const writer = file('write');
  // A row that the writer does not know of takes the number of its next one.
  writer.run(`INSERT INTO transfers SELECT 2, 'x', type, debit, credit, amount, at_ms, request, actor, reason, hash
    FROM transfers WHERE seq = 1`);
  await assert.rejects(ledger.ask(grant('g2', 5n)), { code: 'internal_error' });
  assert.match(String(failures[0]), /UNIQUE|not on disk/);
  // Before and after the thread is gone: an answer that never comes would be worse than an error.
  await assert.rejects(ledger.ask(hold('r1', 1n)), { code: 'internal_error' });
  await setTimeout(200);
  await assert.rejects(ledger.ask(hold('r2', 1n)), { code: 'internal_error' });
  await ledger.close();
});

test('a file that is no ledger of this version does not open', async (t) => {
  const folder = tempFolder(t);
  const sql = openSql(join(folder, 'ledger.db'));
  sql.exec(`CREATE TABLE meta (key TEXT, value TEXT); INSERT INTO meta VALUES ('schema', '99')`);
  sql.close();
  await assert.rejects(openLedger({ dataDir: folder, onFatal: () => undefined }), /schema 99/);
});

test('the check runs beside the writer, and offline only while no other process has the folder', async (t) => {
  const { ledger, folder } = await setup(t, 1000n);
  const [first, second] = await Promise.all([ledger.ask({ op: 'check' }), ledger.ask({ op: 'check' })]);
  assert.equal(first.ok, true);
  assert.equal(second, first, 'two that ask at once share one check');
  await ledger.close();
  const unlock = lockDataFolder(folder);
  await assert.rejects(checkLedger(folder), { code: 'data_in_use' });
  unlock();
  assert.equal((await checkLedger(folder)).ok, true);
  await assert.rejects(checkLedger(join(folder, 'nothing')), { code: 'not_found' });
});

const range = (length: number): number[] => Array.from({ length }, (_, at) => at);

function amountOf(sql: Sql, query: string) {
  return sql.all(query)[0]?.['n'];
}

/** A ledger in its own thread; `file` opens another connection to what it writes. */
async function setup(t: TestContext, credit: bigint, pendingMax?: number) {
  const closers: (() => void | Promise<void>)[] = [];
  t.after(async () => {
    for (const close of closers.toReversed()) await close();
  });
  const folder = tempFolder(t);
  const failures: Error[] = [];
  const onFatal = (error: Error): void => void failures.push(error);
  const ledger = await openLedger({ dataDir: folder, onFatal, ...(pendingMax === undefined ? {} : { pendingMax }) });
  closers.push(() => ledger.close());
  await ledger.ask(customer());
  await ledger.ask(price());
  await ledger.ask(grant('g1', credit));
  const file = (mode: 'read' | 'write' = 'read'): Sql => {
    const sql = openSql(join(folder, 'ledger.db'), { readonly: mode === 'read' });
    closers.push(() => sql.close());
    return sql;
  };
  return { ledger, folder, failures, file };
}
