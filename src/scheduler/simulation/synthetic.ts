import { loadOf, type Load, type LoadRow } from './load.ts';
import { drawExponential, drawNormal, type Seeded } from './seeded.ts';

/** Requests a second at a moment of a made-up load. */
export type RateAt = (atMs: number) => number;

export interface Shape {
  readonly spanMs: number;
  readonly rate: RateAt;
  /** No moment's rate is above this. */
  readonly mostPerS: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** Arrivals of a Poisson process with this rate (by thinning), token counts log-normal around these means. */
export function drawLoad({ spanMs, rate, mostPerS, inputTokens, outputTokens }: Shape, random: Seeded): Load {
  const rows: LoadRow[] = [];
  const draw = (mean: number): number => Math.max(1, Math.round(mean * Math.exp(0.8 * drawNormal(random) - 0.32)));
  for (let atMs = 0; ;) {
    atMs += drawExponential(random, 1000 / mostPerS);
    if (atMs >= spanMs) return loadOf(rows, spanMs);
    if (random() * mostPerS >= rate(atMs)) continue;
    rows.push({ atMs, inputTokens: Math.min(30_000, draw(inputTokens)), outputTokens: draw(outputTokens) });
  }
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export const steady =
  (perS: number): RateAt =>
  () =>
    perS;

/** A day between its least at 4 in the morning and its most at 16. */
export const daily =
  (leastPerS: number, mostPerS: number): RateAt =>
  (atMs) =>
    leastPerS + ((mostPerS - leastPerS) * (1 - Math.cos((2 * Math.PI * (atMs - 4 * HOUR_MS)) / DAY_MS))) / 2;

/** A base load, and bursts of so much more; when they come is drawn once. */
export function bursty(
  base: number,
  burst: { readonly perS: number; readonly lengthMs: number; readonly everyMs: number },
  spanMs: number,
  random: Seeded,
): RateAt {
  const starts: number[] = [];
  for (let atMs = 0; atMs < spanMs;) {
    atMs += burst.lengthMs + drawExponential(random, burst.everyMs - burst.lengthMs);
    starts.push(atMs);
  }
  let next = 0;
  return (atMs) => {
    while ((starts[next] ?? Infinity) + burst.lengthMs <= atMs) next += 1;
    return (starts[next] ?? Infinity) <= atMs ? burst.perS : base;
  };
}
