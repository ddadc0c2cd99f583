import type { Clock } from '../clock.ts';
import type { Book } from './book.ts';
import type { LedgerOp, LedgerReplies } from './operations.ts';

export interface Question {
  readonly id: number;
  readonly operation: LedgerOp;
}

export interface Answer {
  readonly id: number;
  readonly reply: LedgerReplies[LedgerOp['op']];
}

/** Operations whose reply must wait until their rows are on disk. */
const DURABLE: ReadonlySet<LedgerOp['op']> = new Set([
  'settle',
  'transfer',
  'transfers',
  'grant',
  'customer',
  'key',
  'revoke',
  'price',
]);

/** The most operations of one group commit. */
const GROUP_MAX = 512;

export interface WriterOptions {
  readonly book: Book;
  readonly clock: Clock;
  readonly answer: (answers: readonly Answer[]) => void;
  /** Runs when the messages at hand have been read (setImmediate on Node). */
  readonly later: (work: () => void) => void;
  /** Reads the file's last sequence number over another connection, see `#canary`. */
  readonly storedSeq?: () => bigint;
}

/**
 * The one writer: gathers what has arrived, applies it to the book, answers what needs no disk at once and the rest after
 * one commit. Under load a commit carries many requests; alone, a request waits for nobody.
 */
export class Writer {
  readonly #options: WriterOptions;
  #queue: Question[] = [];
  #scheduled = false;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  push(questions: readonly Question[]): void {
    // One by one: a spread of a whole burst would overflow the stack.
    for (const question of questions) this.#queue.push(question);
    this.#schedule();
  }

  tick(): void {
    const { book, clock, storedSeq } = this.#options;
    book.tick(clock.now());
    book.commit();
    // A statement left open by SQLITE_BUSY makes libSQL acknowledge writes that never reach the file. Another connection
    // sees what is really there.
    if (storedSeq && storedSeq() !== book.seq) throw new Error('the ledger acknowledged rows that are not on disk');
  }

  /** Everything queued, now. */
  drain(): void {
    while (this.#queue.length > 0) this.#flush();
  }

  #schedule(): void {
    if (this.#scheduled || this.#queue.length === 0) return;
    this.#scheduled = true;
    this.#options.later(() => {
      this.#scheduled = false;
      this.#flush();
      this.#schedule();
    });
  }

  #flush(): void {
    const { book, clock, answer } = this.#options;
    const group = this.#queue.length > GROUP_MAX ? this.#queue.splice(0, GROUP_MAX) : this.#queue.splice(0);
    const now: Answer[] = [];
    const afterCommit: Answer[] = [];
    for (const { id, operation } of group) {
      if (operation.op === 'check') throw new Error('the check runs on a connection of its own');
      const reply = book.apply(operation, clock.now());
      if (operation.op === 'progress') continue;
      (DURABLE.has(operation.op) ? afterCommit : now).push({ id, reply });
    }
    const waits = book.dirty;
    if (waits && now.length > 0) answer(now);
    book.commit();
    const rest = waits ? afterCommit : [...now, ...afterCommit];
    if (rest.length > 0) answer(rest);
  }
}
