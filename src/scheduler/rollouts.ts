import type { Clock } from '../clock.ts';
import type { PoolSpec } from '../spec.ts';
import { versionOf } from '../spec/version.ts';
import type { EpochMs, Ms } from '../units.ts';

/** So often a new description may fail to come up before it is left alone for a while: each time costs a start-up. */
const TRIES = 3;
const PAUSE_MS: Ms = 600_000;

interface Row {
  readonly version: string;
  readonly failed: number;
  readonly untilMs: EpochMs;
}

/** Which changed pools do not come up; known only as long as this process lives. */
export class Rollouts {
  readonly #clock: Clock;
  readonly #rows = new Map<string, Row>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  paused(spec: PoolSpec): boolean {
    const row = this.#rows.get(spec.id);
    return row !== undefined && row.untilMs > this.#clock.now() && row.version === versionOf(spec);
  }

  /** A replica of this version did not come up. Says how that stands, for the operator. */
  failed(pool: string, version: string): string {
    const before = this.#rows.get(pool);
    const failed = (before?.version === version ? before.failed : 0) + 1;
    const untilMs = failed < TRIES ? 0 : this.#clock.now() + PAUSE_MS;
    this.#rows.set(pool, { version, failed, untilMs });
    if (failed < TRIES) return `the changed pool did not come up (${failed} of ${TRIES} tries): the old replicas stay`;
    const minutes = PAUSE_MS / 60_000;
    return `the changed pool did not come up in ${failed} tries: the old replicas stay, next try in ${minutes} minutes`;
  }

  succeeded(pool: string): void {
    this.#rows.delete(pool);
  }
}
