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
    // What is left over holds no line feed: it is not searched again.
    let from = this.#rest.length;
    const text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    let start = 0;
    for (;;) {
      const end = text.indexOf('\n', from);
      if (end < 0) break;
      // A carriage return ends a line too, but model servers only write it before a line feed.
      this.#line(text.slice(start, text.charCodeAt(end - 1) === 13 && end > start ? end - 1 : end));
      start = end + 1;
      from = start;
    }
    this.#rest = start === 0 ? text : text.slice(start);
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
