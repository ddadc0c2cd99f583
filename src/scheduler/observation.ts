import type { PoolSpec } from '../spec.ts';
import type { EpochMs, Ms, NanoUsd } from '../units.ts';
import { foldDemand, measureDemand, newHistory, type Demand, type DemandHistory } from './demand.ts';
import type { PlannedReplica } from './plan.ts';
import type { PoolRouter } from './pool/router.ts';
import { START_GUESS_MS } from './pool/wake-offer.ts';
import type { ReplicaRecord } from './records.ts';
import { LATE_SHARE, type Learned } from './scale.ts';

/** A pool as the decisions see it: what is asked, its replicas, and how long each live one had nothing to do. */
export interface Observation {
  readonly demand: Demand;
  readonly replicas: readonly PlannedReplica[];
  readonly idleMs: readonly Ms[];
}

/** What pools have shown, tick by tick: kept from one to the next. */
export class Observations {
  readonly #histories = new Map<string, DemandHistory>();

  /** Once a tick: what is asked now becomes part of what is known. */
  learn(router: PoolRouter, spec: PoolSpec, nowMs: EpochMs): Learned {
    const { id, slots: slotsPerReplica, replicasMax, slo } = spec;
    const { waiting, inFlight } = router.stats;
    const nothing = { workMs: null, lineMs: 0, begun: 0, late: 0 };
    const sample = { atMs: nowMs, slots: waiting + inFlight, slotsPerReplica, ...nothing };
    const startMs = router.expectedStartMs ?? START_GUESS_MS;
    const rules = { replicasMax, ttftMs: slo.ttftMs, slackMs: slo.ttftMs, startMs, lateShare: LATE_SHARE };
    const history = foldDemand(this.#histories.get(id) ?? newHistory(nowMs), sample, rules);
    this.#histories.set(id, history);
    return { nowMs, history, startMs, lossesPerHour: 0 };
  }

  /** Forgets pools that are gone. */
  keep(pools: ReadonlySet<string>): void {
    for (const id of this.#histories.keys()) if (!pools.has(id)) this.#histories.delete(id);
  }
}

/** @param sinceMs when this process began */
export function observePool(
  router: PoolRouter,
  records: readonly ReplicaRecord[],
  { nowMs, sinceMs }: { readonly nowMs: EpochMs; readonly sinceMs: EpochMs },
): Observation {
  const demand = measureDemand(router.stats, nowMs, sinceMs);
  const replicas = records.map((record) => plannedReplica(record, router, nowMs));
  // An order that nobody waits for any more is withdrawn at once, a start-up only after the idle time: it is half paid.
  const unready = demand.slots > 0 ? 0 : demand.idleMs;
  const idleMs = replicas
    .filter(({ state }) => state !== 'draining' && state !== 'closing')
    .map((replica) => {
      if (replica.state === 'ordering') return demand.slots > 0 ? 0 : Infinity;
      return replica.state === 'ready' ? replica.idleMs : unready;
    });
  return { demand, replicas, idleMs };
}

/** What a replica costs in an hour: as its lease says, or what its order may come to. */
export function hourlyCost(
  { costNanoUsdPerHour, capNanoUsdPerHour }: ReplicaRecord,
  spec: Pick<PoolSpec, 'ceilingNanoUsdPerHour'>,
): NanoUsd {
  return costNanoUsdPerHour ?? capNanoUsdPerHour ?? spec.ceilingNanoUsdPerHour;
}

function plannedReplica(record: ReplicaRecord, router: PoolRouter, nowMs: EpochMs): PlannedReplica {
  const load = router.load(record.id);
  return {
    id: record.id,
    state: record.state,
    inFlight: load?.inFlight ?? 0,
    idleMs: load && load.inFlight === 0 ? nowMs - load.lastUsedMs : 0,
    drainSinceMs: record.drainMs,
    costNanoUsdPerHour: hourlyCost(record, router.spec),
  };
}
