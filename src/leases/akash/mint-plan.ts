import type { EpochMs, Ms } from '../../units.ts';
import { formatUsd, maxBig, minBig } from '../../units.ts';
import { nanoOf, type Micro } from './amounts.ts';
import type { MintTerms } from './chain-types.ts';

/** Pure: whether AKT is to become ACT now, and how much. */

export interface MintRules {
  /** Off: what is missing is told, and an operator mints by hand. */
  readonly on: boolean;
  /** Below so many hours of rent ACT is minted, up to the second number. */
  readonly hoursMin: number;
  readonly hoursMax: number;
  /** The rent of an hour is taken to be at least this, so that the first order finds something to pay with. */
  readonly leastPerHour: Micro;
  /** The stock that is minted for is never above this. */
  readonly stockMax: Micro;
  readonly spreadMaxBp: number;
  /** AKT that stays for fees. */
  readonly reserveUakt: bigint;
}

export interface MintNeed {
  /** ACT in the treasury's wallet; escrows are not counted. */
  readonly stock: Micro;
  readonly uakt: bigint;
  /** Rent of an hour of all leases. */
  readonly hourly: Micro;
  /** What today's limit still allows; null: no limit. */
  readonly allowance: Micro | null;
  readonly terms: MintTerms;
  /** Mints in a row that the network cancelled, and when the last one was. */
  readonly cancelled: number;
  readonly cancelledMs: EpochMs;
  readonly nowMs: EpochMs;
}

export type MintPlan =
  | { readonly kind: 'mint'; readonly worth: Micro; readonly burnUakt: bigint; readonly why: string }
  /** There is enough, or it is not time yet. */
  | { readonly kind: 'rest'; readonly why: string }
  /** It is wanted and cannot be done: `alarm` is what to call it. */
  | { readonly kind: 'blocked'; readonly alarm: string; readonly why: string };

const DEC_ONE = 10n ** 18n;
/** The price may fall between our look and the network's: a mint at the very least would be cancelled. */
const LEAST_MARGIN_BP = 200n;
const BACKOFF_MS: Ms = 60_000;
const BACKOFF_MAX_MS: Ms = 21_600_000;

export interface StockRange {
  readonly low: Micro;
  readonly high: Micro;
}

/** Between which amounts the stock is to be. */
export function stockRange(rules: MintRules, hourly: Micro): StockRange {
  const each = maxBig(hourly, rules.leastPerHour);
  const high = minBig(each * BigInt(rules.hoursMax), rules.stockMax);
  return { low: minBig(each * BigInt(rules.hoursMin), high), high };
}

export function planMint(rules: MintRules, need: MintNeed): MintPlan {
  const { stock, terms, nowMs } = need;
  const { low, high } = stockRange(rules, need.hourly);
  if (stock >= low) return { kind: 'rest', why: `${act(stock)} are enough: below ${act(low)} it is minted` };
  const blocked = (alarm: string, why: string): MintPlan => ({ kind: 'blocked', alarm, why });
  if (!rules.on) return blocked('treasury.low', `${act(stock)} are below ${act(low)}, and minting is off`);
  if (!terms.allowed) return blocked('mint.halted', `the network takes no mints now: ${terms.status}`);
  if (terms.price === null || terms.price <= 0n) {
    return blocked('mint.no_price', 'the network has no healthy price of AKT');
  }
  if (terms.spreadBp > rules.spreadMaxBp) {
    return blocked('mint.spread', `the mint spread of ${terms.spreadBp} bp is above the limit of ${rules.spreadMaxBp}`);
  }
  const waitMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** Math.min(20, need.cancelled - 1));
  if (need.cancelled > 0 && nowMs < need.cancelledMs + waitMs) {
    return { kind: 'rest', why: `the network cancelled the last ${need.cancelled}: the next try comes later` };
  }
  const least = (terms.least * (10_000n + LEAST_MARGIN_BP) + 9_999n) / 10_000n;
  const missing = high - stock;
  const whole = maxBig((missing * 10_000n + 9_999n) / BigInt(10_000 - terms.spreadBp), least);
  const { price } = terms;
  const spare = need.uakt - rules.reserveUakt;
  const affordable = spare > 0n ? (spare * price) / DEC_ONE : 0n;
  const worth = minBig(minBig(whole, affordable), need.allowance ?? whole);
  if (worth < least || worth === 0n) {
    if (need.allowance !== null && need.allowance < least) {
      return blocked('mint.limit', `today's limit leaves ${act(need.allowance)}, a mint is at least ${act(least)}`);
    }
    const short = `${akt(need.uakt)} are too few: ${akt(rules.reserveUakt)} stay for fees, a mint is at least ${act(least)}`;
    return blocked('treasury.akt_short', short);
  }
  const burnUakt = minBig((worth * DEC_ONE + price - 1n) / price, spare);
  return { kind: 'mint', worth, burnUakt, why: `${act(stock)} are below ${act(low)}` };
}

const act = (amount: Micro): string => `${formatUsd(nanoOf(amount))} ACT`;
const akt = (amount: bigint): string => `${formatUsd(amount * 1000n)} AKT`;
