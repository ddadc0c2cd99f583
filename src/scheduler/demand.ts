import type { EpochMs, Ms } from '../units.ts';
import { fewerLate, foldLateness, newLateness, type Lateness, type LatenessRules } from './lateness.ts';
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
  /** The requests whose work that is, and of it the reading of prompts; none is known of when they are left out. */
  readonly arrived?: number;
  readonly promptMs?: Ms;
  /** Replicas that are ready. */
  readonly ready?: number;
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
  /** How many answers each number of replicas would have had too late. */
  readonly lateness: Lateness;
  readonly levels: readonly Level[];
  /** Work that came in a millisecond, smoothed over two and ten minutes, whose difference is the trend, and over less. */
  readonly shortRate: number;
  readonly longRate: number;
  readonly quickRate: number;
  /** How many replicas are needed now. */
  readonly needed: number;
  /**
   * What one answer fewer late is worth: as many replicas as this, for the hour's allowance of late ones. Grows while more
   * are late than may be, and shrinks while fewer are.
   */
  readonly worth: number;
  /** Requests that came in an hour, over about a day. */
  readonly perHour: number;
  /** When fewer were ready than the work keeps busy: what is late then, and soon after, explains itself. */
  readonly shortMs: EpochMs;
  readonly begun: number;
}

export interface DemandRules extends LatenessRules {
  /** Share of requests that may be late. */
  readonly lateShare: number;
}

/** At first, at least, at most. */
const WORTH = { first: 0.4, least: 0.05, most: 5 };
/** So many hours with twice as many late as may be raise the worth e-fold. */
const WORTH_HOURS = 12;
/** Requests are counted over about a day, and not before two minutes, as late ones are. */
const COUNT_HOURS = 24;
const COUNT_LEAST_HOURS = 1 / 30;
const HOUR_MS: Ms = 3_600_000;
const MINUTE_MS: Ms = 60_000;
const QUICK_MS: Ms = 45_000;
const SHORT_MS: Ms = 120_000;
const LONG_MS: Ms = 600_000;
/** A burst is no trend. */
const GROWTH_MOST = 1.15;
/** A little over a whole number wants no replica more: what is late for want of it are a few in a hundred of few. */
const RATE_LEAST = 0.05;
/** What comes in seconds is more by chance than that. */
const QUICK_LEAST = 0.2;
/** From this share of what may wait without being late, a line grows; and what there is of it is done within so long. */
const LINE_SHARE = 0.5;
const LINE_DONE_MS: Ms = 240_000;
/** A line that grew while replicas were missing is done with after so long. */
const SHORT_WAIT_MS: Ms = 300_000;
/** Pauses of a level that are remembered. */
const PAUSES_MAX = 32;
/** A level that is needed again within so long was needed all the time. */
const PAUSE_LEAST_MS: Ms = 30_000;

export function newHistory(atMs: EpochMs): DemandHistory {
  return {
    atMs,
    lateness: newLateness(atMs),
    levels: [],
    shortRate: 0,
    longRate: 0,
    quickRate: 0,
    needed: 0,
    worth: WORTH.first,
    perHour: 0,
    shortMs: atMs - SHORT_WAIT_MS,
    begun: 0,
  };
}

/** A history with one more sample. */
export function foldDemand(history: DemandHistory, sample: DemandSample, rules: DemandRules): DemandHistory {
  const { atMs } = sample;
  const tookMs = Math.max(0, atMs - history.atMs);
  const rates = foldRates(history, sample.workMs ?? 0, tookMs);
  const seenMs = Math.max(MINUTE_MS, atMs - history.lateness.sinceMs);
  const trend = {
    shortRate: rates.shortRate / (1 - Math.exp(-seenMs / SHORT_MS)),
    longRate: rates.longRate / (1 - Math.exp(-seenMs / LONG_MS)),
    quickRate: Math.max(rates.shortRate, rates.quickRate),
  };
  const { arrived: requests = sample.begun, workMs, promptMs = 0 } = sample;
  const { ready = history.needed, late } = sample;
  const shortMs = ready < busyReplicas(sample, trend, rules) ? atMs : history.shortMs;
  const seen = workMs === null || atMs - shortMs < SHORT_WAIT_MS ? null : { ready, late };
  const came = { tookMs, requests, workMs: workMs ?? 0, promptMs, busy: trend.longRate, seen };
  const lateness = foldLateness(history.lateness, came, rules, atMs);
  const grown = { ...history, ...rates, ...foldWorth(history, sample, rules), lateness, atMs, shortMs };
  const needed = Math.min(rules.replicasMax, neededNow(grown, sample, { rules, trend }));
  return { ...grown, needed, levels: foldLevels(history.levels, needed, atMs) };
}

interface Looks {
  readonly rules: DemandRules;
  readonly trend: Rates;
}

function busyReplicas({ slots }: DemandSample, trend: Rates, { startMs }: DemandRules): number {
  const coming = trend.shortRate * growth(trend, startMs);
  return Math.max(slots > 0 ? 1 : 0, Math.ceil(coming - RATE_LEAST));
}

/** As many as the work keeps busy, those that a line wants, and each one more that saves late answers enough to be worth it. */
function neededNow(history: DemandHistory, sample: DemandSample, { rules, trend }: Looks): number {
  const { atMs, slots, slotsPerReplica, workMs } = sample;
  if (workMs === null) return Math.ceil(slots / slotsPerReplica);
  const busy = busyReplicas(sample, trend, rules);
  const needed = busy + surge(busy, sample, { rules, trend });
  const worth = history.worth / Math.max(1, rules.lateShare * history.perHour);
  for (let count = rules.replicasMax - 1; count >= Math.max(1, needed); count -= 1) {
    if (fewerLate(history.lateness, count, rules, atMs) * worth > 1) return count + 1;
  }
  return needed;
}

/**
 * Replicas besides, for a line that grows, as after a provider's death: as many as what comes now keeps busy, which says more
 * than the mean of minutes, and as many as have the line done soon after they work. Those who are late already hold nobody
 * up, so a line is no reason for haste; but nobody is to be left in it. A burst ends by itself, so whether a line would be
 * done is judged by what came for longer. At most as many as are missing: the more they are, the less each one helps.
 */
function surge(
  busy: number,
  { lineMs, ready = busy }: DemandSample,
  { rules, trend: { quickRate, longRate } }: Looks,
): number {
  if (lineMs <= 0) return 0;
  const grows = lineMs > LINE_SHARE * ready * rules.slackMs;
  const least = grows ? Math.max(0, Math.ceil(quickRate - QUICK_LEAST) - busy) : 0;
  const missing = quickRate - ready;
  const lineThenMs = lineMs + missing * rules.startMs - busy * rules.slackMs;
  if (lineThenMs <= 0) return least;
  const most = Math.max(1, Math.ceil(missing));
  let more = 0;
  while (more < most && lineThenMs > (busy + more - longRate) * LINE_DONE_MS) more += 1;
  return Math.max(least, more);
}

type Rates = Pick<DemandHistory, 'shortRate' | 'longRate' | 'quickRate'>;

function foldRates({ shortRate, longRate, quickRate }: DemandHistory, workMs: Ms, tookMs: Ms): Rates {
  if (tookMs <= 0) return { shortRate, longRate, quickRate };
  const rate = workMs / tookMs;
  const follow = (before: number, overMs: Ms): number => before + (rate - before) * (1 - Math.exp(-tookMs / overMs));
  return {
    shortRate: follow(shortRate, SHORT_MS),
    longRate: follow(longRate, LONG_MS),
    quickRate: follow(quickRate, QUICK_MS),
  };
}

/**
 * By how much the work will have grown when a replica that is ordered now works, if it goes on growing as it does; what is
 * smoothed lags behind.
 */
function growth({ shortRate, longRate }: Rates, startMs: Ms): number {
  if (shortRate <= longRate) return 1;
  const perMs = (shortRate - longRate) / (LONG_MS - SHORT_MS);
  return Math.min(GROWTH_MOST, 1 + (perMs * (SHORT_MS + startMs)) / shortRate);
}

/** The price of a late answer: it rises while more are late than may be. */
function foldWorth(
  history: DemandHistory,
  { atMs, begun: came, late }: DemandSample,
  { lateShare }: DemandRules,
): Pick<DemandHistory, 'begun' | 'worth' | 'perHour'> {
  const hours = Math.max(0, atMs - history.atMs) / HOUR_MS;
  const seenHours = Math.max(COUNT_LEAST_HOURS, (atMs - history.lateness.sinceMs) / HOUR_MS);
  const begun = history.begun * Math.exp(-hours / COUNT_HOURS) + came;
  const perHour = begun / (COUNT_HOURS * (1 - Math.exp(-seenHours / COUNT_HOURS)));
  const step = (late - lateShare * came) / Math.max(1, lateShare * perHour * WORTH_HOURS);
  const worth = Math.min(WORTH.most, Math.max(WORTH.least, history.worth * Math.exp(step)));
  return { begun, worth, perHour };
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
