import type { PoolSpec } from '../spec.ts';
import { counted, type EpochMs, type Ms } from '../units.ts';
import type { Demand, DemandHistory, Level } from './demand.ts';

export interface Scale {
  readonly wanted: number;
  readonly reason: string;
}

/** What a pool has learned of itself. */
export interface Learned {
  readonly nowMs: EpochMs;
  readonly history: DemandHistory;
  /** From an order to the first answer, as start-ups took lately. */
  readonly startMs: Ms;
  /** Replicas lost without our doing, an hour and replica. */
  readonly lossesPerHour: number;
}

/**
 * How many replicas a pool should have.
 * @param idleMs for each live replica, how long it has had nothing to do (0 when busy or not ready yet)
 * @param learned with it, a pool without an idle time of its own keeps replicas by what a start-up costs
 */
export function wantedReplicas(
  spec: PoolSpec,
  demand: Demand,
  idleMs: readonly Ms[],
  learned: Learned | null = null,
): Scale {
  if (spec.idleMs === null && learned) return learnedReplicas(spec, demand, idleMs, learned);
  return idleReplicas(spec, demand, idleMs, spec.idleMs ?? IDLE_MS);
}

/** Where nothing is learned and none is set. */
const IDLE_MS: Ms = 300_000;

/**
 * Up at once for what is waiting or at work; down only by replicas that were idle for the pool's idle time, so a pause
 * between two questions costs no start-up.
 */
function idleReplicas(spec: PoolSpec, demand: Demand, idleMs: readonly Ms[], longestMs: Ms): Scale {
  const { replicasMin, replicasMax, slots } = spec;
  const needed = Math.ceil(demand.slots / slots);
  const kept = idleMs.filter((idle) => idle < longestMs).length;
  const bounded = Math.min(replicasMax, Math.max(replicasMin, needed));
  if (idleMs.length > bounded) {
    const wanted = Math.min(replicasMax, Math.max(bounded, Math.min(kept, idleMs.length)));
    if (wanted === idleMs.length) return { wanted, reason: 'in use within the idle time' };
    if (idleMs.length > replicasMax) return { wanted, reason: `at most ${counted(replicasMax, 'replica')}` };
    return { wanted, reason: `idle for ${Math.round(longestMs / 1000)} s` };
  }
  if (needed > replicasMax)
    return {
      wanted: replicasMax,
      reason: `${counted(demand.slots, 'request')}, at most ${counted(replicasMax, 'replica')}`,
    };
  if (needed > replicasMin)
    return { wanted: needed, reason: `${counted(demand.slots, 'request')} for ${counted(slots, 'slot')} a replica` };
  return {
    wanted: bounded,
    reason: replicasMin > 0 ? `at least ${counted(replicasMin, 'replica')}` : 'nothing is asked',
  };
}

/** Up for the work that comes, in time for its slack; each further replica is held as long as keeping it is the cheaper bet. */
function learnedReplicas(spec: PoolSpec, demand: Demand, idleMs: readonly Ms[], learned: Learned): Scale {
  const { replicasMin, replicasMax } = spec;
  const { history, nowMs, startMs } = learned;
  let wanted = history.needed;
  let reason = `work for ${counted(history.needed, 'replica')}`;
  for (let at = history.levels.length - 1; at >= history.needed; at -= 1) {
    const level = history.levels[at];
    const sinceMs = nowMs - (level?.neededMs ?? -Infinity);
    const held = level ? holdMs(level, { startMs, ...(at === 0 ? FIRST : FURTHER) }, sinceMs) : 0;
    if (sinceMs >= held) continue;
    wanted = at + 1;
    reason = `replica ${at + 1} was needed ${seconds(sinceMs)} s ago, held for ${seconds(held)} s`;
    break;
  }
  if (wanted > 0 && isSpareWorth(wanted, learned)) {
    wanted += 1;
    reason += ', and one against loss';
  }
  // Nobody asks any more: what is not leased yet is not wanted.
  if (demand.slots === 0 && demand.idleMs >= ORDER_IDLE_MS) {
    wanted = Math.min(wanted, idleMs.filter((idle) => idle !== Infinity).length);
  }
  if (wanted > replicasMax)
    return { wanted: replicasMax, reason: `${reason}, at most ${counted(replicasMax, 'replica')}` };
  if (wanted <= replicasMin) {
    return {
      wanted: replicasMin,
      reason: replicasMin > 0 ? `at least ${counted(replicasMin, 'replica')}` : 'nothing is asked',
    };
  }
  return { wanted, reason };
}

const ORDER_IDLE_MS: Ms = 10_000;
const seconds = (ms: Ms): number => Math.round(ms / 1000);

/** The first replica's absence is no breach: whoever comes then has been told of a cold start. */
const FIRST: HoldRules = { lateWeight: 0, least: 0.25 };
/** A further replica's absence makes answers late: half a start-up more. It is not given up before its start-up has been used. */
const FURTHER: HoldRules = { lateWeight: 0.5, least: 1 };
/** In start-ups: what giving up costs besides the next one, and the least that a replica is held. */
export interface HoldRules {
  readonly lateWeight: number;
  readonly least: number;
}

/** Below so many pauses they say little. */
const PAUSES_LEAST = 3;

/**
 * How long a replica that is not needed is kept. Ski rental: keeping costs time, giving up costs a start-up, and
 * `lateWeight` more of them for the answers that come too late meanwhile, if it is needed again. Of the pauses seen so far,
 * the time that would have cost least; while few were seen, the break-even, which costs at most twice what foresight would.
 * Never below `least` of a start-up: what was paid for is used.
 * @param sinceMs how long it has not been needed: what is sure to be shorter or longer is not worked out
 */
export function holdMs(
  { pausesMs }: Level,
  { startMs, lateWeight, least }: HoldRules & { readonly startMs: Ms },
  sinceMs: Ms | null = null,
): Ms {
  const breakEvenMs = startMs * (1 + lateWeight);
  if (pausesMs.length < PAUSES_LEAST) return breakEvenMs;
  const leastMs = least * startMs;
  if (sinceMs !== null && sinceMs < leastMs) return leastMs;
  if (sinceMs !== null && sinceMs >= HOLD_MOST * breakEvenMs) return leastMs;
  let best = { holdMs: breakEvenMs, costMs: Infinity };
  for (const hold of [leastMs, breakEvenMs, ...pausesMs.map((pause) => pause * PAUSE_MARGIN)]) {
    if (hold < leastMs || hold > HOLD_MOST * breakEvenMs) continue;
    let costMs = 0;
    for (const pause of pausesMs) costMs += pause <= hold ? pause : hold + breakEvenMs;
    if (costMs < best.costMs) best = { holdMs: hold, costMs };
  }
  return best.holdMs;
}

const PAUSE_MARGIN = 1.25;
/** Of the break-even, the most that a replica is held. */
const HOLD_MOST = 2;

/** Whether losses leave the pool one replica short for more of the time than answers may be late. */
function isSpareWorth(wanted: number, { lossesPerHour, startMs }: Learned): boolean {
  return (wanted * lossesPerHour * startMs) / 3_600_000 > LATE_SHARE;
}

/** Of a hundred requests one may be late; what is steered for is a little less. */
export const LATE_SHARE = 0.008;
