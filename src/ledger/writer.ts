import type { Clock } from '../clock.ts';
import type { Book } from './book.ts';
import type { Batch } from './journal-file.ts';
import type { HoldResult, LedgerOp, LedgerReplies } from './operations.ts';

type Reply = LedgerReplies[LedgerOp['op']];

/** Operations whose reply must wait until their rows are on disk. */
const DURABLE: ReadonlySet<LedgerOp['op']> = new Set([
  'settle',
  'transfer',
  'transfers',
  'grant',
  'customer',
  'freeze',
  'key',
  'rotate',
  'revoke',
  'project',
  'adminKey',
  'revokeAdminKey',
  'deposit',
  'assign',
  'audit',
  'price',
]);

/** A repeat under an Idempotency-Key is answered from its first request: not before that one's charge is on disk. */
function isDurable({ op }: LedgerOp, reply: Reply): boolean {
  if (op !== 'hold') return DURABLE.has(op);
  const result = reply as HoldResult;
  return !result.ok && result.why === 'repeated';
}

export interface WriterOptions {
  readonly book: Book;
  readonly clock: Clock;
  /** Puts a batch on disk and then calls `onStored`; batches are given one at a time. */
  readonly store: (batch: Batch) => void;
  /** Runs when the messages at hand have been read (setImmediate on Node). */
  readonly later: (work: () => void) => void;
}

interface Waiting {
  readonly reply: Reply;
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The one writer. The book judges at once, on the thread of whoever asks: a hold costs no message. What it decided is
 * gathered while one commit is on its way to the disk and becomes the next; under load a commit carries many requests,
 * alone a request waits for nobody. Durable replies wait for their commit.
 */
export class Writer {
  readonly #options: WriterOptions;
  #gathering: Waiting[] = [];
  #storing: { readonly batch: Batch; readonly waiting: readonly Waiting[] } | null = null;
  #scheduled = false;
  #idle: (() => void)[] = [];
  #failed: Error | null = null;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  /** Replies that wait for the disk. */
  get waiting(): number {
    return this.#gathering.length + (this.#storing?.waiting.length ?? 0);
  }

  /** Throws what the book throws: memory may then be wrong, and the process must end. */
  ask(operation: Exclude<LedgerOp, { op: 'check' }>): Promise<Reply> {
    if (this.#failed) return Promise.reject(this.#failed);
    const { book, clock } = this.#options;
    const reply = book.apply(operation, clock.now());
    // A repeat that changed nothing waits too: what it repeats may not be on disk yet.
    const unwritten = book.dirty || this.#storing !== null;
    if (book.dirty) this.#schedule();
    if (!unwritten || !isDurable(operation, reply)) return Promise.resolve(reply);
    return new Promise((resolve, reject) => this.#gathering.push({ reply, resolve, reject }));
  }

  tick(): void {
    const { book, clock } = this.#options;
    book.tick(clock.now());
    if (book.dirty) this.#schedule();
  }

  /** Resolves when everything decided so far is on disk. */
  drained(): Promise<void> {
    if (this.#failed) return Promise.reject(this.#failed);
    if (this.#storing === null && this.#gathering.length === 0 && !this.#options.book.dirty) return Promise.resolve();
    this.#schedule();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  /** The batch that was given to `store` is on disk. */
  onStored(): void {
    const stored = this.#storing;
    if (!stored) throw new Error('nothing was being stored');
    this.#storing = null;
    const { book } = this.#options;
    book.confirm(stored.batch);
    // Before the replies: what they set off belongs into the commit after this one.
    // Gathering for 1 or 2 ms after a crowded commit was tried: fewer commits, but no more of them done in the end.
    this.#store();
    for (const { reply, resolve } of stored.waiting) resolve(reply);
    if (this.#storing === null && !this.#scheduled) this.#tellIdle();
  }

  /** Nothing can be stored any more; whoever waits is told. */
  fail(error: Error): void {
    this.#failed ??= error;
    const waiting = [...(this.#storing?.waiting ?? []), ...this.#gathering];
    this.#storing = null;
    this.#gathering = [];
    for (const { reject } of waiting) reject(error);
    this.#tellIdle();
  }

  #tellIdle(): void {
    const idle = this.#idle;
    this.#idle = [];
    for (const resolve of idle) resolve();
  }

  #schedule(): void {
    if (this.#scheduled || this.#storing !== null) return;
    this.#scheduled = true;
    this.#options.later(() => {
      this.#scheduled = false;
      this.#store();
    });
  }

  #store(): void {
    if (this.#storing !== null || this.#failed) return;
    const batch = this.#options.book.take();
    const waiting = this.#gathering;
    if (!batch) {
      // Nothing to write: what waited did so for the commit that has just ended.
      this.#gathering = [];
      for (const { reply, resolve } of waiting) resolve(reply);
      this.#tellIdle();
      return;
    }
    this.#gathering = [];
    this.#storing = { batch, waiting };
    this.#options.store(batch);
  }
}
