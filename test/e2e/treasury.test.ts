import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

/** The treasury and the panic button of a gateway on the emulated Akash network, both as a user starts them. */

const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));
const CONFIRM = { confirm: 'close every lease', reason: 'drill' };

test('an empty treasury is told to who asks; minting fills it; panic ends all and outlives a kill -9', async (t) => {
  const devnet = await startDevnet(t);
  const poor = await startGateway(t, { config: configOf(devnet, '{ mint: false }', 'order_deposit_usd: "20"') });
  const refused = await ask(poor, '2');
  assert.equal(refused.status, 503, refused.text);
  const { error } = JSON.parse(refused.text) as { error: { code: string; message: string } };
  assert.equal(error.code, 'no_capacity');
  assert.match(error.message, /the treasury of the Akash market is empty/);
  assert.match(
    poor.stderr(),
    /alarm treasury\.empty: the treasury is empty: it has 10\.00 ACT, and 20\.00 ACT are needed/,
  );
  assert.ok((await treasury(poor)).alarms.some(({ alarm }) => alarm === 'treasury.empty'));
  poor.child.kill('SIGTERM');
  await poor.exited;

  const { folder } = poor;
  const gateway = await startGateway(t, { folder, config: configOf(devnet, '{}', 'wallets: one') });
  await until('ACT is minted', 60_000, async () => {
    const { act, mints } = await treasury(gateway);
    return Number(act) > 30 && mints.every(({ state }) => state === 'executed') ? true : null;
  });
  const answer = await ask(gateway, '120');
  assert.equal(answer.status, 200, answer.text);
  const rented = await agreed(gateway);
  assert.deepEqual([rented.escrows.length, rented.mints.length], [1, 1]);
  // The button, and the process is killed before it has done its work.
  await gateway.admin('/admin/panic', { method: 'POST', body: CONFIRM });
  gateway.child.kill('SIGKILL');
  await gateway.exited;

  const next = await startGateway(t, { folder });
  await until('all is closed', 60_000, async () => {
    const { stopped, done } = (await next.admin('/admin/panic')) as { stopped: boolean; done: boolean };
    assert.equal(stopped, true, 'a restart does not take it back');
    return done ? true : null;
  });
  const stopped = await ask(next, '30');
  assert.equal(stopped.status, 503);
  assert.match(stopped.text, /stopped by the operator/);
  assert.deepEqual((await agreed(next)).escrows, []);
  assert.equal(((await next.admin('/admin/ledger/check')) as { ok: boolean }).ok, true);
  await next.admin('/admin/panic', { method: 'DELETE' });
  const again = await ask(next, '120');
  assert.equal(again.status, 200, again.text);
});

interface TreasuryView {
  readonly act: string;
  readonly alarms: readonly { readonly alarm: string }[];
  readonly mints: readonly { readonly state: string }[];
  readonly escrows: readonly unknown[];
  readonly accounts: readonly { readonly account: string; readonly ok: boolean; readonly why: string }[];
}

async function treasury(gateway: GatewayProcess): Promise<TreasuryView> {
  const { data } = (await gateway.admin('/admin/treasury')) as { data: (TreasuryView & { market: string })[] };
  const akash = data.find(({ market }) => market === 'akash');
  assert.ok(akash);
  return akash;
}

/** Once no transaction is under way, every account agrees with the chain or says why not. */
function agreed(gateway: GatewayProcess): Promise<TreasuryView> {
  return until('the books agree with the chain', 30_000, async () => {
    const seen = await treasury(gateway);
    return seen.accounts.every(({ ok }) => ok) ? seen : null;
  });
}

function configOf(devnet: string, rules: string, more: string): string {
  return `markets:\n  akash: { devnet: ${devnet}, treasury: ${rules}, ${more} }\n`;
}

async function ask({ url, demoKey }: GatewayProcess, maxWaitS: string): Promise<{ status: number; text: string }> {
  const reply = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${demoKey}`,
      'content-type': 'application/json',
      'x-underbid-max-wait': maxWaitS,
    },
    body: JSON.stringify({ model: 'smollm2-135m', max_tokens: 4, messages: [{ role: 'user', content: 'Why?' }] }),
  });
  return { status: reply.status, text: await reply.text() };
}

/** The path of its devnet.json. */
async function startDevnet(t: TestContext): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-e2e-treasury-'));
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
