import type { EpochMs, Ms } from '../units.ts';
import type { SpeedSample } from './pool/speed-meter.ts';
import { faded, type StartUp } from './track-record.ts';

/**
 * Pure: what a pool has shown of itself over all its replicas: how long they take to start and where that time goes, how often
 * they are lost, and what one of them makes.
 */
export interface PoolRecord {
  readonly pool: string;
  readonly atMs: EpochMs;
  /** From an order to the first answer, as start-ups took lately; null: none was seen. */
  readonly startMs: Ms | null;
  /** The last start-ups, with their phases. */
  readonly starts: readonly (StartUp & { readonly provider: string })[];
  /** Ready hours of all its replicas and losses that were no doing of ours, faded. */
  readonly hours: number;
  readonly losses: number;
  readonly rates: PoolRates;
}

/** What one replica was seen to do, over the last answers. */
export interface PoolRates {
  readonly prefillTokensPerS: number | null;
  /** Of one stream, alone on its replica. */
  readonly streamTokensPerS: number | null;
  /** By how many answers were at work at a time, the tokens of all of them together. */
  readonly batches: readonly BatchRate[];
}

export interface BatchRate {
  /** At work at a time: 1, 2, 4, … : this many or more, and fewer than twice. */
  readonly streams: number;
  readonly tokensPerS: number;
  /** Time that was measured, faded by the newest: a bucket of less than a few seconds says little. */
  readonly measuredMs: Ms;
}

const STARTS_MAX = 20;
/** What was measured longer ago than this counts for less and less. */
const MEASURED_MOST_MS: Ms = 600_000;
const NO_RATES: PoolRates = { prefillTokensPerS: null, streamTokensPerS: null, batches: [] };

export function newPoolRecord(pool: string, atMs: EpochMs): PoolRecord {
  return { pool, atMs, startMs: null, starts: [], hours: 0, losses: 0, rates: NO_RATES };
}

export function fadePool(record: PoolRecord, nowMs: EpochMs): PoolRecord {
  const ms = nowMs - record.atMs;
  if (ms <= 0) return record;
  return { ...record, atMs: nowMs, hours: faded(record.hours, ms), losses: faded(record.losses, ms) };
}

/** Half of the old expectation, half of the new: one slow start does not make every order early. */
export function expectStart(before: Ms | null, tookMs: Ms): Ms {
  return Math.round(((before ?? tookMs) + tookMs) / 2);
}

export function withPoolStart(record: PoolRecord, start: StartUp & { readonly provider: string }): PoolRecord {
  const tookMs = (start.bidMs ?? 0) + (start.choiceMs ?? 0) + start.startMs;
  const starts = [...record.starts, start].slice(-STARTS_MAX);
  return { ...fadePool(record, start.atMs), startMs: expectStart(record.startMs, tookMs), starts };
}

export function withPoolService(record: PoolRecord, readyMs: Ms, lost: boolean, nowMs: EpochMs): PoolRecord {
  const now = fadePool(record, nowMs);
  return { ...now, hours: now.hours + Math.max(0, readyMs) / 3_600_000, losses: now.losses + (lost ? 1 : 0) };
}

/** From a lease to the first answer, over the pool's last start-ups anywhere; null: none was seen. */
export function leaseToReadyMs({ starts }: PoolRecord): Ms | null {
  if (starts.length === 0) return null;
  return starts.reduce((sum, { startMs }) => sum + startMs, 0) / starts.length;
}

/** Losses are judged as if a replica had run for so long and none been lost. */
export const LOSS_PRIOR_HOURS = 200;

/** Replicas lost without our doing, an hour and replica. */
export function lossesPerHour({ losses, hours }: { readonly losses: number; readonly hours: number }): number {
  return losses / (LOSS_PRIOR_HOURS + hours);
}

/** Answers at work at a time, as they are counted together: 1, 2, 4, … */
export function bucketOf(streams: number): number {
  return 2 ** Math.floor(Math.log2(Math.max(1, streams)));
}

/** The speeds of answers of its replicas, by how many were at work beside them. */
export function withSpeeds(record: PoolRecord, samples: readonly SpeedSample[], nowMs: EpochMs): PoolRecord {
  const batches = new Map(record.rates.batches.map((batch) => [batch.streams, batch]));
  for (const { streams, tokensPerS, ms } of samples) {
    const bucket = bucketOf(streams);
    const { tokensPerS: before = 0, measuredMs = 0 } = batches.get(bucket) ?? {};
    const all = Math.min(MEASURED_MOST_MS, measuredMs) + ms;
    const mean = before + ((tokensPerS * streams - before) * ms) / all;
    batches.set(bucket, { streams: bucket, tokensPerS: mean, measuredMs: all });
  }
  const streamTokensPerS = batches.get(1)?.tokensPerS ?? null;
  const sorted = [...batches.values()].sort((a, b) => a.streams - b.streams);
  return { ...fadePool(record, nowMs), rates: { ...record.rates, streamTokensPerS, batches: sorted } };
}

/** How fast a replica read a prompt, alone. */
export function withPrefill(record: PoolRecord, tokensPerS: number, nowMs: EpochMs): PoolRecord {
  const before = record.rates.prefillTokensPerS;
  const prefillTokensPerS = before === null ? tokensPerS : (before + tokensPerS) / 2;
  return { ...fadePool(record, nowMs), rates: { ...record.rates, prefillTokensPerS } };
}
