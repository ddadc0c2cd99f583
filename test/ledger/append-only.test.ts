import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { booksOn, customer, grant, hold, price, settle, tokens } from './fixtures/books.ts';

for (const [table, column] of [
  ['transfers', 'amount'],
  ['usage', 'charged'],
  ['price_versions', 'input_pico'],
] as const) {
  test(`a row of ${table} can be neither changed nor removed, not even to what it is`, (t) => {
    const { sql } = setup(t);
    const before = sql.all(`SELECT * FROM ${table}`);
    assert.ok(before.length > 0);
    assert.throws(() => sql.run(`UPDATE ${table} SET ${column} = ${column}`), /append-only/);
    assert.throws(() => sql.run(`UPDATE ${table} SET ${column} = 0`), /append-only/);
    assert.throws(() => sql.run(`DELETE FROM ${table}`), /append-only/);
    assert.deepEqual(sql.all(`SELECT * FROM ${table}`), before);
  });
}

test('a settled hold can be neither changed nor removed', (t) => {
  const { sql } = setup(t);
  assert.throws(() => sql.run(`UPDATE holds SET state = 'pending' WHERE request = 'r1'`), /settled once/);
  assert.throws(() => sql.run(`UPDATE holds SET amount = 0 WHERE request = 'r1'`), /settled once/);
  assert.throws(() => sql.run('DELETE FROM holds'), /holds are kept/);
});

test('the file itself refuses a bounded account below zero and a charge above its hold', (t) => {
  const { sql } = setup(t);
  assert.throws(() => sql.run(`UPDATE accounts SET posted = -1 WHERE name = 'user:ann:paid'`), /CHECK/);
  assert.throws(() => sql.run(`UPDATE accounts SET held = posted + 1 WHERE name = 'user:ann:paid'`), /CHECK/);
  assert.throws(() => sql.run(`UPDATE accounts SET held = -1 WHERE name = 'cash:operator'`), /CHECK/);
  const usage = `INSERT INTO usage SELECT 99, 'r9', account, key, model, price_version, input_tokens, cached_tokens,
    output_tokens, cost_pico, held, held + 1, status, detail, at_ms, hash, NULL, NULL, NULL FROM usage`;
  assert.throws(() => sql.run(usage), /CHECK/);
});

test('the file itself refuses a second usage row of a request and a second transfer of an id', (t) => {
  const { sql } = setup(t);
  const usage = `INSERT INTO usage SELECT 99, request, account, key, model, price_version, input_tokens, cached_tokens,
    output_tokens, cost_pico, held, charged, status, detail, at_ms, hash, NULL, NULL, NULL FROM usage`;
  assert.throws(() => sql.run(usage), /UNIQUE/);
  const transfer = `INSERT INTO transfers SELECT 99, id, type, debit, credit, amount, at_ms, request, actor, reason, hash
    FROM transfers WHERE id = 'g1'`;
  assert.throws(() => sql.run(transfer), /UNIQUE/);
});

test('the file itself refuses a transfer to an account that is not there', (t) => {
  const { sql } = setup(t);
  const transfer = `INSERT INTO transfers SELECT 99, NULL, type, debit, 77, amount, at_ms, request, actor, reason, hash
    FROM transfers WHERE id = 'g1'`;
  assert.throws(() => sql.run(transfer), /FOREIGN KEY/);
});

/** A file with a grant and a settled request whose hold was journaled. */
function setup(t: TestContext) {
  const { book, sql, do: apply } = booksOn(t).open();
  apply(customer());
  apply(price());
  apply(grant('g1', 100n));
  apply(hold('r1', 40n));
  book.tick(1000);
  apply(settle('r1', tokens(20)));
  book.commit();
  return { sql };
}
