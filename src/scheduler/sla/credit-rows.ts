import { and, asc, eq, gte, inArray, isNull, lte, sql } from 'drizzle-orm';
import type { Breach } from '../../spec/dispute.ts';
import type { Store } from '../../store/open.ts';
import { disputes, slaRuns } from '../../store/schema.ts';
import type { EpochMs } from '../../units.ts';
import type { Credit } from './credit-plan.ts';

/** What a breach brings to whom: written before anything is granted, so that it is granted once. */
export interface CreditRun {
  readonly dispute: string;
  readonly pool: string;
  readonly kind: 'promo' | 'paid';
  readonly reason: string;
  readonly atMs: EpochMs;
  readonly expiresMs: EpochMs | null;
  readonly credits: readonly Credit[];
}

/** What is read of a dispute here. */
export interface DisputedLease {
  readonly id: string;
  readonly lease: string;
  readonly pool: string;
  readonly breach: Breach;
  readonly filedMs: EpochMs;
}

const LATEST = 100;

export class CreditRows {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Disputes of these pools, filed within a time, for which nothing was planned yet; the oldest first. */
  async unplanned(pools: readonly string[], fromMs: EpochMs, toMs: EpochMs): Promise<DisputedLease[]> {
    const pool = sql<string>`json_extract(${disputes.body}, '$.pool')`;
    const rows = await this.#store.db
      .select({ body: disputes.body })
      .from(disputes)
      .leftJoin(slaRuns, eq(slaRuns.dispute, disputes.id))
      .where(
        and(isNull(slaRuns.dispute), gte(disputes.atMs, fromMs), lte(disputes.atMs, toMs), inArray(pool, [...pools])),
      )
      .orderBy(asc(disputes.atMs))
      .limit(LATEST);
    return rows.map(({ body }) => body as DisputedLease);
  }

  /** Disputes of these leases for which something was. */
  async plannedOf(leases: readonly string[]): Promise<DisputedLease[]> {
    const rows = await this.#store.db
      .select({ body: disputes.body })
      .from(disputes)
      .innerJoin(slaRuns, eq(slaRuns.dispute, disputes.id))
      .where(inArray(disputes.lease, [...leases]));
    return rows.map(({ body }) => body as DisputedLease);
  }

  async save(run: CreditRun, state: 'planned' | 'granted'): Promise<void> {
    const changed = { state, body: run };
    await this.#store.db
      .insert(slaRuns)
      .values({ dispute: run.dispute, atMs: run.atMs, ...changed })
      .onConflictDoUpdate({ target: slaRuns.dispute, set: changed });
  }

  async planned(): Promise<CreditRun[]> {
    const rows = await this.#store.db.select().from(slaRuns).where(eq(slaRuns.state, 'planned'));
    return rows.map(({ body }) => body as CreditRun);
  }

  async since(ms: EpochMs): Promise<CreditRun[]> {
    const rows = await this.#store.db.select().from(slaRuns).where(gte(slaRuns.atMs, ms));
    return rows.map(({ body }) => body as CreditRun);
  }

  async find(dispute: string): Promise<CreditRun | null> {
    const [row] = await this.#store.db.select().from(slaRuns).where(eq(slaRuns.dispute, dispute)).limit(1);
    return row ? (row.body as CreditRun) : null;
  }

  /** An account's latest ones. */
  async ofAccount(account: string): Promise<CreditRun[]> {
    const mine = sql`EXISTS (SELECT 1 FROM json_each(${slaRuns.body}, '$.credits') WHERE json_extract(value, '$.account') = ${account})`;
    const rows = await this.#store.db
      .select()
      .from(slaRuns)
      .where(and(eq(slaRuns.state, 'granted'), mine))
      .orderBy(sql`at_ms DESC`)
      .limit(LATEST);
    return rows.map(({ body }) => body as CreditRun);
  }
}
