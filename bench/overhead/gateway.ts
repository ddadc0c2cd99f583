import { setTimeout as sleep } from 'node:timers/promises';
import type { Child } from '../child.ts';
import { get, openAccount, sameUsd, startGatewayProcess } from '../gateway-process.ts';
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

const READY_MS = 60_000;
/** Far above what one core answers, so that limits are looked at and never reached. */
const LIMITS = { rpm: 10_000_000, tpm: 10_000_000_000, concurrency: 1024 };

/** Of one token; the configuration has USD per million tokens, a thousandth of that in figures. */
export const PRICE_NANO_USD = { input: 20, output: 50 };
const CHARGE_NANO_USD = PROMPT_TOKENS * PRICE_NANO_USD.input + COMPLETION_TOKENS * PRICE_NANO_USD.output;

export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { folder, mockPort, cores, signal } = options;
  const { child, port, adminKey } = await startGatewayProcess({ folder, config: configOf(mockPort), cores, signal });
  try {
    const { key } = await openAccount({ port, adminKey }, LIMITS);
    await untilAnswering({ port, key, signal });
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
    resume: off
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
