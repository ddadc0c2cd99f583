import type { EpochMs, Ms } from '../units.ts';
import type { RouterStats } from './pool/slot.ts';

/** What is asked of a pool right now. */
export interface Demand {
  /** Requests at work or in line: each wants one slot. */
  readonly slots: number;
  readonly waiting: number;
  /** How long nothing has been asked, as far as this process knows; 0 while something is. */
  readonly idleMs: Ms;
}

/** @param sinceMs when this process began: what was asked before is not known, so a restart is no idle time */
export function measureDemand(stats: RouterStats, nowMs: EpochMs, sinceMs: EpochMs): Demand {
  const slots = stats.waiting + stats.inFlight;
  const lastMs = Math.max(stats.lastUsedMs, sinceMs);
  return { slots, waiting: stats.waiting, idleMs: slots > 0 ? 0 : Math.max(0, nowMs - lastMs) };
}
