import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { FAILURES, failuresTable } from './failures.ts';

for (const { what, provoked, play } of FAILURES) {
  test(`${what} (${provoked})`, { timeout: 300_000 }, play);
}

test('there are fifteen, and the README has the very table', () => {
  assert.equal(FAILURES.length, 15);
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
  const [, shown] = /<!-- failures -->\n([\s\S]*?)\n<!-- \/failures -->/.exec(readme) ?? [];
  assert.equal(shown, failuresTable(), 'put what failuresTable() gives between the two marks');
});
