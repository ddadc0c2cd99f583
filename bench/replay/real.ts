import { homedir } from 'node:os';
import { join } from 'node:path';
import { get, openAccount, startGatewayProcess, type GatewayProcess } from '../gateway-process.ts';

/** The real gateway over the embedded market and real model servers, and a client that times first tokens. */
export interface RealRun {
  readonly gateway: GatewayProcess;
  readonly key: string;
}

export const POOL = 'smollm2-135m';
export const SLOTS = 2;
/** A thirtieth of Akash's: rent is seen in a short run. */
export const BLOCK_MS = 200;

export interface RunOptions {
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly min: number;
  readonly max: number;
  /** null: replicas are kept by what a start-up costs. */
  readonly idleS: number | null;
}

export async function startReal({ folder, signal, min, max, idleS }: RunOptions): Promise<RealRun> {
  const idle = idleS === null ? '' : `\n    idle_s: ${idleS}`;
  const config = `
pools:
  ${POOL}:
    engine: llama.cpp
    model: ${POOL}
    context: 2048
    price: { input: "0.02", cached_input: "0.01", output: "0.05" }
    replicas: { min: ${min}, max: ${max} }
    slots: ${SLOTS}
    ceiling_usd_per_hour: "0.10"
    runway_s: 600${idle}
markets:
  local: { block_ms: ${BLOCK_MS} }
`;
  const { XDG_CACHE_HOME, UNDERBID_CACHE } = process.env;
  const cache = UNDERBID_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'underbid');
  const gateway = await startGatewayProcess({ folder, config, cache, cores: undefined, signal });
  const limits = { rpm: 100_000, tpm: 100_000_000, concurrency: 1000 };
  const { key } = await openAccount(gateway, limits);
  return { gateway, key };
}

export interface Answer {
  /** null: it failed. */
  readonly ttftMs: number | null;
  readonly tookMs: number;
  readonly tokens: number;
}

const WORDS = 'the market found a machine for every question and paid it by the block until nobody asked any more';

/** A streamed answer of about so many tokens to a prompt of about so many, unlike any other. */
export async function ask({ gateway, key }: RealRun, sizes: { input: number; output: number }): Promise<Answer> {
  const at = performance.now();
  const words = WORDS.split(' ');
  const text = Array.from({ length: sizes.input }, (_, n) => words[(n * 7 + Math.floor(at)) % words.length]).join(' ');
  let ttftMs: number | null = null;
  let tokens = 0;
  try {
    const response = await fetch(`http://127.0.0.1:${gateway.port}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        model: POOL,
        max_tokens: sizes.output,
        stream: true,
        messages: [{ role: 'user', content: `${Math.floor(at)} ${text}` }],
      }),
      signal: AbortSignal.timeout(120_000),
    });
    if (!response.ok || !response.body) throw new Error(String(response.status));
    let rest = '';
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
      rest += part;
      const lines = rest.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line.includes('"error"')) throw new Error(line);
        if (!/"content":"[^"]/.test(line)) continue;
        ttftMs ??= performance.now() - at;
        tokens += 1;
      }
    }
  } catch {
    ttftMs = null;
  }
  return { ttftMs, tookMs: performance.now() - at, tokens };
}

export interface LeaseView {
  readonly id: string;
  readonly rent_usd: string;
  readonly take_fee_usd: string;
  readonly provider: string;
}

export async function leases({ gateway }: RealRun): Promise<readonly LeaseView[]> {
  return ((await get(gateway.port, '/admin/leases', gateway.adminKey)) as { data: LeaseView[] }).data;
}

/** What the books say was paid for machines so far. */
export async function paidUsd(run: RealRun): Promise<number> {
  return (await leases(run)).reduce((sum, lease) => sum + Number(lease.rent_usd) + Number(lease.take_fee_usd), 0);
}

/** Milliseconds from an order to the first probe that was answered, of every start-up. */
export async function startUps({ gateway }: RealRun): Promise<number[]> {
  const path = '/admin/decisions';
  const { data } = (await get(gateway.port, path, gateway.adminKey)) as {
    data: { kind: string; detail: { start_ms?: number } }[];
  };
  return data.filter(({ kind }) => kind === 'replica.ready').flatMap(({ detail }) => detail.start_ms ?? []);
}
