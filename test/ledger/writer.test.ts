import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import { systemClock } from '../../src/clock.ts';
import { Book } from '../../src/ledger/book.ts';
import type { LedgerOp } from '../../src/ledger/operations.ts';
import { Writer, type Answer } from '../../src/ledger/writer.ts';
import { openSql } from '../../src/store/libsql.ts';
import type { Sql } from '../../src/store/sql.ts';
import { customer, grant, hold, price, settle, tempFolder, tokens } from './fixtures/books.ts';

test('everything that is waiting is committed at once', (t) => {
  const { ask, turn, commits } = setup(t);
  for (let at = 0; at < 100; at += 1) ask(hold(`r${at}`, 1n), settle(`r${at}`, tokens(1)));
  assert.equal(commits(), 0);
  turn();
  assert.equal(commits(), 1);
});

test('a group has at most 512 operations, the rest follows in the next turn', (t) => {
  const { ask, turn, commits, answered } = setup(t);
  for (let at = 0; at < 300; at += 1) ask(hold(`r${at}`, 0n), settle(`r${at}`, tokens(1)));
  turn();
  assert.deepEqual([commits(), answered().length], [1, 512]);
  turn();
  assert.deepEqual([commits(), answered().length], [2, 600]);
});

test('operations are applied in the order in which they came, and answered in it', (t) => {
  const { ask, turn, answered } = setup(t);
  ask(hold('r1', 100n), hold('r2', 1n), settle('r1', tokens(40)), settle('r1', tokens(40)), hold('r2', 60n));
  turn();
  const replies = answered();
  const holds = replies.filter(({ id }) => [1, 2, 5].includes(id));
  assert.deepEqual(
    holds.map(({ id, reply }) => [id, typeof reply === 'object' && reply !== null && 'ok' in reply && reply.ok]),
    [
      [1, true],
      [2, false],
      [5, true],
    ],
  );
  const settlements = replies.filter(({ id }) => [3, 4].includes(id));
  assert.deepEqual(settlements, [
    { id: 3, reply: { ok: true, charged: 40n, priceVersion: 1 } },
    { id: 4, reply: { ok: false, charged: 0n, priceVersion: 0 } },
  ]);
});

test('a hold is answered before the commit of its group, a settlement after it', (t) => {
  const { ask, turn, answered, onCommit } = setup(t);
  ask(hold('r1', 10n), settle('r1', tokens(1)), hold('r2', 10n));
  let before: readonly number[] = [];
  onCommit(() => {
    before = answered().map(({ id }) => id);
  });
  turn();
  assert.deepEqual(before, [1, 3]);
  assert.deepEqual(
    answered().map(({ id }) => id),
    [1, 3, 2],
  );
});

test('progress has no answer', (t) => {
  const { ask, turn, answered } = setup(t);
  ask(hold('r1', 10n), { op: 'progress', request: 'r1', tokens: tokens(1) });
  turn();
  assert.deepEqual(
    answered().map(({ id }) => id),
    [1],
  );
});

test('what is durable is not answered when its commit fails, and the failure goes to whoever runs the writer', (t) => {
  const { ask, turn, answered, onCommit } = setup(t);
  ask(grant('g2', 5n));
  onCommit(() => {
    throw new Error('the disk is full');
  });
  assert.throws(turn, /disk is full/);
  assert.deepEqual(answered(), []);
});

test('a tick does the work of time and commits it', (t) => {
  const { writer, ask, turn, sql, advance } = setup(t);
  ask(hold('r1', 10n));
  turn();
  advance(1000);
  writer.tick();
  assert.equal(sql.all('SELECT request FROM holds').length, 1);
});

test('drain answers all that was asked without waiting for a turn', (t) => {
  const { writer, ask, answered } = setup(t);
  for (let at = 0; at < 1000; at += 1) ask(hold(`r${at}`, 0n));
  writer.drain();
  assert.equal(answered().length, 1000);
});

test('a burst of any size is taken in', (t) => {
  const { writer, answered } = setup(t);
  const burst = Array.from({ length: 300_000 }, (_, id) => ({ id, operation: { op: 'customers' } as const }));
  writer.push(burst);
  writer.drain();
  assert.equal(answered().length, burst.length);
});

test('rows that were acknowledged but cannot be seen from outside end the writer', (t) => {
  const { book, writer } = setup(t, (seq) => seq - 1n);
  assert.throws(() => writer.tick(), /not on disk/);
  assert.ok(book.seq > 0n);
});

/** A writer whose turns the test takes by hand; the customer has 100 nano-USD. */
function setup(t: TestContext, seen?: (seq: bigint) => bigint) {
  const folder = tempFolder(t);
  const raw = openSql(`${folder}/ledger.db`);
  t.after(() => raw.close());
  let now = 0;
  let commits = 0;
  let hook: (() => void) | null = null;
  const sql: Sql = {
    ...raw,
    transaction: (work) => {
      hook?.();
      commits += 1;
      return raw.transaction(work);
    },
  };
  const book = new Book(sql, now);
  for (const operation of [customer(), price(), grant('g1', 100n)]) book.apply(operation, now);
  book.commit();
  commits = 0;
  const turns: (() => void)[] = [];
  const answers: Answer[] = [];
  const clock: Clock = { ...systemClock, now: () => now };
  const writer = new Writer({
    book,
    clock,
    answer: (more) => void answers.push(...more),
    later: (work) => void turns.push(work),
    ...(seen ? { storedSeq: () => seen(book.seq) } : {}),
  });
  let id = 0;
  return {
    book,
    writer,
    sql,
    commits: () => commits,
    answered: () => answers,
    onCommit: (call: () => void) => {
      hook = call;
    },
    advance: (ms: number) => {
      now += ms;
    },
    ask: (...operations: LedgerOp[]) => {
      writer.push(
        operations.map((operation) => {
          id += 1;
          return { id, operation };
        }),
      );
    },
    turn: () => turns.shift()?.(),
  };
}
