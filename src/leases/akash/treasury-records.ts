import { and, desc, eq, gt, lte, ne } from 'drizzle-orm';
import type { Store } from '../../store/open.ts';
import { akashMints, akashSpending } from '../../store/schema.ts';
import type { EpochMs } from '../../units.ts';
import type { Micro } from './amounts.ts';
import type { SignedTx } from './chain-types.ts';

/** What goes out, by what it is for: micro-USD, of fees micro-AKT. */
export type SpendingKind = 'deposit' | 'mint' | 'fee';

export interface Spending {
  readonly seq: number;
  readonly kind: SpendingKind;
  readonly amount: Micro;
  readonly atMs: EpochMs;
  /** Hash of the transaction that pays it, once that is signed. */
  readonly tx: string | null;
}

/**
 * intended: to be sent, or sent and not known to be in a block. queued: the network has the AKT. executed, cancelled: how the
 * queue ended. dropped: it never reached the network, or was refused there.
 */
export type MintState = 'intended' | 'queued' | 'executed' | 'cancelled' | 'dropped';

export interface MintRow {
  readonly seq: number;
  /** Whose AKT it is. */
  readonly owner: string;
  readonly state: MintState;
  /** What it comes to before the spread, at the price of then. */
  readonly worth: Micro;
  readonly burnUakt: bigint;
  readonly why: string;
  readonly atMs: EpochMs;
  /** Null: nothing was signed. */
  readonly tx: SignedTx | null;
  /** Of the block in which it was queued. */
  readonly height: number | null;
  readonly minted: Micro;
  readonly spread: Micro;
  readonly endedMs: EpochMs | null;
  /** The newest block when its end was seen. */
  readonly endedBlock: number;
  readonly reason: string;
  /** Ended, and the ledger has all of it. */
  readonly booked: boolean;
}

/** Rows of the treasury: what was spent lately, and mints. */
export class TreasuryRecords {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async addSpending({ seq, kind, amount, atMs, tx }: Spending): Promise<void> {
    await this.#store.db.insert(akashSpending).values({ seq, kind, amount, atMs, tx });
  }

  async markSpending(seq: number, tx: string): Promise<void> {
    await this.#store.db.update(akashSpending).set({ tx }).where(eq(akashSpending.seq, seq));
  }

  async removeSpending(seq: number): Promise<void> {
    await this.#store.db.delete(akashSpending).where(eq(akashSpending.seq, seq));
  }

  async spendingAfter(ms: EpochMs): Promise<Spending[]> {
    const rows = await this.#store.db.select().from(akashSpending).where(gt(akashSpending.atMs, ms));
    return rows.map((row) => ({ ...row, kind: row.kind as SpendingKind }));
  }

  /** Its number is not used again: the newest row stays. */
  async forgetSpending(untilMs: EpochMs): Promise<void> {
    const newest = await this.lastSpending();
    await this.#store.db
      .delete(akashSpending)
      .where(and(lte(akashSpending.atMs, untilMs), ne(akashSpending.seq, newest)));
  }

  async lastSpending(): Promise<number> {
    const [row] = await this.#store.db.select().from(akashSpending).orderBy(desc(akashSpending.seq)).limit(1);
    return row?.seq ?? 0;
  }

  async saveMint(row: MintRow): Promise<void> {
    const changed = { state: row.booked ? 'over' : 'open', body: row };
    await this.#store.db
      .insert(akashMints)
      .values({ seq: row.seq, atMs: row.atMs, ...changed })
      .onConflictDoUpdate({ target: akashMints.seq, set: changed });
  }

  /** The newest first. */
  async mints(limit: number): Promise<MintRow[]> {
    const rows = await this.#store.db.select().from(akashMints).orderBy(desc(akashMints.seq)).limit(limit);
    return rows.map(({ body }) => body as MintRow);
  }
}
