import { desc } from 'drizzle-orm';
import type { Store } from '../store/open.ts';
import { pruneOldest } from '../store/retention.ts';
import { poolRecords, providerRecords } from '../store/schema.ts';
import type { PoolRecord } from './pool-record.ts';
import type { TrackRecord } from './track-record.ts';

/** Providers that are remembered; of more, those nothing was heard of for longest are forgotten. */
export const PROVIDERS_KEPT = 2000;
const POOLS_KEPT = 2000;
/** Rows written between two prunings. */
const PRUNE_EVERY = 200;

const TABLES = { provider: providerRecords, pool: poolRecords } as const;

/** Rows of what was learned of providers and pools. */
export class TrackRows {
  readonly #store: Store;
  #written = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  providers(): Promise<TrackRecord[]> {
    return this.#list<TrackRecord>('provider', PROVIDERS_KEPT);
  }

  pools(): Promise<PoolRecord[]> {
    return this.#list<PoolRecord>('pool', POOLS_KEPT);
  }

  async save(what: keyof typeof TABLES, id: string, body: TrackRecord | PoolRecord): Promise<void> {
    const table = TABLES[what];
    const changed = { body, atMs: body.atMs };
    await this.#store.db
      .insert(table)
      .values({ id, ...changed })
      .onConflictDoUpdate({ target: table.id, set: changed });
    this.#written += 1;
    if (this.#written % PRUNE_EVERY !== 0) return;
    await pruneOldest(this.#store, 'provider_records', PROVIDERS_KEPT);
    await pruneOldest(this.#store, 'pool_records', POOLS_KEPT);
  }

  async #list<T>(what: keyof typeof TABLES, limit: number): Promise<T[]> {
    const table = TABLES[what];
    const rows = await this.#store.db.select().from(table).orderBy(desc(table.atMs)).limit(limit);
    return rows.map(({ body }) => body as T);
  }
}
