import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { freePort, startChild, type Child } from '../../bench/child.ts';
import { processTree, readCpuOf, readRssMib } from '../../bench/process-tree.ts';

const LINUX = process.platform === 'linux';

void test('a gateway of several processes has all of their CPU and memory', { skip: !LINUX }, async (t) => {
  // By its own CPU time: on a busy machine 300 ms of the clock are less.
  const burn = 'while (process.cpuUsage().user < 400_000); setInterval(() => {}, 1000)';
  const script =
    `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(`${burn}; console.log('burnt')`)}])` +
    ".stdout.on('data', () => console.log('ready'));";
  const child = await start(t, { command: process.execPath, file: '-e', args: [script], ready: /^ready/ });
  const tree = processTree(child.pid);
  assert.equal(tree.length, 2);
  assert.equal(tree[0], child.pid);
  assert.ok(readCpuOf(tree).processUs >= readCpuOf([child.pid]).processUs + 200_000);
  const [before, all, after] = [[child.pid], tree, [child.pid]].map((pids) => readCpuOf(pids).mainThreadUs);
  assert.ok(before !== undefined && all !== undefined && after !== undefined);
  assert.ok(before <= all && all <= after, 'the main thread is the one of the first process');
  assert.ok(readRssMib(tree) > readRssMib([child.pid]) + 10);
  for (const pid of tree.slice(1)) process.kill(pid, 'SIGKILL');
});

void test('a program that says nothing on stdout is ready when the question is answered', async (t) => {
  const port = await freePort();
  const listen = `setTimeout(() => require('node:net').createServer().listen(${port}, '127.0.0.1'), 100)`;
  let asked = 0;
  const ready = async (): Promise<boolean> => {
    asked += 1;
    return new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('error', () => resolve(false)).once('connect', () => resolve(true));
      socket.once('connect', () => socket.destroy());
    });
  };
  const child = await start(t, { command: process.execPath, file: '-e', args: [listen], ready });
  assert.equal(child.line, '');
  assert.ok(asked > 0);
});

void test('a program that ends before it is ready says why', async (t) => {
  const ended = start(t, {
    file: '-e',
    args: ["console.error('no such model'); process.exit(3)"],
    ready: async () => false,
  });
  await assert.rejects(ended, /ended with 3\n.*no such model/s);
});

async function start(
  t: TestContext,
  options: { command?: string; file: string; args: readonly string[]; ready: RegExp | (() => Promise<boolean>) },
): Promise<Child> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-test-child-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const child = await startChild({ ...options, folder, signal: t.signal });
  t.after(() => child.stop());
  return child;
}
