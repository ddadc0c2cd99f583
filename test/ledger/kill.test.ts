import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { checkLedger } from '../../src/ledger/check.ts';
import { openSql } from '../../src/store/libsql.ts';
import { bigintOf, textOf, type Sql } from '../../src/store/sql.ts';
import { openBook, tempFolder } from './fixtures/books.ts';

const KILLS = 10;

test('whatever was acknowledged before a kill -9 is in the file, once, and the ledger is whole', async (t) => {
  const { path, spendUntilKilled } = setup(t);
  const seed = Date.now() % 2 ** 31;
  // From a few answers in to well after the writer's first tick, which is what puts holds on disk.
  const delays = fc.sample(fc.integer({ min: 20, max: 150 }), { seed, numRuns: KILLS });
  const acknowledged = new Map<string, bigint>();
  let journaled = 0;
  for (const [round, delayMs] of delays.entries()) {
    const where = `round ${round} of seed ${seed}`;
    const waitMs = round % 2 === 0 ? delayMs : delayMs + 500;
    for (const [id, amount] of await spendUntilKilled(`run${round}`, waitMs)) acknowledged.set(id, amount);
    const sql = openSql(path);
    try {
      journaled += sql.all(`SELECT 1 FROM holds WHERE state = 'pending'`).length;
      assertWhole(sql, `${where}, before the restart`);
      assertAcknowledged(sql, acknowledged, where);
    } finally {
      sql.close();
    }
    // The next start recovers what was in flight; so does this one, and the next finds nothing to do.
    const again = openBook(path, Date.now());
    try {
      assertWhole(again.sql, `${where}, after the restart`);
      assert.equal(again.sql.all('SELECT 1 FROM accounts WHERE held <> 0').length, 0, where);
      assertOncePerKey(again.sql, acknowledged, where);
    } finally {
      again.sql.close();
    }
  }
  const settled = [...acknowledged.keys()].filter((id) => !id.endsWith('-grant'));
  assert.ok(settled.length > 30, `only ${settled.length} settlements were acknowledged: seed ${seed}`);
  assert.ok(journaled > 0, `no hold was on disk at any kill: seed ${seed}`);
});

function assertWhole(sql: Sql, where: string): void {
  const { ok, checks } = checkLedger(sql);
  assert.ok(ok, `${where}: ${JSON.stringify(checks.filter((check) => !check.ok))}`);
}

/** Each acknowledged row is there with its amount, and what customers paid is what they were charged. */
function assertAcknowledged(sql: Sql, acknowledged: ReadonlyMap<string, bigint>, where: string): void {
  const charged = amounts(sql, 'SELECT request AS id, charged AS amount FROM usage');
  const granted = amounts(sql, `SELECT id, amount FROM transfers WHERE type = 'grant'`);
  for (const [id, amount] of acknowledged) {
    const found = id.endsWith('-grant') ? granted.get(id) : charged.get(id);
    assert.equal(found, amount, `${id} is not what was acknowledged: ${where}`);
  }
  const captured = amounts(
    sql,
    `SELECT request AS id, SUM(amount) AS amount FROM transfers WHERE type = 'capture' GROUP BY request`,
  );
  for (const [id, amount] of captured) assert.equal(charged.get(id), amount, `${id} was charged twice: ${where}`);
  const [account] = sql.all(`SELECT posted FROM accounts WHERE name = 'user:ann:paid'`);
  const left = account ? bigintOf(account, 'posted') : 0n;
  assert.equal(left, sum(granted) - sum(charged), where);
}

/** Odd lanes use the same Idempotency-Keys in every run, `key-LANE-COUNT`: each was charged for one request at most. */
function assertOncePerKey(sql: Sql, acknowledged: ReadonlyMap<string, bigint>, where: string): void {
  const used = new Map(
    sql.all('SELECT hash, request, sealed FROM replays').map((row) => [textOf(row, 'hash'), row] as const),
  );
  const charged = new Map<string, string>();
  for (const id of amounts(sql, 'SELECT request AS id, charged AS amount FROM usage WHERE charged > 0').keys()) {
    const [, lane, count] = id.split('-');
    if (Number(lane) % 2 === 0) continue;
    const key = `key-${lane}-${count}`;
    assert.equal(charged.get(key), undefined, `${key} was charged for ${id} too: ${where}`);
    charged.set(key, id);
    assert.equal(used.get(key)?.['request'], id, `${key} is not used up: ${where}`);
    const sealed = used.get(key)?.['sealed'];
    const reply = sealed instanceof Uint8Array ? new TextDecoder().decode(sealed) : null;
    assert.equal(reply, acknowledged.has(id) ? id : reply, `the reply of ${id}: ${where}`);
  }
  assert.equal(used.size, charged.size, `a key is used up without a charge: ${where}`);
}

function amounts(sql: Sql, query: string): Map<string, bigint> {
  return new Map(sql.all(query).map((row) => [textOf(row, 'id'), bigintOf(row, 'amount')]));
}

const sum = (of: ReadonlyMap<string, bigint>): bigint => [...of.values()].reduce((a, b) => a + b, 0n);

function setup(t: TestContext) {
  const folder = tempFolder(t);
  const script = fileURLToPath(new URL('fixtures/spender.ts', import.meta.url));
  /** Lets a process spend for a while from its first answer on, kills it and returns what it was told. */
  const spendUntilKilled = async (run: string, delayMs: number): Promise<Map<string, bigint>> => {
    const child = spawn(process.execPath, [script, folder, run], { stdio: ['ignore', 'pipe', 'inherit'] });
    const gone = once(child, 'close');
    t.after(() => child.kill('SIGKILL'));
    const told = new Map<string, bigint>();
    const lines = createInterface({ input: child.stdout });
    lines.on('line', (line) => {
      const [what, id, amount] = line.split(' ');
      if (what === 'ready') setTimeout(() => child.kill('SIGKILL'), delayMs);
      // The last line may be cut short: then its answer was not heard.
      else if (id !== undefined && /^\d+$/.test(amount ?? '')) told.set(id, BigInt(amount ?? ''));
    });
    const [, signal] = (await gone) as [number | null, string | null];
    assert.equal(signal, 'SIGKILL', `the process of ${run} ended by itself`);
    return told;
  };
  return { path: join(folder, 'ledger.db'), spendUntilKilled };
}
