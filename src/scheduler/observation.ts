import type { PoolSpec } from '../spec.ts';
import type { EpochMs, Ms, NanoUsd } from '../units.ts';
import { foldDemand, measureDemand, newHistory, type Demand, type DemandHistory } from './demand.ts';
import type { PlannedReplica } from './plan.ts';
import type { PoolRouter } from './pool/router.ts';
import { fadePool, lossesPerHour, type PoolRecord } from './pool-record.ts';
import { START_GUESS_MS } from './pool/wake-offer.ts';
import type { ReplicaRecord } from './records.ts';
import { LATE_SHARE, type Learned } from './scale.ts';
import { ratesOf, sampleWork } from './work-sample.ts';

/** A pool as the decisions see it: what is asked, its replicas, and how long each live one had nothing to do. */
export interface Observation {
  readonly demand: Demand;
  readonly replicas: readonly PlannedReplica[];
  readonly idleMs: readonly Ms[];
}

/** Between two samples of work, unless somebody waits. */
const FOLD_MS: Ms = 5000;

/** What was counted of a router up to the last look. */
interface Counted {
  readonly arrivals: number;
  readonly begun: number;
  readonly late: number;
}

/** What pools have shown, tick by tick: kept from one to the next. */
export class Observations {
  readonly #histories = new Map<string, DemandHistory>();
  readonly #counted = new Map<string, Counted>();

  /** Once a tick: what is asked now becomes part of what is known. */
  learn(router: PoolRouter, spec: PoolSpec, known: { readonly record: PoolRecord; readonly nowMs: EpochMs }): Learned {
    const { id, slots: slotsPerReplica, replicasMax, slo } = spec;
    const { record, nowMs } = known;
    const { waiting, inFlight, ready, arrivals, begun, late } = router.stats;
    const before = this.#histories.get(id);
    const startMs = router.expectedStartMs ?? record.startMs ?? START_GUESS_MS;
    const learned = { nowMs, startMs, lossesPerHour: lossesPerHour(fadePool(record, nowMs)) };
    const measured = ratesOf(record.rates, slotsPerReplica);
    // As often as in the simulation: what came is spread over the time, and nobody waits for it.
    if (before && measured && waiting === 0 && nowMs - before.atMs < FOLD_MS) return { ...learned, history: before };
    const counted = this.#counted.get(id) ?? { arrivals, begun, late };
    this.#counted.set(id, { arrivals, begun, late });
    const arrived = arrivals - counted.arrivals;
    // How long a prompt is, in tokens, is known when its answer ends: until then it is as long as the others.
    const came = { askedTokens: null, arrived, waiting, slots: slotsPerReplica, ttftMs: slo.ttftMs };
    const { requests: ended, ...mean } = router.meter.means(nowMs);
    const work = measured && sampleWork({ ...came, ended, mean }, measured);
    const { slackMs = slo.ttftMs, ...sampled } = work ?? { workMs: null, lineMs: 0 };
    const counts = { begun: begun - counted.begun, late: late - counted.late, arrived, ready };
    const sample = { atMs: nowMs, slots: waiting + inFlight, slotsPerReplica, ...sampled, ...counts };
    const rules = { replicasMax, ttftMs: slo.ttftMs, slackMs, startMs, lateShare: LATE_SHARE };
    const history = foldDemand(before ?? newHistory(nowMs), sample, rules);
    this.#histories.set(id, history);
    return { ...learned, history };
  }

  /** Forgets pools that are gone. */
  keep(pools: ReadonlySet<string>): void {
    for (const id of this.#histories.keys()) if (!pools.has(id)) this.#histories.delete(id);
    for (const id of this.#counted.keys()) if (!pools.has(id)) this.#counted.delete(id);
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
