import { eq } from 'drizzle-orm';
import type { Store } from '../../store/open.ts';
import { canaryReferences } from '../../store/schema.ts';
import type { EpochMs } from '../../units.ts';
import type { HonestDistance } from './honest.ts';

/** Honest distances by pool, description, GPU and engine. */
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
  }
}
