import type { Clock } from '../clock.ts';
import type { EpochMs, Ms } from '../units.ts';

/** A move that came to nothing is not tried again for so long, doubled each time: it cost a start-up, or locked GPUs. */
const PAUSE_MS = { least: 600_000, most: 21_600_000 } as const;

/** Pools whose replicas were to move and did not; known only as long as this process lives. */
export class Moves {
  readonly #clock: Clock;
  readonly #rows = new Map<string, { readonly failed: number; readonly untilMs: EpochMs }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  paused(pool: string): boolean {
    return (this.#rows.get(pool)?.untilMs ?? 0) > this.#clock.now();
  }

  failed(pool: string): void {
    const failed = (this.#rows.get(pool)?.failed ?? 0) + 1;
    const pauseMs: Ms = Math.min(PAUSE_MS.most, PAUSE_MS.least * 2 ** (failed - 1));
    this.#rows.set(pool, { failed, untilMs: this.#clock.now() + pauseMs });
  }

  succeeded(pool: string): void {
    this.#rows.delete(pool);
  }
}
