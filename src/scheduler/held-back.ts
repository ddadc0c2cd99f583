import { BACKING_OFF } from './plan.ts';
import type { Decide } from './parts.ts';
import type { PoolRouter } from './pool/router.ts';

/** What pools want and may not have, each said once, not at every look. */
export class HeldBack {
  readonly #told = new Map<string, string>();

  async tell(router: PoolRouter, reason: string, decide: Decide): Promise<void> {
    const { id: pool } = router.spec;
    if (this.#told.get(pool) === reason) return;
    this.#told.set(pool, reason);
    // Who waits is better told why the last order failed than that there is a pause.
    if (reason !== BACKING_OFF) router.setPhase(reason);
    await decide({ pool, kind: 'pool.held_back', reason, detail: {} });
  }

  forget(pool: string): void {
    this.#told.delete(pool);
  }
}
