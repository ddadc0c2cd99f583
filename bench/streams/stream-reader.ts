import { STAMP_PATTERN } from './paced-replies.ts';

export interface Ended {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** USD; zero where nobody charges. */
  readonly cost: number;
}

interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly cost?: number;
}

const HEAD_MAX = 16_384;

/**
 * One streamed answer as its bytes come, one process reading thousands of them: it keeps no more than the part of an
 * event that is cut in two. What is wrong with an answer stands in `problem`.
 */
export class StreamReader {
  readonly #onChunk: (stampUs: number) => void;
  #phase: 'head' | 'size' | 'data' | 'after-data' = 'head';
  #pending = '';
  #left = 0;
  #event = '';
  #chunks = 0;
  #finished = false;
  #usage: Usage | undefined;
  ended: Ended | undefined;
  problem: string | undefined;

  constructor(onChunk: (stampUs: number) => void) {
    this.#onChunk = onChunk;
  }

  get chunks(): number {
    return this.#chunks;
  }

  feed(text: string): void {
    this.#pending += text;
    while (this.problem === undefined && this.ended === undefined && this.#step());
  }

  /** False when more bytes are needed. */
  #step(): boolean {
    if (this.#phase === 'data') return this.#takeData();
    const mark = this.#phase === 'head' ? '\r\n\r\n' : '\r\n';
    const end = this.#pending.indexOf(mark);
    if (end === -1) {
      if (this.#pending.length > HEAD_MAX) this.problem = 'a head without an end';
      return false;
    }
    const line = this.#pending.slice(0, end);
    this.#pending = this.#pending.slice(end + mark.length);
    if (this.#phase === 'head') {
      if (!line.startsWith('HTTP/1.1 200 ')) this.problem = `${line.slice(0, 60)}: ${this.#pending.slice(0, 200)}`;
      this.#phase = 'size';
    } else if (this.#phase === 'after-data') this.#phase = 'size';
    else this.#begin(Number.parseInt(line, 16));
    return true;
  }

  #begin(size: number): void {
    this.#left = size;
    this.#phase = 'data';
    if (size === 0) this.problem = 'the stream ended without [DONE]';
    else if (!Number.isSafeInteger(size)) this.problem = 'malformed chunks';
  }

  #takeData(): boolean {
    const part = this.#pending.slice(0, this.#left);
    if (part === '') return false;
    this.#pending = this.#pending.slice(part.length);
    this.#left -= part.length;
    if (this.#left === 0) this.#phase = 'after-data';
    const events = (this.#event + part).split('\n\n');
    this.#event = events.pop() ?? '';
    for (const event of events) this.#take(event);
    return true;
  }

  #take(event: string): void {
    if (this.problem !== undefined || event.startsWith(':')) return;
    const stamp = STAMP_PATTERN.exec(event);
    if (stamp !== null) {
      if (Number(stamp[2]) !== this.#chunks) this.problem = `chunk ${stamp[2]} came as number ${this.#chunks}`;
      this.#chunks += 1;
      this.#onChunk(Number(stamp[1]));
    } else if (event.includes('"finish_reason":"stop"')) this.#finished = true;
    else if (event.includes('"usage":{')) {
      this.#usage = (JSON.parse(event.slice('data: '.length)) as { usage: Usage }).usage;
    } else if (event === 'data: [DONE]') this.#end();
    else if (event.includes('"error"')) this.problem = event.slice(0, 200);
  }

  #end(): void {
    const usage = this.#usage;
    if (!this.#finished) this.problem = 'no finish_reason';
    else if (usage === undefined) this.problem = 'no usage';
    else if (usage.completion_tokens !== this.#chunks) {
      this.problem = `${this.#chunks} chunks, but usage says ${usage.completion_tokens}`;
    } else {
      const { prompt_tokens: promptTokens, completion_tokens: completionTokens, cost = 0 } = usage;
      this.ended = { promptTokens, completionTokens, cost };
    }
  }
}
