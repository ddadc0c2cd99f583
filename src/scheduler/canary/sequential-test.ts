/**
 * Pure: is what a replica answers further from its reference than honest ones ever are? Each canary gives a distance; a
 * distance above a threshold that few honest ones pass is a hit. Honest replicas hit with a chance of at most `hitShare`,
 * whatever came before, so the likelihood ratio of "hits more often" against that is a test supermartingale: by Ville's
 * inequality it ever reaches 1/alpha with a chance of at most alpha, however long and however often one looks. Several
 * rates of a cheat, and every canary as the one at which it began, are averaged, so that one who turns dishonest late is
 * found as well.
 */

export interface Calibration {
  /** Honest distances at most so large are no hit. */
  readonly threshold: number;
  /** Honest replicas pass it with at most this chance; itself wrong with a chance of at most half of alpha. */
  readonly hitShare: number;
  /** Distances that it was made from. */
  readonly count: number;
}

export interface Evidence {
  readonly canaries: number;
  readonly hits: number;
  /** By rate: the sum over the canaries at which the cheat may have begun. */
  readonly started: readonly number[];
  /** The e-value now, and the largest ever. */
  readonly eValue: number;
  readonly peak: number;
}

/** Chances of a hit by which cheats are looked for. */
const RATES = [0.3, 0.6, 0.9] as const;
/** No sum grows beyond it: what is reached long before is decided. */
const SUM_MAX = 1e12;
/** Above it nothing can be told apart. */
export const HIT_SHARE_MAX = 0.2;

export const NO_EVIDENCE: Evidence = { canaries: 0, hits: 0, started: RATES.map(() => 0), eValue: 1, peak: 1 };

/** What a replica must reach to be in breach: half of alpha is for the calibration's own error. */
export function breachAt(alpha: number): number {
  return 2 / alpha;
}

/** Null: these are too few to tell anything with this alpha. */
export function calibrate(distances: readonly number[], alpha: number): Calibration | null {
  const sorted = [...distances].sort((a, b) => b - a);
  const count = sorted.length;
  // One in a hundred may be above: a single outlier would leave no cheat to be seen.
  const above = Math.floor(count / 100);
  const threshold = sorted[above];
  if (threshold === undefined) return null;
  const hitShare = shareBound(count, above, alpha / 2);
  return hitShare > HIT_SHARE_MAX ? null : { threshold, hitShare, count };
}

/**
 * The largest chance at which `count` honest draws would leave at most `above` beyond the threshold with a chance of delta
 * (Clopper and Pearson's bound, for an order statistic chosen beforehand).
 */
export function shareBound(count: number, above: number, delta: number): number {
  let [low, high] = [0, 1];
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (binomialAtMost(count, above, middle) > delta) low = middle;
    else high = middle;
  }
  return high;
}

/** The chance of at most `most` hits in `count` draws. */
function binomialAtMost(count: number, most: number, share: number): number {
  if (share >= 1) return most >= count ? 1 : 0;
  let log = count * Math.log1p(-share);
  let sum = Math.exp(log);
  for (let hits = 1; hits <= most; hits += 1) {
    log += Math.log((count - hits + 1) / hits) + Math.log(share) - Math.log1p(-share);
    sum += Math.exp(log);
  }
  return Math.min(1, sum);
}

/** What is known after one more canary. */
export function weigh(evidence: Evidence, distance: number, { threshold, hitShare }: Calibration): Evidence {
  const hit = distance > threshold;
  const canaries = evidence.canaries + 1;
  // Weights 1/(k (k + 1)) of beginning at canary k sum to one; those that lie ahead are 1/(n + 1) of it.
  const weight = 1 / (canaries * (canaries + 1));
  const started = RATES.map((rate, at) => {
    const least = Math.max(rate, hitShare);
    const ratio = hit ? least / hitShare : (1 - least) / (1 - hitShare);
    return Math.min(SUM_MAX, ((evidence.started[at] ?? 0) + weight) * ratio);
  });
  const eValue = started.reduce((sum, one) => sum + one, 0) / RATES.length + 1 / (canaries + 1);
  return { canaries, hits: evidence.hits + (hit ? 1 : 0), started, eValue, peak: Math.max(evidence.peak, eValue) };
}

export function isBreach({ peak }: Evidence, alpha: number): boolean {
  return peak >= breachAt(alpha);
}
