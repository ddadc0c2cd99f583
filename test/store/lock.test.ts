import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import { AppError } from '../../src/errors.ts';
import { lockDataFolder } from '../../src/store/lock.ts';

test('a data folder can be locked once, and again after it was unlocked', (t) => {
  const { folder } = setup(t);
  const unlock = lockDataFolder(folder);
  assert.throws(() => lockDataFolder(folder), inUse);
  assert.throws(() => lockDataFolder(folder), inUse, 'a failed try does not loosen the lock');
  unlock();
  const again = lockDataFolder(folder);
  unlock();
  assert.throws(() => lockDataFolder(folder), inUse, 'a second unlock does not unlock what others locked since');
  again();
});

test('a folder that is not there is made', (t) => {
  const { folder } = setup(t);
  const deep = join(folder, 'a', 'b');
  lockDataFolder(deep)();
  assert.ok(existsSync(deep));
});

test('a lock keeps another process out, and falls when its holder is killed', async (t) => {
  const { folder, hold } = setup(t);
  const holder = await hold();
  assert.throws(() => lockDataFolder(folder), inUse);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  lockDataFolder(folder)();
});

test('a lock of this process keeps another one out', async (t) => {
  const { folder, hold } = setup(t);
  const unlock = lockDataFolder(folder);
  await assert.rejects(hold(), /data_in_use|using the data folder/);
  unlock();
});

test('a lock file that is no database is told as what it is, not as another process', (t) => {
  const { folder } = setup(t);
  writeFileSync(
    join(folder, 'writer.lock'),
    'this is no database, and longer than its header of one hundred bytes. '.repeat(9),
  );
  assert.throws(
    () => lockDataFolder(folder),
    (error) => !(error instanceof AppError),
  );
});

function inUse(error: unknown): boolean {
  return error instanceof AppError && error.code === 'data_in_use';
}

function setup(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-lock-'));
  const children: ChildProcess[] = [];
  t.after(() => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  const script = fileURLToPath(new URL('../ledger/fixtures/lock-holder.ts', import.meta.url));
  /** A process that holds the lock; rejects with its last words when it could not get it. */
  const hold = async (): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [script, folder], { stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    let words = '';
    child.stderr.on('data', (chunk: Buffer) => (words += chunk.toString()));
    const locked = once(child.stdout, 'data').then(() => true);
    if (await Promise.race([locked, once(child, 'close').then(() => false)])) return child;
    throw new Error(words);
  };
  return { folder, hold };
}
