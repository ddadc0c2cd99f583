import { eq } from 'drizzle-orm';
import type { Store } from '../../store/open.ts';
import { pruneOldest, pruneReferences } from '../../store/retention.ts';
import { canaryReferences } from '../../store/schema.ts';
import type { EpochMs } from '../../units.ts';
import type { HonestDistance } from './honest.ts';

/** Descriptions of one pool, GPU and engine that are remembered: a roll-back finds its own again. */
const DESCRIPTIONS_KEPT = 8;
/** In all: pools are deleted, too. */
const ROWS_KEPT = 2000;

/** Honest distances by pool, description, GPU and engine, which an id names in that order. */
export class CanaryRows {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  async load(id: string): Promise<HonestDistance[]> {
    const [row] = await this.#store.db.select().from(canaryReferences).where(eq(canaryReferences.id, id)).limit(1);
    return row ? (row.body as HonestDistance[]) : [];
  }

  async save(id: string, body: readonly HonestDistance[], atMs: EpochMs): Promise<void> {
    await this.#store.db
      .insert(canaryReferences)
      .values({ id, body, atMs })
      .onConflictDoUpdate({ target: canaryReferences.id, set: { body, atMs } });
    // More come one by one to a row that is there.
    if (body.length > 1) return;
    const [pool = '', , ...machine] = id.split(' ');
    const ofPool = { begin: `${pool} `, end: ` ${machine.join(' ')}` };
    await pruneReferences(this.#store, ofPool, DESCRIPTIONS_KEPT);
    await pruneOldest(this.#store, 'canary_references', ROWS_KEPT);
  }
}
