import { Worker } from 'node:worker_threads';
import { AppError } from '../errors.ts';
import type { CheckReport, Ledger, LedgerOp, LedgerReplies } from './operations.ts';
import type { Answer, Question } from './writer.ts';

/** Operations under way at once; more are refused rather than queued without end. */
const PENDING_MAX = 100_000;

export interface LedgerThreadOptions {
  readonly dataDir: string;
  /** The writer failed: nothing more can be acknowledged, the process must end and recover. */
  readonly onFatal: (error: Error) => void;
  readonly pendingMax?: number;
}

const thread = (): URL => new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url);

/** Starts the writer's thread; resolves once the book is read and recovered. */
export async function openLedger({ dataDir, onFatal, pendingMax }: LedgerThreadOptions): Promise<Ledger> {
  const worker = new Worker(thread(), { workerData: { dataDir, task: 'write' } });
  await new Promise<void>((resolve, reject) => {
    worker.once('message', () => resolve());
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the ledger thread ended before it was ready')));
  });
  worker.removeAllListeners('message').removeAllListeners('error').removeAllListeners('exit');
  return new LedgerThread(worker, { dataDir, onFatal, pendingMax: pendingMax ?? PENDING_MAX });
}

interface Waiting {
  readonly resolve: (reply: never) => void;
  readonly reject: (error: Error) => void;
}

class LedgerThread implements Ledger {
  readonly #worker: Worker;
  readonly #options: Required<LedgerThreadOptions>;
  readonly #waiting = new Map<number, Waiting>();
  #batch: Question[] = [];
  #count = 0;
  #closing: Promise<void> | null = null;
  #ended: Error | null = null;
  #checking: Promise<CheckReport> | null = null;

  constructor(worker: Worker, options: Required<LedgerThreadOptions>) {
    this.#worker = worker;
    this.#options = options;
    worker.on('message', (answers: readonly Answer[]) => this.#answer(answers));
    worker.on('error', (error) => {
      const cause = error instanceof Error ? error : new Error(String(error));
      this.#end(cause);
      options.onFatal(cause);
    });
    worker.on('exit', () => this.#end(new Error('the ledger thread ended')));
  }

  ask<O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]> {
    if (operation.op === 'check') return this.#check() as Promise<LedgerReplies[O['op']]>;
    if (this.#closing || this.#ended) return Promise.reject(closedError(this.#ended));
    const full = this.#waiting.size >= this.#options.pendingMax;
    // A settlement ends work that was let in; refused, its money would stay held until the deadline.
    if (full && operation.op !== 'settle' && operation.op !== 'progress')
      return Promise.reject(new AppError('queue_full', 'too many requests at once', { retryAfterS: 1 }));
    if (operation.op === 'progress') {
      // The next checkpoint makes up for one that is left out.
      if (!full) this.#send({ id: 0, operation });
      return Promise.resolve(null as LedgerReplies[O['op']]);
    }
    this.#count += 1;
    const id = this.#count;
    this.#send({ id, operation });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#ended) return;
    this.#post();
    await new Promise<void>((resolve) => {
      this.#worker.once('exit', () => resolve());
      this.#worker.postMessage('close');
    });
  }

  #send(question: Question): void {
    // One message for all that this turn of the event loop asks. Waiting until the writer is idle would make fewer of them,
    // but took a fifth of the throughput at 32 requests at once when it was tried: holds then wait for two commits.
    if (this.#batch.length === 0) setImmediate(() => this.#post());
    this.#batch.push(question);
  }

  #post(): void {
    if (this.#batch.length > 0) this.#worker.postMessage(this.#batch);
    this.#batch = [];
  }

  #answer(answers: readonly Answer[]): void {
    for (const { id, reply } of answers) {
      const asker = this.#waiting.get(id);
      this.#waiting.delete(id);
      asker?.resolve(reply as never);
    }
  }

  #end(cause: Error): void {
    this.#ended ??= cause;
    for (const { reject } of this.#waiting.values()) reject(closedError(cause));
    this.#waiting.clear();
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
  return new Promise((resolve, reject) => {
    const worker = new Worker(thread(), { workerData: { dataDir, task: 'check' } });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the check ended without a report')));
  });
}
