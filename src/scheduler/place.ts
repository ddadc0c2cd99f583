import type { Bid, Lease, MarketTerms } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import {
  formatUsd,
  perBlockFromPerHour,
  perHourFromPerBlock,
  shareUp,
  type Blocks,
  type EpochMs,
  type Ms,
  type NanoUsd,
} from '../units.ts';
import type { ProviderScore } from './reputation.ts';

/** The highest bid per block with which, the market's take fee on top, a replica stays within the operator's ceiling. */
export function ceilingPerBlock(spec: PoolSpec, terms: MarketTerms): NanoUsd {
  const total = perBlockFromPerHour(spec.ceilingNanoUsdPerHour, terms.blockMs);
  let price = (total * 10_000n) / BigInt(10_000 + terms.takeFeeBp);
  while (price > 0n && price + shareUp(price, terms.takeFeeBp) > total) price -= 1n;
  return price;
}

/** What a replica costs in an hour at a bid, the take fee included. */
export function costPerHour(priceNanoUsdPerBlock: NanoUsd, terms: MarketTerms): NanoUsd {
  return perHourFromPerBlock(priceNanoUsdPerBlock + shareUp(priceNanoUsdPerBlock, terms.takeFeeBp), terms.blockMs);
}

/** Escrow for so much running time, fee included, in whole blocks and never below the market's least. */
export function depositFor(priceNanoUsdPerBlock: NanoUsd, runwayMs: Ms, terms: MarketTerms): NanoUsd {
  const blocks = BigInt(Math.max(1, Math.ceil(runwayMs / terms.blockMs)));
  const deposit = blocks * (priceNanoUsdPerBlock + shareUp(priceNanoUsdPerBlock, terms.takeFeeBp));
  return deposit > terms.depositMinNanoUsd ? deposit : terms.depositMinNanoUsd;
}

/** What has to go into an escrow whose runway fell below half; 0 when it reaches. Counts blocks not drawn yet. */
export function missingRunway(
  lease: Lease,
  runwayMs: Ms,
  { terms, block }: { readonly terms: MarketTerms; readonly block: Blocks },
): NanoUsd {
  const { priceNanoUsdPerBlock: price, depositNanoUsd, rentNanoUsd, takeFeeNanoUsd, refundNanoUsd } = lease;
  const each = price + shareUp(price, terms.takeFeeBp);
  if (depositNanoUsd === 0n || each === 0n) return 0n;
  const owed = each * BigInt(Math.max(0, block - lease.settledBlock));
  const left = depositNanoUsd - rentNanoUsd - takeFeeNanoUsd - refundNanoUsd - owed;
  const wanted = depositFor(price, runwayMs, terms);
  return left * 2n < wanted ? wanted - left : 0n;
}

/** An order that nobody bid for is given up after so long. */
export const NO_BID_MS = 30_000;

export interface Window {
  readonly orderedMs: EpochMs;
  readonly bids: readonly { readonly atMs: EpochMs }[];
  readonly nowMs: EpochMs;
  /** Every provider that was asked has answered. */
  readonly complete: boolean;
}

/** Whether bids have been gathered for long enough; when everybody has answered, there is nothing to wait for. */
export function bidWindow({ orderedMs, bids, nowMs, complete }: Window, spec: PoolSpec): 'wait' | 'choose' | 'give_up' {
  if (bids.length === 0) return complete || nowMs - orderedMs >= NO_BID_MS ? 'give_up' : 'wait';
  const firstMs = Math.min(...bids.map(({ atMs }) => atMs));
  return complete || nowMs - firstMs >= spec.bidWindowMs ? 'choose' : 'wait';
}

export interface Offer {
  readonly market: MarketName;
  readonly terms: MarketTerms;
  readonly bid: Bid;
  readonly score: ProviderScore;
  /** Passed over until then. */
  readonly quarantinedUntilMs: EpochMs;
}

export interface ScoredBid {
  readonly market: MarketName;
  readonly bidId: string;
  readonly provider: string;
  readonly usdPerHour: string;
  /** Expected cost of an hour: lower wins. Null: not eligible, `note` says why. */
  readonly score: number | null;
  readonly note: string;
}

export interface Choice {
  readonly offer: Offer | null;
  readonly reason: string;
  readonly table: readonly ScoredBid[];
}

/** A failed lease costs a start-up that was paid for and served nobody: counted as this share of an hour. */
const FAILURE_COST_HOURS = 0.5;

/**
 * The best value among the bids: the expected cost of an hour, that is the price with fees, plus what the provider's chance
 * of failure costs. At most half of a pool's replicas (rounded up) go to one provider, unless nobody else bids.
 * @param perProvider how many live replicas of this pool each provider has
 */
export function chooseBid(
  offers: readonly Offer[],
  spec: PoolSpec,
  perProvider: ReadonlyMap<string, number>,
  nowMs: EpochMs,
): Choice {
  const replicas = [...perProvider.values()].reduce((sum, count) => sum + count, 0) + 1;
  const share = Math.ceil(replicas / 2);
  const scored = offers.map((offer) => {
    const { bid, terms, market, quarantinedUntilMs } = offer;
    const hourly = costPerHour(bid.priceNanoUsdPerBlock, terms);
    const { failureChance, reason } = offer.score;
    const why =
      hourly > spec.ceilingNanoUsdPerHour
        ? 'above the ceiling'
        : quarantinedUntilMs > nowMs
          ? 'failed a moment ago'
          : null;
    const score = why === null ? (Number(hourly) / 1e9) * (1 + failureChance * FAILURE_COST_HOURS) : null;
    const note = why ?? `${bid.note}; ${reason}`;
    const row = { market, bidId: bid.id, provider: bid.provider, usdPerHour: formatUsd(hourly), score, note };
    return { offer, row, crowded: replicas > 1 && (perProvider.get(bid.provider) ?? 0) + 1 > share };
  });
  const table = scored.map(({ row }) => row).sort((a, b) => (a.score ?? Infinity) - (b.score ?? Infinity));
  const eligible = scored
    .filter(({ row }) => row.score !== null)
    .sort((a, b) => Number(a.crowded) - Number(b.crowded) || (a.row.score ?? 0) - (b.row.score ?? 0));
  const [best, next] = eligible;
  if (!best) return { offer: null, reason: 'no bid is eligible', table };
  const rival = next ? `, next ${next.row.provider} at ${next.row.usdPerHour}` : ', the only one';
  const spread = best.crowded
    ? '; it has more than half of the replicas, but nobody else bid'
    : table[0] && table[0].bidId !== best.row.bidId
      ? '; a cheaper provider has its half of the replicas'
      : '';
  const reason = `${best.row.provider} at ${best.row.usdPerHour} USD/h of ${eligible.length} eligible bids${rival}${spread}`;
  return { offer: best.offer, reason, table };
}
