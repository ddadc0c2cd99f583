import type { Clock } from '../clock.ts';
import type { PoolSpec } from '../spec.ts';
import { scheduledReplicas } from '../spec/schedule.ts';
import type { EpochMs, Ms } from '../units.ts';
import type { SchedulerRecords } from './records.ts';

/** Why a pool was paused. Kept on disk: a restart does not undo it. */
export interface Pause {
  readonly reason: string;
  readonly sinceMs: EpochMs;
}

const PREFIX = 'pause:';

/** Pools that an operator paused: nothing is ordered for them, what they have is given back, requests are refused. */
export class Pauses {
  readonly #records: SchedulerRecords;
  readonly #clock: Clock;
  readonly #pauses = new Map<string, Pause>();

  constructor(records: SchedulerRecords, clock: Clock) {
    this.#records = records;
    this.#clock = clock;
  }

  /** What an earlier run was told. */
  async open(): Promise<void> {
    for (const [name, body] of await this.#records.listSwitches(PREFIX))
      this.#pauses.set(name.slice(PREFIX.length), body as Pause);
  }

  of(pool: string): Pause | null {
    return this.#pauses.get(pool) ?? null;
  }

  /** In memory before the disk: nothing is ordered meanwhile. The first reason stays. */
  async on(pool: string, reason: string): Promise<void> {
    const pause = this.#pauses.get(pool) ?? { reason, sinceMs: this.#clock.now() };
    this.#pauses.set(pool, pause);
    await this.#records.saveSwitch(PREFIX + pool, pause, this.#clock.now());
  }

  /** On disk before memory: what could not be written goes on being paused. */
  async off(pool: string): Promise<void> {
    await this.#records.deleteSwitch(PREFIX + pool);
    this.#pauses.delete(pool);
  }
}

/** A pool as it holds now, and why it takes no requests; null: it does. */
export interface PoolNow {
  readonly spec: PoolSpec;
  readonly shut: string | null;
}

/** @param pause of the operator's hand; the pool's own setting pauses it as well */
export function poolNow(
  spec: PoolSpec,
  pause: Pause | null,
  at: { readonly nowMs: EpochMs; readonly startMs: Ms },
): PoolNow {
  if (spec.paused || pause) {
    const why = pause ? `: ${pause.reason}` : '';
    return { spec: { ...spec, replicasMin: 0, replicasMax: 0 }, shut: `this model is paused${why}` };
  }
  if (!spec.schedule) return { spec, shut: null };
  const bounds = scheduledReplicas(spec, at.nowMs, at.startMs);
  const shut = bounds.replicasMax === 0 ? 'this model is closed at this time, by its schedule' : null;
  return { spec: { ...spec, ...bounds }, shut };
}
