import type { Clock } from '../clock.ts';
import { Book } from './book.ts';
import { MEMORY_BOUNDS, type ReplayBounds } from './replays.ts';
import type { Ledger, LedgerOp, LedgerReplies } from './operations.ts';

/** A ledger without a disk: the edge's fixed account and tests that are not about money on disk. */
export function createMemoryLedger(clock: Clock, bounds: ReplayBounds = MEMORY_BOUNDS): Ledger {
  const book = new Book(null, clock.now(), bounds);
  const ask = <O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]> => {
    const now = clock.now();
    book.tick(now);
    const asked: LedgerOp = operation;
    const reply =
      asked.op === 'check'
        ? { ok: true, checks: [{ name: 'in memory', ok: true, detail: 'nothing is on disk' }] }
        : book.apply(asked, now);
    book.commit();
    return Promise.resolve(reply as LedgerReplies[O['op']]);
  };
  return { ask, close: () => Promise.resolve() };
}
