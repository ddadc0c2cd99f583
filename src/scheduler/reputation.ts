import { counted, type EpochMs, type Ms } from '../units.ts';
import {
  fadeTo,
  failuresInRow,
  faded,
  LOSS_CAUSES,
  START_CAUSES,
  type FailureCause,
  type TrackRecord,
} from './track-record.ts';

/** What is expected of a provider's next lease. */
export interface ProviderScore {
  /** Chance that it fails in its start-up or within its expected life (an hour unless told), 0 to 1. */
  readonly failureChance: number;
  /** From the lease to the first answer, as this pool's start-ups took there; null: none was seen. */
  readonly startMs: Ms | null;
  /** Tokens in a second against what its GPU promises: 1 as promised, 0.5 half of it. */
  readonly speed: number;
  readonly reason: string;
}

/** One part of a score: what was seen of the provider itself, what the prior says, and what comes of both. */
export interface ScoreTerm {
  readonly name: 'start_failure' | 'loss_per_hour' | 'start_ms' | 'speed';
  /** Faded: how much of the provider's own was seen, and how much of that was bad or how long it took. */
  readonly ownWeight: number;
  readonly ownBad: number | null;
  readonly prior: number | null;
  readonly priorWeight: number;
  readonly value: number | null;
}

export interface ExplainedScore extends ProviderScore {
  readonly terms: readonly ScoreTerm[];
}

/** Of all providers of a market, faded to one time: what a newcomer is taken for. */
export interface FleetRecord {
  readonly starts: number;
  readonly startFailures: number;
  readonly hours: number;
  readonly losses: number;
  readonly speed: number;
}

/** Where nobody was seen yet: one start-up in twenty-five fails, and a replica is lost in a hundred hours. */
const FLEET_STARTS = { trials: 25, bad: 1 };
const FLEET_HOURS = { trials: 100, bad: 1 };
/** What the fleet's mean weighs against a provider's own record: as much as so many start-ups, hours and measures. */
const PRIOR_STARTS = 10;
const PRIOR_HOURS = 100;
const PRIOR_START_TIMES = 2;
const PRIOR_SPEEDS = 3;
const SPEED_LEAST = 0.05;
const SPEED_MOST = 2;

export const EMPTY_FLEET: FleetRecord = { starts: 0, startFailures: 0, hours: 0, losses: 0, speed: 1 };

function badOf({ failures }: TrackRecord, causes: readonly (keyof TrackRecord['failures'])[]): number {
  return causes.reduce((sum, cause) => sum + (failures[cause]?.weight ?? 0), 0);
}

/** What was measured, each against its promise, and how much that weighs. */
function speedOf({ speeds }: TrackRecord, nowMs: EpochMs): { readonly weight: number; readonly sum: number } {
  let [weight, sum] = [0, 0];
  for (const { samples, tokensPerS, promisedTokensPerS, atMs } of speeds) {
    if (promisedTokensPerS === null || promisedTokensPerS <= 0) continue;
    const one = faded(samples, nowMs - atMs);
    weight += one;
    sum += one * Math.min(SPEED_MOST, Math.max(SPEED_LEAST, tokensPerS / promisedTokensPerS));
  }
  return { weight, sum };
}

/** The mean of all providers of a market. */
export function fleetOf(records: Iterable<TrackRecord>, nowMs: EpochMs): FleetRecord {
  let [starts, startFailures, hours, losses] = [0, 0, 0, 0];
  let speeds = { weight: PRIOR_SPEEDS, sum: PRIOR_SPEEDS };
  for (const record of records) {
    const now = fadeTo(record, nowMs);
    const bad = badOf(now, START_CAUSES);
    starts += now.started.weight + bad;
    startFailures += bad;
    hours += now.hours;
    losses += badOf(now, LOSS_CAUSES);
    const speed = speedOf(now, nowMs);
    speeds = { weight: speeds.weight + speed.weight, sum: speeds.sum + speed.sum };
  }
  return { starts, startFailures, hours, losses, speed: speeds.sum / speeds.weight };
}

export interface ScoreInput {
  /** Null: nothing was ever seen of it. */
  readonly record: TrackRecord | null;
  readonly fleet: FleetRecord;
  readonly pool: string | null;
  /** From the lease to the first answer, as the pool's start-ups took anywhere. */
  readonly poolStartMs: Ms | null;
  readonly nowMs: EpochMs;
  readonly lifeHours?: number;
}

/**
 * A provider's record as what is to be expected of it: two Beta means, one of start-ups and one of hours, each from its own
 * faded counts pulled towards its market's mean while they are few.
 */
export function scoreProvider(input: ScoreInput): ExplainedScore {
  const { fleet, pool, poolStartMs, nowMs, lifeHours = 1 } = input;
  const record = input.record && fadeTo(input.record, nowMs);
  const [startBad, lossBad] = record ? [badOf(record, START_CAUSES), badOf(record, LOSS_CAUSES)] : [0, 0];
  const start = betaMean('start_failure', {
    ...{ own: (record?.started.weight ?? 0) + startBad, bad: startBad, weight: PRIOR_STARTS },
    prior: (fleet.startFailures + FLEET_STARTS.bad) / (fleet.starts + FLEET_STARTS.trials),
  });
  // An hour in which more than one was lost is no more than lost.
  const hours = Math.max(record?.hours ?? 0, 0) + lossBad;
  const loss = betaMean('loss_per_hour', {
    ...{ own: hours, bad: lossBad, weight: PRIOR_HOURS },
    prior: (fleet.losses + FLEET_HOURS.bad) / (fleet.hours + fleet.losses + FLEET_HOURS.trials),
  });
  const failureChance = 1 - (1 - start.value) * (1 - loss.value) ** Math.max(0, lifeHours);
  const time = startTime(record, { pool, poolStartMs, nowMs });
  const seen = record ? speedOf(record, nowMs) : { weight: 0, sum: 0 };
  const speed = (fleet.speed * PRIOR_SPEEDS + seen.sum) / (PRIOR_SPEEDS + seen.weight);
  const speedTerm: ScoreTerm = {
    ...{ name: 'speed', ownWeight: seen.weight, ownBad: null, prior: fleet.speed, priorWeight: PRIOR_SPEEDS },
    value: speed,
  };
  const reason = describe(record, { failureChance, startMs: time.value, speed, measured: seen.weight > 0 });
  return { failureChance, startMs: time.value, speed, reason, terms: [start, loss, time, speedTerm] };
}

function betaMean(
  name: 'start_failure' | 'loss_per_hour',
  of: { readonly own: number; readonly bad: number; readonly prior: number; readonly weight: number },
): ScoreTerm & { readonly value: number } {
  const value = Math.min(1, (of.prior * of.weight + of.bad) / (of.weight + of.own));
  return { name, ownWeight: of.own, ownBad: of.bad, prior: of.prior, priorWeight: of.weight, value };
}

/** Its own start-ups of this pool, pulled towards the pool's mean; null where neither was seen. */
function startTime(
  record: TrackRecord | null,
  { pool, poolStartMs, nowMs }: Pick<ScoreInput, 'pool' | 'poolStartMs' | 'nowMs'>,
): ScoreTerm {
  let [weight, sum] = [0, 0];
  for (const { pool: of, atMs, startMs } of record?.starts ?? []) {
    if (of !== pool) continue;
    const one = faded(1, nowMs - atMs);
    weight += one;
    sum += one * startMs;
  }
  const priorWeight = poolStartMs === null ? 0 : PRIOR_START_TIMES;
  const all = weight + priorWeight;
  const value = all === 0 ? null : Math.round((sum + priorWeight * (poolStartMs ?? 0)) / all);
  return { name: 'start_ms', ownWeight: weight, ownBad: null, prior: poolStartMs, priorWeight, value };
}

function describe(
  record: TrackRecord | null,
  of: {
    readonly failureChance: number;
    readonly startMs: Ms | null;
    readonly speed: number;
    readonly measured: boolean;
  },
): string {
  const risk = `${Math.round(of.failureChance * 1000) / 10} % risk`;
  const time = of.startMs === null ? '' : `, starts in ${Math.round(of.startMs / 1000)} s`;
  const speed = of.measured ? `, ${Math.round(of.speed * 100)} % of its speed` : '';
  if (!record || record.won === 0) return `new here: ${risk}${time}${speed}`;
  const failed = Object.values(record.failures).reduce((sum, { count }) => sum + count, 0);
  return `${counted(record.won, 'lease')}, ${failed} failed: ${risk}${time}${speed}`;
}

const HOUR_MS: Ms = 3_600_000;
/** What does not pass by itself in a minute. */
const LASTING: ReadonlySet<FailureCause> = new Set(['slow', 'wrong_hardware', 'wrong_weights']);

/**
 * How long a provider that just failed is passed over: 30 s, doubled with each further failure, at most an hour. One whose
 * machine was not what was ordered: an hour, doubled each time, at most a day.
 */
export function quarantineMs(inRow: number, cause: FailureCause = 'not_ready'): Ms {
  if (inRow <= 0) return 0;
  return LASTING.has(cause)
    ? Math.min(24 * HOUR_MS, HOUR_MS * 2 ** (inRow - 1))
    : Math.min(HOUR_MS, 30_000 * 2 ** (inRow - 1));
}

/** Until when it is passed over, and why; null: it is not. */
export function quarantineOf(
  record: TrackRecord | null,
  nowMs: EpochMs,
): { readonly untilMs: EpochMs; readonly reason: string; readonly inRow: number } | null {
  if (!record?.quarantine || record.quarantine.untilMs <= nowMs) return null;
  return { ...record.quarantine, inRow: failuresInRow(record, nowMs) };
}
