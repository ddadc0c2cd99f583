import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { checkLedger } from '../../src/ledger/check.ts';
import type { HoldOp, HoldResult, SettleOp } from '../../src/ledger/operations.ts';
import { FILE_BOUNDS, type ReplayBounds } from '../../src/ledger/replays.ts';
import { booksOn, customer, grant, hold, key, price, settle, tokens, type OpenBook } from './fixtures/books.ts';

/** Requests under an Idempotency-Key, as the book judges them. */

const DAY = 24 * 60 * 60 * 1000;

test('a key in flight refuses every repeat, also with another body', (t) => {
  const { ledger } = setup(t);
  assert.deepEqual(ledger.do(keyed('r1', 'k')), { ok: true });
  assert.deepEqual(earlier(ledger.do(keyed('r2', 'k'))), ['in_flight', 'r1', null]);
  assert.deepEqual(earlier(ledger.do(keyed('r3', 'k', 'other'))), ['mismatch', 'r1', null]);
  assert.deepEqual(ledger.do(keyed('r4', 'k2')), { ok: true });
  assert.deepEqual(ledger.do(hold('r5', 10n)), { ok: true }, 'without a key nothing is compared');
});

for (const committed of [false, true]) {
  test(`a finished request gives its reply, ${committed ? 'from the file' : 'before it is there'}`, (t) => {
    const { ledger } = setup(t);
    ledger.do(keyed('r1', 'k'));
    assert.equal(ledger.do(finish('r1', 7n, 'reply')).charged, 7n);
    if (committed) ledger.book.commit();
    assert.deepEqual(earlier(ledger.do(keyed('r2', 'k'))), ['completed', 'r1', 'reply']);
    assert.deepEqual(earlier(ledger.do(keyed('r3', 'k', 'other'))), ['mismatch', 'r1', null]);
    assert.equal(ledger.book.pendingHolds, 0);
  });
}

test('a finished request gives its reply after a restart', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(keyed('r1', 'k'));
  ledger.do(finish('r1', 7n, 'reply'));
  ledger.book.commit();
  const again = open(5000);
  assert.deepEqual(earlier(again.do(keyed('r2', 'k'))), ['completed', 'r1', 'reply']);
  assert.equal(checkLedger(again.sql).ok, true);
});

test('a finished request is answered from an empty account, not from a frozen price or a spent key', (t) => {
  const { ledger } = setup(t, { credit: 7n });
  ledger.do(key('a', 7n));
  ledger.do(keyed('r1', 'k', 'body', { amount: 7n, key: 'a' }));
  ledger.do(finish('r1', 7n, 'reply'));
  assert.deepEqual(earlier(ledger.do(keyed('r2', 'k', 'body', { amount: 7n, key: 'a', priceVersion: 9 }))), [
    'completed',
    'r1',
    'reply',
  ]);
});

test('a hold that was refused takes no key', (t) => {
  const { ledger } = setup(t);
  const refused = ledger.do(keyed('r1', 'k', 'body', { amount: 10_000_000n }));
  assert.ok(!refused.ok && refused.why === 'insufficient');
  assert.deepEqual(ledger.do(keyed('r2', 'k')), { ok: true });
});

const ENDS: readonly (readonly [SettleOp['status'], bigint, boolean])[] = [
  ['done', 7n, true],
  ['done', 0n, true],
  ['length', 7n, true],
  ['cancelled', 7n, true],
  ['cancelled', 0n, false],
  ['failed', 7n, true],
  ['failed', 0n, false],
];
for (const [status, charge, used] of ENDS) {
  for (const journaled of [false, true]) {
    const how = `${status}, charged ${charge}, ${journaled ? 'on disk' : 'in memory'}`;
    test(`a key is ${used ? 'used up' : 'free again'} after its request: ${how}`, (t) => {
      const { ledger, open } = setup(t);
      ledger.do(keyed('r1', 'k'));
      if (journaled) ledger.book.tick(1000);
      ledger.book.commit();
      ledger.do(finish('r1', charge, null, { status }));
      ledger.book.commit();
      assert.equal(ledger.sql.all('SELECT 1 FROM replays').length, used ? 1 : 0);
      const again = open(2000);
      for (const one of [ledger, again]) {
        const result = one.do(keyed('r2', 'k'));
        assert.deepEqual(used ? earlier(result) : result, used ? ['completed', 'r1', null] : { ok: true });
      }
      assert.equal(checkLedger(again.sql).ok, true);
    });
  }
}

test('a reply is kept of finished requests only, and only if it names the cost that was charged', (t) => {
  const { ledger } = setup(t);
  ledger.do(keyed('r1', 'a'));
  ledger.do(finish('r1', 7n, 'reply', { status: 'failed' }));
  ledger.do(keyed('r2', 'b'));
  ledger.do({ ...finish('r2', 7n, 'reply'), replay: { sealed: bytes('reply'), cost: 8n } });
  for (const name of ['a', 'b']) assert.equal(earlier(ledger.do(keyed('r9', name)))[2], null);
});

test('a crash frees the key of a hold that was in memory only: nothing was charged', (t) => {
  const { ledger, open } = setup(t);
  ledger.do(keyed('r1', 'k'));
  ledger.do({ op: 'progress', request: 'r1', tokens: tokens(5) });
  ledger.book.tick(999);
  ledger.book.commit();
  const again = open(1000);
  assert.deepEqual(again.do(keyed('r2', 'k')), { ok: true });
  assert.equal(again.do({ op: 'balance', customer: 'ann' })?.used, 0n);
});

for (const charge of [0, 5]) {
  test(`a hold that a crash left on disk is recovered, its key ${charge > 0 ? 'used up' : 'free'}: ${charge}`, (t) => {
    const { ledger, open } = setup(t);
    ledger.do(keyed('r1', 'k'));
    ledger.do({ op: 'progress', request: 'r1', tokens: tokens(charge) });
    ledger.book.tick(1000);
    ledger.book.commit();
    assert.equal(ledger.sql.all(`SELECT 1 FROM replays WHERE state = 'in_flight'`).length, 1);
    assert.equal(checkLedger(ledger.sql).ok, true);
    const again = open(5000);
    const result = again.do(keyed('r2', 'k'));
    if (charge === 0) assert.deepEqual(result, { ok: true });
    else assert.deepEqual(earlier(result), ['completed', 'r1', null]);
    assert.equal(again.do({ op: 'balance', customer: 'ann' })?.used, BigInt(charge));
    assert.equal(checkLedger(again.sql).ok, true);
  });
}

test('a request that outlived its deadline has its key decided by what it was charged', (t) => {
  const { ledger } = setup(t);
  for (const [name, charge] of Object.entries({ a: 0, b: 5 })) {
    ledger.do(keyed(`r-${name}`, name, 'body', { deadlineMs: 5000 }));
    ledger.do({ op: 'progress', request: `r-${name}`, tokens: tokens(charge) });
  }
  ledger.book.tick(5000);
  assert.deepEqual(ledger.do(keyed('again', 'a', 'body', { atMs: 5000 })), { ok: true });
  assert.equal(earlier(ledger.do(keyed('again-b', 'b', 'body', { atMs: 5000 })))[0], 'completed');
  assert.equal(ledger.do(finish('r-b', 9n, 'late')).ok, false);
});

test('a key is used for 24 hours and then free, with its row gone from the file', (t) => {
  const { ledger } = setup(t);
  ledger.do(keyed('r1', 'k'));
  ledger.do(finish('r1', 7n, 'reply', { atMs: 1000 }));
  ledger.book.commit();
  const at = (atMs: number): HoldResult => ledger.do(keyed('r2', 'k', 'body', { atMs, deadlineMs: atMs + 5000 }));
  ledger.book.tick(DAY + 999);
  assert.equal(earlier(at(DAY + 999))[0], 'completed');
  ledger.book.tick(DAY + 1000);
  ledger.book.commit();
  assert.equal(ledger.sql.all('SELECT 1 FROM replays').length, 0);
  assert.deepEqual(at(DAY + 1000), { ok: true });
});

test('a key that has expired is free though no tick has removed it yet', (t) => {
  const { ledger } = setup(t);
  ledger.do(keyed('r1', 'k'));
  ledger.do(finish('r1', 7n, 'old'));
  ledger.book.commit();
  assert.deepEqual(ledger.do(keyed('r2', 'k', 'other', { atMs: DAY, deadlineMs: DAY + 5000 })), { ok: true });
  ledger.do(finish('r2', 9n, 'new', { atMs: DAY }));
  ledger.book.tick(DAY);
  ledger.book.commit();
  assert.deepEqual(earlier(ledger.do(keyed('r3', 'k', 'other', { atMs: DAY }))), ['completed', 'r2', 'new']);
  assert.equal(checkLedger(ledger.sql).ok, true);
});

test('a key that is used again after its day counts once, and so does its reply', (t) => {
  const { ledger } = setup(t, { bounds: { accountKeys: 1, accountReplies: 1 } });
  for (const day of [0, 1, 2]) {
    const atMs = day * DAY;
    assert.deepEqual(ledger.do(keyed(`r${day}`, 'k', 'body', { atMs, deadlineMs: atMs + 5000 })), { ok: true });
    ledger.do(finish(`r${day}`, 1n, `reply ${day}`, { atMs }));
    assert.deepEqual(earlier(ledger.do(keyed('r9', 'k', 'body', { atMs }))), ['completed', `r${day}`, `reply ${day}`]);
  }
});

test('a tick removes a bounded number of expired rows, and each once', (t) => {
  const { ledger, open } = setup(t);
  for (let at = 0; at < 1200; at += 1) {
    ledger.do(keyed(`r${at}`, `k${at}`));
    ledger.do(finish(`r${at}`, 1n, 'reply'));
  }
  ledger.book.commit();
  const left: (bigint | undefined)[] = [];
  for (let step = 0; step < 4; step += 1) {
    ledger.book.tick(DAY);
    // The rows that are on their way out are not counted a second time.
    ledger.book.tick(DAY);
    ledger.book.commit();
    left.push(ledger.sql.all('SELECT COUNT(*) AS n FROM replays')[0]?.['n'] as bigint);
  }
  assert.deepEqual(left, [700n, 200n, 0n, 0n]);
  assert.deepEqual(ledger.do(keyed('again', 'k0', 'body', { atMs: DAY })), { ok: true });
  assert.equal(open(DAY).book.pendingHolds, 0);
});

test('the oldest replies of an account make room for its new ones; their keys stay used', (t) => {
  const { ledger, open } = setup(t, { bounds: { accountReplies: 3, accountBytes: 25 } });
  const kept = (one: OpenBook): string[] =>
    ['a', 'b', 'c', 'd', 'e', 'f'].filter((name) => earlier(one.do(keyed('r9', name)))[2] !== null);
  const run = (name: string, reply: string): void => {
    ledger.do(keyed(`r-${name}`, name));
    ledger.do(finish(`r-${name}`, 1n, reply));
  };
  for (const name of ['a', 'b', 'c', 'd']) run(name, 'xxxxx');
  ledger.book.commit();
  for (const name of ['e', 'f']) ledger.do(keyed(`r-${name}`, name));
  ledger.do(finish('r-e', 1n, 'x'.repeat(18)));
  ledger.do(finish('r-f', 1n, 'x'.repeat(26)));
  assert.deepEqual(kept(ledger), ['d', 'e'], 'by number first, then by bytes; one that never fits displaces none');
  ledger.book.commit();
  const again = open(0);
  assert.deepEqual(kept(again), ['d', 'e']);
  again.do(keyed('r-g', 'g'));
  again.do(finish('r-g', 1n, 'x'.repeat(10)));
  assert.deepEqual(kept(again), [], 'a restart knows what is kept: 18 and 10 are too much');
});

test('the bounds of all accounts together drop the oldest reply of whoever has it', (t) => {
  const { ledger } = setup(t, { bounds: { replies: 2 } });
  ledger.do(customer('bob'));
  ledger.do(grant('g2', 1000n, { customer: 'bob' }));
  for (const [at, owner] of ['ann', 'bob', 'bob'].entries()) {
    ledger.do(keyed(`r${at}`, `k${at}`, 'body', { customer: owner }));
    ledger.do(finish(`r${at}`, 1n, 'reply'));
  }
  const replies = [0, 1, 2].map((at) => earlier(ledger.do(keyed('r9', `k${at}`)))[2]);
  assert.deepEqual(replies, [null, 'reply', 'reply']);
});

test('an account that has used too many keys in a day is refused new ones, others are not', (t) => {
  const { ledger, open } = setup(t, { bounds: { accountKeys: 2, keys: 3 } });
  ledger.do(customer('bob'));
  ledger.do(grant('g2', 1000n, { customer: 'bob' }));
  for (const name of ['a', 'b']) ledger.do(keyed(`r-${name}`, name));
  ledger.do(finish('r-a', 1n, null));
  const why = (result: HoldResult): string => (result.ok ? 'ok' : result.why);
  assert.equal(why(ledger.do(keyed('r-c', 'c'))), 'too_many_keys');
  assert.equal(why(ledger.do(keyed('r-a2', 'a'))), 'repeated');
  assert.equal(why(ledger.do(hold('r-none', 1n))), 'ok');
  ledger.do(finish('r-b', 0n, null, { status: 'failed' }));
  assert.equal(why(ledger.do(keyed('r-d', 'd'))), 'ok', 'a key that came free does not count');
  assert.equal(why(ledger.do(keyed('r-e', 'e', 'body', { customer: 'bob' }))), 'ok');
  assert.equal(why(ledger.do(keyed('r-f', 'f', 'body', { customer: 'bob' }))), 'too_many_keys', 'three in all');
  ledger.do(finish('r-d', 1n, null));
  ledger.book.commit();
  assert.equal(why(open(0).do(keyed('r-h', 'h'))), 'too_many_keys', 'counted after a restart');
});

const TAMPERINGS: readonly (readonly [string, string, RegExp])[] = [
  ['a usage row that is gone', `DELETE FROM usage WHERE request = 'r2'`, /request r2 is completed.*no usage row/],
  ['a request that never was', `UPDATE replays SET request = 'x' WHERE hash = 'k1'`, /request x is completed/],
  ['a claim without its hold', `UPDATE replays SET request = 'x' WHERE hash = 'k3'`, /request x is in_flight.*held/],
];
for (const [what, statement, expected] of TAMPERINGS) {
  test(`the check finds a key without its charge or hold: ${what}`, (t) => {
    const { ledger } = setup(t);
    for (const at of [1, 2, 3]) ledger.do(keyed(`r${at}`, `k${at}`));
    ledger.book.tick(1000);
    for (const at of [1, 2]) ledger.do(finish(`r${at}`, 1n, 'reply'));
    ledger.book.commit();
    assert.equal(checkLedger(ledger.sql).ok, true);
    ledger.sql.exec(`DROP TRIGGER usage_no_delete; ${statement}`);
    const found = checkLedger(ledger.sql).checks.find(({ name }) => name.startsWith('I7'));
    assert.equal(found?.ok, false);
    assert.match(found?.detail ?? '', expected);
  });
}

function keyed(request: string, name: string, body = 'body', more: Partial<HoldOp> = {}): HoldOp {
  return hold(request, 20n, { idempotency: { hash: name, bodyHash: body }, ...more });
}

/** A settlement that charges so much: an input token is one nano-USD. */
function finish(request: string, charge: bigint, reply: string | null, more: Partial<SettleOp> = {}): SettleOp {
  const replay = reply === null ? {} : { replay: { sealed: bytes(reply), cost: charge } };
  return settle(request, tokens(Number(charge)), { ...replay, ...more });
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function earlier(result: HoldResult): [string, string, string | null] {
  assert.ok(!result.ok && result.why === 'repeated' && result.earlier, JSON.stringify(result.ok));
  const { state, request, sealed } = result.earlier;
  return [state, request, sealed && new TextDecoder().decode(sealed)];
}

function setup(t: TestContext, more: { credit?: bigint; bounds?: Partial<ReplayBounds> } = {}) {
  const { open } = booksOn(t, { ...FILE_BOUNDS, ...more.bounds });
  const ledger = open();
  ledger.do(customer());
  ledger.do(price());
  ledger.do(grant('g1', more.credit ?? 100_000n));
  ledger.book.commit();
  return { ledger, open };
}
