import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));

test('a gateway whose ledger is gone does not start over with an empty one', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-lost-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'data'));
  writeFileSync(join(folder, 'data', 'underbid.db'), '');
  const env = { ...process.env, UNDERBID_DATA: 'data', UNDERBID_PORT: '0' };
  const child = spawn(process.execPath, [ENTRY, 'serve'], { cwd: folder, env, stdio: ['ignore', 'ignore', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  let told = '';
  child.stderr.on('data', (part: Buffer) => (told += part.toString()));
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(code, 1);
  assert.match(told, /the ledger \(ledger\.db\) is missing/);
  assert.equal(existsSync(join(folder, 'data', 'ledger.db')), false);
});
