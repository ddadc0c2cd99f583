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
}

const thread = (): URL => new URL(import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js', import.meta.url);

interface Waiting {
  readonly resolve: (reply: never) => void;
  readonly reject: (error: Error) => void;
}

/** Starts the writer's thread; resolves once the book is read and recovered. */
export async function openLedger({ dataDir, onFatal }: LedgerThreadOptions): Promise<Ledger> {
  const worker = new Worker(thread(), { workerData: { dataDir, task: 'write' } });
  const waiting = new Map<number, Waiting>();
  let batch: Question[] = [];
  let count = 0;
  let closing = false;
  let closed: (() => void) | null = null;
  let ready: (() => void) | null = null;

  const fail = (error: Error): void => {
    for (const { reject } of waiting.values())
      reject(new AppError('internal_error', 'the ledger is closed', { cause: error }));
    waiting.clear();
  };
  worker.on('message', (message: readonly Answer[] | 'ready' | 'closed') => {
    if (message === 'ready') ready?.();
    else if (message === 'closed') closed?.();
    else {
      for (const { id, reply } of message) {
        const asker = waiting.get(id);
        waiting.delete(id);
        asker?.resolve(reply as never);
      }
    }
  });
  await new Promise<void>((resolve, reject) => {
    ready = resolve;
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the ledger thread ended before it was ready')));
  });
  worker.removeAllListeners('error');
  worker.removeAllListeners('exit');
  worker.on('error', (error) => {
    fail(error instanceof Error ? error : new Error(String(error)));
    onFatal(error instanceof Error ? error : new Error(String(error)));
  });
  worker.on('exit', () => fail(new Error('the ledger thread ended')));

  const ask = <O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]> => {
    if (operation.op === 'check') return runCheck(dataDir) as Promise<LedgerReplies[O['op']]>;
    if (closing) return Promise.reject(new AppError('internal_error', 'the ledger is closed'));
    if (waiting.size >= PENDING_MAX)
      return Promise.reject(new AppError('queue_full', 'too many requests at once', { retryAfterS: 1 }));
    count += 1;
    const id = count;
    if (batch.length === 0) {
      // One message for all that this turn of the event loop asks.
      setImmediate(() => {
        worker.postMessage(batch);
        batch = [];
      });
    }
    batch.push({ id, operation });
    if (operation.op === 'progress') return Promise.resolve(null as LedgerReplies[O['op']]);
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  };
  const close = async (): Promise<void> => {
    if (closing) return;
    closing = true;
    if (batch.length > 0) worker.postMessage(batch.splice(0));
    await new Promise<void>((resolve) => {
      closed = resolve;
      worker.once('exit', () => resolve());
      worker.postMessage('close');
    });
  };
  return { ask, close };
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
