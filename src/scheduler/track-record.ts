import type { EpochMs, Ms } from '../units.ts';

/**
 * Pure: what a provider did on a market. Counts stay for people; weights, which decide, fade: what was long ago says little of
 * tomorrow. Nobody is blamed for what was ours: a stop, an operator's close, a budget, a roll-out, an escrow that ran out.
 */

/** Start-ups that came to nothing. */
export const START_CAUSES = ['delivery_failed', 'not_ready', 'wrong_hardware'] as const;
/** Replicas that were lost after they had been ready, or were not worth their rent. */
export const LOSS_CAUSES = ['silent', 'died', 'closed_by_provider', 'slow', 'wrong_weights', 'dispute_upheld'] as const;
export type FailureCause = (typeof START_CAUSES)[number] | (typeof LOSS_CAUSES)[number];

export interface Faded {
  readonly count: number;
  /** As it was at the record's `atMs`. */
  readonly weight: number;
}

/** Where the time of one start-up went. Null: not seen apart. */
export interface StartUp {
  readonly pool: string;
  readonly atMs: EpochMs;
  /** From the order to the first bid, and from there to the lease. */
  readonly bidMs: Ms | null;
  readonly choiceMs: Ms | null;
  /** From the lease until its container or process ran. */
  readonly imageMs: Ms | null;
  /** From there until its model server said anything at all, and until it answered a question. */
  readonly weightsMs: Ms | null;
  readonly loadMs: Ms | null;
  /** From the lease to the first answer: what it costs. */
  readonly startMs: Ms;
}

/** What one stream got on this provider's machines, for a pool. */
export interface SpeedRecord {
  readonly pool: string;
  /** As the order named it, or its engine told; null: none, or not known. */
  readonly gpu: string | null;
  readonly atMs: EpochMs;
  readonly samples: number;
  readonly prefillTokensPerS: number | null;
  readonly tokensPerS: number;
  /** What its GPU should do, or the pool's other replicas do; null: nothing to hold it against. */
  readonly promisedTokensPerS: number | null;
}

export interface TrackRecord {
  readonly market: string;
  readonly provider: string;
  readonly firstMs: EpochMs;
  /** The last event that is in it; weights are as of then. */
  readonly atMs: EpochMs;
  readonly bids: number;
  readonly won: number;
  /** Start-ups that got ready. */
  readonly started: Faded;
  readonly failures: Readonly<Partial<Record<FailureCause, Faded>>>;
  /** Ready hours, faded, and the whole time. */
  readonly hours: number;
  readonly readyMs: Ms;
  /** Replicas' time that its failures took: paid for and of no use, or gone until another was ready. */
  readonly lostMs: Ms;
  readonly starts: readonly StartUp[];
  readonly speeds: readonly SpeedRecord[];
  /** Failures in a row, the last one, and how long it is passed over for them. */
  readonly inRow: number;
  readonly failedMs: EpochMs | null;
  readonly quarantine: { readonly untilMs: EpochMs; readonly reason: string } | null;
}

/** Half of what an event says is forgotten in a week. */
export const HALF_LIFE_MS: Ms = 7 * 86_400_000;
/** So little is nothing: what is long ago is not held against anybody for ever. */
const WEIGHT_LEAST = 0.02;
const STARTS_MAX = 32;
const SPEEDS_MAX = 16;
/** Of all samples, the last ones make the mean. */
const SAMPLES_MAX = 20;
/** Somebody looked: it says more than one failure. */
const WEIGHTS: Readonly<Partial<Record<FailureCause, number>>> = { dispute_upheld: 3 };
/** A replica that served for so long was no failure in a row; after each so long without one, a failure is forgiven. */
const STEADY_MS: Ms = 600_000;
const FORGIVEN_MS: Ms = 6 * 3_600_000;

export function newRecord(market: string, provider: string, atMs: EpochMs): TrackRecord {
  return {
    ...{ market, provider, firstMs: atMs, atMs, bids: 0, won: 0, started: { count: 0, weight: 0 }, failures: {} },
    ...{ hours: 0, readyMs: 0, lostMs: 0, starts: [], speeds: [], inRow: 0, failedMs: null, quarantine: null },
  };
}

/** What is left of a weight after so long. */
export function faded(weight: number, ms: Ms): number {
  const left = weight * 2 ** (-Math.max(0, ms) / HALF_LIFE_MS);
  return left < WEIGHT_LEAST ? 0 : left;
}

/** The same record with its weights as of another time. */
export function fadeTo(record: TrackRecord, nowMs: EpochMs): TrackRecord {
  const ms = nowMs - record.atMs;
  if (ms <= 0) return record;
  const fade = ({ count, weight }: Faded): Faded => ({ count, weight: faded(weight, ms) });
  const failures = Object.fromEntries(Object.entries(record.failures).map(([cause, one]) => [cause, fade(one)]));
  return { ...record, atMs: nowMs, started: fade(record.started), failures, hours: faded(record.hours, ms) };
}

/** It bid for an order, or won it. */
export function withBid(record: TrackRecord, what: 'bids' | 'won', nowMs: EpochMs): TrackRecord {
  return { ...fadeTo(record, nowMs), [what]: record[what] + 1 };
}

export function withStart(record: TrackRecord, start: StartUp): TrackRecord {
  const now = fadeTo(record, start.atMs);
  const started = { count: now.started.count + 1, weight: now.started.weight + 1 };
  return { ...now, started, starts: [...now.starts, start].slice(-STARTS_MAX) };
}

/** So long a replica was ready, whatever ended it. */
export function withService(record: TrackRecord, ms: Ms, nowMs: EpochMs): TrackRecord {
  const now = fadeTo(record, nowMs);
  return { ...now, hours: now.hours + Math.max(0, ms) / 3_600_000, readyMs: now.readyMs + Math.max(0, ms) };
}

export function withLoss(record: TrackRecord, ms: Ms): TrackRecord {
  return { ...record, lostMs: record.lostMs + Math.max(0, ms) };
}

export interface Failure {
  readonly cause: FailureCause;
  readonly atMs: EpochMs;
  readonly reason: string;
  /** How long the replica had been ready. */
  readonly servedMs: Ms;
  /** Below 1 where it may be the pool's own description that does not work. */
  readonly share?: number;
}

/** Failures in a row as they stand: one that served well in between, or time, makes good. */
export function failuresInRow({ inRow, failedMs }: TrackRecord, nowMs: EpochMs): number {
  const forgiven = failedMs === null ? 0 : Math.floor(Math.max(0, nowMs - failedMs) / FORGIVEN_MS);
  return Math.max(0, inRow - forgiven);
}

export function withFailure(
  record: TrackRecord,
  { cause, atMs, reason, servedMs, share = 1 }: Failure,
  quarantineMs: (inRow: number, cause: FailureCause) => Ms,
): TrackRecord {
  const now = fadeTo(record, atMs);
  const before = now.failures[cause] ?? { count: 0, weight: 0 };
  const after = { count: before.count + 1, weight: before.weight + share * (WEIGHTS[cause] ?? 1) };
  const inRow = (servedMs >= STEADY_MS ? 0 : failuresInRow(now, atMs)) + 1;
  // One of several that fail together does not shorten what another began.
  const untilMs = Math.max(now.quarantine?.untilMs ?? 0, atMs + quarantineMs(inRow, cause));
  const quarantine = { untilMs, reason: `${cause}: ${reason}`.slice(0, 300) };
  return { ...now, failures: { ...now.failures, [cause]: after }, inRow, failedMs: atMs, quarantine };
}

export type SpeedSample = Omit<SpeedRecord, 'samples'>;

/** One more measure of a pool's replica there: the mean of the last ones. */
export function withSpeed(record: TrackRecord, sample: SpeedSample): TrackRecord {
  const { pool, gpu } = sample;
  const before = record.speeds.find((one) => one.pool === pool && one.gpu === gpu);
  const others = record.speeds.filter((one) => one !== before);
  const samples = Math.min(SAMPLES_MAX, (before?.samples ?? 0) + 1);
  const mean = (old: number | null | undefined, next: number | null): number | null => {
    if (next === null || old === null || old === undefined) return next ?? old ?? null;
    return old + (next - old) / samples;
  };
  const prefillTokensPerS = mean(before?.prefillTokensPerS, sample.prefillTokensPerS);
  const tokensPerS = mean(before?.tokensPerS, sample.tokensPerS) ?? sample.tokensPerS;
  const speeds = [...others, { ...sample, samples, prefillTokensPerS, tokensPerS }].slice(-SPEEDS_MAX);
  return { ...fadeTo(record, sample.atMs), speeds };
}
