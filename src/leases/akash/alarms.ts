import type { Clock } from '../../clock.ts';
import type { EpochMs } from '../../units.ts';

export interface Alarm {
  /** `treasury.empty`, `mint.cancelled`, … */
  readonly name: string;
  readonly reason: string;
  readonly sinceMs: EpochMs;
}

/** What an operator has to look at. Each is logged when it begins and when it ends, not at every look. */
export class Alarms {
  readonly #clock: Clock;
  readonly #log: (line: string) => void;
  readonly #standing = new Map<string, Alarm>();

  constructor(clock: Clock, log: (line: string) => void) {
    this.#clock = clock;
    this.#log = log;
  }

  raise(name: string, reason: string): void {
    const known = this.#standing.get(name);
    if (known?.reason === reason) return;
    if (!known) this.#log(`alarm ${name}: ${reason}`);
    this.#standing.set(name, { name, reason, sinceMs: known?.sinceMs ?? this.#clock.now() });
  }

  clear(name: string): void {
    if (this.#standing.delete(name)) this.#log(`alarm ${name} is over`);
  }

  set(name: string, reason: string | null): void {
    if (reason === null) this.clear(name);
    else this.raise(name, reason);
  }

  list(): readonly Alarm[] {
    return [...this.#standing.values()];
  }
}
