import type { EpochMs, Ms } from '../units.ts';
import type { RouterStats } from './pool/router.ts';

/** What is asked of a pool right now. */
export interface Demand {
  /** Requests at work or in line: each wants one slot. */
  readonly slots: number;
  readonly waiting: number;
  /** How long nothing has been asked; 0 while something is. */
  readonly idleMs: Ms;
}

export function measureDemand(stats: RouterStats, nowMs: EpochMs): Demand {
  const slots = stats.waiting + stats.inFlight;
  return { slots, waiting: stats.waiting, idleMs: slots > 0 ? 0 : Math.max(0, nowMs - stats.lastUsedMs) };
}
