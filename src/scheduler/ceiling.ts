import type { MarketName } from '../spec.ts';
import { counted, maxBig, minBig, type EpochMs, type Ms, type NanoUsd } from '../units.ts';

/**
 * Pure: up to which price an order asks for bids. The operator's cap is the most in any case; below it the ceiling starts a
 * little above what was bid lately for the same, since whoever reads it may bid it, and rises in steps while nobody bids.
 */

/** What one order showed of a market's prices. All prices are per block of that market, without its fees. */
export interface PriceSeen {
  readonly order: string;
  readonly pool: string;
  /** What was asked of the machine: prices of other machines say nothing. */
  readonly asks: string;
  readonly market: MarketName;
  readonly closedMs: EpochMs;
  readonly ceilingNanoUsdPerBlock: NanoUsd;
  /** By whom, and when the order was placed. */
  readonly bids: readonly { readonly provider: string; readonly priceNanoUsdPerBlock: NanoUsd }[];
  /** Whether it stood for long enough, so that no bid means that nobody wanted to at this price. */
  readonly answered: boolean;
}

export interface Ceiling {
  readonly nanoUsdPerBlock: NanoUsd;
  /** How often it was raised because nobody bid. */
  readonly step: number;
  /** Why it starts where it does. */
  readonly from: string;
}

/** Prices older than this are another market's. */
export const SEEN_MS: Ms = 14 * 86_400_000;
/** So long it is remembered that nobody bid: afterwards it is tried again from the start. */
const STEP_MEMORY_MS: Ms = 3_600_000;
/** So long what an order took counts, however cheap the others were. */
const LAST_BID_MS: Ms = 86_400_000;
const QUANTILE = 0.75;
const ABOVE_PERCENT = 110n;
/** A quarter, with what the grid adds: two of its steps. */
const STEP_PERCENT = 124n;

/** Whoever is the operator's own, or has its prices posted, learns nothing from a ceiling. */
const POSTED: ReadonlySet<MarketName> = new Set(['owned', 'api']);

/**
 * The ceiling of an order's next try in one market.
 * @param cap per block: the operator's, which binds
 * @param seen of that pool, hardware and market, in any order
 */
export function ceilingOf(
  market: MarketName,
  cap: NanoUsd,
  { seen, nowMs }: { readonly seen: readonly PriceSeen[]; readonly nowMs: EpochMs },
): Ceiling {
  if (POSTED.has(market)) return { nanoUsdPerBlock: cap, step: 0, from: "the operator's cap: its prices are posted" };
  const recent = seen.filter(({ closedMs }) => closedMs > nowMs - SEEN_MS);
  const base = startOf(recent, cap, nowMs);
  const lastBidMs = Math.max(0, ...recent.filter(({ bids }) => bids.length > 0).map(({ closedMs }) => closedMs));
  const sinceMs = Math.max(lastBidMs, nowMs - STEP_MEMORY_MS);
  const refused = recent
    .filter(({ closedMs, bids, answered }) => closedMs > sinceMs && answered && bids.length === 0)
    .map(({ ceilingNanoUsdPerBlock }) => ceilingNanoUsdPerBlock);
  const step = new Set(refused).size;
  const highest = refused.reduce((most, one) => (one > most ? one : most), 0n);
  if (highest === 0n) return { ...base, step };
  const raised = nextStep(highest, cap);
  return { ...base, step, nanoUsdPerBlock: raised > base.nanoUsdPerBlock ? raised : base.nanoUsdPerBlock };
}

/** The ceiling after one at which nobody bid. */
export function nextStep(ceiling: NanoUsd, cap: NanoUsd): NanoUsd {
  return minBig(cap, roundUp(maxBig(ceiling + 1n, (ceiling * STEP_PERCENT) / 100n)));
}

function startOf(seen: readonly PriceSeen[], cap: NanoUsd, nowMs: EpochMs): Ceiling {
  const prices = seen.flatMap(({ bids }) => bids.map(({ priceNanoUsdPerBlock }) => priceNanoUsdPerBlock)).sort(compare);
  const quantile = prices[Math.max(0, Math.ceil(prices.length * QUANTILE) - 1)];
  if (quantile === undefined) return { nanoUsdPerBlock: cap, step: 0, from: "the operator's cap: no bid was seen yet" };
  const [last] = seen.filter(({ bids }) => bids.length > 0).sort((a, b) => b.closedMs - a.closedMs);
  // Of a market that has become dearer most bids are old: what was to be had at the last time is.
  const had =
    last && last.closedMs > nowMs - LAST_BID_MS
      ? last.bids.map(({ priceNanoUsdPerBlock }) => priceNanoUsdPerBlock).sort(compare)[0]
      : undefined;
  const dearer = had !== undefined && had > quantile;
  const above = ((dearer ? had : quantile) * ABOVE_PERCENT) / 100n;
  const from = dearer ? 'the least that was bid last' : `three quarters of ${counted(prices.length, 'bid')} seen`;
  return { nanoUsdPerBlock: minBig(cap, roundUp(above)), step: 0, from };
}

/** Twenty steps to the next power of ten: whoever sees a ceiling learns little of the price behind it. */
const GRID = [100, 112, 125, 140, 160, 180, 200, 224, 250, 280, 315, 355, 400, 450, 500, 560, 630, 710, 800, 900];

/** Up to the next step of the grid. */
export function roundUp(price: NanoUsd): NanoUsd {
  const digits = price.toString().length;
  if (digits < 3) return price;
  const unit = 10n ** BigInt(digits - 3);
  for (const step of GRID) if (BigInt(step) * unit >= price) return BigInt(step) * unit;
  return 1000n * unit;
}

function compare(a: NanoUsd, b: NanoUsd): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
