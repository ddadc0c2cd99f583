import type { Bid, MarketTerms } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import { formatUsd, type EpochMs, type Ms, type NanoUsd } from '../units.ts';
import { costPerHour } from './place.ts';
import type { ProviderScore } from './reputation.ts';

/** Pure: which of the bids is taken. */

export interface Offer {
  readonly market: MarketName;
  readonly terms: MarketTerms;
  readonly bid: Bid;
  readonly score: ProviderScore;
  /** Passed over until then. */
  readonly quarantinedUntilMs: EpochMs;
  /** Why it is taken only when nobody else bids; null, or left out: there is no reason. */
  readonly avoid?: string | null;
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

export interface Chosen {
  /** How many live replicas of this pool each provider has. */
  readonly perProvider: ReadonlyMap<string, number>;
  readonly nowMs: EpochMs;
  /** How long the machine is expected to stay. */
  readonly lifeMs: Ms;
  /** What a start-up of this pool takes, where nothing is known of a provider's own. */
  readonly startMs: Ms;
  /** The most that an hour may cost, where that is less than the operator's ceiling. */
  readonly mostNanoUsdPerHour?: NanoUsd | null;
}

const HOUR_MS = 3_600_000;
/** What a failed lease costs besides its start-up and that of the next: requests that waited or were moved, in rent. */
const FAILURE_COST_MS: Ms = HOUR_MS / 2;
/** A speed that was measured wrongly must not decide alone. */
const SPEED = { least: 0.1, most: 4 } as const;

/** Of an offer, in USD an hour: what each part adds, and the sum. */
export interface Worth {
  readonly price: number;
  /** Rent of the start-up, spread over the life. */
  readonly start: number;
  /** What is paid for work that a slow machine does not do. */
  readonly speed: number;
  readonly risk: number;
  readonly sum: number;
}

/**
 * The expected cost of an hour of work as it was promised: price x (L + start-up) / L / speed, and what its failures cost.
 * @param usualUsd what an hour costs here: a failure is no cheaper where the machine was
 */
export function worthOf({ bid, terms, score }: Offer, usualUsd: number, { lifeMs, startMs }: Chosen): Worth {
  const price = Number(costPerHour(bid.priceNanoUsdPerBlock, terms)) / 1e9;
  const ownStartMs = score.startMs ?? bid.startMs ?? startMs;
  const speed = Math.min(SPEED.most, Math.max(SPEED.least, score.speed));
  const start = (price * ownStartMs) / lifeMs;
  const slow = (price + start) / speed - (price + start);
  const failing = 1 - (1 - Math.min(1, score.failureChance)) ** Math.max(1, lifeMs / HOUR_MS);
  const risk = (failing * usualUsd * (ownStartMs + startMs + FAILURE_COST_MS)) / lifeMs;
  return { price, start, speed: slow, risk, sum: price + start + slow + risk };
}

interface Scored {
  readonly offer: Offer;
  readonly row: ScoredBid;
  readonly worth: Worth | null;
  readonly crowded: boolean;
}

/**
 * The best value among the bids. At most half of a pool's replicas (rounded up) go to one provider, and none to one that is to
 * be avoided, unless nobody else bids.
 */
export function chooseBid(offers: readonly Offer[], spec: PoolSpec, chosen: Chosen): Choice {
  const { perProvider } = chosen;
  const replicas = [...perProvider.values()].reduce((sum, count) => sum + count, 0) + 1;
  const share = Math.ceil(replicas / 2);
  const usualUsd = middle(offers.map(({ bid, terms }) => Number(costPerHour(bid.priceNanoUsdPerBlock, terms)) / 1e9));
  const scored = offers.map((offer): Scored => {
    const { bid, terms, market, score } = offer;
    const why = whyNot(offer, spec, chosen);
    const worth = why === null ? worthOf(offer, usualUsd, chosen) : null;
    const usdPerHour = formatUsd(costPerHour(bid.priceNanoUsdPerBlock, terms));
    const note =
      why ??
      [bid.note, score.reason, describe(offer, chosen), offer.avoid ?? ''].filter((text) => text !== '').join('; ');
    const row = { market, bidId: bid.id, provider: bid.provider, usdPerHour, score: worth?.sum ?? null, note };
    return { offer, row, worth, crowded: replicas > 1 && (perProvider.get(bid.provider) ?? 0) + 1 > share };
  });
  const table = scored.map(({ row }) => row).sort((a, b) => (a.score ?? Infinity) - (b.score ?? Infinity));
  const eligible = scored
    .filter(({ worth }) => worth !== null)
    .sort((a, b) => lastResort(a) - lastResort(b) || (a.row.score ?? 0) - (b.row.score ?? 0));
  const [best] = eligible;
  if (!best) return { offer: null, reason: 'no bid is eligible', table };
  return { offer: best.offer, reason: explain(best, eligible, table), table };
}

function lastResort({ offer, crowded }: Scored): number {
  return ((offer.avoid ?? null) === null ? 0 : 2) + Number(crowded);
}

function whyNot({ bid, terms, quarantinedUntilMs }: Offer, spec: PoolSpec, chosen: Chosen): string | null {
  const hourly = costPerHour(bid.priceNanoUsdPerBlock, terms);
  const { mostNanoUsdPerHour: most = null, nowMs } = chosen;
  if (hourly > spec.ceilingNanoUsdPerHour) return 'above the ceiling';
  if (most !== null && hourly > most) return 'not cheaper by enough';
  return quarantinedUntilMs > nowMs ? 'failed a moment ago' : null;
}

function describe({ bid, score }: Offer, { startMs }: Chosen): string {
  const seconds = Math.round((score.startMs ?? bid.startMs ?? startMs) / 1000);
  const speed = score.speed === 1 ? '' : `, ${Math.round(score.speed * 100)} % of the speed promised`;
  return `${seconds} s to start${speed}`;
}

/** In one line: who, at what price, before whom, and what decided it. */
function explain(best: Scored, eligible: readonly Scored[], table: readonly ScoredBid[]): string {
  const next = eligible[1];
  const { provider, usdPerHour, bidId } = best.row;
  const rival = next ? `, next ${next.row.provider} at ${next.row.usdPerHour}` : ', the only one';
  const cheaper = eligible.find(({ row }) => row.bidId === table[0]?.bidId && row.bidId !== bidId);
  const spread = last(best) ?? (cheaper ? `; ${passedOver(cheaper)}` : '');
  const decided = next && spread === '' ? decidedBy(best.worth, next.worth) : '';
  return `${provider} at ${usdPerHour} USD/h of ${eligible.length} eligible bids${rival}${decided}${spread}`;
}

function last({ offer, crowded }: Scored): string | null {
  if (offer.avoid) return `; ${offer.avoid}, but nobody else bid`;
  return crowded ? '; it has more than half of the replicas, but nobody else bid' : null;
}

function passedOver({ offer, row }: Scored): string {
  return offer.avoid ? `not ${row.provider}: ${offer.avoid}` : 'a cheaper provider has its half of the replicas';
}

const TERMS = [
  ['price', 'price'],
  ['start', 'start-up'],
  ['speed', 'speed'],
  ['risk', 'risk of failure'],
] as const;

/** The parts that make the difference, the one that weighs most first; those against it after "in spite of". */
function decidedBy(best: Worth | null, next: Worth | null): string {
  if (!best || !next || best.sum === next.sum) return '';
  const parts = TERMS.map(([key, name]) => ({ name, gain: next[key] - best[key] }));
  const share = 0.1 * Math.max(...parts.map(({ gain }) => Math.abs(gain)));
  const telling = parts
    .filter(({ gain }) => Math.abs(gain) >= share)
    .sort((a, b) => Math.abs(b.gain) - Math.abs(a.gain));
  const name = (part: { readonly name: string }): string => part.name;
  const against = telling.filter(({ gain }) => gain < 0).map(name);
  const inSpite = against.length === 0 ? '' : ` in spite of ${against.join(' and ')}`;
  const by = telling.filter(({ gain }) => gain > 0).map(name);
  return `: decided by ${by.join(' and ')}${inSpite}`;
}

function middle(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
}
