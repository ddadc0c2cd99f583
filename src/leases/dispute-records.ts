import { and, desc, eq, inArray, ne, sql } from 'drizzle-orm';
import type { MarketName } from '../spec.ts';
import type { Store } from '../store/open.ts';
import { CLOSED_KEPT, PRUNE_EVERY, pruneDisputes } from '../store/retention.ts';
import { disputes } from '../store/schema.ts';
import type { Dispute } from './dispute.ts';

/** Disputes of all markets: one row each, which says enough to move its money again after a crash. */
export class DisputeRecords {
  readonly #store: Store;
  #decided = PRUNE_EVERY - 1;
  #onUpheld: (dispute: Dispute) => void = () => undefined;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Called once for each that is upheld, by whomever. */
  onUpheld(listener: (dispute: Dispute) => void): void {
    this.#onUpheld = listener;
  }

  async save(dispute: Dispute): Promise<void> {
    const { id, market, lease, provider, state, paidOut, filedMs } = dispute;
    // What is decided and paid out is nobody's business any more.
    const changed = { state, due: state === 'open' || state === 'answered' || !paidOut ? 1 : 0, body: dispute };
    await this.#store.db
      .insert(disputes)
      .values({ id, market, lease, provider, atMs: filedMs, ...changed })
      .onConflictDoUpdate({ target: disputes.id, set: changed });
    // A second row says that its money has moved.
    if (state === 'upheld' && (dispute.withheld === null || !paidOut)) this.#onUpheld(dispute);
    if (changed.due === 1) return;
    this.#decided += 1;
    if (this.#decided % PRUNE_EVERY === 0) await pruneDisputes(this.#store, CLOSED_KEPT);
  }

  async find(id: string): Promise<Dispute | null> {
    const [row] = await this.#store.db.select().from(disputes).where(eq(disputes.id, id)).limit(1);
    return row ? (row.body as Dispute) : null;
  }

  async ofLeases(leases: readonly string[]): Promise<Dispute[]> {
    const rows = await this.#store.db
      .select()
      .from(disputes)
      .where(inArray(disputes.lease, [...leases]));
    return rows.map(({ body }) => body as Dispute);
  }

  /** Those of a market that are not decided, or whose money has not gone where it should. */
  async unfinished(market: MarketName): Promise<Dispute[]> {
    const rows = await this.#store.db
      .select()
      .from(disputes)
      .where(and(eq(disputes.market, market), eq(disputes.due, 1)));
    return rows.map(({ body }) => body as Dispute);
  }

  async list(limit: number): Promise<Dispute[]> {
    const rows = await this.#store.db.select().from(disputes).orderBy(desc(disputes.atMs)).limit(limit);
    return rows.map(({ body }) => body as Dispute);
  }

  /** Disputes of each provider that count against it: all that were not rejected. */
  async counts(market: MarketName): Promise<Map<string, number>> {
    const rows = await this.#store.db
      .select({ provider: disputes.provider, count: sql<bigint>`count(*)` })
      .from(disputes)
      .where(and(eq(disputes.market, market), ne(disputes.state, 'rejected')))
      .groupBy(disputes.provider);
    return new Map(rows.map(({ provider, count }) => [provider, Number(count)]));
  }
}
