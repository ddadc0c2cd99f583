/**
 * Reads an event stream however its bytes are cut. Gives the data of each event as soon as its blank line has come;
 * comments, ids and event names are passed over.
 */
export class SseReader {
  readonly #decoder = new TextDecoder();
  readonly #onData: (data: string) => void;
  readonly #bytesMax: number;
  #rest = '';
  #data: string[] = [];
  #dataSize = 0;

  /** @param bytesMax characters one event may have: a stranger's server must not fill our memory */
  constructor(onData: (data: string) => void, bytesMax = 8 * 1024 * 1024) {
    this.#onData = onData;
    this.#bytesMax = bytesMax;
  }

  /** Throws RangeError when an event grows past the limit. */
  push(bytes: Uint8Array): void {
    const piece = this.#decoder.decode(bytes, { stream: true });
    const first = piece.indexOf('\n');
    if (first < 0) {
      // Only strung together: searching an event in many pieces anew with each of them would take quadratic time.
      this.#rest += piece;
    } else {
      const text = this.#rest + piece;
      let start = 0;
      for (let end = this.#rest.length + first; end >= 0; end = text.indexOf('\n', start)) {
        // A carriage return ends a line too, but model servers only write it before a line feed.
        this.#line(text.slice(start, text.charCodeAt(end - 1) === 13 && end > start ? end - 1 : end));
        start = end + 1;
      }
      this.#rest = text.slice(start);
    }
    if (this.#rest.length > this.#bytesMax) throw new RangeError('an event of the stream is too large');
  }

  #line(line: string): void {
    if (line === '') {
      if (this.#data.length === 0) return;
      const data = this.#data.length === 1 ? (this.#data[0] ?? '') : this.#data.join('\n');
      this.#data = [];
      this.#dataSize = 0;
      this.#onData(data);
      return;
    }
    if (!line.startsWith('data:')) return;
    this.#data.push(line.charCodeAt(5) === 32 ? line.slice(6) : line.slice(5));
    this.#dataSize += line.length;
    if (this.#dataSize > this.#bytesMax) throw new RangeError('an event of the stream is too large');
  }
}

/** One event of our own: `data` holds no line break, since it is JSON. */
export function sseData(data: string): string {
  return `data: ${data}\n\n`;
}

export function sseComment(text: string): string {
  return `: ${text.replaceAll(/[\r\n]+/g, ' ')}\n\n`;
}

export const SSE_DONE = 'data: [DONE]\n\n';
