import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import type { DepositOp } from '../../src/ledger/access.ts';
import { cash } from '../../src/ledger/accounts.ts';
import { checkLedger } from '../../src/ledger/check.ts';
import { booksOn, customer, hold, price } from './fixtures/books.ts';

const WALLET = { ...cash(), name: 'chain:akash:usdc' };

test('a deposit is credited to its account as paid credit', (t) => {
  const { ledger, open } = setup(t);
  assert.deepEqual(ledger.do(deposit('tx1:0', 70n)), { ok: true, existed: false, suspense: false });
  assert.deepEqual(ledger.do({ op: 'balance', customer: 'ann' }), { credits: 70n, used: 0n, posted: 70n, held: 0n });
  assert.equal(ledger.account(WALLET.name).posted, 70n);
  assert.equal(ledger.do(hold('r1', 70n)).ok, true);
  ledger.book.commit();
  assert.equal(open().do({ op: 'balance', customer: 'ann' })?.credits, 70n, 'it counts as granted after a restart');
});

test('the same reference again credits nothing, before a commit, after it and after a restart', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(deposit('tx1:0', 70n));
  assert.deepEqual(ledger.do(deposit('tx1:0', 70n)), { ok: true, existed: true, suspense: false });
  ledger.book.commit();
  assert.deepEqual(ledger.do(deposit('tx1:0', 70n)), { ok: true, existed: true, suspense: false });
  const again = open();
  assert.deepEqual(again.do(deposit('tx1:0', 70n)), { ok: true, existed: true, suspense: false });
  assert.deepEqual(again.do(deposit('tx1:0', 70n, { customer: 'bob' })), { ok: true, existed: true, suspense: false });
  assert.equal(again.do(deposit('tx1:0', 71n)).ok, false);
  assert.equal(again.do(deposit('tx1:0', 70n, { source: cash() })).ok, false);
  assert.equal(again.do({ op: 'balance', customer: 'ann' })?.posted, 70n);
  assert.equal(again.do(deposit('tx1:1', 5n)).ok, true, 'another event of the same transaction is another deposit');
});

for (const owner of [null, 'nobody']) {
  test(`a deposit for ${owner} waits in suspense and is assigned once`, (t) => {
    const { ledger, open } = setup(t);
    assert.deepEqual(ledger.do(deposit('tx1', 70n, { customer: owner })), { ok: true, existed: false, suspense: true });
    assert.equal(ledger.account('suspense:deposits').posted, 70n);
    assert.equal(ledger.do(assign('tx1', 'nobody')).ok, false);
    assert.equal(ledger.do(assign('tx2', 'ann')).ok, false);
    ledger.book.commit();
    const again = open();
    const [waiting] = again.do({ op: 'suspense' });
    assert.deepEqual([waiting?.reference, waiting?.amount, waiting?.source], ['tx1', 70n, WALLET.name]);
    assert.equal(
      checkLedger(again.sql).checks.find(({ name }) => name.startsWith('I8'))?.detail,
      '1 deposits, 1 in suspense',
    );
    assert.deepEqual(
      again.do(deposit('tx1', 70n)),
      { ok: true, existed: true, suspense: true },
      'a scan anew changes nothing',
    );
    assert.deepEqual(again.do(assign('tx1', 'ann')), { ok: true, existed: false });
    assert.deepEqual(again.do({ op: 'suspense' }), []);
    assert.deepEqual(again.do(assign('tx1', 'ann')), { ok: true, existed: true });
    const second = again.do(assign('tx1', 'bob'));
    assert.ok(!second.ok && second.code === 'conflict');
    again.book.commit();
    const last = open();
    assert.deepEqual(last.do({ op: 'suspense' }), []);
    assert.deepEqual(last.do(assign('tx1', 'ann')), { ok: true, existed: true });
    assert.deepEqual(last.do({ op: 'balance', customer: 'ann' }), { credits: 70n, used: 0n, posted: 70n, held: 0n });
    assert.equal(last.account('suspense:deposits').posted, 0n);
    assert.equal(checkLedger(last.sql).ok, true);
  });
}

test('a reference is a text of 1 to 300 characters, and an amount is above zero', (t) => {
  const { ledger } = setup(t);
  for (const reference of ['', 'x'.repeat(301), 'a\0b']) assert.equal(ledger.do(deposit(reference, 1n)).ok, false);
  for (const amount of [0n, -1n]) assert.equal(ledger.do(deposit('tx1', amount)).ok, false);
  assert.equal(ledger.do(deposit('tx1', 2n ** 63n)).ok, false);
  assert.equal(ledger.do(deposit('x'.repeat(300), 1n)).ok, true);
});

test('the file itself refuses a second transfer of a reference', (t) => {
  const { ledger } = setup(t);
  ledger.do(deposit('tx1', 70n));
  ledger.book.commit();
  const twin = `INSERT INTO transfers SELECT 99, id, type, debit, credit, amount, at_ms, request, actor, reason, hash
    FROM transfers WHERE type = 'deposit'`;
  assert.throws(() => ledger.sql.run(twin), /UNIQUE/);
});

test('deposits are found without reading all transfers', (t) => {
  const { ledger } = setup(t);
  const plan = ledger.sql.all(`EXPLAIN QUERY PLAN SELECT seq FROM transfers
    WHERE type IN ('deposit', 'deposit_assign') AND type = 'deposit'`);
  assert.match(String(plan[0]?.['detail']), /USING (COVERING )?INDEX transfers_deposits/);
});

test('however often and in whatever order scans and assignments repeat, money comes in once', (t) => {
  const event = fc.record({
    reference: fc.nat(4),
    act: fc.constantFrom('ann', 'bob', 'nobody', 'assign ann', 'assign bob', 'restart'),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 25 }), (events) => {
      const { ledger, open } = setup(t);
      let current = ledger;
      const first = new Map<number, string>();
      for (const { reference, act } of events) {
        const id = `tx${reference}`;
        const known = first.get(reference);
        if (act === 'restart') {
          current.book.commit();
          current = open();
        } else if (act.startsWith('assign ')) {
          const to = act.slice('assign '.length);
          const { ok } = current.do(assign(id, to));
          assert.equal(ok, known === 'nobody' || known === act);
          if (ok) first.set(reference, act);
        } else {
          current.do(deposit(id, BigInt(reference + 1), { customer: act }));
          if (known === undefined) first.set(reference, act);
        }
      }
      for (const owner of ['ann', 'bob', 'nobody']) {
        const own = [...first].filter(([, to]) => to.replace('assign ', '') === owner);
        const sum = own.reduce((total, [reference]) => total + BigInt(reference + 1), 0n);
        const name = owner === 'nobody' ? 'suspense:deposits' : `user:${owner}:paid`;
        assert.equal(current.do({ op: 'account', name })?.posted ?? 0n, sum, owner);
      }
      current.book.commit();
      assert.equal(checkLedger(current.sql).ok, true);
    }),
    { numRuns: 60 },
  );
});

function deposit(reference: string, amount: bigint, more: Partial<DepositOp> = {}): DepositOp {
  const about = { customer: 'ann', source: WALLET, actor: 'watcher', reason: 'a deposit', atMs: 5 };
  return { op: 'deposit', reference, amount, ...about, ...more };
}

function assign(reference: string, to: string) {
  return { op: 'assign' as const, reference, customer: to, actor: 'admin', reason: 'found', atMs: 6 };
}

function setup(t: TestContext) {
  const { open } = booksOn(t);
  const ledger = open();
  for (const id of ['ann', 'bob']) ledger.do(customer(id));
  ledger.do(price());
  ledger.book.commit();
  return { ledger, open };
}
