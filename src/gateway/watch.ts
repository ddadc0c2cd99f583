import type { Clock } from '../clock.ts';
import { Bag } from '../scheduler/pool/bag.ts';
import type { EpochMs } from '../units.ts';

export interface Watched {
  /** When the wait that is going on is over; moving it costs nothing. */
  expiresMs: EpochMs;
  onExpired(): void;
  /** Called about once a second while the request lives. */
  onTick(nowMs: EpochMs): void;
}

const STEP_MS = 250;
const STEPS_A_TICK = 4;

/** Deadlines of all requests under one timer: with a timer for each, moving it at every token would be the main work. */
export class Watch {
  readonly #clock: Clock;
  /** Each with its own step of the second: nine thousand ticks in one turn held everybody's tokens up for 30 ms. */
  readonly #watched = new Bag<{ readonly watched: Watched; readonly step: number }>();
  #added = 0;
  #running = false;
  #step = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#watched.size;
  }

  add(watched: Watched): () => void {
    this.#added += 1;
    const remove = this.#watched.add({ watched, step: this.#added % STEPS_A_TICK });
    this.#run();
    return remove;
  }

  #run(): void {
    if (this.#running || this.#watched.size === 0) return;
    this.#running = true;
    this.#clock.timer(STEP_MS, () => {
      this.#running = false;
      this.#step += 1;
      const nowMs = this.#clock.now();
      try {
        this.#watched.each(({ watched, step }) => {
          if (nowMs >= watched.expiresMs) watched.onExpired();
          else if (this.#step % STEPS_A_TICK === step) watched.onTick(nowMs);
        });
      } finally {
        // One request's fault must not end the deadlines of all others.
        this.#run();
      }
    });
  }
}
