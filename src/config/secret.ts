/**
 * A password that prints as `[secret]` wherever it ends up by accident: a log line, an error, JSON, `util.inspect`.
 * Whoever needs the text says so with `reveal()`, which is a word to search for in a review.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]';
  }
}
