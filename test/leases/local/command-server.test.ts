import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import { splitCommand } from '../../../src/leases/local/command-line.ts';
import { startCommandServer } from '../../../src/leases/local/command-server.ts';
import { testOrder } from '../../fakes/market-samples.ts';
import { goesWithin } from '../../fakes/processes.ts';

const PATIENCE_MS = 60_000;
/** A model server in a line: says who it is to whoever has the key. */
const SERVER = `
  require('node:http').createServer((request, reply) => {
    const known = request.headers.authorization === 'Bearer ' + process.env.VLLM_API_KEY;
    reply.writeHead(known ? 200 : 401).end(JSON.stringify({ pid: process.pid, argv: process.argv.slice(1) }));
  }).listen(Number(process.argv[1]), process.argv[2]);
`;

test('a command becomes a model server that has its key by the environment, and ends when it is told to', async (t) => {
  const server = await start(t, SERVER);
  const reply = await fetch(`${server.url}/v1/models`, { headers: { authorization: 'Bearer lease-key' } });
  const { pid, argv } = (await reply.json()) as { pid: number; argv: string[] };
  assert.deepEqual(argv.slice(1), ['127.0.0.1', 'tiny-model']);
  assert.ok(!(await readFile(`/proc/${pid}/cmdline`, 'latin1')).includes('lease-key'));
  await server.stop();
  assert.ok(await goesWithin(pid, PATIENCE_MS));
});

test('one that ends before it answers is told with what it said, without its key', async (t) => {
  const ends = start(t, `console.error('no such weights ' + process.env.LLAMA_API_KEY); process.exit(3);`);
  await assert.rejects(ends, (error: Error) => {
    assert.match(error.message, /it ended before it answered/);
    assert.match((error.cause as Error).message, /no such weights \*\*\*/);
    return true;
  });
});

test('one that never answers is given up, and one that is not wanted any more too', async (t) => {
  await assert.rejects(start(t, 'setInterval(() => {}, 1000);', { listenTimeoutMs: 500 }), /did not answer in time/);
  const signal = AbortSignal.abort(new Error('the lease is over'));
  await assert.rejects(start(t, SERVER, { signal }), /the lease is over/);
});

async function start(
  t: TestContext,
  script: string,
  { listenTimeoutMs = PATIENCE_MS, signal = new AbortController().signal } = {},
) {
  const words = [process.execPath, '-e', script, ...splitCommand('{port} {host} {model}')];
  const server = await startCommandServer({
    ...{ words, listenTimeoutMs, signal },
    workload: testOrder('any').workload,
    apiKey: 'lease-key',
    host: '127.0.0.1',
    index: 0,
    env: { PATH: process.env['PATH'] },
    clock: systemClock,
  });
  t.after(() => server.stop());
  return server;
}
