import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

/** A gateway on the emulated Akash network, both as a user starts them, with a real model server behind the lease. */

const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));

test('one call wins a lease on Akash; kill -9 and a restart find it again; its close is in the books to the last unit', async (t) => {
  const devnet = await startDevnet(t);
  const config = `markets:\n  akash: { devnet: ${devnet} }\n`;
  const gateway = await startGateway(t, { config });
  assert.match(await ask(gateway, true), /data: \[DONE\]/);
  const first = await leases(gateway);
  assert.deepEqual(
    first.map(({ market, state }) => [market, state]),
    [['akash', 'active']],
  );
  const [opened] = first;
  assert.ok(opened);
  gateway.child.kill('SIGKILL');
  await gateway.exited;
  const next = await startGateway(t, { folder: gateway.folder });
  assert.match(await ask(next, false), /chat\.completion/);
  assert.deepEqual(
    (await leases(next)).map(({ id, state }) => [id, state]),
    [[opened.id, 'active']],
    'the same lease, no second one',
  );
  await next.admin(`/admin/leases/${opened.id}/close`, { method: 'POST' });
  const closed = await until('the lease is closed', 30_000, async () => {
    const all = await leases(next);
    return all.find(({ id, state }) => id === opened.id && state === 'closed') ?? null;
  });
  const micro = (usd: string): number => Math.round(Number(usd) * 1e6);
  assert.ok(micro(closed.rent_usd) > 0);
  assert.equal(micro(closed.rent_usd) + micro(closed.refund_usd), micro(closed.deposit_usd));
  const shown = (await next.admin(`/admin/leases/${opened.id}`)) as { steps: { step: string; at: string | null }[] };
  assert.deepEqual(
    shown.steps.map(({ step, at }) => [step, at !== null]),
    ['offer', 'order', 'bids', 'deposit and lease', 'delivery', 'rent'].map((step) => [step, true]),
  );
  const check = (await next.admin('/admin/ledger/check')) as { ok: boolean };
  assert.equal(check.ok, true, JSON.stringify(check));
});

interface LeaseLine {
  readonly id: string;
  readonly market: string;
  readonly state: string;
  readonly deposit_usd: string;
  readonly rent_usd: string;
  readonly refund_usd: string;
}

async function leases(gateway: GatewayProcess): Promise<LeaseLine[]> {
  const { data } = (await gateway.admin('/admin/leases')) as { data: LeaseLine[] };
  return data;
}

async function ask(gateway: GatewayProcess, stream: boolean): Promise<string> {
  const messages = [{ role: 'user', content: 'Why is the sky blue?' }];
  const reply = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'smollm2-135m', max_tokens: 8, stream, messages }),
  });
  const text = await reply.text();
  assert.equal(reply.status, 200, text);
  return text;
}

/** The path of its devnet.json. */
async function startDevnet(t: TestContext): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-e2e-devnet-'));
  const env = { ...process.env, UNDERBID_DATA: folder };
  const child = spawn(process.execPath, [ENTRY, 'devnet'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  t.after(async () => {
    child.kill('SIGTERM');
    await exited;
    rmSync(folder, { recursive: true, force: true });
  });
  let out = '';
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr.on('data', (part: Buffer) => (out += part.toString()));
  await until('the devnet is ready', 300_000, () => (out.includes('underbid devnet ready on') ? true : null));
  return join(folder, 'devnet.json');
}
