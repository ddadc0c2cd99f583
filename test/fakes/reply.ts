import assert from 'node:assert/strict';

/** What a client reads of a reply, with types just deep enough for tests. */
export interface Delta {
  readonly role?: string;
  readonly content?: string;
  readonly refusal?: null;
  readonly tool_calls?: readonly unknown[];
  readonly reasoning_content?: string;
}

export interface Choice {
  readonly index: number;
  readonly delta: Delta;
  readonly message: { readonly role: string; readonly content: string | null; readonly [key: string]: unknown };
  readonly logprobs: unknown;
  readonly finish_reason: string | null;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
  readonly cost: number;
}

export interface Completion {
  readonly id: string;
  readonly object: string;
  readonly created: number;
  readonly model: string;
  readonly choices: readonly Choice[];
  readonly usage?: Usage | null;
}

export interface ErrorBody {
  readonly message: string;
  readonly type: string;
  readonly param: string | null;
  readonly code: string;
  readonly metadata?: Record<string, unknown>;
}

export async function completionOf(response: Response): Promise<Completion> {
  assert.equal(
    response.status,
    200,
    `status ${response.status}: ${response.status === 200 ? '' : await response.text()}`,
  );
  return (await response.json()) as Completion;
}

/** The error of a reply, which has all four fields, a content type and a request id. */
export async function errorOf(response: Response, status: number): Promise<ErrorBody> {
  const text = await response.text();
  assert.equal(response.status, status, text);
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.match(response.headers.get('x-request-id') ?? '', /^req-/);
  const { error } = JSON.parse(text) as { error: ErrorBody };
  assert.deepEqual(
    Object.keys(error).filter((key) => key !== 'metadata'),
    ['message', 'type', 'param', 'code'],
  );
  return error;
}

export interface StreamedReply {
  readonly chunks: readonly Completion[];
  readonly comments: readonly string[];
  readonly error: ErrorBody | null;
  readonly done: boolean;
  /** The texts of each choice put together. */
  readonly texts: readonly string[];
  readonly finishes: readonly (string | null)[];
}

/** A whole stream, read by the letter: each block is one `data:` line or one comment. */
export async function streamOf(response: Response): Promise<StreamedReply> {
  if (response.status !== 200) assert.fail(`status ${response.status}: ${await response.text()}`);
  assert.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8');
  return parseStream(await response.text());
}

export function parseStream(text: string): StreamedReply {
  assert.ok(text.endsWith('\n\n'), 'a stream ends after a blank line');
  const blocks = text.slice(0, -2).split('\n\n');
  const comments = blocks.filter((block) => block.startsWith(': ')).map((block) => block.slice(2));
  const data = blocks.filter((block) => !block.startsWith(': '));
  for (const block of data) assert.match(block, /^data: .*$/);
  const payloads = data.map((block) => block.slice('data: '.length));
  const done = payloads.at(-1) === '[DONE]';
  if (done) payloads.pop();
  const parsed = payloads.map((payload) => JSON.parse(payload) as Completion & { error?: ErrorBody });
  const error = parsed.at(-1)?.error ?? null;
  if (error) parsed.pop();
  const texts: string[] = [];
  const finishes: (string | null)[] = [];
  for (const { index, delta, finish_reason: finish } of parsed.flatMap(({ choices }) => choices)) {
    texts[index] = (texts[index] ?? '') + (delta.content ?? '');
    finishes[index] = finish ?? finishes[index] ?? null;
  }
  return { chunks: parsed, comments, error, done, texts, finishes };
}

/** A stream read block by block, as it comes. */
export class StreamReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #decoder = new TextDecoder();
  #text = '';

  constructor(response: Response) {
    if (!response.body) throw new Error('the reply has no body');
    this.#reader = response.body.getReader();
  }

  /** The next block without its blank line, or null at the end. */
  async next(): Promise<string | null> {
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end >= 0) {
        const block = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 2);
        return block;
      }
      const { done, value } = await this.#reader.read();
      if (done) return null;
      this.#text += this.#decoder.decode(value, { stream: true });
    }
  }

  /** Reads on until a block has this text. */
  async until(text: string): Promise<string> {
    for (;;) {
      const block = await this.next();
      if (block === null) throw new Error(`the stream ended without ${text}`);
      if (block.includes(text)) return block;
    }
  }

  leave(): Promise<void> {
    return this.#reader.cancel();
  }
}
