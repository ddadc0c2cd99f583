import { eq, ne } from 'drizzle-orm';
import type { Store } from '../store/open.ts';
import { CLOSED_KEPT, PRUNE_EVERY, pruneClosed } from '../store/retention.ts';
import { marketLeases, marketProviders } from '../store/schema.ts';
import type { NanoUsd } from '../units.ts';
import type { Lease } from './market.ts';

/** What the embedded market keeps of a lease: the lease, and the last draw of rent (see `LocalMarket.#settle`). */
export interface LeaseRow {
  readonly lease: Lease;
  /** The block up to which rent was drawn before the last draw: with `settledBlock` it names that draw's transfer. */
  readonly drawnFromBlock: number;
  /** Every payment into its escrow, by the id of its transfer: a restart posts them again, which changes nothing. */
  readonly deposits: readonly { readonly id: string; readonly amount: NanoUsd }[];
  /** The fees as they were when the lease was made. */
  readonly takeFeeBp: number;
  readonly makeFeeBp: number;
}

export interface ProviderRecord {
  readonly leases: number;
  readonly failures: number;
  readonly disputes: number;
}

export const NEW_PROVIDER: ProviderRecord = { leases: 0, failures: 0, disputes: 0 };

/** The embedded market's rows. */
export class MarketRecords {
  readonly #store: Store;
  readonly #kept: number;
  #closed = PRUNE_EVERY - 1;

  /** @param kept closed leases whose rows stay */
  constructor(store: Store, kept: number = CLOSED_KEPT) {
    this.#store = store;
    this.#kept = kept;
  }

  async saveLease(row: LeaseRow): Promise<void> {
    const { id, orderId, state, depositNanoUsd, openedAtMs } = row.lease;
    const changed = { state, depositNanoUsd, body: row };
    await this.#store.db
      .insert(marketLeases)
      .values({ id, orderId, atMs: openedAtMs, ...changed })
      .onConflictDoUpdate({ target: marketLeases.id, set: changed });
    if (state !== 'closed') return;
    this.#closed += 1;
    if (this.#closed % PRUNE_EVERY === 0) await pruneClosed(this.#store, 'market_leases', this.#kept);
  }

  async findLease(id: string): Promise<LeaseRow | null> {
    const [row] = await this.#store.db.select().from(marketLeases).where(eq(marketLeases.id, id)).limit(1);
    return row ? (row.body as LeaseRow) : null;
  }

  /** Leases that have not ended: what a restart has to bring to an end. */
  async openLeases(): Promise<LeaseRow[]> {
    const rows = await this.#store.db.select().from(marketLeases).where(ne(marketLeases.state, 'closed'));
    return rows.map((row) => row.body as LeaseRow);
  }

  async providers(): Promise<Map<string, ProviderRecord>> {
    const rows = await this.#store.db.select().from(marketProviders);
    return new Map(rows.map(({ id, leases, failures, disputes }) => [id, { leases, failures, disputes }]));
  }

  async saveProvider(id: string, record: ProviderRecord): Promise<void> {
    await this.#store.db
      .insert(marketProviders)
      .values({ id, ...record })
      .onConflictDoUpdate({ target: marketProviders.id, set: { ...record } });
  }
}
