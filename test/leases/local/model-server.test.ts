import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import { AppError, describeError } from '../../../src/errors.ts';
import { startModelServer, type ModelServerOptions } from '../../../src/leases/local/model-server.ts';
import { goesWithin, isGone, readPidFile, startParent } from '../../fakes/processes.ts';
import { writeScript } from '../../fakes/python.ts';

const KEY = 'key-that-nobody-may-see';

test('starts a llama-server on loopback with its key in no command line', async (t) => {
  const { options, log } = await setup(t, 'serves');
  const server = await startModelServer(options);
  t.after(() => server.stop());
  assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/);
  const { args, env } = await log();
  assert.doesNotMatch(args.join(' '), new RegExp(KEY));
  assert.equal(env['LLAMA_API_KEY'], KEY);
  assert.equal(args[args.indexOf('--ctx-size') + 1], '2048');
});

test('starts a llama-server to make embeddings, an input in one batch', async (t) => {
  const { options, log } = await setup(t, 'serves');
  const server = await startModelServer({ ...options, kind: 'embeddings' });
  t.after(() => server.stop());
  const { args } = await log();
  const most = String(options.contextTokensPerSlot);
  const wanted = ['--embeddings', '--pooling', 'mean', '--batch-size', most, '--ubatch-size', most];
  assert.deepEqual(args.slice(-wanted.length), wanted);
});

test('gives a model server no secret of ours and no setting that would change what we ask for', async (t) => {
  const { options, log } = await setup(t, 'serves');
  const env = { ...process.env, UNDERBID_SECRET: 'x', LLAMA_ARG_HOST: '0.0.0.0', CUDA_VISIBLE_DEVICES: '0' };
  const server = await startModelServer({ ...options, env });
  t.after(() => server.stop());
  const passed = (await log()).env;
  assert.equal(passed['UNDERBID_SECRET'], undefined);
  assert.equal(passed['LLAMA_ARG_HOST'], undefined);
  assert.equal(passed['CUDA_VISIBLE_DEVICES'], '0');
});

test('tries another port when the first is taken', async (t) => {
  const { options, runs } = await setup(t, 'clashes once');
  const server = await startModelServer(options);
  t.after(() => server.stop());
  assert.equal(await runs(), 2);
});

test('says why a model server ended, without its key', async (t) => {
  const { options } = await setup(t, 'dies');
  await assert.rejects(startModelServer(options), (error) => {
    assert.ok(error instanceof AppError);
    assert.equal(error.code, 'setup_failed');
    assert.match(error.message, /ended before it answered: exit code 3/);
    assert.match(describeError(error), /bad model, key \*\*\*/);
    assert.doesNotMatch(describeError(error), new RegExp(KEY));
    return true;
  });
});

test('says that a llama-server cannot be run', async (t) => {
  const { options } = await setup(t, 'serves');
  const runtime = { ...options.runtime, command: join(options.runtime.command, '..', 'missing') };
  await assert.rejects(startModelServer({ ...options, runtime }), { code: 'setup_failed', message: /exit code 127/ });
});

test('leaves no process when a model server stays silent', async (t) => {
  const { options, pid } = await setup(t, 'hangs');
  const message = /did not answer within/;
  await assert.rejects(startModelServer({ ...options, listenTimeoutMs: 700 }), { code: 'setup_failed', message });
  assert.ok(await isGone(await pid()));
});

test('leaves no process when the start is aborted', async (t) => {
  const { options, pid } = await setup(t, 'hangs');
  const controller = new AbortController();
  const aborted = assert.rejects(startModelServer({ ...options, signal: controller.signal }), /enough/);
  const server = await pid();
  controller.abort(new Error('enough'));
  await aborted;
  assert.ok(await isGone(server));
});

test('stops a model server that ignores SIGTERM', async (t) => {
  const { options } = await setup(t, 'serves and ignores SIGTERM');
  const server = await startModelServer(options);
  await Promise.all([server.stop(), server.stop()]);
  assert.ok(await isGone(server.pid));
  assert.deepEqual(await server.exited, { code: null, signal: 'SIGKILL', detail: 'signal SIGKILL' });
});

test('tells when a model server is killed by others', async (t) => {
  const { options } = await setup(t, 'serves');
  const server = await startModelServer(options);
  process.kill(server.pid, 'SIGKILL');
  assert.equal((await server.exited).signal, 'SIGKILL');
  await server.stop();
});

test('leaves no server when its guard is killed', async (t) => {
  const { options, guardPid } = await setup(t, 'serves');
  const server = await startModelServer(options);
  process.kill(await guardPid(), 'SIGKILL');
  await server.exited;
  assert.ok(await isGone(server.pid));
});

test('a server that ignores everything dies with us while it still starts, though another child of ours lives on', async (t) => {
  const { options, pid } = await setup(t, 'hangs');
  const { clock: _clock, ...plain } = options;
  const { parent } = startParent(plain);
  const server = await pid();
  parent.kill('SIGKILL');
  assert.ok(await goesWithin(server, 2_000));
});

/** A llama-server of a few lines: `/props` asks for the key, as the real one's does. */
const FAKE = `
import { appendFileSync, existsSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
const [folder, behaviour, ...args] = process.argv.slice(2);
appendFileSync(folder + '/runs', 'x');
writeFileSync(folder + '/log.json', JSON.stringify({ args, env: process.env }));
writeFileSync(folder + '/guard', String(process.ppid));
if (/ignores|hangs/.test(behaviour)) process.on('SIGTERM', () => {});
writeFileSync(folder + '/pid', String(process.pid));
if (behaviour === 'dies') {
  console.error('bad model, key ' + process.env.LLAMA_API_KEY);
  process.exit(3);
}
if (behaviour === 'clashes once' && !existsSync(folder + '/clashed')) {
  writeFileSync(folder + '/clashed', '');
  console.error("couldn't bind HTTP server socket");
  process.exit(1);
}
if (behaviour === 'hangs') setInterval(() => {}, 1000);
else {
  const keyed = (request) => request.headers.authorization === 'Bearer ' + process.env.LLAMA_API_KEY;
  const server = createServer((request, response) => response.writeHead(keyed(request) ? 200 : 401).end('{}'));
  server.listen(Number(args[args.indexOf('--port') + 1]), args[args.indexOf('--host') + 1]);
}
`;

type Behaviour = 'serves' | 'serves and ignores SIGTERM' | 'clashes once' | 'dies' | 'hangs';

async function setup(t: TestContext, behaviour: Behaviour) {
  const root = await mkdtemp(join(tmpdir(), 'underbid-server-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  await writeFile(join(root, 'fake.mjs'), FAKE);
  const command = join(root, 'llama-server');
  await writeScript(command, `exec '${process.execPath}' '${root}/fake.mjs' '${root}' '${behaviour}' "$@"\n`);
  const options: ModelServerOptions = {
    runtime: { kind: 'llama-server', command, modelPath: join(root, 'model.gguf') },
    alias: 'tiny',
    slots: 2,
    contextTokensPerSlot: 1024,
    apiKey: KEY,
    clock: systemClock,
    listenTimeoutMs: 30_000,
  };
  const read = (name: string): Promise<string> => readFile(join(root, name), 'utf8');
  return {
    options,
    log: async () => JSON.parse(await read('log.json')) as { args: string[]; env: Record<string, string | undefined> },
    runs: async () => (await read('runs')).length,
    pid: () => readPidFile(join(root, 'pid'), 10_000),
    guardPid: () => readPidFile(join(root, 'guard'), 10_000),
  };
}
