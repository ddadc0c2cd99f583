import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestContext } from 'node:test';
import { MsgAccountDeposit } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { MsgCloseDeployment, MsgCreateDeployment } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { MsgCreateLease } from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { decodeTxRaw } from '@cosmjs/proto-signing';
import { checkLedger } from '../../src/ledger/check.ts';
import { openSql } from '../../src/store/libsql.ts';
import { bigintOf, textOf } from '../../src/store/sql.ts';
import { ChainDoor } from '../fakes/chain-door.ts';
import { until, type GatewayProcess } from './gateway-process.ts';

/** The emulated network as a process of its own, and what its chain says of the tenant's money and leases. */

const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));
export const MODEL = 'smollm2-135m';
const NANO_PER_UACT = 1000n;

export interface DevnetProcess {
  /** For `markets: { akash: { devnet: FILE } }`: its RPC is the door's. */
  readonly file: string;
  readonly door: ChainDoor;
  readonly tenant: string;
  readonly providers: ReadonlyMap<string, string>;
  fault(name: string, on: boolean): Promise<void>;
  uact(): Promise<bigint>;
  /** Of the tenant, open ones alone. */
  deployments(): Promise<readonly string[]>;
  leases(state: 'active' | 'closed'): Promise<readonly { readonly dseq: string; readonly provider: string }[]>;
  /** The tenant's messages that the chain took, in their order. */
  messages(): Promise<readonly ChainMessage[]>;
  /** Process ids of the model servers that its providers run. */
  modelServers(): number[];
  readonly child: ChildProcess;
}

export interface ChainMessage {
  readonly type: string;
  readonly dseq: string;
  /** What it paid into an escrow. */
  readonly uact: bigint;
}

/** Requests that wait take what has been bid two blocks after the first bid: with such blocks all of the providers' bids. */
export const UNHURRIED = ['--block-ms', '3000'] as const;

export async function startDevnet(t: TestContext, args: readonly string[] = []): Promise<DevnetProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-e2e-devnet-'));
  const env = { ...process.env, UNDERBID_DATA: folder };
  const command = [ENTRY, 'devnet', '--block-ms', '200', ...args];
  const child = spawn(process.execPath, command, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  t.after(async () => {
    child.kill('SIGTERM');
    await exited;
    rmSync(folder, { recursive: true, force: true });
  });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => (out += part.toString()));
  await until('the devnet is ready', 300_000, () => {
    if (child.exitCode !== null) throw new Error(`the devnet ended: ${out}`);
    return out.includes('lives in memory') ? true : null;
  });
  const described = JSON.parse(readFileSync(join(folder, 'devnet.json'), 'utf8')) as Described;
  const door = await ChainDoor.open(t, described.rpc);
  const file = join(folder, 'behind-the-door.json');
  writeFileSync(file, JSON.stringify({ ...described, rpc: door.url }));
  const { address } = described.tenant;
  const get = async (path: string): Promise<unknown> => (await fetch(`${described.rest}${path}`)).json();
  return {
    file,
    door,
    child,
    tenant: address,
    providers: new Map(described.providers.map((one) => [one.name, one.address])),
    fault: async (fault, on) => {
      const body = JSON.stringify({ fault, on });
      const reply = await fetch(`${described.rest}/devnet/faults`, { method: 'POST', body });
      assert.equal(reply.status, 200, await reply.text());
    },
    uact: async () => {
      const path = `/cosmos/bank/v1beta1/balances/${address}/by_denom?denom=uact`;
      return BigInt(((await get(path)) as { balance: { amount: string } }).balance.amount);
    },
    deployments: async () => {
      const path = `/akash/deployment/v1beta4/deployments/list?filters.owner=${address}&filters.state=active`;
      const { deployments } = (await get(path)) as { deployments: { deployment: { id: { dseq: string } } }[] };
      return deployments.map(({ deployment }) => deployment.id.dseq);
    },
    leases: async (state) => {
      const path = `/akash/market/v1beta5/leases/list?filters.owner=${address}&filters.state=${state}`;
      const { leases } = (await get(path)) as { leases: { lease: { id: { dseq: string; provider: string } } }[] };
      return leases.map(({ lease }) => lease.id);
    },
    messages: () => messagesOf(described.rpc),
    modelServers: () => modelServers(child.pid ?? 0),
  };
}

/** One pool on the emulated network, whose treasury mints nothing: money is counted to the uact. */
export function devnetConfig({ file }: Pick<DevnetProcess, 'file'>, pool: readonly string[]): string {
  return `pools:
  ${MODEL}:
    engine: llama.cpp
    model: ${MODEL}
    context: 2048
    price: { input: "0.02", cached_input: "0.01", output: "0.05" }
    replicas: { min: 0, max: 1 }
    ceiling_usd_per_hour: "5.00"
    hardware: { cpu: 1, memory: 1Gi }
    ${pool.join('\n    ')}
markets:
  akash: { devnet: ${file}, treasury: { mint: false } }
`;
}

interface Described {
  readonly rpc: string;
  readonly rest: string;
  readonly tenant: { readonly address: string };
  readonly providers: readonly { readonly name: string; readonly address: string }[];
}

async function messagesOf(rpc: string): Promise<ChainMessage[]> {
  const found: ChainMessage[] = [];
  for (let page = 1; ; page += 1) {
    const query = encodeURIComponent('"tx.height>0"');
    const reply = await fetch(`${rpc}/tx_search?query=${query}&page=${page}&per_page=100`);
    const { result } = (await reply.json()) as { result: { txs: { tx: string; tx_result: { code: number } }[] } };
    for (const {
      tx,
      tx_result: { code },
    } of result.txs) {
      if (code !== 0) continue;
      for (const { typeUrl, value } of decodeTxRaw(Buffer.from(tx, 'base64')).body.messages) {
        const message = readMessage(typeUrl, value);
        if (message) found.push(message);
      }
    }
    if (result.txs.length < 100) return found;
  }
}

function readMessage(typeUrl: string, value: Uint8Array): ChainMessage | null {
  const type = typeUrl.split('.').at(-1) ?? '';
  if (type === 'MsgCreateDeployment') {
    const { id, deposit } = MsgCreateDeployment.decode(value);
    return { type, dseq: String(id?.dseq), uact: BigInt(deposit?.amount?.amount ?? 0) };
  }
  if (type === 'MsgAccountDeposit') {
    const { id, deposit } = MsgAccountDeposit.decode(value);
    return { type, dseq: id?.xid.split('/')[1] ?? '', uact: BigInt(deposit?.amount?.amount ?? 0) };
  }
  if (type === 'MsgCreateLease') return { type, dseq: String(MsgCreateLease.decode(value).bidId?.dseq), uact: 0n };
  if (type === 'MsgCloseDeployment') return { type, dseq: String(MsgCloseDeployment.decode(value).id?.dseq), uact: 0n };
  return null;
}

/** Processes below this one that hold a model: by far the largest ones. */
function modelServers(pid: number): number[] {
  const found: number[] = [];
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim();
      for (const child of children === '' ? [] : children.split(' ').map(Number)) {
        const status = readFileSync(`/proc/${child}/status`, 'utf8');
        if (Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) > 100_000) found.push(child);
        found.push(...modelServers(child));
      }
    }
  } catch {
    // It ended in between.
  }
  return found;
}

export interface LeaseLine {
  readonly id: string;
  readonly order: string;
  readonly state: string;
  readonly provider: string;
  readonly deposit_usd: string;
  readonly rent_usd: string;
  readonly refund_usd: string;
}

/** Beside the accounts: what came into the wallet meanwhile. */
const MINTED = 'minted';

export async function leasesOf(gateway: GatewayProcess): Promise<readonly LeaseLine[]> {
  return ((await gateway.admin('/admin/leases')) as { data: LeaseLine[] }).data;
}

/** What the ledger has, read beside the gateway: it is on disk before anything is told. */
export function readBooks(gateway: GatewayProcess): ReadonlyMap<string, bigint> {
  const sql = openSql(join(gateway.dataDir, 'ledger.db'), { readonly: true });
  try {
    const { ok, checks } = checkLedger(sql);
    assert.ok(ok, JSON.stringify(checks.filter((check) => !check.ok)));
    const rows = sql.all('SELECT name, posted FROM accounts');
    const books = new Map(rows.map((row) => [textOf(row, 'name'), bigintOf(row, 'posted')]));
    const minted = sql.all(`SELECT amount FROM transfers WHERE type = 'mint_minted'`);
    return books.set(
      MINTED,
      minted.reduce((sum, row) => sum + bigintOf(row, 'amount'), 0n),
    );
  } finally {
    sql.close();
  }
}

/** Everything is closed on the chain, and the books are the chain's to the last uact. */
export async function assertAllClosed(
  gateway: GatewayProcess,
  devnet: DevnetProcess,
  { heldBefore }: { readonly heldBefore: bigint },
): Promise<void> {
  assert.deepEqual(await devnet.deployments(), [], 'no deployment is left open');
  assert.deepEqual(await devnet.leases('active'), [], 'no lease is left open');
  const lines = await leasesOf(gateway);
  for (const { id, state } of lines) assert.equal(state, 'closed', id);
  const books = readBooks(gateway);
  const held = await devnet.uact();
  assert.equal(books.get('treasury:akash'), held * NANO_PER_UACT, 'the treasury is what the wallet holds');
  assert.equal(books.get('equity:akash'), heldBefore * NANO_PER_UACT, 'nothing had to be made up');
  const rent = (heldBefore - held) * NANO_PER_UACT + (books.get(MINTED) ?? 0n);
  assert.ok(rent > 0n, 'rent was paid');
  assert.equal(books.get(`expense:lease:${MODEL}`), rent, 'the rent is what the chain took');
  for (const [name, posted] of books) if (name.startsWith('escrow:akash:')) assert.equal(posted, 0n, name);
  const nano = (usd: string): bigint => BigInt(Math.round(Number(usd) * 1e9));
  const total = lines.reduce((sum, { rent_usd: usd }) => sum + nano(usd), 0n);
  assert.equal(total, rent, 'and what the leases show');
  for (const line of lines) assert.equal(nano(line.rent_usd) + nano(line.refund_usd), nano(line.deposit_usd), line.id);
}

/** No order was made twice, no lease won twice, no payment repeated. */
export async function assertPaidOnce(devnet: DevnetProcess): Promise<readonly ChainMessage[]> {
  const messages = await devnet.messages();
  const seen = new Set<string>();
  for (const { type, dseq, uact } of messages) {
    const key = `${type} ${dseq}`;
    assert.ok(!seen.has(key), `${key} (${uact} uact) is on the chain twice: ${JSON.stringify(messages, plain)}`);
    seen.add(key);
  }
  return messages;
}

const plain = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);
