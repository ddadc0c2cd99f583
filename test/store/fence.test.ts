import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { sql } from 'drizzle-orm';
import { SchedulerRecords } from '../../src/scheduler/records.ts';
import { isFenced } from '../../src/store/fence.ts';
import { beat, leads } from '../../src/store/leader-record.ts';
import { openStore, type Store } from '../../src/store/open.ts';
import { openSql } from '../../src/store/libsql.ts';
import { textOf } from '../../src/store/sql.ts';

const NOTE = { pid: 1, host: 'here', url: null, sinceMs: 1 };

test('each opening has a higher epoch, also after the one before was closed', async (t) => {
  const { open } = setup(t);
  const first = await open();
  const second = await open();
  assert.deepEqual([first.epoch, second.epoch], [1, 2]);
  second.close();
  assert.equal((await open()).epoch, 3);
});

test('an earlier opening may read but write nothing, and is told that it leads no more', async (t) => {
  const { open } = setup(t);
  const first = await open();
  const records = new SchedulerRecords(first);
  await records.saveSwitch('panic', { on: true }, 1);
  await beat(first, NOTE, 1);
  assert.equal(await leads(first), true);
  const second = await open();
  assert.deepEqual([await leads(first), await leads(second)], [false, true]);
  await assert.rejects(records.saveSwitch('panic', { on: false }, 2), isFenced);
  await assert.rejects(records.saveSwitch('other', {}, 2), isFenced);
  await assert.rejects(records.deleteSwitch('panic'), isFenced);
  await assert.rejects(beat(first, NOTE, 2), isFenced);
  assert.deepEqual(await new SchedulerRecords(second).findSwitch('panic'), { on: true });
  await new SchedulerRecords(second).saveSwitch('panic', { on: false }, 3);
  assert.deepEqual(await records.findSwitch('panic'), { on: false });
});

test('no table is left out', async (t) => {
  const { open, path } = setup(t);
  const { db } = await open();
  const reader = openSql(path, { readonly: true });
  const tables = reader.all(`SELECT name FROM sqlite_master WHERE type = 'table'`).map((row) => textOf(row, 'name'));
  reader.close();
  const { rows } = await db.run(sql`SELECT name FROM sqlite_temp_master`);
  const expected = tables.flatMap((table) => ['INSERT', 'UPDATE', 'DELETE'].map((write) => `fence_${table}_${write}`));
  assert.ok(tables.length > 8);
  assert.deepEqual(rows.map((row) => row['name']).toSorted(), expected.toSorted());
});

test('any other failure is no fence', () => {
  assert.equal(isFenced(new Error('disk full', { cause: new Error('ENOSPC') })), false);
  assert.equal(isFenced('fenced off'), false);
});

function setup(t: TestContext): { open: () => Promise<Store>; path: string } {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-fence-'));
  const path = join(folder, 'underbid.db');
  const opened = new Set<Store>();
  t.after(() => {
    for (const store of opened) store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const open = async (): Promise<Store> => {
    const store = await openStore(path);
    opened.add(store);
    return store;
  };
  return { open, path };
}
