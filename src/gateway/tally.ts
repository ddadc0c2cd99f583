import type { Tokens } from '../units.ts';
import { reportedCounts } from './dialect.ts';

/** What one choice has used so far; outputs are bounded by what we allowed and what we saw. */
export interface LegCounts {
  input: Tokens;
  cached: Tokens;
  output: Tokens;
  /** Claimed beyond the bounds, not charged. */
  refused: Tokens;
}

/** No tokenizer in use has so long tokens on average. */
const BYTES_PER_TOKEN = 16;
/** Characters that a token may come without: special tokens, the end of the answer. */
const UNSEEN_TOKENS = 64;
/**
 * Tokens of one choice as we count them: what the model server claims, within what we allowed and what the bytes seen can
 * hold. A stranger's server reports its own sales.
 */
export class Tally {
  readonly counts: LegCounts = { input: 0, cached: 0, output: 0, refused: 0 };
  readonly #inputBound: Tokens;
  readonly #outputMax: Tokens;
  #seen = 0;
  #chunks = 0;
  #claimed: Tokens = 0;
  /** Of replicas before this one, whose part of the answer was delivered. */
  #before: { readonly output: Tokens; readonly refused: Tokens } = { output: 0, refused: 0 };

  constructor({ inputBound, outputMax }: { readonly inputBound: Tokens; readonly outputMax: Tokens }) {
    this.#inputBound = inputBound;
    this.#outputMax = outputMax;
  }

  reset(): void {
    this.#seen = 0;
    this.#chunks = 0;
    this.#claimed = 0;
    this.#before = { output: 0, refused: 0 };
    Object.assign(this.counts, { input: 0, cached: 0, output: 0, refused: 0 });
  }

  /** Tokens that the answer may still have. */
  get left(): Tokens {
    return this.#outputMax - this.counts.output;
  }

  /** Another replica goes on with the answer: what was counted stands. Returns what is left of the maximum. */
  carryOn(): Tokens {
    this.#before = { output: this.counts.output, refused: this.counts.refused };
    this.#seen = 0;
    this.#chunks = 0;
    this.#claimed = 0;
    return this.left;
  }

  see(text: string): void {
    this.#seen += utf8Length(text);
  }

  /** A whole message in one piece. */
  seeMessage(message: Readonly<Record<string, unknown>>): void {
    this.#seen = bytesOf(message);
    this.#chunks = 1;
    this.#recount();
  }

  /** A chunk with content; true when there are more than any answer of ours can have. */
  addChunk(): boolean {
    this.#chunks += 1;
    this.#recount();
    return this.#chunks > 2 * this.#outputMax + UNSEEN_TOKENS;
  }

  /** What a reply or chunk says of tokens, if anything. */
  report(reply: Readonly<Record<string, unknown>>): void {
    const told = reportedCounts(reply);
    if (!told) return;
    if (this.#before.output === 0) this.#reportInput(told.input, told.cached);
    // Its prompt has the answer so far in it, which is no prompt of the client's.
    else if (this.counts.input === 0 && told.input !== null) this.#reportInput(told.input - this.#before.output, 0);
    if (told.output !== null) this.#claimed = Math.max(this.#claimed, told.output);
    this.#recount();
  }

  #reportInput(input: Tokens | null, cached: Tokens | null): void {
    if (input !== null) this.counts.input = Math.min(Math.max(0, input), this.#inputBound);
    if (cached !== null) this.counts.cached = Math.min(cached, this.counts.input);
  }

  /** At least a token a chunk where the server claims nothing. */
  #recount(): void {
    const { output, refused } = this.#before;
    const most = Math.min(this.#outputMax - output, this.#seen + UNSEEN_TOKENS);
    // Of a server that counts nothing: a count below the true one.
    const least = Math.max(this.#chunks, Math.floor(this.#seen / BYTES_PER_TOKEN));
    const claimed = this.#claimed > 0 ? this.#claimed : least;
    this.counts.output = output + Math.min(claimed, most);
    this.counts.refused = refused + Math.max(0, claimed - most);
  }
}

/** Bytes of what a whole message says; tool calls and the like by their JSON. */
function bytesOf(message: Record<string, unknown>): number {
  let bytes = 0;
  for (const key in message) {
    const value = message[key];
    if (typeof value === 'string') bytes += utf8Length(value);
    else if (value !== null) bytes += utf8Length(JSON.stringify(value));
  }
  return bytes;
}

/** Bytes of a text: a token is at least one of them. */
function utf8Length(text: string): number {
  let bytes = text.length;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    // A surrogate pair is four bytes: two more for its two units, like any other unit above 0x7ff.
    if (code > 0x7f) bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1;
  }
  return bytes;
}
