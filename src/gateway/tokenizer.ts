import type { Clock } from '../clock.ts';
import type { Target } from '../scheduler/pool/slot.ts';
import type { PoolSpec } from '../spec.ts';
import type { Ms, Tokens } from '../units.ts';
import type { Member } from './json-splice.ts';
import { readWhole, type Upstream } from './upstream.ts';

/** Longer than this nobody waits to learn that a request is cheaper than its bytes. */
const COUNT_MS: Ms = 3000;
const REPLY_MAX = 16 * 1024 * 1024;

export interface TokenizerOptions {
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly target: Target;
  readonly spec: PoolSpec;
}

/**
 * Tokens of a chat prompt by the model server's own template and tokenizer; null where it has none that can be asked or
 * does not answer in time. llama.cpp has `/apply-template` and `/tokenize`, vLLM `/tokenize` for messages.
 */
export async function countPrompt(options: TokenizerOptions, body: string): Promise<Tokens | null> {
  const { clock, spec } = options;
  if (spec.engine !== 'llama.cpp' && spec.engine !== 'vllm') return null;
  const late = new AbortController();
  const cancel = clock.timer(COUNT_MS, () => late.abort(new Error('the tokenizer did not answer in time')));
  try {
    if (spec.engine === 'vllm') return countOf((await ask(options, '/tokenize', body, late.signal))['count']);
    const { prompt } = await ask(options, '/apply-template', body, late.signal);
    if (typeof prompt !== 'string') return null;
    const text = JSON.stringify({ content: prompt, add_special: true, parse_special: true });
    const { tokens } = await ask(options, '/tokenize', text, late.signal);
    return Array.isArray(tokens) ? countOf(tokens.length) : null;
  } catch {
    // It is only a chance to hold less: the bound by bytes stands.
    return null;
  } finally {
    cancel();
  }
}

/** What of a request its template reads. */
const READ: readonly string[] = ['messages', 'tools', 'functions', 'response_format', 'json_schema', 'grammar'];

/** A request's prompt as a tokenizer is asked for it. */
export function promptBody(members: readonly Member[], model: string): string {
  const texts = [`"model":${JSON.stringify(model)}`];
  for (const { key, value } of members) if (READ.includes(key)) texts.push(`${JSON.stringify(key)}:${value}`);
  return `{${texts.join(',')}}`;
}

const countOf = (value: unknown): Tokens | null =>
  typeof value === 'number' && Number.isSafeInteger(value) && value > 0 ? value : null;

async function ask(
  { upstream, target }: TokenizerOptions,
  path: string,
  body: string,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (target.apiKey !== null) headers['authorization'] = `Bearer ${target.apiKey}`;
  const request = { url: target.url, path, method: 'POST' as const, headers, body };
  const { status, text } = await readWhole(upstream, request, { bytesMax: REPLY_MAX, signal });
  const reply: unknown = status === 200 ? JSON.parse(text) : null;
  return typeof reply === 'object' && reply !== null ? (reply as Record<string, unknown>) : {};
}
