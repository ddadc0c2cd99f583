import type { PoolSpec } from '../spec.ts';
import type { Fleet } from './fleet.ts';
import type { SchedulerRecords } from './records.ts';
import type { Clock } from '../clock.ts';

const PREFIX = 'wakes:';

/** How often accounts may wake pools without paying: their own number a day, or the pool's. Kept over restarts. */
export class Allowances {
  readonly #records: SchedulerRecords;
  readonly #fleet: Fleet;
  readonly #clock: Clock;
  readonly #perDay = new Map<string, number>();

  constructor(records: SchedulerRecords, fleet: Fleet, clock: Clock) {
    this.#records = records;
    this.#fleet = fleet;
    this.#clock = clock;
  }

  async open(): Promise<void> {
    for (const [name, body] of await this.#records.listSwitches(PREFIX))
      this.#perDay.set(name.slice(PREFIX.length), Number(body));
  }

  /** Of its own; null: the pool's. */
  of(account: string): number | null {
    return this.#perDay.get(account) ?? null;
  }

  async set(account: string, perDay: number | null): Promise<void> {
    if (perDay === null) {
      await this.#records.deleteSwitch(PREFIX + account);
      this.#perDay.delete(account);
      return;
    }
    await this.#records.saveSwitch(PREFIX + account, perDay, this.#clock.now());
    this.#perDay.set(account, perDay);
  }

  /** Wakes that an account had of a pool today, and how many it may have; null: any number. */
  stateOf(account: string, { id, wake }: PoolSpec): { readonly perDay: number | null; readonly used: number } {
    const perDay = this.of(account) ?? wake?.allowancePerDay ?? null;
    return { perDay, used: this.#fleet.wakesToday(id, account) };
  }

  left(account: string, spec: PoolSpec): number {
    const { perDay, used } = this.stateOf(account, spec);
    return perDay === null ? Infinity : perDay - used;
  }
}
