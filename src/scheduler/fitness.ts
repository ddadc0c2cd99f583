import { formatUsd, type EpochMs } from '../units.ts';
import type { PoolSpec } from '../spec.ts';
import { allNeeds, describeNeeds, NO_NEEDS, poolNeeds, shortfall, type Needs } from '../spec/trust.ts';
import { orderTrust } from '../spec/weights.ts';
import type { Offer, ScoredBid } from './choice.ts';
import { costPerHour } from './place.ts';

/** Pure: which bids may be taken at all. What is asked of trust, region and provider is no matter of price. */

/** What an order asks of the machine: all that its pool does, what the pool's secrets do, and what requests wait for. */
export function orderNeeds(spec: PoolSpec, asked: Needs | null | undefined): Needs {
  const own = { ...poolNeeds(spec), trust: orderTrust(spec) };
  return allNeeds(own, asked ?? NO_NEEDS);
}

export interface Sorted {
  readonly fit: readonly Offer[];
  /** The others, as the table of the choice shows them. */
  readonly unfit: readonly ScoredBid[];
  /** Why none may be taken, where none may. */
  readonly why: string | null;
}

export function sortOut(offers: readonly Offer[], needs: Needs): Sorted {
  const fit: Offer[] = [];
  const unfit: ScoredBid[] = [];
  for (const offer of offers) {
    const { bid, market, terms } = offer;
    const note = shortfall(bid, needs);
    if (note === null) {
      fit.push(offer);
      continue;
    }
    const usdPerHour = formatUsd(costPerHour(bid.priceNanoUsdPerBlock, terms));
    unfit.push({ market, bidId: bid.id, provider: bid.provider, usdPerHour, score: null, note });
  }
  const [first] = unfit;
  const none =
    fit.length === 0 && first ? `no bid meets ${describeNeeds(needs)}: ${first.provider} ${first.note}` : null;
  return { fit, unfit, why: none };
}

/** When the first of these bids came; null: none did. */
export function earliestBid(offers: readonly Offer[]): EpochMs | null {
  return offers.reduce<EpochMs | null>((least, { bid }) => Math.min(least ?? bid.atMs, bid.atMs), null);
}
