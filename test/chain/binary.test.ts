import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { chainBinary } from './binary.ts';

/** How the real chain's program is come by; a script stands in for Go. */

test('without Go, or with one that is too old, a sentence says what to install', async (t) => {
  const { env } = setup(t, '');
  await assert.rejects(chainBinary({ env: { ...env, PATH: '' }, log: () => undefined }), {
    message: /^Go 1\.26 or newer has to be installed, and `go` found by PATH, for the tests on a real chain\.$/,
  });
  const old = setup(t, 'echo go1.25.3; echo linux; echo amd64');
  await assert.rejects(
    chainBinary({ env: old.env, log: () => undefined }),
    /^Error: Go 1\.26 .*; go1\.25\.3 is too old\.$/,
  );
});

test('it is built once for a version of Go, into the cache', async (t) => {
  const { env, calls } = setup(t, 'if [ $1 = env ]; then echo go1.26.1; echo linux; echo amd64; else touch "$8"; fi');
  const lines: string[] = [];
  const options = { env, log: (line: string): void => void lines.push(line) };
  const path = await chainBinary(options);
  assert.equal(dirname(path), join(String(env['UNDERBID_CACHE']), 'cosmos-chain'));
  assert.equal(await chainBinary(options), path);
  assert.deepEqual(
    calls().map((line) => line.split(' ')[0]),
    ['env', 'build', 'env'],
  );
  assert.equal(lines.length, 1, 'the second time nothing is built, and nothing is said');
  const newer = setup(t, 'if [ $1 = env ]; then echo go1.27.0; echo linux; echo amd64; else touch "$8"; fi');
  const other = await chainBinary({ ...options, env: { ...newer.env, UNDERBID_CACHE: env['UNDERBID_CACHE'] } });
  assert.notEqual(other, path);
});

test('the cache keeps a few of them', async (t) => {
  const { env } = setup(t, 'if [ $1 = env ]; then echo "$VERSION"; else touch "$8"; fi');
  const built: string[] = [];
  for (const version of ['go1.26.0', 'go1.26.1', 'go1.26.2', 'go1.27.0', 'go1.28.0', 'go1.29.0']) {
    built.push(await chainBinary({ env: { ...env, VERSION: version }, log: () => undefined }));
  }
  const [last = ''] = built.slice(-1);
  const kept = readdirSync(dirname(last));
  assert.equal(kept.length, 4);
  assert.ok(kept.includes(basename(last)));
});

test('what a failed build said is told, and nothing is kept of it', async (t) => {
  const script = 'if [ $1 = env ]; then echo go1.26.1; else echo "main.go:1: wrong" >&2; touch "$8"; exit 1; fi';
  const { env, calls } = setup(t, script);
  const build = (): Promise<string> => chainBinary({ env, log: () => undefined });
  await assert.rejects(build(), /the chain could not be built:\nmain\.go:1: wrong/);
  await assert.rejects(build(), /could not be built/);
  assert.equal(calls().filter((line) => line.startsWith('build')).length, 2);
});

function setup(t: TestContext, script: string): { env: NodeJS.ProcessEnv; calls: () => string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-go-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [bin, log] = [join(folder, 'bin'), join(folder, 'calls')];
  mkdirSync(bin);
  writeFileSync(join(bin, 'go'), `#!/bin/sh\necho "$@" >> '${log}'\n${script}\n`);
  chmodSync(join(bin, 'go'), 0o755);
  const env = { PATH: `${bin}:/usr/bin:/bin`, HOME: folder, UNDERBID_CACHE: join(folder, 'cache') };
  return { env, calls: () => readFileSync(log, 'utf8').trim().split('\n') };
}
