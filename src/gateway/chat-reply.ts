import type { AppError } from '../errors.ts';
import type { TokenCounts } from '../ledger/pricing.ts';
import { formatUsd, usdNumber, type EpochMs, type Ms, type NanoUsd } from '../units.ts';
import type { DeltaChoice } from './choice.ts';
import { errorBody } from './openai.ts';
import { SSE_DONE, sseComment, sseData } from './sse.ts';
import type { ReplySink, WholeReply } from './transport.ts';
import { costDetails } from './wake-fee.ts';

export interface ChatReplyOptions {
  readonly id: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly createdMs: EpochMs;
  readonly model: string;
  readonly includeUsage: boolean;
  readonly sink: ReplySink;
}

export interface WholeAnswer {
  /** JSON. */
  readonly choices: string;
  readonly tokens: TokenCounts;
  /** All that was charged, and what of it for a wake. */
  readonly cost: NanoUsd;
  readonly wakeFee: NanoUsd;
  readonly coldStartMs: Ms;
  readonly provider: string | null;
}

/**
 * A chat completion as the client gets it. A stream has OpenAI's order: role delta, deltas, finish_reason chunk, with
 * include_usage one chunk of usage, [DONE]; every chunk with the same id and created. Nothing is sent before there is
 * something to say, so that an early failure has a status of its own.
 */
export class ChatReply {
  readonly #options: ChatReplyOptions;
  /** Around the choices of each chunk; a reply in one piece has none. */
  #around: { readonly prefix: string; readonly suffix: string } | null = null;
  /** Choices whose first chunk is out; a reply in one piece opens none. */
  #opened: Set<number> | null = null;
  #out = '';

  constructor(options: ChatReplyOptions) {
    this.#options = options;
  }

  /** The status line is out, or something waits to go out behind it. */
  get begun(): boolean {
    return this.#options.sink.started || this.#out !== '';
  }

  comment(text: string): void {
    this.#head();
    this.#options.sink.write(sseComment(text));
  }

  delta(index: number, { text, delta, logprobs, finishReason }: DeltaChoice): void {
    this.#open(index);
    if (text === null) {
      const logs = JSON.stringify(logprobs ?? null);
      this.#chunk(`[{"index":${index},"delta":${JSON.stringify(delta)},"logprobs":${logs},"finish_reason":null}]`);
    } else if (text !== '') {
      const content = JSON.stringify(text);
      this.#chunk(`[{"index":${index},"delta":{"content":${content}},"logprobs":null,"finish_reason":null}]`);
    }
    if (finishReason !== null) this.#finish(index, finishReason);
  }

  /** The answer ends before the model did; a comment says why. */
  cutShort(index: number, why: string | null): void {
    this.#open(index);
    this.#finish(index, 'length');
    if (why !== null) this.#out += sseComment(why);
  }

  /** Sends what has gathered; false when the client reads slower than we write. */
  flush(): boolean {
    if (this.#out === '') return true;
    this.#head();
    const text = this.#out;
    this.#out = '';
    return this.#options.sink.write(text);
  }

  /** The last of a stream. */
  end(answer: Pick<WholeAnswer, 'tokens' | 'cost' | 'wakeFee'>): void {
    if (this.#options.includeUsage) {
      this.#out += `${this.#frame().prefix}[],"usage":${usageOf(answer)}}\n\n`;
    }
    this.#last(SSE_DONE);
  }

  /** A stream that broke: never as if it were complete. */
  fail(error: AppError): void {
    this.#last(sseData(errorBody(error)));
  }

  whole(answer: WholeAnswer): void {
    const { headers, body } = this.compose(answer);
    this.#options.sink.whole(200, this.#options.headers, body, headers);
  }

  /** The same answer makes the same bytes: what is kept for a repeat is what this client gets. */
  compose(answer: WholeAnswer): WholeReply {
    const { id, model, createdMs } = this.#options;
    const created = Math.floor(createdMs / 1000);
    const head = `{"id":${JSON.stringify(id)},"object":"chat.completion","created":${created},"model":${JSON.stringify(model)}`;
    const body = `${head},"choices":${answer.choices},"usage":${usageOf(answer)}}`;
    return { headers: wholeHeaders(answer), body };
  }

  #head(): void {
    const { sink, headers } = this.#options;
    if (sink.started) return;
    sink.head(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // Asks nginx in front of us not to gather the stream.
      'x-accel-buffering': 'no',
    });
  }

  #last(text: string): void {
    this.#head();
    const rest = this.#out;
    this.#out = '';
    this.#options.sink.end(rest + text);
  }

  #open(index: number): void {
    this.#opened ??= new Set();
    if (this.#opened.has(index)) return;
    this.#opened.add(index);
    const delta = '{"role":"assistant","content":"","refusal":null}';
    this.#chunk(`[{"index":${index},"delta":${delta},"logprobs":null,"finish_reason":null}]`);
  }

  #finish(index: number, reason: string): void {
    this.#chunk(`[{"index":${index},"delta":{},"logprobs":null,"finish_reason":${JSON.stringify(reason)}}]`);
  }

  #chunk(choices: string): void {
    const { prefix, suffix } = this.#frame();
    this.#out += prefix + choices + suffix;
  }

  #frame(): { readonly prefix: string; readonly suffix: string } {
    if (this.#around) return this.#around;
    const { id, model, createdMs, includeUsage } = this.#options;
    const created = Math.floor(createdMs / 1000);
    const head = `{"id":${JSON.stringify(id)},"object":"chat.completion.chunk","created":${created},"model":${JSON.stringify(model)}`;
    const suffix = includeUsage ? ',"usage":null}\n\n' : '}\n\n';
    return (this.#around = { prefix: `data: ${head},"choices":`, suffix });
  }
}

/** Of a reply in one piece, besides those that every reply has. */
type Told = Pick<WholeAnswer, 'cost' | 'wakeFee' | 'coldStartMs' | 'provider'>;

const VISIBLE = /^[\x20-\x7e]*$/;

function visible(name: string): string {
  return name.replaceAll(/[^\x20-\x7e]/g, '_');
}

export function wholeHeaders({ cost, wakeFee, coldStartMs, provider }: Told): Record<string, string> {
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    'x-underbid-cost-usd': formatUsd(cost),
    'x-underbid-cold-start-ms': String(coldStartMs),
  };
  if (wakeFee > 0n) headers['x-underbid-wake-fee-usd'] = formatUsd(wakeFee);
  // A provider chooses its own name; a header takes visible ASCII only.
  if (provider !== null) headers['x-underbid-provider'] = VISIBLE.test(provider) ? provider : visible(provider);
  return headers;
}

/** OpenAI's usage object with our `cost` (USD, a number), as text. */
function usageOf({ tokens, cost, wakeFee }: Pick<WholeAnswer, 'tokens' | 'cost' | 'wakeFee'>): string {
  const { inputTokens: input, cachedTokens: cached, outputTokens: output } = tokens;
  const counts = `"prompt_tokens":${input},"completion_tokens":${output},"total_tokens":${input + output}`;
  const details =
    `"prompt_tokens_details":{"cached_tokens":${cached},"audio_tokens":0},` +
    '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}';
  const wake = wakeFee === 0n ? '' : `,${JSON.stringify(costDetails(cost, wakeFee)).slice(1, -1)}`;
  return `{${counts},${details},"cost":${usdNumber(cost)}${wake}}`;
}
