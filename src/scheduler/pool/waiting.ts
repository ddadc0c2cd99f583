import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { EpochMs, Ms } from '../../units.ts';
import { Line } from './line.ts';
import type { Replica, Slot, TakeOptions, Waiter } from './slot.ts';
import { dueMs, isForThoseInTime, isInTime } from './turns.ts';

/** What becomes of a request in line. */
export interface Turn {
  /** What its pool promises for a first token, and what a cold start adds to that. */
  readonly promisedMs: Ms;
  readonly coldMs: Ms;
  /** Its slot on the replica that is its now. */
  readonly give: (replica: Replica, waitedMs: Ms) => Slot;
  /** Why it got none in time. */
  readonly refuse: () => AppError;
  /** It is in line no more. */
  readonly left: () => void;
}

/** The requests of a pool that wait for a slot: each until it is given one, its time is over, or its client leaves. */
export class Waiting {
  readonly #clock: Clock;
  readonly #line = new Line<Waiter>();
  readonly #all = new Set<Waiter>();
  #turns = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#line.size;
  }

  /** Since when the oldest waits, or null. */
  get sinceMs(): EpochMs | null {
    let oldestMs: EpochMs | null = null;
    for (const { sinceMs } of this.#all) oldestMs = Math.min(oldestMs ?? sinceMs, sinceMs);
    return oldestMs;
  }

  all(): Waiter[] {
    return [...this.#all];
  }

  /** The next one in turn that fits, out of the line: most turns are for those who can still be served in time. */
  shift(fits: (waiter: Waiter) => boolean): Waiter | undefined {
    const nowMs = this.#clock.now();
    // They are in the order in which they came.
    const [oldest] = this.#all;
    const chosen = isForThoseInTime(this.#turns, oldest, nowMs)
      ? this.#line.shift(fits, (waiter) => isInTime(waiter, nowMs))
      : this.#line.shift(fits);
    if (chosen) this.#turns += 1;
    return chosen;
  }

  /** @throws AppError what `turn.refuse` gives, or `client_closed` */
  join(options: TakeOptions, turn: Turn): Promise<Slot> {
    const { account, maxWaitMs, signal, needs, wake } = options;
    return new Promise((resolve, reject) => {
      const sinceMs = this.#clock.now();
      const leave = (): void => {
        cancelTimer();
        signal.removeEventListener('abort', onAbort);
        this.#all.delete(waiter);
        turn.left();
      };
      const waiter: Waiter = {
        account,
        sinceMs,
        // Whoever reads an answer already is kept waiting by nobody.
        dueMs: options.begun === true ? Infinity : dueMs(sinceMs, turn.promisedMs, turn.coldMs),
        untilMs: sinceMs + maxWaitMs,
        wake,
        wish: options,
        needs,
        give: (replica) => {
          leave();
          resolve(turn.give(replica, this.#clock.now() - sinceMs));
        },
        fail: (error) => {
          leave();
          reject(error);
        },
        refuse: (error) => {
          if (this.#line.remove(account, waiter)) waiter.fail(error);
        },
      };
      const onAbort = (): void => {
        waiter.refuse(new AppError('client_closed', 'the client has gone'));
      };
      const cancelTimer = this.#clock.timer(maxWaitMs, () => {
        waiter.refuse(turn.refuse());
      });
      signal.addEventListener('abort', onAbort, { once: true });
      this.#line.push(account, waiter);
      this.#all.add(waiter);
    });
  }

  /** Everybody is turned away. */
  close(error: AppError): void {
    for (const waiter of this.#line.drain()) waiter.fail(error);
  }
}
