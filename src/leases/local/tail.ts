import type { Readable } from 'node:stream';

/** Keeps the last bytes of a stream and drops the rest: what a process says last is what explains its end. */
export class Tail {
  #text = '';
  #cut = false;
  readonly #bytesMax: number;

  constructor(bytesMax = 8_192) {
    this.#bytesMax = bytesMax;
  }

  push(chunk: Buffer | string): void {
    const text = this.#text + chunk.toString();
    this.#cut ||= text.length > this.#bytesMax;
    this.#text = text.slice(-this.#bytesMax);
  }

  read(stream: Readable): this {
    stream.on('data', (chunk: Buffer) => this.push(chunk));
    return this;
  }

  text(): string {
    // The first line may have lost its head, and a secret cut in two is not found by `redact`.
    const whole = this.#cut ? this.#text.slice(this.#text.indexOf('\n') + 1) : this.#text;
    return whole.trim();
  }

  lastLine(): string {
    return this.text().split('\n').at(-1)?.trim() ?? '';
  }
}

/** Takes the secrets out of what a program printed, and the credentials and queries out of addresses. */
export function redact(text: string, secrets: readonly string[] = []): string {
  const hidden = secrets.reduce((left, secret) => (secret === '' ? left : left.replaceAll(secret, '***')), text);
  return hidden
    .replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@]*@/gi, '$1***@')
    .replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s?#]*)\?[^\s]*/gi, '$1?***');
}
