import type { PoolSpec } from '../spec.ts';
import type { Ms } from '../units.ts';
import type { Demand } from './demand.ts';

export interface Scale {
  readonly wanted: number;
  readonly reason: string;
}

/**
 * How many replicas a pool should have. Up at once for what is waiting or at work; down only by replicas that were idle
 * for the pool's idle time, so a pause between two questions costs no start-up.
 * @param idleMs for each live replica, how long it has had nothing to do (0 when busy or not ready yet)
 */
export function wantedReplicas(spec: PoolSpec, demand: Demand, idleMs: readonly Ms[]): Scale {
  const { replicasMin, replicasMax, slots } = spec;
  const needed = Math.ceil(demand.slots / slots);
  const kept = idleMs.filter((idle) => idle < spec.idleMs).length;
  const bounded = Math.min(replicasMax, Math.max(replicasMin, needed));
  if (idleMs.length > bounded) {
    const wanted = Math.min(replicasMax, Math.max(bounded, Math.min(kept, idleMs.length)));
    if (wanted === idleMs.length) return { wanted, reason: 'in use within the idle time' };
    if (idleMs.length > replicasMax) return { wanted, reason: `at most ${replicasMax} replicas` };
    return { wanted, reason: `idle for ${Math.round(spec.idleMs / 1000)} s` };
  }
  if (needed > replicasMax)
    return { wanted: replicasMax, reason: `${demand.slots} requests, at most ${replicasMax} replicas` };
  if (needed > replicasMin) return { wanted: needed, reason: `${demand.slots} requests for ${slots} slots a replica` };
  return { wanted: bounded, reason: replicasMin > 0 ? `at least ${replicasMin} replicas` : 'nothing is asked' };
}
