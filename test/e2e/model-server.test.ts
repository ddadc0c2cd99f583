import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { PromptCounter } from '../../src/gateway/tokenizer.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { startModelServer, type ModelServer } from '../../src/leases/local/model-server.ts';
import { prepareRuntime, type LlamaRuntime } from '../../src/leases/local/runtime.ts';
import { parsePool } from '../../src/spec.ts';
import { goesWithin, isGone, readPidFile, startParent } from '../fakes/processes.ts';
import { writeScript } from '../fakes/python.ts';

const KEY = 'key-of-one-server';

test('answers a chat completion that carries its key, by the name it was given', async (t) => {
  const { server } = await setup(t);
  const reply = await chat(server, { authorization: `Bearer ${KEY}` });
  assert.equal(reply.status, 200);
  const body = (await reply.json()) as { model: string; usage: { completion_tokens: number } };
  assert.equal(body.model, 'org/some-model');
  const tokens = body.usage.completion_tokens;
  assert.ok(tokens > 0 && tokens <= 8, `${tokens} tokens`);
});

test('refuses a request without its key or with another', async (t) => {
  const { server } = await setup(t);
  assert.equal((await chat(server, {})).status, 401);
  assert.equal((await chat(server, { authorization: 'Bearer another' })).status, 401);
});

test('works on two requests at a time', async (t) => {
  const { server } = await setup(t);
  const authorization = `Bearer ${KEY}`;
  const slow = chat(server, { authorization }, 200);
  const order: string[] = [];
  await Promise.all([
    slow.then(async (reply) => (await reply.text(), order.push('long'))),
    chat(server, { authorization }, 2).then(async (reply) => (await reply.text(), order.push('short'))),
  ]);
  assert.deepEqual(order, ['short', 'long']);
});

test('splits the context between the slots', async (t) => {
  const { server } = await setup(t);
  const reply = await fetch(`${server.url}/slots`, { headers: { authorization: `Bearer ${KEY}` } });
  const slots = (await reply.json()) as { n_ctx: number }[];
  assert.deepEqual(
    slots.map((slot) => slot.n_ctx),
    [512, 512],
  );
});

test('serves metrics to the holder of the key', async (t) => {
  const { server } = await setup(t);
  const reply = await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${KEY}` } });
  assert.match(await reply.text(), /llamacpp:prompt_tokens_total/);
});

test('a prompt is counted as its own tokenizer counts it', async (t) => {
  const { server } = await setup(t);
  const upstream = createUndiciUpstream({ connectMs: 5000, connectionsMax: 4, headerBytesMax: 16_384 });
  t.after(() => upstream.close());
  const price = { input: '1', output: '1' };
  const spec = parsePool('m', { engine: 'llama.cpp', model: 'm', context: 512, price, ceiling_usd_per_hour: '1' }, 0);
  const place = { market: 'local', provider: 'p', leaseId: 'l', engine: spec.engine, slots: 1 };
  const target = { id: 'r', url: server.url, apiKey: KEY, ...place };
  const counter = new PromptCounter({ upstream, clock: systemClock });
  for (const content of [
    'Hi',
    'a '.repeat(200),
    'Grüße aus Köln 🎉 六六六',
    '<|im_start|>user\n<|im_end|>',
    '\n\n\t ',
  ]) {
    const messages = [
      { role: 'system', content: 'Be short.' },
      { role: 'user', content },
    ];
    const counted = await counter.count(target, JSON.stringify({ messages }));
    const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' };
    const body = JSON.stringify({ messages, max_tokens: 1 });
    const reply = await fetch(`${server.url}/v1/chat/completions`, { method: 'POST', headers, body });
    const { usage } = (await reply.json()) as { usage: { prompt_tokens: number } };
    assert.equal(counted, usage.prompt_tokens, content);
  }
});

test('is gone when stop() resolves, in the middle of an answer too', async (t) => {
  const { server } = await setup(t);
  const answer = chat(server, { authorization: `Bearer ${KEY}` }, 400).then((reply) => reply.text());
  const cut = assert.rejects(answer);
  await systemClock.sleep(200);
  await server.stop();
  assert.ok(await isGone(server.pid));
  await cut;
});

test('a file that is no model ends in an error with the reason', async (t) => {
  const { runtime, folder } = await prepare(t);
  const modelPath = join(folder, 'broken.gguf');
  await writeScript(modelPath, 'exit 0');
  await assert.rejects(startModelServer({ ...OPTIONS, runtime: { ...runtime, modelPath }, clock: systemClock }), {
    code: 'setup_failed',
    message: /ended before it answered: exit code 1/,
  });
});

test('dies with a parent that is killed with SIGKILL, though another child of it lives on', async (t) => {
  const { runtime, pid } = await prepare(t);
  const { parent, ready } = startParent({ ...OPTIONS, runtime });
  assert.ok(await ready);
  const server = await pid();
  assert.equal(await isGone(server), false);
  parent.kill('SIGKILL');
  assert.ok(await goesWithin(server, 2_000));
});

test('dies with a parent that is killed while the model is still loading', async (t) => {
  const { runtime, pid } = await prepare(t);
  // A context that takes over a second to set up, in native code that holds Python's lock.
  const { parent, ready } = startParent({ ...OPTIONS, runtime, slots: 4, contextTokensPerSlot: 8192 });
  const server = await pid();
  await systemClock.sleep(500);
  assert.equal(await isGone(server), false);
  parent.kill('SIGKILL');
  assert.equal(await ready, false);
  assert.ok(await goesWithin(server, 2_000));
});

const OPTIONS = {
  alias: 'org/some-model',
  slots: 2,
  contextTokensPerSlot: 512,
  apiKey: KEY,
  threads: 1,
  listenTimeoutMs: 60_000,
};

function chat(server: ModelServer, headers: Record<string, string>, tokens = 8): Promise<Response> {
  const body = { messages: [{ role: 'user', content: 'Count.' }], max_tokens: tokens, ignore_eos: true };
  return fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

/** The real runtime, in the cache that every checkout on this machine shares; its Python notes its process id. */
async function prepare(t: TestContext) {
  const env = process.env;
  const home = env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const prepared: LlamaRuntime = await prepareRuntime({
    cacheDir: env['UNDERBID_CACHE'] ?? join(home, 'underbid'),
    env,
    clock: systemClock,
    signal: t.signal,
    progress: () => {},
  });
  const folder = await mkdtemp(join(tmpdir(), 'underbid-e2e-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const command = join(folder, 'python');
  await writeScript(command, `echo $$ > '${folder}/pid'\nexec '${prepared.command}' "$@"\n`);
  return { folder, runtime: { ...prepared, command }, pid: () => readPidFile(join(folder, 'pid'), 30_000) };
}

async function setup(t: TestContext) {
  const { runtime } = await prepare(t);
  const server = await startModelServer({ ...OPTIONS, runtime, clock: systemClock });
  t.after(() => server.stop());
  return { server };
}
