import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort, startChild, type Child } from '../child.ts';
import { POOL, checkChat } from './chat.ts';
import { COMPLETION_TOKENS, PROMPT_TOKENS } from './mock-replies.ts';

/** Underbid as an operator runs it: its own process, accounts and a ledger on a real disk, over one owned server. */
export interface Gateway {
  readonly child: Child;
  readonly port: number;
  readonly key: string;
  readonly adminKey: string;
  /** Answers charged while it was made ready. */
  readonly answered: number;
}

export interface GatewayOptions {
  readonly folder: string;
  readonly mockPort: number;
  readonly cores: string | undefined;
  readonly signal: AbortSignal;
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ENTRY = join(ROOT, 'src/node.ts');
const READY_MS = 60_000;
const CREDIT_USD = '1000.00';
/** Far above what one core answers, so that limits are looked at and never reached. */
const LIMITS = { rpm: 10_000_000, tpm: 10_000_000_000, concurrency: 1024 };

/** Of one token; the configuration has USD per million tokens, a thousandth of that in figures. */
const PRICE_NANO_USD = { input: 20, output: 50 };
const CHARGE_NANO_USD = PROMPT_TOKENS * PRICE_NANO_USD.input + COMPLETION_TOKENS * PRICE_NANO_USD.output;

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  if (!existsSync(ENTRY)) throw new Error('src/node.ts is not there yet: leave underbid out with --systems');
  const data = join(options.folder, 'data');
  const config = join(options.folder, 'underbid.yaml');
  mkdirSync(data, { recursive: true });
  writeFileSync(config, configOf(options.mockPort));
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
      UNDERBID_CACHE: join(options.folder, 'cache'),
      UNDERBID_ADMIN_KEY: adminKey,
    },
    folder: options.folder,
    ready: /^underbid ready on http:/,
    readyMs: READY_MS,
    cores: options.cores,
    signal: options.signal,
  });
  try {
    const key = await openAccount({ port, adminKey });
    await untilAnswering({ port, key, signal: options.signal });
    return { child, port, key, adminKey, answered: 1 };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

function configOf(mockPort: number): string {
  const perMillion = (nanoUsd: number): string => (nanoUsd / 1000).toFixed(2);
  return `pools:
  ${POOL}:
    engine: llama.cpp
    model: mock
    context: 8192
    price: { input: "${perMillion(PRICE_NANO_USD.input)}", output: "${perMillion(PRICE_NANO_USD.output)}" }
    markets: [owned]
    replicas: { min: 1, max: 1 }
    slots: 1024
    ceiling_usd_per_hour: "1.00"
markets:
  owned:
    servers:
      - { url: "http://127.0.0.1:${mockPort}", pool: ${POOL}, slots: 1024, usd_per_hour: "0.10" }
`;
}

interface Address {
  readonly port: number;
  readonly adminKey: string;
}

async function openAccount(address: Address): Promise<string> {
  const account = (await post(address, '/admin/accounts', { name: 'bench' })) as { id: string };
  const path = `/admin/accounts/${encodeURIComponent(account.id)}`;
  await post(address, `${path}/credits`, { amount_usd: CREDIT_USD, kind: 'promo', reason: 'benchmark' });
  const made = (await post(address, `${path}/keys`, { name: 'bench', ...LIMITS })) as { key: string };
  return made.key;
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

/** The first request of all waits for the owned server's bid and its readiness probe. */
async function untilAnswering(chat: { port: number; key: string; signal: AbortSignal }): Promise<void> {
  const until = performance.now() + READY_MS;
  for (;;) {
    const problem = await checkChat({ ...chat, stream: false });
    if (problem === undefined) return;
    // An answer that arrived and is wrong was charged, and asking again makes it no better.
    if (!problem.startsWith('status 5') || performance.now() > until) throw new Error(`no chat yet: ${problem}`);
    await sleep(250, undefined, { signal: chat.signal });
  }
}

export interface Accounting {
  readonly ledger_check_ok: boolean;
  readonly answers: number;
  readonly expected_usage_usd: number;
  readonly total_usage_usd: number;
  readonly problems: readonly string[];
}

/** Whether the ledger's own checks hold and every good answer, and nothing else, was charged. */
export async function checkAccounting(gateway: Gateway, answers: number): Promise<Accounting> {
  const expected = (answers * CHARGE_NANO_USD) / 1e9;
  let total = 0;
  // Settlement may be a moment behind the last byte.
  for (let attempt = 0; attempt < 20 && !sameUsd(total, expected); attempt++) {
    if (attempt > 0) await sleep(250);
    const credits = (await get(gateway.port, '/v1/credits', gateway.key)) as { data: { total_usage: number } };
    total = credits.data.total_usage;
  }
  const check = (await get(gateway.port, '/admin/ledger/check', gateway.adminKey)) as { ok: boolean };
  const problems: string[] = [];
  if (!check.ok) problems.push(`the ledger's check failed: ${JSON.stringify(check).slice(0, 500)}`);
  if (!sameUsd(total, expected)) problems.push(`${answers} answers cost ${expected} USD, charged were ${total} USD`);
  return {
    ledger_check_ok: check.ok,
    answers,
    expected_usage_usd: expected,
    total_usage_usd: total,
    problems,
  };
}

/** Equal to the nano-USD, apart from what a JSON number loses. */
function sameUsd(one: number, other: number): boolean {
  return Math.abs(one - other) < 0.5e-9;
}

/** How long requests waited for a commit, when the gateway's metrics tell; a mean over its whole life. */
export async function readCommitWaitUs(gateway: Gateway): Promise<number | undefined> {
  try {
    const text = String(await get(gateway.port, '/metrics', gateway.adminKey));
    const read = (suffix: string): number =>
      Number(new RegExp(`^underbid_commit_wait_us_${suffix}(?:\\{[^}]*\\})? (\\S+)`, 'm').exec(text)?.[1]);
    const mean = read('sum') / read('count');
    return Number.isFinite(mean) ? mean : undefined;
  } catch {
    return undefined;
  }
}

async function get(port: number, path: string, key: string): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(60_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`GET ${path} answered ${response.status}: ${text.slice(0, 300)}`);
  return response.headers.get('content-type')?.includes('json') === true ? JSON.parse(text) : text;
}
