import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import { AppError, describeError } from '../../../src/errors.ts';
import { prepareEntry, prepareRuntime } from '../../../src/leases/local/runtime.ts';
import { becomesTrue, goesWithin } from '../../fakes/processes.ts';
import { TINY_PACKAGE, writePython, writeScript, type FakePython } from '../../fakes/python.ts';

const NAME_RESOLUTION = `WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after
connection broken by 'NewConnectionError("Failed to establish a new connection: [Errno -3] Temporary failure in name
resolution")': https://someone:hunter2@index.invalid/simple/tiny/?token=hunter3
ERROR: Could not find a version that satisfies the requirement tiny==1.0 (from versions: none)
ERROR: No matching distribution found for tiny==1.0`;

const FAILURES: { name: string; output: string; says: RegExp }[] = [
  { name: 'an index that is not reachable', output: NAME_RESOLUTION, says: /index .* was not reachable/ },
  {
    name: 'a download whose hash differs',
    output: 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.',
    says: /hash differs/,
  },
  { name: 'a full disk', output: 'ERROR: [Errno 28] No space left on device', says: /disk is full/ },
  {
    name: 'a platform without a wheel',
    output: 'ERROR: No matching distribution found for tiny==1.0',
    says: /no packaged model server for this platform .*llama-server on PATH/,
  },
  { name: 'a failure of a new kind', output: 'ERROR: the moon is full', says: /pip could not install/ },
];

for (const { name, output, says } of FAILURES) {
  test(`reports ${name} in one sentence and leaves nothing behind`, async (t) => {
    const { cacheDir, prepare } = await setup(t, { python3: { install: 'fails', output } });
    await assert.rejects(prepare(), (error) => {
      assert.ok(error instanceof AppError);
      assert.equal(error.code, 'setup_failed');
      assert.match(error.message, says);
      assert.doesNotMatch(error.message, /\n/);
      assert.doesNotMatch(describeError(error), /hunter/);
      return true;
    });
    assert.deepEqual(await readdir(cacheDir), []);
  });
}

test('says that there is no Python', async (t) => {
  const { prepare } = await setup(t, {});
  await assert.rejects(prepare(), { code: 'setup_failed', message: /needs Python 3\.10 or newer \(none was found\)/ });
});

test('says which Pythons it found when all are too old', async (t) => {
  const { prepare } = await setup(t, { python3: { version: '3.9' }, python: { version: '2.7' } });
  await assert.rejects(prepare(), { message: /found: python3 is 3\.9, python is 2\.7/ });
});

test('takes a newer Python when the first is too old', async (t) => {
  const { prepare } = await setup(t, { python3: { version: '3.8' }, 'python3.12': { version: '3.12' } });
  assert.match((await prepare()).python, /bin\/python$/);
});

test('says that the venv module is missing', async (t) => {
  const { prepare } = await setup(t, { python3: { pip: null, ensurepip: false } });
  await assert.rejects(prepare(), {
    code: 'setup_failed',
    message: /Python 3\.11 cannot make .*apt install python3-venv/,
  });
});

test('refuses a file that is not the pinned one, and leaves none of it', async (t) => {
  const { cacheDir, prepare } = await setup(t, { python3: { install: 'wrong file' } });
  await assert.rejects(prepare(), { code: 'setup_failed', message: /hash differs/ });
  assert.deepEqual(await readdir(cacheDir), []);
});

test('uses ensurepip where Python has no pip that can install elsewhere', async (t) => {
  const { prepare } = await setup(t, { python3: { pip: '22.2.2' } });
  const entry = await prepare();
  assert.equal(await readFile(entry.files.get('tiny') ?? '', 'utf8'), 'model');
});

test('prepares once when two ask at the same time', async (t) => {
  const { calls, prepare } = await setup(t, { python3: {} });
  const [first, second] = await Promise.all([prepare(), prepare()]);
  assert.deepEqual(first, second);
  assert.equal((await calls()).filter((call) => call.startsWith('pip')).length, 1);
});

test('starts nothing when the cache is filled', async (t) => {
  const { calls, prepare } = await setup(t, { python3: {} });
  await prepare();
  const before = await calls();
  await prepare();
  assert.deepEqual(await calls(), before);
});

test('takes over from a process that was killed, and removes what it left', async (t) => {
  const { cacheDir, folder, prepare } = await setup(t, { python3: {} });
  const left = `${folder}.preparing-abc`;
  await mkdir(join(left, 'bin'), { recursive: true });
  // No process has this id: it is above what systems give.
  await writeFile(`${folder}.lock`, JSON.stringify({ pid: 2 ** 30, host: hostname(), token: 'abc' }));
  await prepare();
  assert.deepEqual(await readdir(cacheDir), [folder.slice(cacheDir.length + 1)]);
});

test('waits for a living holder of the lock, and gives up when aborted', async (t) => {
  const { folder, cacheDir, controller, steps, prepare } = await setup(t, { python3: {} });
  await mkdir(cacheDir, { recursive: true });
  await writeFile(`${folder}.lock`, JSON.stringify({ pid: process.pid, host: hostname(), token: 'abc' }));
  const waiting = assert.rejects(prepare(), /enough/);
  assert.ok(await becomesTrue(() => steps.includes('wait'), 5_000));
  controller.abort(new Error('enough'));
  await waiting;
});

test('takes a lock that was not renewed for long, whatever process has its id now', async (t) => {
  const { folder, cacheDir, prepare } = await setup(t, { python3: {} });
  await mkdir(cacheDir, { recursive: true });
  await writeFile(`${folder}.lock`, JSON.stringify({ pid: process.pid, host: hostname(), token: 'abc' }));
  await utimes(`${folder}.lock`, 1_000, 1_000);
  await prepare();
});

test('prepares again over a folder that was never finished', async (t) => {
  const { folder, prepare } = await setup(t, { python3: {} });
  await mkdir(join(folder, 'bin'), { recursive: true });
  const entry = await prepare();
  assert.equal(await readFile(entry.files.get('tiny') ?? '', 'utf8'), 'model');
});

test('prepares again when the marker was tampered with', async (t) => {
  const { folder, calls, prepare } = await setup(t, { python3: {} });
  await prepare();
  await writeFile(join(folder, 'underbid.json'), '{"format": 1, "packages": "../../elsewhere"}');
  await prepare();
  assert.equal((await calls()).filter((call) => call.startsWith('pip')).length, 2);
});

test('prepares again when the model was changed, and not when only its time was', async (t) => {
  const { calls, prepare } = await setup(t, { python3: {} });
  const model = (await prepare()).files.get('tiny') ?? '';
  await utimes(model, 1_000, 1_000);
  await prepare();
  assert.equal((await calls()).filter((call) => call.startsWith('pip')).length, 1);
  await writeFile(model, 'wrong');
  await prepare();
  assert.equal(await readFile(model, 'utf8'), 'model');
});

test('prepares again when the Python behind the environment is gone', async (t) => {
  const { bin, calls, prepare } = await setup(t, { python3: {} });
  await prepare();
  await rm(join(bin, 'python3'));
  await writePython(bin, 'python3.12', { version: '3.12' });
  await prepare();
  assert.equal((await calls()).filter((call) => call.startsWith('pip')).length, 2);
});

test('ends pip and removes its files when aborted', async (t) => {
  const { cacheDir, controller, calls, prepare } = await setup(t, { python3: { install: 'hangs' } });
  const aborted = assert.rejects(prepare(), /enough/);
  const pip = async (): Promise<number> => Number((await calls()).find((call) => call.startsWith('pip'))?.slice(4));
  assert.ok(await becomesTrue(async () => (await pip()) > 0, 10_000));
  controller.abort(new Error('enough'));
  await aborted;
  assert.ok(await goesWithin(await pip(), 2_000));
  assert.deepEqual(await readdir(cacheDir), []);
});

test('says that the cache folder cannot be written', async (t) => {
  const { cacheDir, prepare } = await setup(t, { python3: {} });
  await writeFile(cacheDir, 'a file where the folder should be');
  await assert.rejects(prepare(), { code: 'setup_failed', message: /UNDERBID_CACHE/ });
});

test('takes a llama-server on PATH and a configured model without any Python', async (t) => {
  const { bin, runtime } = await setup(t, {});
  await writeScript(join(bin, 'llama-server'), '');
  await writeFile(join(bin, 'own.gguf'), '');
  const found = await runtime({ modelPath: join(bin, 'own.gguf') });
  assert.deepEqual(found, {
    kind: 'llama-server',
    command: join(bin, 'llama-server'),
    modelPath: join(bin, 'own.gguf'),
  });
});

test('refuses a configured llama-server that cannot be executed', async (t) => {
  const { bin, runtime } = await setup(t, {});
  await writeFile(join(bin, 'not-executable'), '');
  for (const name of ['missing', 'not-executable']) {
    const message = /llama-server that the configuration names does not exist or cannot be executed/;
    await assert.rejects(runtime({ llamaServer: join(bin, name) }), { code: 'setup_failed', message });
  }
});

test('refuses a configured model that is not there', async (t) => {
  const { bin, runtime } = await setup(t, {});
  await assert.rejects(runtime({ modelPath: join(bin, 'missing.gguf') }), {
    code: 'setup_failed',
    message: /model file/,
  });
});

async function setup(t: TestContext, pythons: Readonly<Record<string, FakePython>>) {
  const root = await mkdtemp(join(tmpdir(), 'underbid-runtime-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const [bin, cacheDir] = [join(root, 'bin'), join(root, 'cache')];
  await mkdir(bin);
  for (const [name, fake] of Object.entries(pythons)) await writePython(bin, name, fake);
  const controller = new AbortController();
  const steps: string[] = [];
  const options = {
    cacheDir,
    // Nothing of this machine is found: what the fakes need of it they name themselves.
    env: { PATH: bin },
    clock: systemClock,
    signal: controller.signal,
    progress: (progress: { step: string }) => void steps.push(progress.step),
  };
  return {
    bin,
    cacheDir,
    controller,
    steps,
    folder: join(cacheDir, `llama-tiny-1.0-${process.platform}-${process.arch}`),
    calls: async () =>
      (await readFile(join(bin, 'calls'), 'utf8').catch(() => '')).split('\n').filter((line) => line !== ''),
    prepare: () => prepareEntry([TINY_PACKAGE], options),
    runtime: (more: { llamaServer?: string; modelPath?: string }) => prepareRuntime({ ...options, ...more }),
  };
}
