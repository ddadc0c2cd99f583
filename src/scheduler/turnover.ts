import type { PoolSpec } from '../spec.ts';
import { describeNeeds } from '../spec/trust.ts';
import { versionOf } from '../spec/version.ts';
import { counted, type EpochMs, type Ms, type NanoUsd } from '../units.ts';
import type { PlannedReplica } from './plan.ts';
import type { LineNeeds } from './pool/line-needs.ts';
import type { Move } from './moving.ts';
import type { Beside, ReplicaRecord, WhyFollowed } from './records.ts';

/**
 * Pure: replicas that are followed by others, or had besides what the load asks for. One is followed because its pool was
 * described anew, because its provider takes the machine back, or because another machine does the same for less: a second
 * lease comes up first, then the first one drains. Requests that may have none of the replicas there are get one of their own.
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
  /** Where a replica would be cheaper, if anywhere. */
  readonly move?: Move | null;
  readonly nowMs: EpochMs;
}

/** One more replica, if the budget allows it. */
export interface Extra {
  readonly reason: string;
  readonly beside: Beside;
  /** The most that an hour of it may cost, where that is less than the pool's ceiling. */
  readonly mostNanoUsdPerHour?: NanoUsd;
  readonly detail?: Readonly<Record<string, unknown>>;
}

export interface Turnover {
  /** Replicas that the load's plan does not count: each is here for something else. */
  readonly beside: ReadonlySet<string>;
  /** To be given up, and why. */
  readonly drop: readonly { readonly type: 'drain' | 'withdraw'; readonly replica: string; readonly reason: string }[];
  readonly orders: readonly Extra[];
  /** Of `beside`, with whom they follow: those that are here for their price alone. */
  readonly spare: ReadonlyMap<string, string>;
}

interface Live {
  readonly record: ReplicaRecord;
  readonly inFlight: number;
  readonly current: boolean;
}

interface Pair {
  readonly old: ReplicaRecord;
  readonly next: ReplicaRecord;
  readonly why: WhyFollowed;
}

const LIVE: ReadonlySet<string> = new Set(['ordering', 'accepting', 'starting', 'ready']);
type Special = Omit<Turnover, 'spare'>;
const NOTHING = { drop: [], orders: [] };
/** So long before a machine goes, its last answer has ended: a lease takes blocks to close. */
const LEAVE_MS: Ms = 60_000;
const LEAVES = 'its provider takes the machine back';

export function planTurnover(input: TurnoverInput): Turnover {
  const { spec, records, replicas, line } = input;
  const loads = new Map(replicas.map(({ id, inFlight }) => [id, inFlight]));
  const live = records
    .filter(({ state }) => LIVE.has(state))
    .map((record) => ({ record, inFlight: loads.get(record.id) ?? 0, current: isCurrent(record, spec) }));
  const pairs = pairsOf(live, spec);
  const special = planSpecial(live, spec, line);
  const beside = new Set([...pairs.map(({ next }) => next.id), ...special.beside]);
  const old = live.filter((one) => !one.current && mustGo(one, spec));
  const drop = [...old.flatMap(dropNow), ...exchanges(pairs), ...special.drop, ...departures(live, pairs, input)];
  const spare = new Map(pairs.filter(({ why }) => why === 'cheaper').map(({ old: from, next }) => [next.id, from.id]));
  return { beside, drop, orders: ordersOf(live, pairs, { ...input, special }), spare };
}

/** One thing at a time: what requests wait for comes first, then what has a deadline; what is cheaper can wait. */
function ordersOf(
  live: readonly Live[],
  pairs: readonly Pair[],
  { spec, rolloutPaused, special, move = null }: TurnoverInput & { readonly special: Special },
): readonly Extra[] {
  if (special.orders.length > 0) return special.orders;
  const alone = live.filter(({ record }) => record.state === 'ready' && !pairs.some(({ old }) => old.id === record.id));
  const leaving = alone.filter(({ record }) => isLeaving(record) || record.condemned);
  if (leaving.length > 0) {
    return leaving.map(({ record: { id, condemned } }) => {
      if (condemned)
        return { reason: `${id} is to go: ${condemned.reason}`, beside: { replaces: id, why: 'condemned' } };
      return { reason: 'a provider takes its machine back', beside: { replaces: id, why: 'taken_back' } };
    });
  }
  if (pairs.some(({ why }) => why !== 'taken_back')) return [];
  const [next] = alone.filter((one) => !one.current && !mustGo(one, spec)).sort((a, b) => a.inFlight - b.inFlight);
  if (next) {
    const { id } = next.record;
    const reason = `the pool was changed: a replica of the new description comes before ${id} goes`;
    return rolloutPaused ? [] : [{ reason, beside: { replaces: id, why: 'changed' } }];
  }
  const settled = live.every(({ record }) => record.state === 'ready');
  if (move === null || !settled || pairs.length > 0) return [];
  const { reason, detail, mostNanoUsdPerHour } = move;
  return [{ reason, detail, mostNanoUsdPerHour, beside: { replaces: move.replica, why: 'cheaper' } }];
}

const isLeaving = ({ endsMs }: ReplicaRecord): boolean => typeof endsMs === 'number';

/** Who is here to follow whom, as long as there is a reason to. */
function pairsOf(live: readonly Live[], spec: PoolSpec): Pair[] {
  const byId = new Map(live.map((one) => [one.record.id, one]));
  const pairs: Pair[] = [];
  for (const { record: next, current } of live) {
    const old = byId.get(next.beside?.replaces ?? '');
    if (!old || old.record.readyMs === null) continue;
    const why = next.beside?.why ?? 'changed';
    const changes = !old.current && !mustGo(old, spec) && current;
    const condemned = (old.record.condemned ?? null) !== null;
    const stands = { changed: changes, taken_back: isLeaving(old.record), condemned, cheaper: true };
    if (stands[why]) pairs.push({ old: old.record, next, why });
  }
  return pairs;
}

/** The follower answers: its predecessor's answers may end. */
function exchanges(pairs: readonly Pair[]): Turnover['drop'] {
  const ready = pairs.filter(({ old, next }) => old.state === 'ready' && next.state === 'ready');
  return ready.map(({ old, next, why }) => {
    const reasons = {
      changed: `${next.id} has taken its place: the pool was changed`,
      taken_back: `${LEAVES}, and another one is ready`,
      condemned: `${next.id} has taken its place: ${old.condemned?.reason}`,
      cheaper: `${next.id} has taken its place: it costs less`,
    };
    return { type: 'drain', replica: old.id, reason: reasons[why] };
  });
}

/** Where no follower came in time, as late as the answers allow. */
function departures(live: readonly Live[], pairs: readonly Pair[], { spec, nowMs }: TurnoverInput): Turnover['drop'] {
  const late = live.filter(({ record: { id, state, endsMs } }) => {
    const followed = pairs.some(({ old, next }) => old.id === id && next.state === 'ready');
    return (
      state === 'ready' && !followed && typeof endsMs === 'number' && nowMs >= endsMs - spec.limits.drainMs - LEAVE_MS
    );
  });
  return late.map(({ record: { id } }) => ({ type: 'drain', replica: id, reason: LEAVES }));
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
function planSpecial(live: readonly Live[], spec: PoolSpec, { unmet }: LineNeeds): Special {
  const coming = live.filter(({ record }) => record.beside?.needs !== undefined && record.state !== 'ready');
  const beside = new Set(coming.filter(({ record }) => !record.beside?.counted).map(({ record }) => record.id));
  // Whoever waited has left, or is served: an order costs nothing yet, a start-up is half paid.
  const left = coming.filter(({ record: { id, state } }) => !unmet && state === 'ordering' && beside.has(id));
  const gone = 'nobody waits for it any more';
  const drop = left.map(({ record: { id } }) => ({ type: 'withdraw' as const, replica: id, reason: gone }));
  if (!unmet || coming.length > 0 || spec.replicasMax === 0) return { ...NOTHING, beside, drop };
  const reason = `${counted(unmet.waiting, 'request')} in line for ${describeNeeds(unmet.needs)}, which no replica here is`;
  return { ...NOTHING, beside, orders: [{ reason, beside: { needs: unmet.needs } }] };
}
