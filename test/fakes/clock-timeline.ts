import type { Clock } from '../../src/clock.ts';
import { turns, type FakeClock } from './clock.ts';

/** Moves a hand-driven clock in small steps, so that what one step starts is over before the next. */
export async function runFor(clock: FakeClock, ms: number, stepMs = 100): Promise<void> {
  for (let left = ms; left > 0; left -= stepMs) {
    await clock.advance(Math.min(stepMs, left));
    await turns(4);
  }
}

/** Moves a hand-driven clock until something holds; a failure names it. Returns how long that took on the clock. */
export async function runUntil(
  clock: FakeClock,
  what: string,
  check: () => boolean | Promise<boolean>,
  { stepMs = 100, withinMs = 120_000 }: { readonly stepMs?: number; readonly withinMs?: number } = {},
): Promise<number> {
  const begin = clock.now();
  await turns(8);
  while (!(await check())) {
    if (clock.now() - begin >= withinMs) throw new Error(`not within ${withinMs} ms of the clock: ${what}`);
    await runFor(clock, stepMs, stepMs);
  }
  return clock.now() - begin;
}

/** The clock as one process sees it: once that is killed, none of its timers is called any more. */
export class MortalClock implements Clock {
  readonly #clock: Clock;
  #dead = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  kill(): void {
    this.#dead = true;
  }

  now(): number {
    return this.#clock.now();
  }

  monotonic(): number {
    return this.#clock.monotonic();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return this.#clock.sleep(ms, signal).then(() => (this.#dead ? new Promise(() => undefined) : undefined));
  }

  timer(ms: number, call: () => void): () => void {
    return this.#clock.timer(ms, () => {
      if (!this.#dead) call();
    });
  }
}
