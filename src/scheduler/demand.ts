import type { EpochMs, Ms } from '../units.ts';
import type { RouterStats } from './pool/slot.ts';

/** What is asked of a pool right now. */
export interface Demand {
  /** Requests at work or in line: each wants one slot. */
  readonly slots: number;
  readonly waiting: number;
  /** How long nothing has been asked, as far as this process knows; 0 while something is. */
  readonly idleMs: Ms;
}

/** @param sinceMs when this process began: what was asked before is not known, so a restart is no idle time */
export function measureDemand(stats: RouterStats, nowMs: EpochMs, sinceMs: EpochMs): Demand {
  const slots = stats.waiting + stats.inFlight;
  const lastMs = Math.max(stats.lastUsedMs, sinceMs);
  return { slots, waiting: stats.waiting, idleMs: slots > 0 ? 0 : Math.max(0, nowMs - lastMs) };
}

/** What was asked since the last sample. */
export interface DemandSample {
  readonly atMs: EpochMs;
  /** Requests at work or in line, and how many of them one replica takes. */
  readonly slots: number;
  readonly slotsPerReplica: number;
  /**
   * The work that came, as time of one replica at its best: tokens over the rates that a replica was measured to have. Null
   * while no replica was measured: requests at work and in line are counted instead.
   */
  readonly workMs: Ms | null;
  /** The same measure of what is in line now. */
  readonly lineMs: Ms;
  /** Requests that got their first token since then, and those of them that got it too late. */
  readonly begun: number;
  readonly late: number;
}

/** The n-th replica of a pool: when it was last needed, and the pauses between two times. */
export interface Level {
  readonly neededMs: EpochMs;
  readonly pausesMs: readonly Ms[];
}

/** All that a pool's demand has shown so far, as far as decisions need it. Bounded. */
export interface DemandHistory {
  readonly atMs: EpochMs;
  /** Work in line if the pool had had so many replicas all the time; the first entry is for one. */
  readonly backlogsMs: readonly Ms[];
  readonly levels: readonly Level[];
  /** Work that came in a millisecond, smoothed over a short and a long time: their difference is the trend. */
  readonly shortRate: number;
  readonly longRate: number;
  /** How many replicas are needed now. */
  readonly needed: number;
  /** What a missing replica weighs, in start-ups: it grows while too many answers are late, and comes down slowly. */
  readonly lateWeight: number;
  /** Work is planned for as if so many times as much came: follows late answers like the weight, but slowly. */
  readonly headroom: number;
  readonly begun: number;
  readonly late: number;
}

export interface DemandRules {
  /** No more levels than the pool may have. */
  readonly replicasMax: number;
  /** Work that may wait on a replica without a first token coming too late. */
  readonly slackMs: Ms;
  /** What a start-up takes: a replica that is ordered now works so much later. */
  readonly startMs: Ms;
  /** Share of requests that may be late. */
  readonly lateShare: number;
}

/** What is planned for, as a multiple of the work that comes; chance comes on top of the mean. */
const HEADROOM = { least: 1, most: 1.6, up: 1.003, fadesHours: 6 };
/** What a missing replica weighs, in start-ups: at first, at least, at most. */
const LATE_WEIGHT = { first: 2, least: 0.5, most: 40 };
/** With each sample in which too many were late, and in so many hours without. */
const LATE_WEIGHT_UP = 1.02;
const LATE_WEIGHT_FADES_H = 1;
/** Both come down while there are fewer late answers than this share of what is allowed. */
const FADES_BELOW = 0.7;
/** Late answers are remembered for about a day. */
const LATE_MEMORY_H = 24;
const SHORT_MS: Ms = 120_000;
const LONG_MS: Ms = 600_000;
/** Nobody is to work all the time: answers would be late by chance. */
const RATE_MARGIN = 1.1;
/** A rate that fades away, and a little over a whole number, want no replica more. */
const RATE_LEAST = 0.05;
/** A burst is no trend. */
const GROWTH_MOST = 1.15;
/** Pauses of a level that are remembered. */
const PAUSES_MAX = 32;
/** A level that is needed again within so long was needed all the time. */
const PAUSE_LEAST_MS: Ms = 30_000;

export function newHistory(atMs: EpochMs): DemandHistory {
  return {
    atMs,
    backlogsMs: [],
    levels: [],
    shortRate: 0,
    longRate: 0,
    needed: 0,
    lateWeight: LATE_WEIGHT.first,
    headroom: HEADROOM.least,
    begun: 0,
    late: 0,
  };
}

/**
 * A history with one more sample. A bank of counters, one for each number of replicas, fills with the work that came and
 * empties as fast as that many replicas work: the least number whose line stays short enough is needed. It does not hang on
 * how many replicas there are, so a line that grows while machines start does not order more and more of them.
 */
export function foldDemand(history: DemandHistory, sample: DemandSample, rules: DemandRules): DemandHistory {
  const tookMs = Math.max(0, sample.atMs - history.atMs);
  const lateness = foldLateness(history, sample, rules, tookMs);
  const rates = foldRates(history, sample.workMs ?? 0, tookMs);
  const backlogsMs: Ms[] = [];
  let needed = sample.slots > 0 ? 1 : 0;
  if (sample.workMs === null) needed = Math.ceil(sample.slots / sample.slotsPerReplica);
  else {
    const planned = lateness.headroom * growth(rates, rules.startMs);
    const workMs = sample.workMs * planned;
    needed = Math.max(needed, Math.ceil(rates.shortRate * planned * RATE_MARGIN - RATE_LEAST));
    for (let count = 1; count < rules.replicasMax; count += 1) {
      const backlog = Math.max(0, (history.backlogsMs[count - 1] ?? 0) + workMs - count * tookMs);
      backlogsMs.push(backlog);
      if (backlog > count * rules.slackMs) needed = Math.max(needed, count + 1);
    }
    // What is in line by then has to be done besides what comes; within another start-up, or one more would be too late.
    if (sample.lineMs > 0) needed = Math.max(needed, Math.ceil(rates.shortRate + sample.lineMs / rules.startMs));
  }
  needed = Math.min(rules.replicasMax, needed);
  const levels = foldLevels(history.levels, needed, sample.atMs);
  return { atMs: sample.atMs, backlogsMs, levels, needed, ...rates, ...lateness };
}

type Rates = Pick<DemandHistory, 'shortRate' | 'longRate'>;

function foldRates({ shortRate, longRate }: DemandHistory, workMs: Ms, tookMs: Ms): Rates {
  if (tookMs <= 0) return { shortRate, longRate };
  const rate = workMs / tookMs;
  const follow = (before: number, overMs: Ms): number => before + (rate - before) * (1 - Math.exp(-tookMs / overMs));
  return { shortRate: follow(shortRate, SHORT_MS), longRate: follow(longRate, LONG_MS) };
}

/** By how much the work will have grown when a replica that is ordered now works, if it goes on growing as it does. */
function growth({ shortRate, longRate }: Rates, startMs: Ms): number {
  if (shortRate <= longRate) return 1;
  const perMs = (shortRate - longRate) / (LONG_MS - SHORT_MS);
  return Math.min(GROWTH_MOST, 1 + (perMs * startMs) / shortRate);
}

function foldLateness(
  history: DemandHistory,
  sample: DemandSample,
  rules: DemandRules,
  tookMs: Ms,
): Pick<DemandHistory, 'begun' | 'late' | 'lateWeight' | 'headroom'> {
  const tookHours = tookMs / 3_600_000;
  const keep = Math.exp(-tookHours / LATE_MEMORY_H);
  const begun = history.begun * keep + sample.begun;
  const late = history.late * keep + sample.late;
  let { lateWeight, headroom } = history;
  if (sample.late > 0 && late > rules.lateShare * begun) {
    lateWeight *= LATE_WEIGHT_UP;
    headroom *= HEADROOM.up;
  } else if (late < FADES_BELOW * rules.lateShare * begun) {
    lateWeight *= Math.exp(-tookHours / LATE_WEIGHT_FADES_H);
    headroom *= Math.exp(-tookHours / HEADROOM.fadesHours);
  }
  return {
    begun,
    late,
    lateWeight: Math.min(LATE_WEIGHT.most, Math.max(LATE_WEIGHT.least, lateWeight)),
    headroom: Math.min(HEADROOM.most, Math.max(HEADROOM.least, headroom)),
  };
}

function foldLevels(levels: readonly Level[], needed: number, atMs: EpochMs): readonly Level[] {
  if (needed === 0) return levels;
  const folded = [...levels];
  for (let at = 0; at < needed; at += 1) {
    const before = levels[at];
    const pauseMs = before ? atMs - before.neededMs : 0;
    const pausesMs = before?.pausesMs ?? [];
    folded[at] = {
      neededMs: atMs,
      pausesMs: pauseMs >= PAUSE_LEAST_MS ? [...pausesMs, pauseMs].slice(-PAUSES_MAX) : pausesMs,
    };
  }
  return folded;
}
