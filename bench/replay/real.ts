import { cacheFolder } from '../cache-folder.ts';
import { get, openAccount, startGatewayProcess, type GatewayProcess } from '../gateway-process.ts';
import { BLOCK_MS, SLOTS, type Setting } from './simulated.ts';

/** The real gateway over the embedded market and real model servers, and a client that times first tokens. */
export interface RealRun {
  readonly gateway: GatewayProcess;
  readonly key: string;
}

const POOL = 'smollm2-135m';
/** Nobody waits longer for an answer. */
export const ASK_MS = 20_000;

export async function startReal(setting: Setting, folder: string, signal: AbortSignal): Promise<RealRun> {
  const { min, max, idleS } = setting;
  const idle = idleS === null ? '' : `\n    idle_s: ${idleS}`;
  const config = `
pools:
  ${POOL}:
    engine: llama.cpp
    model: ${POOL}
    # Small: the question by which the gateway measures a new replica is as long as a quarter of it.
    context: 256
    price: { input: "0.02", cached_input: "0.01", output: "0.05" }
    replicas: { min: ${min}, max: ${max} }
    slots: ${SLOTS}
    ceiling_usd_per_hour: "0.10"
    runway_s: 600
    # Proving it takes three answers a machine from servers that have one thread each.
    resume: off${idle}
markets:
  local: { block_ms: ${BLOCK_MS} }
`;
  const gateway = await startGatewayProcess({ folder, config, cache: cacheFolder(), cores: undefined, signal });
  const limits = { rpm: 100_000, tpm: 100_000_000, concurrency: 1000 };
  try {
    const { key } = await openAccount(gateway, limits);
    return { gateway, key };
  } catch (error) {
    await gateway.child.stop();
    throw error;
  }
}

export interface Answer {
  /** null: it failed. */
  readonly ttftMs: number | null;
  readonly tookMs: number;
  readonly tokens: number;
  /** Why it failed. */
  readonly problem: string | null;
}

const WORDS = 'the market found a machine for every question and paid it by the block until nobody asked any more';

/** A streamed answer of about so many tokens to a prompt of about so many, unlike any other. */
export async function ask(
  { gateway, key }: RealRun,
  sizes: { input: number; output: number },
  signal: AbortSignal,
): Promise<Answer> {
  const at = performance.now();
  const words = WORDS.split(' ');
  const text = Array.from({ length: sizes.input }, (_, n) => words[(n * 7 + Math.floor(at)) % words.length]).join(' ');
  let ttftMs: number | null = null;
  let tokens = 0;
  let problem: string | null = null;
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
      signal: AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]),
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
    if (ttftMs === null) problem = 'an answer without a word';
  } catch (error) {
    signal.throwIfAborted();
    ttftMs = null;
    problem = error instanceof Error ? error.message : String(error);
  }
  return { ttftMs, tookMs: performance.now() - at, tokens, problem };
}

/** What the books say was paid for machines so far. */
export async function paidUsd({ gateway }: RealRun): Promise<number> {
  const { data } = (await get(gateway.port, '/admin/leases', gateway.adminKey)) as {
    data: { rent_usd: string; take_fee_usd: string }[];
  };
  return data.reduce((sum, lease) => sum + Number(lease.rent_usd) + Number(lease.take_fee_usd), 0);
}

/** Newest first: what the scheduler decided and why, and what a start-up took. */
export interface DecisionView {
  readonly kind: string;
  readonly reason: string;
  readonly start_ms?: number;
}

export async function decisions({ gateway }: RealRun): Promise<readonly DecisionView[]> {
  const { data } = (await get(gateway.port, '/admin/decisions', gateway.adminKey)) as { data: DecisionView[] };
  return data;
}
