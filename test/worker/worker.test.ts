import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createNetServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import OpenAI, { type APIError } from 'openai';

/** The same createApp in the real workerd, under `wrangler dev --local`, in front of a small model server of ours. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const KEY = 'sk-ub-worker-test-key-0123456789';

let worker: ChildProcess;
let model: Server;
let url = '';
let folder = '';

before(async () => {
  ({ worker, model, url, folder } = await setup());
});

after(async () => {
  worker.kill('SIGTERM');
  await new Promise((resolve) => worker.once('exit', resolve));
  model.closeAllConnections();
  model.close();
  rmSync(folder, { recursive: true, force: true });
});

test('streams a chat on workerd, in order, with its price', async () => {
  const client = new OpenAI({ apiKey: KEY, baseURL: `${url}/v1`, maxRetries: 0 });
  const stream = await client.chat.completions.create({
    model: 'smollm2-135m',
    stream: true,
    max_tokens: 3,
    stream_options: { include_usage: true },
    messages: [{ role: 'user', content: 'Count.' }],
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join(''), 'one two three');
  assert.equal(chunks[0]?.choices[0]?.delta.role, 'assistant');
  const last = chunks.at(-1);
  assert.deepEqual(last?.choices, []);
  assert.equal(last?.usage?.completion_tokens, 3);
  // 7 input tokens at 20 nano-USD, 3 output tokens at 50.
  assert.equal((last?.usage as { cost?: number } | null | undefined)?.cost, 290e-9);
  assert.equal(new Set(chunks.map(({ id }) => id)).size, 1);
});

test('answers in one piece, and the charges add up', async () => {
  const before = await credits();
  const reply = await chat({ max_tokens: 3, messages: [{ role: 'user', content: 'Count.' }] });
  assert.equal(reply.status, 200);
  assert.equal(reply.headers.get('x-underbid-cost-usd'), '0.00000029');
  const body = (await reply.json()) as { choices: { message: { content: string } }[] };
  assert.equal(body.choices[0]?.message.content, 'one two three');
  assert.ok(Math.abs((await credits()) - before - 290e-9) < 1e-12);
});

test('replays a finished answer under its Idempotency-Key, byte for byte, and refuses another body', async () => {
  const body = { max_tokens: 3, messages: [{ role: 'user', content: 'Count.' }] };
  const first = await chat(body, 'k-1');
  const text = await first.text();
  const before = await credits();
  const again = await chat(body, 'k-1');
  assert.equal(await again.text(), text);
  assert.deepEqual(
    [first, again].map(({ headers }) => headers.get('x-underbid-idempotent-replay')),
    [null, 'true'],
  );
  assert.equal(await credits(), before);
  assert.equal((await chat({ ...body, max_tokens: 2 }, 'k-1')).status, 422);
});

test('refuses a wrong key, an unknown model and a bad body in the shape of OpenAI', async () => {
  const client = new OpenAI({ apiKey: 'sk-ub-wrong', baseURL: `${url}/v1`, maxRetries: 0 });
  await assert.rejects(
    client.models.list(),
    (error: APIError) => error.status === 401 && error.code === 'invalid_api_key',
  );
  const unknown = await chat({ model: 'nothing', messages: [{ role: 'user', content: 'x' }] });
  assert.equal(unknown.status, 404);
  const bad = await chat({ messages: [] });
  assert.equal(bad.status, 400);
  const { error } = (await bad.json()) as { error: Record<string, unknown> };
  assert.deepEqual(Object.keys(error), ['message', 'type', 'param', 'code']);
  assert.ok(bad.headers.get('x-request-id'));
});

test('has no admin routes to rent with, and nothing of Node in its bundle', async () => {
  assert.equal((await fetch(`${url}/admin/pools`)).status, 401);
  const bundle = readFileSync(join(folder, 'bundle', 'worker.js'), 'utf8');
  assert.doesNotMatch(bundle, /from ["']node:|require\(["']node:/);
  assert.doesNotMatch(bundle, /undici|cosmjs|libsql_/);
});

function chat(body: Record<string, unknown>, once?: string): Promise<Response> {
  const key = once === undefined ? {} : { 'idempotency-key': once };
  const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json', ...key };
  return fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ model: 'smollm2-135m', ...body }),
  });
}

async function credits(): Promise<number> {
  const reply = await fetch(`${url}/v1/credits`, { headers: { authorization: `Bearer ${KEY}` } });
  return ((await reply.json()) as { data: { total_usage: number } }).data.total_usage;
}

function startModel(): Promise<Server> {
  const usage = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 };
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (part: Buffer) => (text += part.toString()));
    request.on('end', () => {
      const body = JSON.parse(text) as Record<string, unknown>;
      if (body['stream'] !== true) {
        const choices = [{ index: 0, message: { role: 'assistant', content: 'one two three' }, finish_reason: 'stop' }];
        response.end(JSON.stringify({ choices, usage }));
        return;
      }
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const send = (event: unknown): boolean => response.write(`data: ${JSON.stringify(event)}\n\n`);
      for (const content of ['one', ' two', ' three'])
        send({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
      send({ choices: [{ index: 0, delta: {}, finish_reason: 'stop' }] });
      send({ choices: [], usage });
      response.end('data: [DONE]\n\n');
    });
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

async function setup(): Promise<{ worker: ChildProcess; model: Server; url: string; folder: string }> {
  const server = await startModel();
  const modelPort = (server.address() as AddressInfo).port;
  const dir = mkdtempSync(join(tmpdir(), 'underbid-worker-'));
  const wrangler = join(ROOT, 'node_modules/wrangler/bin/wrangler.js');
  const env = { ...process.env, WRANGLER_SEND_METRICS: 'false', XDG_CONFIG_HOME: dir, WRANGLER_LOG_PATH: dir, CI: '1' };
  await run([wrangler, 'deploy', '--dry-run', '--outdir', join(dir, 'bundle')], env);
  const port = await freePort();
  const args = ['dev', '--local', '--ip', '127.0.0.1', '--port', String(port), '--inspector-port', '0'];
  const vars = ['--var', `REPLICA_URL:http://127.0.0.1:${modelPort}`, '--var', `API_KEY:${KEY}`];
  const places = ['--persist-to', join(dir, 'state'), '--show-interactive-dev-session=false'];
  const child = spawn(process.execPath, [wrangler, ...args, ...vars, ...places], { cwd: ROOT, env, stdio: 'pipe' });
  let output = '';
  child.stdout.on('data', (part: Buffer) => (output += part.toString()));
  child.stderr.on('data', (part: Buffer) => (output += part.toString()));
  const address = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 300; tries += 1) {
    if (child.exitCode !== null) break;
    try {
      if ((await fetch(`${address}/healthz`)).status === 200)
        return { worker: child, model: server, url: address, folder: dir };
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  child.kill('SIGKILL');
  server.close();
  throw new Error(`workerd did not come up: ${output.slice(-4000)}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createNetServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

function run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, env, stdio: 'pipe' });
    let output = '';
    child.stdout.on('data', (part: Buffer) => (output += part.toString()));
    child.stderr.on('data', (part: Buffer) => (output += part.toString()));
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(output.slice(-4000)))));
  });
}
