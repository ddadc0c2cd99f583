import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

/** Providers as processes of their own, with real model servers behind a gateway that has none. */

const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));
const PATIENCE_MS = 180_000;

test('a provider that joined answers; killed with -9 it leaves nothing, and the next one takes over', async (t) => {
  const { gateway, folder } = await setup(t);
  const first = await startProvider(t, { gateway, folder, id: 'rack-7', price: ['--price', '0.02'] });
  assert.equal(await chat(gateway), 'rack-7');
  const second = await startProvider(t, {
    ...{ gateway, folder, id: 'rack-8' },
    price: ['--cost', '0.02', '--margin', '25', '--idle-discount', '10', '--peak-markup', '50'],
  });
  const [opened] = await leasesOf(gateway);
  assert.deepEqual([opened?.provider, opened?.state], ['rack-7', 'active']);
  first.child.kill('SIGKILL');
  await until('its model server is gone', PATIENCE_MS, () => isSilent(first.address()));
  assert.equal(await chat(gateway), 'rack-8');
  const closed = await until('its lease is over', PATIENCE_MS, async () => {
    const lease = (await leasesOf(gateway)).find(({ id }) => id === opened?.id);
    return lease?.state === 'closed' ? lease : null;
  });
  assert.notEqual(closed.close_reason, 'shutdown');
  second.child.kill('SIGTERM');
  assert.equal(await second.exited, 0, second.stderr());
  assert.equal(await isSilent(second.address()), true, 'a provider that is told to stop ends its model servers first');
  assert.equal(((await gateway.admin('/admin/ledger/check')) as { ok: boolean }).ok, true);
  assert.ok(!`${gateway.stderr()}${first.stderr()}`.includes(keyOf('rack-7')), 'a key is in no log');
});

test('a wrong key, a market that takes no providers and a key on the command line are told in a sentence', async (t) => {
  const { gateway, folder } = await setup(t);
  const run = async (market: string, key: string): Promise<readonly [number | null, string]> => {
    const provider = spawnProvider(t, folder, ['--market', market, '--key', key, '--price', '0.02', ...COMMAND]);
    return [await provider.exited, provider.stderr()];
  };
  writeFileSync(join(folder, 'wrong.key'), 'not-a-key-of-anybody');
  const [wrong, elsewhere, bare] = await Promise.all([
    run(gateway.url, 'file:wrong.key'),
    run(`${gateway.url}/nowhere`, 'file:rack-7.key'),
    run(gateway.url, 'rack-7-secret-in-the-open'),
  ]);
  assert.equal(wrong[0], 1);
  assert.match(wrong[1], /the market refused our key: this provider's key is unknown/);
  assert.equal(elsewhere[0], 1);
  assert.match(elsewhere[1], /there is no PUT \/nowhere\/provider\/v1\/offer/);
  assert.equal(bare[0], 1);
  assert.match(bare[1], /--key: a secret does not belong on a command line/);
  assert.ok(!bare[1].includes('rack-7-secret'));
});

/** Needs nothing that is downloaded: it is never run. */
const COMMAND = ['--command', 'true', '--engine', 'llama.cpp'];
const keyOf = (id: string): string => `key-of-${id}-0123456789`;

async function setup(t: TestContext): Promise<{ gateway: GatewayProcess; folder: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-provide-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const id of ['rack-7', 'rack-8']) writeFileSync(join(folder, `${id}.key`), `${keyOf(id)}\n`);
  return { gateway: await startGateway(t, { folder, config: CONFIG }), folder };
}

interface ProviderProcess {
  readonly child: ChildProcess;
  readonly exited: Promise<number | null>;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Of its last model server. */
  readonly address: () => string;
}

async function startProvider(
  t: TestContext,
  from: { gateway: GatewayProcess; folder: string; id: string; price: readonly string[] },
): Promise<ProviderProcess> {
  const { gateway, folder, id, price } = from;
  const args = ['--market', gateway.url, '--key', `file:${id}.key`, '--cpu', '2', '--memory', '2Gi', ...price];
  const provider = spawnProvider(t, folder, args);
  await until(`${id} joins`, PATIENCE_MS, () => {
    if (provider.child.exitCode !== null) throw new Error(provider.stderr());
    return provider.stdout().includes(`as ${id}`) || null;
  });
  return provider;
}

function spawnProvider(t: TestContext, cwd: string, args: readonly string[]): ProviderProcess {
  const child = spawn(process.execPath, [ENTRY, 'provide', ...args], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr.on('data', (part: Buffer) => (err += part.toString()));
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve));
  t.after(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  });
  const address = (): string => [...err.matchAll(/running at (http:\S+)/g)].at(-1)?.[1] ?? 'none';
  return { child, exited, stdout: () => out, stderr: () => err, address };
}

/** True when nothing listens there. */
async function isSilent(address: string): Promise<true | null> {
  assert.match(address, /^http:/);
  try {
    await fetch(`${address}/health`);
    return null;
  } catch {
    return true;
  }
}

/** The provider that answered. */
async function chat(gateway: GatewayProcess): Promise<string | null> {
  const reply = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'Say yes.' }], max_tokens: 8 }),
  });
  const text = await reply.text();
  assert.equal(reply.status, 200, text);
  const { choices } = JSON.parse(text) as { choices: { message: { content: string } }[] };
  assert.ok((choices[0]?.message.content ?? '') !== '');
  return reply.headers.get('x-underbid-provider');
}

interface LeaseLine {
  readonly id: string;
  readonly provider: string;
  readonly state: string;
  readonly close_reason: string | null;
}

async function leasesOf(gateway: GatewayProcess): Promise<readonly LeaseLine[]> {
  return ((await gateway.admin('/admin/leases')) as { data: LeaseLine[] }).data;
}

const CONFIG = `pools:
  tiny:
    engine: llama.cpp
    model: smollm2-135m
    context: 1024
    resume: off
    slots: 2
    price: { input: "0.02", output: "0.05" }
    replicas: { min: 0, max: 1 }
    ceiling_usd_per_hour: "0.10"
    idle_s: 3600
markets:
  local:
    providers: []
    joining:
      - { id: rack-7, key: "file:rack-7.key" }
      - { id: rack-8, key: "file:rack-8.key" }
`;
