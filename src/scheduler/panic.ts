import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { EpochMs } from '../units.ts';
import type { PoolRouter } from './pool/router.ts';
import type { SchedulerRecords } from './records.ts';

/** Why everything was stopped. Kept on disk: a restart does not undo it. */
export interface Stop {
  readonly reason: string;
  readonly sinceMs: EpochMs;
}

const SWITCH = 'panic';

/** Whether every lease is to end and no order to be placed, until an operator says otherwise. */
export class Panic {
  readonly #records: SchedulerRecords;
  readonly #clock: Clock;
  #stop: Stop | null = null;

  constructor(records: SchedulerRecords, clock: Clock) {
    this.#records = records;
    this.#clock = clock;
  }

  get stop(): Stop | null {
    return this.#stop;
  }

  /** What an earlier run was told. */
  async open(): Promise<void> {
    this.#stop = (await this.#records.findSwitch(SWITCH)) as Stop | null;
  }

  /** In memory before the disk: nothing is ordered meanwhile. The first reason stays. */
  async on(reason: string): Promise<Stop> {
    this.#stop ??= { reason, sinceMs: this.#clock.now() };
    await this.#records.saveSwitch(SWITCH, this.#stop, this.#clock.now());
    return this.#stop;
  }

  /** On disk before memory: what could not be written goes on being stopped. False: nothing was. */
  async off(): Promise<boolean> {
    await this.#records.deleteSwitch(SWITCH);
    const was = this.#stop !== null;
    this.#stop = null;
    return was;
  }
}

export function describeStop({ reason }: Stop): string {
  return `stopped by the operator: ${reason}`;
}

/** Who waits is told at once that no machine will come; the reason is the operator's own. */
export function turnAway(router: PoolRouter): void {
  const why = 'stopped by the operator';
  router.setPhase(why);
  router.close(new AppError('no_capacity', `no machine can be had: ${why}`, { retryAfterS: 60 }));
}
