import type { PoolSpec } from '../spec.ts';
import { describeNeeds } from '../spec/trust.ts';
import { versionOf } from '../spec/version.ts';
import type { PlannedReplica } from './plan.ts';
import type { LineNeeds } from './pool/line-needs.ts';
import type { Beside, ReplicaRecord } from './records.ts';

/**
 * Pure: replicas that are exchanged, or had besides what the load asks for. A pool that is described anew rolls out by a
 * second lease: one replica of the new description comes up, then one of the old drains, until none is left; if the new one
 * does not come up, the old ones stay. Requests that may have none of the replicas there are get one of their own.
 */

/** Servers that run already: they cannot be leased twice, and only how they are spoken to can change. */
const RUNS_ALREADY: ReadonlySet<string | null> = new Set(['owned', 'api']);

/** Whether a replica is what its pool says now. Rows of earlier versions do not know what they were started as. */
export function isCurrent({ runs, market }: ReplicaRecord, spec: PoolSpec): boolean {
  if (!runs) return true;
  if (!RUNS_ALREADY.has(market)) return runs.version === versionOf(spec);
  return runs.engine === spec.engine && runs.model === spec.model && runs.kind === spec.kind;
}

export interface TurnoverInput {
  readonly spec: PoolSpec;
  /** Those of the pool that are not closed, and the same as the plan sees them. */
  readonly records: readonly ReplicaRecord[];
  readonly replicas: readonly PlannedReplica[];
  readonly line: LineNeeds;
  /** The new description failed to come up again and again: not now. */
  readonly rolloutPaused: boolean;
}

export interface Turnover {
  /** Replicas that the load's plan does not count: each is here for something else. */
  readonly beside: ReadonlySet<string>;
  /** To be given up, and why. */
  readonly drop: readonly { readonly type: 'drain' | 'withdraw'; readonly replica: string; readonly reason: string }[];
  /** One more, if the budget allows it. */
  readonly order: { readonly reason: string; readonly beside: Beside } | null;
}

interface Live {
  readonly record: ReplicaRecord;
  readonly inFlight: number;
  readonly current: boolean;
}

const LIVE: ReadonlySet<string> = new Set(['ordering', 'accepting', 'starting', 'ready']);
const NOTHING = { drop: [], order: null };

export function planTurnover({ spec, records, replicas, line, rolloutPaused }: TurnoverInput): Turnover {
  const loads = new Map(replicas.map(({ id, inFlight }) => [id, inFlight]));
  const live = records
    .filter(({ state }) => LIVE.has(state))
    .map((record) => ({ record, inFlight: loads.get(record.id) ?? 0, current: isCurrent(record, spec) }));
  const rollout = planRollout(live, spec, rolloutPaused);
  const special = planSpecial(live, spec, line);
  const beside = new Set([...rollout.beside, ...special.beside]);
  const drop = [...rollout.drop, ...special.drop];
  // One thing at a time: what requests wait for comes first.
  return { beside, drop, order: special.order ?? rollout.order };
}

function planRollout(live: readonly Live[], spec: PoolSpec, paused: boolean): Turnover {
  const old = live.filter(({ current }) => !current);
  const kept = old.filter((one) => !mustGo(one, spec));
  const replaced = new Map<string, ReplicaRecord>();
  for (const { record, current } of live) {
    const target = record.beside?.replaces;
    if (current && target !== undefined) replaced.set(target, record);
  }
  const drop: Turnover['drop'][number][] = old.flatMap((one) => (mustGo(one, spec) ? dropNow(one) : []));
  const beside = new Set<string>();
  let coming = false;
  for (const { record } of kept) {
    const successor = replaced.get(record.id);
    if (!successor) continue;
    beside.add(successor.id);
    coming = true;
    if (successor.state !== 'ready' || record.state !== 'ready') continue;
    drop.push({
      type: 'drain',
      replica: record.id,
      reason: `${successor.id} has taken its place: the pool was changed`,
    });
  }
  const [next] = kept.filter(({ record }) => record.state === 'ready').sort((a, b) => a.inFlight - b.inFlight);
  if (!next || coming || paused) return { ...NOTHING, beside, drop };
  const reason = `the pool was changed: a replica of the new description comes before ${next.record.id} goes`;
  return { ...NOTHING, beside, drop, order: { reason, beside: { replaces: next.record.id } } };
}

/** An old one that serves nobody yet, that makes something else than is asked now, or that cannot be leased twice. */
function mustGo({ record }: Live, spec: PoolSpec): boolean {
  return record.readyMs === null || record.runs?.kind !== spec.kind || RUNS_ALREADY.has(record.market);
}

function dropNow({ record: { id, state } }: Live): Turnover['drop'] {
  const reason = 'the pool was changed';
  if (state === 'ready') return [{ type: 'drain', replica: id, reason }];
  // A bid that is being taken has to be known first.
  return state === 'accepting' ? [] : [{ type: 'withdraw', replica: id, reason }];
}

/**
 * One at a time, and one more than the pool's most: nothing that works is given up for what may never come. Once it is ready
 * it counts like any other, so the one that is idlest goes.
 */
function planSpecial(live: readonly Live[], spec: PoolSpec, { unmet }: LineNeeds): Turnover {
  const coming = live.filter(({ record }) => record.beside?.needs !== undefined && record.state !== 'ready');
  const beside = new Set(coming.filter(({ record }) => !record.beside?.counted).map(({ record }) => record.id));
  // Whoever waited has left, or is served: an order costs nothing yet, a start-up is half paid.
  const left = coming.filter(({ record: { id, state } }) => !unmet && state === 'ordering' && beside.has(id));
  const gone = 'nobody waits for it any more';
  const drop = left.map(({ record: { id } }) => ({ type: 'withdraw' as const, replica: id, reason: gone }));
  if (!unmet || coming.length > 0 || spec.replicasMax === 0) return { ...NOTHING, beside, drop };
  const reason = `${unmet.waiting} requests wait for ${describeNeeds(unmet.needs)}, which no replica here is`;
  return { ...NOTHING, beside, order: { reason, beside: { needs: unmet.needs } } };
}
