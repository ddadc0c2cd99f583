import type { PoolSpec } from '../spec.ts';
import type { Ms } from '../units.ts';

/** Pure: how long one more replica of a pool is expected to stay. Start-ups and savings are spread over it. */

const LIFE = { least: 300_000, first: 3_600_000, most: 86_400_000 } as const;
/** Lives that are remembered of a pool. */
export const LIVES_KEPT = 16;
/** What is assumed weighs as much as so many lives seen. */
const FIRST_WEIGHT = 2;

/**
 * @param others replicas that the pool has besides this one
 * @param livedMs from ready to the end, of replicas that were given back; those that failed say nothing of it
 */
export function expectedLifeMs(spec: PoolSpec, others: number, livedMs: readonly Ms[]): Ms {
  if (others < spec.replicasMin) return LIFE.most;
  const sum = livedMs.reduce((total, ms) => total + ms, 0);
  const mean = (sum + FIRST_WEIGHT * LIFE.first) / (livedMs.length + FIRST_WEIGHT);
  return Math.min(LIFE.most, Math.max(LIFE.least, mean));
}
