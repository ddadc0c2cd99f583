import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, request } from 'undici';
import type { EncodeObject } from '@cosmjs/proto-signing';
import { DirectSecp256k1HdWallet } from '@cosmjs/proto-signing';
import { GasPrice, SigningStargateClient } from '@cosmjs/stargate';
import { walletToken } from '../leases/akash/devnet/provider-client.ts';
import { closeDeployment, createDeployment, createLease, readSdl, registry } from '../leases/akash/devnet/setup.ts';
import { goesWithin } from '../fakes/processes.ts';
import { until } from './gateway-process.ts';

/** `underbid devnet` as a user has it: real blocks, real TLS, the real model server behind the lease. */
const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));

interface Described {
  readonly rpc: string;
  readonly rest: string;
  readonly chain_id: string;
  readonly usdc_denom: string;
  readonly tenant: { readonly address: string; readonly keyfile: string };
  readonly payer: { readonly address: string; readonly keyfile: string };
}

test('a tenant of the devnet rents a machine, gets tokens from its model server, and its money back', async (t) => {
  const { described, stop, out } = await startDevnet(t);
  for (const { keyfile } of [described.tenant, described.payer]) assert.equal(statSync(keyfile).mode & 0o777, 0o600);
  assert.match(out(), /lives in memory/);
  const { uri, send, client, rentedAt } = await rent(t, described);
  const ask = (key: string) =>
    request(`http://${uri}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL, max_tokens: 8, messages: [{ role: 'user', content: 'Say hello.' }] }),
    });
  const answer = (await (await ask('lease-key')).body.json()) as { usage: { completion_tokens: number } };
  assert.ok(answer.usage.completion_tokens > 0);
  assert.equal((await ask('another-key')).statusCode, 401);
  const { address } = described.tenant;
  const closed = await send(closeDeployment(address, 7));
  const spent = 10_000_000n - BigInt((await client.getBalance(address, 'uact')).amount);
  // Bids end well below the ceiling of 10,000 uact.
  assert.ok(spent > 0n && spent < 10_000n * BigInt(closed.height - rentedAt), `${spent} uact`);
  await until('the model server is gone', 20_000, async () =>
    request(`http://${uri}/health`).then(
      () => null,
      () => true,
    ),
  );
  assert.equal(await stop('SIGTERM'), 0);
});

const LINUX = process.platform === 'linux';
test('killed, the devnet leaves no model server behind', { skip: !LINUX }, async (t) => {
  const { described, stop, pid } = await startDevnet(t);
  await rent(t, described);
  const family = descendants(pid);
  assert.ok(family.length > 0);
  await stop('SIGKILL');
  for (const one of family) assert.ok(await goesWithin(one, 5_000), `${one} still runs`);
});

const MODEL = 'smollm2-135m';

/** From an order to a model server that answers. */
async function rent(t: TestContext, described: Described) {
  const mnemonic = readFileSync(described.tenant.keyfile, 'utf8').trim();
  const wallet = await DirectSecp256k1HdWallet.fromMnemonic(mnemonic, { prefix: 'akash' });
  const options = { registry, gasPrice: GasPrice.fromString('0.025uakt'), broadcastPollIntervalMs: 200 };
  const client = await SigningStargateClient.connectWithSigner(described.rpc, wallet, options);
  t.after(() => client.disconnect());
  const { address } = described.tenant;
  assert.equal(await client.getChainId(), described.chain_id);
  assert.equal((await client.getBalance(described.payer.address, described.usdc_denom)).amount, '10000000000');
  const send = async (message: EncodeObject) => {
    const result = await client.signAndBroadcast(address, [message], 2);
    assert.equal(result.code, 0, result.rawLog);
    return result;
  };
  const order = await readSdl();
  await send(createDeployment(address, 7, order));
  type Bids = { bids: { bid: { id: { provider: string } } }[] };
  const provider = await until('a bid', 30_000, async () => {
    const path = `/akash/market/v1beta5/bids/list?filters.owner=${address}&filters.state=open`;
    const reply = (await (await fetch(`${described.rest}${path}`)).json()) as Bids;
    return reply.bids[0]?.bid.id.provider ?? null;
  });
  const { height: rentedAt } = await send(createLease(address, 7, provider));
  const { hostUri, ca } = await findProvider(described.rest, provider);
  const gateway = new Client(hostUri, { connect: { ca } });
  t.after(() => gateway.destroy());
  const headers = { authorization: `Bearer ${await walletToken(mnemonic)}` };
  const put = await gateway.request({ method: 'PUT', path: '/deployment/7/manifest', headers, body: order.manifest });
  assert.equal(put.statusCode, 200, await put.body.text());
  const uri = await until('the model server', 60_000, async () => {
    const reply = await gateway.request({ method: 'GET', path: '/lease/7/1/1/status', headers });
    const status = (await reply.body.json()) as { services: Record<string, { available: number; uris: string[] }> };
    return status.services['model']?.available === 1 ? (status.services['model'].uris[0] ?? null) : null;
  });
  return { uri, send, client, rentedAt };
}

/** Process ids below one, as Linux lists them. */
function descendants(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      parents.set(Number(name), Number(/\) \S (\d+)/.exec(stat)?.[1]));
    } catch {
      // It ended in between.
    }
  }
  const below = (parent: number): number[] =>
    [...parents].filter(([, of]) => of === parent).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

test('names of faults are checked, and those given are on', async (t) => {
  const wrong = spawn(process.execPath, [ENTRY, 'devnet', '--fault', 'earthquake'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let err = '';
  wrong.stderr.on('data', (part: Buffer) => (err += part.toString()));
  assert.equal(await new Promise((resolve) => wrong.once('exit', resolve)), 1);
  assert.match(err, /there is no fault earthquake: no-bids, /);
  const { out, stop } = await startDevnet(t, ['--fault', 'no-bids', 'stale-rpc']);
  assert.match(out(), /faults +no-bids, stale-rpc/);
  assert.equal(await stop('SIGTERM'), 0);
});

async function findProvider(rest: string, owner: string): Promise<{ hostUri: string; ca: string }> {
  const get = async (path: string): Promise<unknown> => (await fetch(`${rest}${path}`)).json();
  const { provider } = (await get(`/akash/provider/v1beta4/providers/${owner}`)) as { provider: { host_uri: string } };
  const list = `/akash/cert/v1/certificates/list?filter.owner=${owner}&filter.state=valid`;
  const { certificates } = (await get(list)) as { certificates: { certificate: { cert: string } }[] };
  const ca = Buffer.from(certificates[0]?.certificate.cert ?? '', 'base64').toString('utf8');
  return { hostUri: provider.host_uri, ca };
}

async function startDevnet(t: TestContext, args: readonly string[] = []) {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-devnet-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const child = spawn(process.execPath, [ENTRY, 'devnet', '--block-ms', '300', ...args], {
    env: { ...process.env, UNDERBID_DATA: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', (part: Buffer) => (out += part.toString()));
  child.stderr.on('data', (part: Buffer) => (err += part.toString()));
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  t.after(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  });
  await until('the devnet', 300_000, () => {
    if (child.exitCode !== null) throw new Error(`ended: ${err}`);
    return out.includes('lives in memory') ? true : null;
  });
  const described = JSON.parse(readFileSync(join(folder, 'devnet.json'), 'utf8')) as Described;
  const stop = async (signal: 'SIGTERM' | 'SIGKILL') => {
    child.kill(signal);
    return Promise.race([exited, sleep(20_000, 'too late')]);
  };
  return { described, stop, out: () => out, pid: child.pid ?? 0 };
}
