/** Choices of model servers in OpenAI's shape: nulls that some leave out, deltas put together again. */

type Json = Record<string, unknown>;

const objectOf = (value: unknown): Json | null =>
  typeof value === 'object' && value !== null ? (value as Json) : null;

/** A whole message: `refusal` present, `role` ours. */
export function normaliseMessage(message: unknown): Json {
  const told = objectOf(message) ?? {};
  let others = false;
  for (const key in told) if (key !== 'role' && key !== 'content' && key !== 'refusal') others = true;
  if (!others) return { role: 'assistant', content: told['content'] ?? null, refusal: told['refusal'] ?? null };
  const { role: _role, ...rest } = told;
  return { role: 'assistant', ...rest, content: rest['content'] ?? null, refusal: rest['refusal'] ?? null };
}

export interface DeltaChoice {
  /** Set when the delta is nothing but text: the common case, written without a walk over the object. */
  readonly text: string | null;
  readonly delta: Record<string, unknown>;
  readonly logprobs: unknown;
  readonly finishReason: string | null;
  /** It says something: text, a tool call, reasoning. */
  readonly hasContent: boolean;
}

/**
 * The choice of a reply or chunk, null when it has none. More than one, or another than the first, is more than was asked
 * and paid for.
 * @throws RangeError
 */
export function onlyChoice(reply: Json): Json | null {
  const choices = reply['choices'];
  if (!Array.isArray(choices) || choices.length === 0) return null;
  const choice = objectOf(choices[0]);
  const index = choice?.['index'] ?? 0;
  if (choices.length > 1 || index !== 0) throw new RangeError('the model server sent more choices than were asked for');
  return choice;
}

/** A model server's delta, its role taken off: the first chunk of a stream is ours. */
export function readDelta(raw: Json, logprobs: unknown, finishReason: string | null): DeltaChoice {
  let others = false;
  for (const key in raw) if (key !== 'content' && key !== 'role' && raw[key] !== null) others = true;
  const { content } = raw;
  const text = typeof content === 'string' ? content : '';
  const hasContent = others || text !== '';
  if (!others && logprobs === null) return { text, delta: raw, logprobs, finishReason, hasContent };
  const { role: _role, ...delta } = raw;
  return { text: null, delta, logprobs, finishReason, hasContent };
}

export const FINISH_REASONS: ReadonlySet<string> = new Set([
  'stop',
  'length',
  'tool_calls',
  'content_filter',
  'function_call',
]);

/** What servers say when they gave an answer up: never shown as an end. */
const GIVEN_UP: ReadonlySet<string> = new Set(['abort', 'aborted', 'cancelled', 'error']);

/** Throws RangeError for an answer that its server gave up. */
export function finishReasonOf(value: unknown): string | null {
  if (typeof value !== 'string' || value === '') return null;
  if (GIVEN_UP.has(value)) throw new RangeError(`the model server ended with finish_reason ${value}`);
  return FINISH_REASONS.has(value) ? value : 'stop';
}

/** A streamed answer put together, for a client that did not ask for a stream. */
export class Assembly {
  readonly #texts = new Map<string, string>();
  readonly #tools = new Map<number, { id?: unknown; type?: unknown; function: { name: string; arguments: string } }>();
  readonly #logprobs = new Map<string, unknown[]>();

  add(delta: Json, logprobs: unknown): void {
    for (const [key, value] of Object.entries(delta)) {
      if (key === 'role') continue;
      if (typeof value === 'string') this.#texts.set(key, (this.#texts.get(key) ?? '') + value);
      else if (key === 'tool_calls' && Array.isArray(value)) for (const call of value) this.#addTool(objectOf(call));
    }
    for (const [key, value] of Object.entries(objectOf(logprobs) ?? {})) {
      if (!Array.isArray(value)) continue;
      const known = this.#logprobs.get(key);
      if (known) for (const one of value as unknown[]) known.push(one);
      else this.#logprobs.set(key, [...(value as unknown[])]);
    }
  }

  get logprobs(): unknown {
    return this.#logprobs.size === 0 ? null : Object.fromEntries(this.#logprobs);
  }

  message(): Json {
    const tools = [...this.#tools.entries()].sort(([a], [b]) => a - b).map(([, call]) => call);
    const text = Object.fromEntries(this.#texts);
    return normaliseMessage({ ...text, ...(tools.length > 0 ? { tool_calls: tools } : {}) });
  }

  #addTool(call: Json | null): void {
    const index = call?.['index'];
    if (!call || typeof index !== 'number') return;
    const known = this.#tools.get(index) ?? { function: { name: '', arguments: '' } };
    // Later deltas leave these out, or write null or an empty text.
    if (typeof call['id'] === 'string' && call['id'] !== '') known.id = call['id'];
    if (typeof call['type'] === 'string' && call['type'] !== '') known.type = call['type'];
    const fn = objectOf(call['function']);
    if (typeof fn?.['name'] === 'string') known.function.name += fn['name'];
    if (typeof fn?.['arguments'] === 'string') known.function.arguments += fn['arguments'];
    this.#tools.set(index, known);
  }
}
