import type { Clock } from '../clock.ts';
import { describeError } from '../errors.ts';
import type { EpochMs, Ms } from '../units.ts';

/** What failed is tried again after this. */
export const RETRY_MS: Ms = 2000;

/** What is under way, by the id of what it is done for: one thing at a time for each, and not too often. */
export class Work {
  readonly #clock: Clock;
  readonly #log: (line: string) => void;
  readonly #busy = new Map<string, Promise<void>>();
  readonly #notBefore = new Map<string, EpochMs>();

  constructor(clock: Clock, log: (line: string) => void) {
    this.#clock = clock;
    this.#log = log;
  }

  has(id: string): boolean {
    return this.#busy.has(id);
  }

  isEarly(id: string): boolean {
    return this.#busy.has(id) || this.#clock.now() < (this.#notBefore.get(id) ?? 0);
  }

  /** Not again before then. */
  rest(id: string, ms: Ms): void {
    this.#notBefore.set(id, this.#clock.now() + ms);
  }

  /** Now, if it is not under way; without an id everything. */
  hurry(id?: string): void {
    if (id === undefined) this.#notBefore.clear();
    else this.#notBefore.delete(id);
  }

  /** Rests that are over. */
  forget(): void {
    const now = this.#clock.now();
    for (const [id, untilMs] of this.#notBefore) if (untilMs <= now) this.#notBefore.delete(id);
  }

  /** Work that nobody waits for: when it fails, it is told and tried again later. */
  run(id: string, work: () => Promise<void>, what: string, after: () => void = () => undefined): void {
    this.alone(id, work).then(after, (error: unknown) => {
      this.rest(id, RETRY_MS);
      this.#log(`${what}: ${describeError(error)}`);
    });
  }

  alone(id: string, work: () => Promise<void>): Promise<void> {
    const before = this.#busy.get(id) ?? Promise.resolve();
    const turn = before.then(work);
    const settled = turn.catch(() => undefined);
    this.#busy.set(id, settled);
    void settled.then(() => {
      if (this.#busy.get(id) === settled) this.#busy.delete(id);
    });
    return turn;
  }

  /** Resolves when nothing is under way; a market that does not answer is not waited for without end. */
  async idle(ms: Ms): Promise<void> {
    let late = false;
    const cut = new AbortController();
    const limit = this.#clock.sleep(ms, cut.signal).then(
      () => (late = true),
      () => undefined,
    );
    while (this.#busy.size > 0 && !late) await Promise.race([limit, Promise.all(this.#busy.values())]);
    cut.abort();
    if (late) this.#log(`still under way: ${[...this.#busy.keys()].join(', ')}`);
  }
}
