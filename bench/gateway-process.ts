import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, startChild, type Child } from './child.ts';

/** Underbid as an operator runs it: its own process, accounts and a ledger on a real disk. */
export interface GatewayProcess {
  readonly child: Child;
  readonly port: number;
  readonly adminKey: string;
}

export interface GatewayOptions {
  readonly folder: string;
  /** Text of underbid.yaml. */
  readonly config: string;
  /** Where model servers and models are kept; default: a folder of its own. */
  readonly cache?: string;
  readonly cores: string | undefined;
  readonly signal: AbortSignal;
}

const ENTRY = fileURLToPath(new URL('../src/node.ts', import.meta.url));
const READY_MS = 60_000;
/** The model server and the model may have to be fetched first. */
const DOWNLOAD_MS = 300_000;
const CREDIT_USD = '1000.00';

export async function startGatewayProcess(options: GatewayOptions): Promise<GatewayProcess> {
  if (!existsSync(ENTRY)) throw new Error('src/node.ts is not there yet: leave underbid out with --systems');
  const data = join(options.folder, 'data');
  const config = join(options.folder, 'underbid.yaml');
  mkdirSync(data, { recursive: true });
  writeFileSync(config, options.config);
  const port = await freePort();
  const adminKey = `sk-ub-admin-${randomBytes(24).toString('hex')}`;
  const child = await startChild({
    file: ENTRY,
    cwd: options.folder,
    env: {
      UNDERBID_HOST: '127.0.0.1',
      UNDERBID_PORT: String(port),
      UNDERBID_DATA: data,
      UNDERBID_CONFIG: config,
      UNDERBID_CACHE: options.cache ?? join(options.folder, 'cache'),
      UNDERBID_ADMIN_KEY: adminKey,
    },
    folder: options.folder,
    ready: /^underbid ready on http:/,
    readyMs: options.cache === undefined ? READY_MS : DOWNLOAD_MS,
    cores: options.cores,
    signal: options.signal,
  });
  return { child, port, adminKey };
}

type Address = Pick<GatewayProcess, 'port' | 'adminKey'>;

export interface KeyLimits {
  readonly rpm: number;
  readonly tpm: number;
  readonly concurrency: number;
}

/** An account with $1,000 and a key. */
export async function openAccount(address: Address, limits: KeyLimits): Promise<{ account: string; key: string }> {
  const { id: account } = (await post(address, '/admin/accounts', { name: 'bench' })) as { id: string };
  const path = `/admin/accounts/${encodeURIComponent(account)}`;
  await post(address, `${path}/credits`, { amount_usd: CREDIT_USD, kind: 'promo', reason: 'benchmark' });
  const { key } = (await post(address, `${path}/keys`, { name: 'bench', ...limits })) as { key: string };
  return { account, key };
}

async function post(address: Address, path: string, body: object): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${address.port}${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${address.adminKey}`,
      'content-type': 'application/json',
      'idempotency-key': randomBytes(8).toString('hex'),
    },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`POST ${path} answered ${response.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text);
}

export async function get(port: number, path: string, key: string): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`GET ${path} answered ${response.status}: ${text.slice(0, 300)}`);
  return response.headers.get('content-type')?.includes('json') === true ? JSON.parse(text) : text;
}

/** Equal to the nano-USD, apart from what a JSON number loses. */
export function sameUsd(one: number, other: number): boolean {
  return Math.abs(one - other) < 0.5e-9;
}
