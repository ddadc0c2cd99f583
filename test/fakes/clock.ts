import { systemClock, type Clock } from '../../src/clock.ts';

interface Timer {
  readonly at: number;
  readonly call: () => void;
}

/** A clock that a test moves by hand. It starts at a round number, so that times in failures can be read. */
export class FakeClock implements Clock {
  #now: number;
  readonly #startMs: number;
  readonly #timers = new Set<Timer>();

  constructor(startMs = 1_700_000_000_000) {
    this.#now = startMs;
    this.#startMs = startMs;
  }

  /** Timers that wait to be called. */
  get pending(): number {
    return this.#timers.size;
  }

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now - this.#startMs;
  }

  timer(ms: number, call: () => void): () => void {
    const timer = { at: this.#now + Math.max(0, ms), call };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (): void => {
        cancel();
        reject(signal?.reason instanceof Error ? signal.reason : new Error('aborted'));
      };
      const cancel = this.timer(ms, () => {
        signal?.removeEventListener('abort', fail);
        resolve();
      });
      if (signal?.aborted) fail();
      else signal?.addEventListener('abort', fail, { once: true });
    });
  }

  /** Moves on and calls what falls due, in order; what that starts has its turn before the next one is called. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.call();
      await turns(2);
    }
    this.#now = until;
    await turns(2);
  }
}

/** The system's clock, counting the timers that are set: none may be left when a request is over. */
export class CountingClock implements Clock {
  #pending = 0;

  get pending(): number {
    return this.#pending;
  }

  now(): number {
    return systemClock.now();
  }

  monotonic(): number {
    return systemClock.monotonic();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }

  timer(ms: number, call: () => void): () => void {
    this.#pending += 1;
    let set = true;
    const unset = (): void => {
      if (set) this.#pending -= 1;
      set = false;
    };
    const cancel = systemClock.timer(ms, () => {
      unset();
      call();
    });
    return () => {
      unset();
      cancel();
    };
  }
}

/** The system's clock, whose date stands still until a test moves it: durations go on as they are. */
export class DatedClock extends CountingClock {
  #now: number;

  constructor(nowMs: number) {
    super();
    this.#now = nowMs;
  }

  override now(): number {
    return this.#now;
  }

  moveTo(ms: number): void {
    this.#now = ms;
  }
}

/** Lets promises and sockets have their turns. */
export async function turns(count: number): Promise<void> {
  for (let left = count; left > 0; left -= 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits for something that happens on a socket or in another turn; a failure names it. */
export async function until(what: string, check: () => boolean | Promise<boolean>, withinMs = 5000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await check())) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
