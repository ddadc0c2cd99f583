/**
 * Reads HTTP/1.1 responses off a keep-alive connection, as cheaply as it can and still notice a bad one: the status, the
 * framing of the body, its first and last bytes, and for event streams their number of events and `[DONE]` at the end.
 */
export interface Expectation {
  /** An event stream that ends with `[DONE]`; otherwise one JSON object. */
  readonly stream: boolean;
  /** A stream with fewer events than these has lost some. */
  readonly eventsMin: number;
}

type Phase = 'head' | 'body' | 'chunk-size' | 'chunk' | 'chunk-end' | 'trailer';

const TAIL_BYTES = 16;
const HEAD_CHARS_MAX = 16_384;
const LINE_CHARS_MAX = 1024;
const LF = 10;
const BRACE = 0x7b;
const HEAD_END = '\r\n\r\n';

export class ResponseReader {
  readonly #expected: Expectation;
  readonly #tail = Buffer.alloc(TAIL_BYTES);
  #phase: Phase = 'head';
  #outcome: string | undefined;
  #head = '';
  #status = 0;
  #line = '';
  #left = 0;
  #bodyBytes = 0;
  #firstByte = 0;
  #events = 0;

  constructor(expected: Expectation) {
    this.#expected = expected;
  }

  /**
   * Undefined while the response goes on, 'ok' at its proper end, else what is wrong with it: the connection is then of
   * no more use.
   */
  feed(bytes: Buffer): string | undefined {
    this.#outcome = undefined;
    let at = 0;
    while (at < bytes.length && this.#outcome === undefined) {
      if (this.#phase === 'head') at = this.#readHead(bytes, at);
      else if (this.#phase === 'body' || this.#phase === 'chunk') at = this.#readBody(bytes, at);
      else at = this.#readLine(bytes, at);
    }
    return this.#outcome === 'ok' && at < bytes.length ? 'bytes after the end' : this.#outcome;
  }

  #readHead(bytes: Buffer, at: number): number {
    const before = this.#head.length;
    this.#head += bytes.toString('latin1', at);
    const end = this.#head.indexOf(HEAD_END);
    if (end === -1) {
      if (this.#head.length > HEAD_CHARS_MAX) this.#outcome = 'a head without an end';
      return bytes.length;
    }
    const head = this.#head.slice(0, end).toLowerCase();
    this.#head = '';
    this.#begin(head);
    return at + end + HEAD_END.length - before;
  }

  #begin(head: string): void {
    this.#bodyBytes = 0;
    this.#events = 0;
    this.#line = '';
    this.#tail.fill(0);
    this.#status = Number(head.slice(9, 12));
    if (!head.startsWith('http/1.1 ')) {
      this.#outcome = 'not HTTP/1.1';
    } else if (headerValue(head, 'transfer-encoding') === 'chunked') {
      this.#phase = 'chunk-size';
    } else {
      this.#phase = 'body';
      this.#left = Number(headerValue(head, 'content-length') ?? Number.NaN);
      if (!Number.isSafeInteger(this.#left)) this.#outcome = 'a body of unknown length';
      if (this.#left === 0) this.#finish();
    }
  }

  #readBody(bytes: Buffer, at: number): number {
    const end = Math.min(at + this.#left, bytes.length);
    this.#see(bytes, at, end);
    this.#left -= end - at;
    if (this.#left === 0) {
      if (this.#phase === 'body') this.#finish();
      else this.#phase = 'chunk-end';
    }
    return end;
  }

  /** The lines between chunks: a size in hexadecimal, the empty line after a chunk, the empty line at the very end. */
  #readLine(bytes: Buffer, at: number): number {
    const lf = bytes.indexOf(LF, at);
    const end = lf === -1 ? bytes.length : lf;
    this.#line += bytes.toString('latin1', at, end);
    if (this.#line.length > LINE_CHARS_MAX) this.#outcome = 'malformed chunks';
    if (lf === -1) return end;
    const line = this.#line;
    this.#line = '';
    if (this.#phase === 'chunk-size') {
      if (!/^[0-9a-f]{1,8}\r$/i.test(line)) this.#outcome = 'malformed chunks';
      this.#left = Number.parseInt(line, 16);
      this.#phase = this.#left === 0 ? 'trailer' : 'chunk';
    } else if (line !== '\r') {
      this.#outcome = 'malformed chunks';
    } else if (this.#phase === 'trailer') {
      this.#finish();
    } else {
      this.#phase = 'chunk-size';
    }
    return lf + 1;
  }

  /** Counts events (blank lines), also where a blank line is cut in two, and keeps the last bytes. */
  #see(bytes: Buffer, from: number, to: number): void {
    if (this.#bodyBytes === 0) this.#firstByte = bytes[from] ?? 0;
    this.#bodyBytes += to - from;
    if (this.#expected.stream) {
      let before = this.#tail[TAIL_BYTES - 1];
      for (let index = from; index < to; index++) {
        const byte = bytes[index];
        if (byte === LF && before === LF) this.#events += 1;
        before = byte;
      }
    }
    const fresh = Math.min(to - from, TAIL_BYTES);
    this.#tail.copyWithin(0, fresh);
    bytes.copy(this.#tail, TAIL_BYTES - fresh, to - fresh, to);
  }

  #finish(): void {
    this.#phase = 'head';
    const tail = this.#tail.toString('latin1');
    if (this.#status !== 200) this.#outcome = `status ${this.#status}`;
    else if (!this.#expected.stream) {
      const whole = this.#firstByte === BRACE && tail.trimEnd().endsWith('}');
      this.#outcome = whole ? 'ok' : 'not a JSON object';
    } else if (!tail.endsWith('data: [DONE]\n\n')) this.#outcome = 'a stream without [DONE]';
    else this.#outcome = this.#events < this.#expected.eventsMin ? `only ${this.#events} events` : 'ok';
  }
}

function headerValue(head: string, name: string): string | undefined {
  const start = head.indexOf(`\r\n${name}:`);
  if (start === -1) return undefined;
  const from = start + name.length + 3;
  const end = head.indexOf('\r\n', from);
  return head.slice(from, end === -1 ? undefined : end).trim();
}
