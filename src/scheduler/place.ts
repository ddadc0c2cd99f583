import type { Lease, MarketTerms } from '../leases/market.ts';
import { perBlockFromPerHour, perHourFromPerBlock, shareUp, type Blocks, type Ms, type NanoUsd } from '../units.ts';

/** Pure: what a bid costs, and what its escrow needs. */

/** The highest bid per block with which, the market's take fee on top, a replica costs no more than this in an hour. */
export function ceilingPerBlock(nanoUsdPerHour: NanoUsd, terms: MarketTerms): NanoUsd {
  const total = perBlockFromPerHour(nanoUsdPerHour, terms.blockMs);
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
  const left = depositNanoUsd - rentNanoUsd - takeFeeNanoUsd - refundNanoUsd - (lease.withheldNanoUsd ?? 0n) - owed;
  const wanted = depositFor(price, runwayMs, terms);
  return left * 2n < wanted ? wanted - left : 0n;
}
