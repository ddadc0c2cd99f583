import type { Clock } from '../clock.ts';
import type { Target } from '../scheduler/pool/slot.ts';
import type { Ms, Tokens } from '../units.ts';
import type { Member } from './json-splice.ts';
import { readWhole, requestTo, type Upstream } from './upstream.ts';

/** Longer than this nobody waits to learn that a request is cheaper than its bytes. */
const COUNT_MS: Ms = 3000;
const REPLY_MAX = 16 * 1024 * 1024;

/** Questions under way at a time: who has no money must not keep the model servers busy with it. */
const ASKING_MAX = 16;

export interface PromptCounterOptions {
  readonly upstream: Upstream;
  readonly clock: Clock;
}

/** Asks model servers how many tokens a prompt has. */
export class PromptCounter {
  readonly #options: PromptCounterOptions;
  #asking = 0;

  constructor(options: PromptCounterOptions) {
    this.#options = options;
  }

  /**
   * Tokens of a chat prompt by the model server's own template and tokenizer; null where it has none that can be asked,
   * does not answer in time, or too many ask already. llama.cpp has `/apply-template` and `/tokenize`, vLLM `/tokenize` for
   * messages.
   */
  async count(target: Target, body: string): Promise<Tokens | null> {
    const { engine } = target;
    if ((engine !== 'llama.cpp' && engine !== 'vllm') || this.#asking >= ASKING_MAX) return null;
    this.#asking += 1;
    const late = new AbortController();
    const cancel = this.#options.clock.timer(COUNT_MS, () => late.abort(new Error('the tokenizer is too slow')));
    try {
      if (engine === 'vllm') return countOf((await this.#ask(target, '/tokenize', body, late.signal))['count']);
      const { prompt } = await this.#ask(target, '/apply-template', body, late.signal);
      if (typeof prompt !== 'string') return null;
      const text = JSON.stringify({ content: prompt, add_special: true, parse_special: true });
      const { tokens } = await this.#ask(target, '/tokenize', text, late.signal);
      return Array.isArray(tokens) ? countOf(tokens.length) : null;
    } catch {
      // It is only a chance to hold less: the bound by bytes stands.
      return null;
    } finally {
      this.#asking -= 1;
      cancel();
    }
  }

  async #ask(target: Target, path: string, body: string, signal: AbortSignal): Promise<Record<string, unknown>> {
    const request = requestTo(target, { path, body });
    const { status, text } = await readWhole(this.#options.upstream, request, { bytesMax: REPLY_MAX, signal });
    const reply: unknown = status === 200 ? JSON.parse(text) : null;
    return typeof reply === 'object' && reply !== null ? (reply as Record<string, unknown>) : {};
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
