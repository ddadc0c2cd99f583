import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { systemClock } from '../clock.ts';
import { AppError } from '../errors.ts';
import { openSql } from '../store/libsql.ts';
import type { Sql } from '../store/sql.ts';
import type { EpochMs } from '../units.ts';
import { Book } from './book.ts';
import { LEDGER_FILE, packBatch, type ThreadMessage } from './journal-file.ts';
import type { MarginSums } from './margin-sums.ts';
import type { CheckReport, Ledger, LedgerOp, LedgerReplies } from './operations.ts';
import { Writer } from './writer.ts';

/** Replies that may wait for the disk at once; more is refused rather than queued without end. */
const PENDING_MAX = 100_000;
/** How often old holds are written, dead ones settled and expired credit written off. */
const TICK_MS = 250;

export interface LedgerThreadOptions {
  readonly dataDir: string;
  /** The writer failed: nothing more can be acknowledged, the process must end and recover. */
  readonly onFatal: (error: Error) => void;
  readonly pendingMax?: number;
}

const thread = (): URL => new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url);

/**
 * Reads the book from its file, recovers what was in flight, and starts the thread that has the disk from then on.
 * @throws Error when the file is no ledger of this version
 */
export async function openLedger({ dataDir, onFatal, pendingMax }: LedgerThreadOptions): Promise<Ledger> {
  const sql = openSql(join(dataDir, LEDGER_FILE), { busyMs: 5000 });
  try {
    const book = new Book(sql, systemClock.now());
    const worker = new Worker(thread(), { workerData: { dataDir, task: 'write', epoch: book.epoch } });
    await new Promise<void>((resolve, reject) => {
      worker.once('message', () => resolve());
      worker.once('error', reject);
      worker.once('exit', () => reject(new Error('the ledger thread ended before it was ready')));
    });
    worker.removeAllListeners('message').removeAllListeners('error').removeAllListeners('exit');
    return new ThreadedLedger({ worker, book, sql, dataDir, onFatal, pendingMax: pendingMax ?? PENDING_MAX });
  } catch (error) {
    sql.close();
    throw error;
  }
}

interface ThreadedLedgerOptions extends Required<LedgerThreadOptions> {
  readonly worker: Worker;
  readonly book: Book;
  /** The book's: after the start it only reads. */
  readonly sql: Sql;
}

/** Judges on this thread and stores on the other: what is asked most, a hold, costs no message between the two. */
class ThreadedLedger implements Ledger {
  readonly #options: ThreadedLedgerOptions;
  readonly #writer: Writer;
  #stopTicking: () => void;
  #closing: Promise<void> | null = null;
  #ended: Error | null = null;
  #checking: Promise<CheckReport> | null = null;

  constructor(options: ThreadedLedgerOptions) {
    this.#options = options;
    const { worker, book, onFatal } = options;
    this.#writer = new Writer({
      book,
      clock: systemClock,
      store: (batch) => worker.postMessage(packBatch(batch) satisfies ThreadMessage),
      later: (work) => void setImmediate(work),
    });
    worker.on('message', () => this.#guard(() => this.#writer.onStored()));
    worker.on('error', (error) => {
      const cause = error instanceof Error ? error : new Error(String(error));
      this.#end(cause);
      onFatal(cause);
    });
    worker.on('exit', () => this.#end(new Error('the ledger thread ended')));
    const tick = (): (() => void) =>
      systemClock.timer(TICK_MS, () => {
        this.#stopTicking = tick();
        this.#guard(() => this.#writer.tick());
      });
    this.#stopTicking = tick();
  }

  ask<O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]> {
    const asked: LedgerOp = operation;
    if (asked.op === 'check') return this.#check() as Promise<LedgerReplies[O['op']]>;
    if (this.#closing || this.#ended) return Promise.reject(closedError(this.#ended));
    // What was let in is settled, or its money would stay held until the deadline.
    const always = asked.op === 'settle' || asked.op === 'progress' || asked.op === 'extend';
    if (!always && this.#writer.waiting >= this.#options.pendingMax)
      return Promise.reject(new AppError('queue_full', 'too many requests at once', { retryAfterS: 1 }));
    const reply = this.#guard(() => this.#writer.ask(asked));
    return (reply ?? Promise.reject(closedError(this.#ended))) as Promise<LedgerReplies[O['op']]>;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stopTicking();
    if (!this.#ended) {
      await this.#writer.drained();
      await this.#endThread();
    }
    this.#options.sql.close();
  }

  async #endThread(): Promise<void> {
    if (this.#ended) return;
    const { worker } = this.#options;
    await new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
      worker.postMessage('close' satisfies ThreadMessage);
    });
  }

  /** An error of the book's own leaves memory in doubt: nothing more may be acknowledged. */
  #guard<T>(work: () => T): T | null {
    try {
      return work();
    } catch (error) {
      const cause = error instanceof Error ? error : new Error(String(error));
      this.#end(cause);
      void this.#options.worker.terminate();
      this.#options.onFatal(cause);
      return null;
    }
  }

  #end(cause: Error): void {
    this.#ended ??= cause;
    this.#stopTicking();
    this.#writer.fail(closedError(cause));
  }

  /** One check at a time, however many ask. */
  #check(): Promise<CheckReport> {
    this.#checking ??= runCheck(this.#options.dataDir).finally(() => {
      this.#checking = null;
    });
    return this.#checking;
  }
}

function closedError(cause: Error | null): AppError {
  return new AppError('internal_error', 'the ledger is closed', cause ? { cause } : {});
}

/** The check reads much: it has a thread and a read-only connection of its own. */
export function runCheck(dataDir: string): Promise<CheckReport> {
  return runReading({ dataDir, task: 'check' });
}

/** What was earned and spent, in the same way. */
export function runMargin(dataDir: string, fromMs: EpochMs, toMs: EpochMs): Promise<MarginSums> {
  return runReading({ dataDir, task: 'margin', fromMs, toMs });
}

function runReading<T>(workerData: Readonly<Record<string, string | number>>): Promise<T> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(thread(), { workerData });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the check ended without a report')));
  });
}
