/**
 * How a request begins, as numbers: a model server that has read the same beginning before may still have it in its cache.
 * Providers far away tell nothing of their caches, so what each was sent is remembered here; numbers, no text.
 */

/**
 * A request's opening: what its session is, a number for the text up to the end of each of its first blocks, and how many
 * blocks its whole text has.
 */
export interface Opening {
  readonly session: number | null;
  readonly blocks: readonly number[];
  readonly size: number;
}

type Known = Omit<Opening, 'size'>;

/** About 64 tokens. */
export const BLOCK_CHARS = 256;
/** What comes after the first 32 KiB tells sessions apart no better, and would be work for each request. */
const BLOCKS_MAX = 128;

/** FNV-1a, 32 bits: a collision sends a request to a replica that is no better for it, nothing worse. */
const OFFSET = 0x811c9dc5;
const PRIME = 0x01000193;

function fold(hash: number, text: string, from: number, to: number): number {
  let folded = hash;
  for (let at = from; at < to; at += 1) folded = Math.imul(folded ^ text.charCodeAt(at), PRIME);
  return folded >>> 0;
}

/** A part of a text: a slice of it is read at half of the speed. */
export interface Span {
  readonly text: string;
  readonly from: number;
  readonly to: number;
}

/**
 * The opening of a request, from its texts as they came. Accounts share none: what one sends must not show another, by the
 * time it takes, where it was sent.
 * @param texts in the order in which the model reads them
 * @param session what the client says belongs together, where it says so
 */
export function openingOf(account: string, texts: readonly Span[], session: string | null): Opening {
  let hash = fold(OFFSET, account, 0, account.length);
  const named = session === null ? null : fold(fold(hash, '\u0000', 0, 1), session, 0, session.length);
  const blocks: number[] = [];
  let size = 0;
  for (const { text, from, to } of texts) {
    const length = to - from;
    const end = from + Math.min(length - (length % BLOCK_CHARS), (BLOCKS_MAX - blocks.length) * BLOCK_CHARS);
    for (let at = from; at < end; at += BLOCK_CHARS) {
      hash = fold(hash, text, at, at + BLOCK_CHARS);
      blocks.push(hash);
    }
    // A short text tells what follows it apart all the same.
    if (length < BLOCK_CHARS) hash = fold(hash, text, from, to);
    size += Math.ceil(length / BLOCK_CHARS);
  }
  return { session: named, blocks, size };
}

/** What one replica was sent lately: as many blocks as its cache may hold, those that were used longest ago go first. */
export class Remembered {
  readonly #max: number;
  readonly #blocks = new Set<number>();

  constructor(max: number) {
    this.#max = max;
  }

  /** How many of the first blocks it knows. */
  matched({ blocks }: Known): number {
    let count = 0;
    for (const block of blocks) {
      if (!this.#blocks.has(block)) break;
      count += 1;
    }
    return count;
  }

  hasSession({ session }: Known): boolean {
    return session !== null && this.#blocks.has(session);
  }

  note({ session, blocks }: Known): void {
    // The last block first, so that what many openings share is what was used last.
    for (let at = blocks.length - 1; at >= 0; at -= 1) this.#use(blocks[at]);
    if (session !== null) this.#use(session);
    for (const oldest of this.#blocks) {
      if (this.#blocks.size <= this.#max) break;
      this.#blocks.delete(oldest);
    }
  }

  #use(block: number | undefined): void {
    if (block === undefined) return;
    this.#blocks.delete(block);
    this.#blocks.add(block);
  }
}

/** Letters a token of usual text has. */
export const CHARS_PER_TOKEN = 4;
const REMEMBERED = { least: 64, most: 8192 };

/** Blocks that a model server's cache holds at most: all of its slots at their full context. */
export function rememberedMax(slots: number, contextTokens: number): number {
  const blocks = Math.floor((slots * contextTokens * CHARS_PER_TOKEN) / BLOCK_CHARS);
  return Math.min(REMEMBERED.most, Math.max(REMEMBERED.least, blocks));
}
