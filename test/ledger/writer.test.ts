import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import { systemClock } from '../../src/clock.ts';
import { Book } from '../../src/ledger/book.ts';
import { JournalFile, type Batch } from '../../src/ledger/journal-file.ts';
import type { EarlierRequest, LedgerOp } from '../../src/ledger/operations.ts';
import { Writer } from '../../src/ledger/writer.ts';
import { openSql } from '../../src/store/libsql.ts';
import { customer, grant, hold, price, promo, settle, tempFolder, tokens } from './fixtures/books.ts';

interface HoldReply {
  readonly earlier?: EarlierRequest;
}

test('everything that is asked in one turn is one commit', async (t) => {
  const { ask, turn, batches, store } = setup(t);
  const replies = Array.from({ length: 100 }, (_, at) => ask(hold(`r${at}`, 1n), settle(`r${at}`, tokens(1))));
  assert.equal(batches.length, 0);
  turn();
  assert.equal(batches.length, 1);
  store();
  await Promise.all(replies.flat());
  assert.equal(batches.length, 1);
});

test('what is asked during a commit is the next one, whole', async (t) => {
  const { ask, turn, batches, store } = setup(t);
  const first = ask(grant('g2', 1n));
  turn();
  const rest = Array.from({ length: 50 }, (_, at) => ask(grant(`h${at}`, 1n))).flat();
  turn();
  assert.equal(batches.length, 1, 'one at a time');
  store();
  await Promise.all(first);
  assert.deepEqual(
    batches.map(({ ids }) => ids.length),
    [1, 50],
  );
  store();
  assert.ok((await Promise.all(rest)).every((reply) => (reply as { ok: boolean }).ok));
});

test('operations are judged in the order in which they came', async (t) => {
  const { ask, turn, store } = setup(t);
  const replies = ask(hold('r1', 100n), hold('r2', 1n), settle('r1', tokens(40)), settle('r1', tokens(40)));
  const last = ask(hold('r2', 60n));
  turn();
  store();
  const [r1, r2, once, twice] = await Promise.all(replies);
  assert.deepEqual([(r1 as { ok: boolean }).ok, (r2 as { ok: boolean }).ok], [true, false]);
  assert.deepEqual(once, { ok: true, charged: 40n, priceVersion: 1 });
  assert.deepEqual(twice, { ok: false, charged: 0n, priceVersion: 0 });
  assert.equal(((await last[0]) as { ok: boolean }).ok, true);
});

test('a hold is answered at once, a settlement when its commit is on disk', async (t) => {
  const { ask, turn, store, answered } = setup(t);
  const [held] = ask(hold('r1', 10n));
  await held;
  const [settled] = ask(settle('r1', tokens(1)));
  const done = answered(settled);
  turn();
  assert.equal(await done(), false);
  store();
  await settled;
  assert.equal(await done(), true);
});

test('a repeat of what is still on its way to the disk waits for it', async (t) => {
  const { ask, turn, store, answered } = setup(t);
  const [first] = ask(grant('g2', 5n));
  turn();
  const [again] = ask(grant('g2', 5n));
  const done = answered(again);
  assert.equal(await done(), false);
  store();
  assert.deepEqual(await again, { ok: true, existed: true });
  assert.deepEqual(await first, { ok: true, existed: false });
});

test('a request repeated under its Idempotency-Key is answered once its charge is on disk, and the same from there', async (t) => {
  const { ask, turn, store, answered } = setup(t);
  const idempotency = { hash: 'k', bodyHash: 'b' };
  const [held] = ask(hold('r1', 10n, { idempotency }));
  assert.deepEqual(await held, { ok: true }, 'at once');
  const sealed = new Uint8Array([1, 2, 3]);
  const first = ask(settle('r1', tokens(1), { replay: { sealed, cost: 1n } }));
  const seen = [];
  const [before] = ask(hold('r2', 10n, { idempotency }));
  turn();
  const [during] = ask(hold('r3', 10n, { idempotency }));
  const waits = [answered(before), answered(during)];
  for (const done of waits) assert.equal(await done(), false);
  store();
  await Promise.all(first);
  const [after] = ask(hold('r4', 10n, { idempotency }));
  for (const result of await Promise.all([before, during, after])) seen.push((result as HoldReply).earlier);
  assert.deepEqual(
    seen,
    [1, 2, 3].map(() => ({ request: 'r1', state: 'completed', sealed })),
  );
});

test('an id stays known while its commit is on its way and after it', async (t) => {
  const { ask, turn, store } = setup(t);
  const first = ask(promo('g2', 7n));
  const gathered = ask(grant('g2', 8n));
  turn();
  const onItsWay = ask(grant('g2', 8n));
  store();
  await Promise.all(first);
  const replies = await Promise.all([...gathered, ...onItsWay, ...ask(grant('g2', 8n))]);
  assert.deepEqual(
    replies.map((reply) => (reply as { ok: boolean }).ok),
    [false, false, false],
  );
});

test('what waits for a commit that fails is told so, and nothing is taken any more', async (t) => {
  const { writer, ask, turn } = setup(t);
  const [stored, held] = ask(grant('g2', 5n), hold('r1', 1n));
  turn();
  const [gathered] = ask(grant('g3', 5n));
  writer.fail(new Error('the disk is full'));
  await assert.rejects(stored ?? Promise.resolve(), /disk is full/);
  await assert.rejects(gathered ?? Promise.resolve(), /disk is full/);
  assert.deepEqual(await held, { ok: true });
  await assert.rejects(ask(hold('r2', 1n))[0] ?? Promise.resolve(), /disk is full/);
  await assert.rejects(writer.drained(), /disk is full/);
});

test('a tick does the work of time and stores it', async (t) => {
  const { writer, ask, turn, store, sql, advance } = setup(t);
  await Promise.all(ask(hold('r1', 10n)));
  advance(1000);
  writer.tick();
  turn();
  store();
  assert.equal(sql.all('SELECT request FROM holds').length, 1);
});

test('drained waits for what is gathered and what is on its way, and for nothing when there is neither', async (t) => {
  const { writer, ask, turn, store, answered, batches } = setup(t);
  await writer.drained();
  const first = ask(grant('g2', 5n));
  turn();
  const second = ask(grant('g3', 5n));
  const drained = writer.drained();
  const done = answered(drained);
  store();
  assert.equal(await done(), false);
  assert.equal(batches.length, 2);
  store();
  await drained;
  await Promise.all([...first, ...second]);
  assert.equal(writer.waiting, 0);
});

test('the book of an earlier start writes nothing any more, whatever it has decided', async (t) => {
  const { ask, turn, store, sql, batches } = setup(t);
  const mine = ask(grant('g2', 1n));
  turn();
  const before = sql.all('SELECT COUNT(*) AS rows FROM transfers');
  const later = new Book(sql, 0);
  assert.throws(store, /fenced off/);
  assert.deepEqual(sql.all('SELECT COUNT(*) AS rows FROM transfers'), before);
  later.apply(grant('g3', 1n), 0);
  later.commit();
  assert.equal(batches.length, 1);
  mine[0]?.catch(() => undefined);
});

/** A writer whose turns and disk the test moves by hand; the customer has 100 nano-USD. */
function setup(t: TestContext) {
  const folder = tempFolder(t);
  const sql = openSql(`${folder}/ledger.db`);
  t.after(() => sql.close());
  let now = 0;
  const book = new Book(sql, now);
  for (const operation of [customer(), price(), grant('g1', 100n)]) book.apply(operation, now);
  book.commit();
  const file = new JournalFile(sql);
  const turns: (() => void)[] = [];
  const batches: Batch[] = [];
  const clock: Clock = { ...systemClock, now: () => now };
  const writer = new Writer({
    book,
    clock,
    store: (batch) => void batches.push(batch),
    later: (work) => void turns.push(work),
  });
  let stored = 0;
  return {
    writer,
    sql,
    batches,
    ask: (...operations: Exclude<LedgerOp, { op: 'check' }>[]) => operations.map((operation) => writer.ask(operation)),
    /** Runs what was put off until the messages at hand were read. */
    turn: () => {
      for (const work of turns.splice(0)) work();
    },
    /** Writes the batch that is on its way. */
    store: () => {
      const batch = batches[stored];
      assert.ok(batch, 'nothing is on its way');
      stored += 1;
      file.write(batch);
      writer.onStored();
    },
    /** Whether a promise is settled by now. */
    answered: (promise: Promise<unknown> | undefined) => {
      let done = false;
      void promise?.finally(() => {
        done = true;
      });
      return async () => {
        await new Promise((resolve) => setImmediate(resolve));
        return done;
      };
    },
    advance: (ms: number) => {
      now += ms;
    },
  };
}
