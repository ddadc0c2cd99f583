import type { MarketTerms } from '../../leases/market.ts';
import { parseUsd, perBlockFromPerHour, type Ms, type NanoUsd } from '../../units.ts';
import type { Offer } from '../choice.ts';
import { EMPTY_FLEET, scoreProvider } from '../reputation.ts';
import { newRecord, type TrackRecord } from '../track-record.ts';
import { drawBetween, type Seeded } from './seeded.ts';
import { startMs, type ServedModel } from './speeds.ts';

/** A provider of the simulated market: posted prices, as on Akash. */
export interface SimulatedProvider {
  readonly id: string;
  readonly gpu: string;
  /** Replicas it can carry at once. */
  readonly units: number;
  readonly usdPerHour: string;
  /** Until its bid is there, at most. */
  readonly bidMs: Ms;
  /** At which it loads images and weights. */
  readonly bytesPerS: number;
}

/** What goes wrong, and when. */
export type Trouble =
  /** The oldest ready replica dies. */
  | { readonly kind: 'replica_dies'; readonly atMs: number }
  /** All of a provider's machines die, and it bids no more. */
  | { readonly kind: 'provider_dies'; readonly atMs: number; readonly provider: string }
  /** A provider's machines accept requests and answer none. */
  | { readonly kind: 'provider_dark'; readonly atMs: number; readonly provider: string }
  | { readonly kind: 'no_bids'; readonly atMs: number; readonly untilMs: number }
  | { readonly kind: 'prices_double'; readonly atMs: number };

/** Akash's: a block every 6 s, no fees since March 2026. */
const TERMS: MarketTerms = {
  blockMs: 6000,
  takeFeeBp: 0,
  makeFeeBp: 0,
  depositMinNanoUsd: 500_000_000n,
  settlement: 'uact',
  endsWithProcess: false,
};

/** Who is there, what goes wrong, and the market's rules: Akash's, if no others are said. */
export interface MarketSetting {
  readonly providers: readonly SimulatedProvider[];
  readonly troubles: readonly Trouble[];
  readonly terms?: MarketTerms;
}

interface Counts {
  used: number;
  leases: number;
  failures: number;
  gone: boolean;
}

/** A start-up takes this share of its arithmetic, at least and at most. */
export const START_SHARE_LEAST = 0.85;
const START_SHARE_MOST = 1.25;

/** Who bids for an order, when, and at what price. */
export class SimulatedMarket {
  readonly providers: readonly SimulatedProvider[];
  readonly terms: MarketTerms;
  readonly #random: Seeded;
  readonly #troubles: readonly Trouble[];
  readonly #counts = new Map<string, Counts>();

  constructor({ providers, troubles, terms = TERMS }: MarketSetting, random: Seeded) {
    this.providers = providers;
    this.terms = terms;
    this.#troubles = troubles;
    this.#random = random;
    for (const { id } of providers) this.#counts.set(id, { used: 0, leases: 0, failures: 0, gone: false });
  }

  provider(id: string): SimulatedProvider {
    const provider = this.providers.find((one) => one.id === id);
    if (!provider) throw new RangeError(`no provider ${id}`);
    return provider;
  }

  /** After how long each provider would bid for an order of this moment: those that have room then. */
  tender(nowMs: number): { readonly provider: string; readonly afterMs: Ms }[] {
    const answers = this.providers.map(({ id, bidMs }) => ({
      provider: id,
      // An order is seen in the block after it was sent.
      afterMs: this.terms.blockMs + drawBetween(this.#random, 0.3, 1) * bidMs,
    }));
    return answers.filter(({ provider, afterMs }) => this.#bids(provider, nowMs + afterMs));
  }

  offer(orderId: string, providerId: string, nowMs: number): Offer | null {
    if (!this.#bids(providerId, nowMs)) return null;
    const { leases, failures } = this.#count(providerId);
    const bid = {
      id: `${orderId}/${providerId}`,
      orderId,
      provider: providerId,
      priceNanoUsdPerBlock: perBlockFromPerHour(this.priceNanoUsdPerHour(providerId, nowMs), this.terms.blockMs),
      atMs: nowMs,
      block: Math.floor(nowMs / this.terms.blockMs),
      note: '',
      startMs: null,
    };
    const record = recordOf(leases, failures);
    const score = scoreProvider({ record, fleet: EMPTY_FLEET, pool: null, poolStartMs: null, nowMs: 0 });
    return { market: 'akash', terms: this.terms, bid, score, quarantinedUntilMs: 0 };
  }

  priceNanoUsdPerHour(providerId: string, nowMs: number): NanoUsd {
    const price = parseUsd(this.provider(providerId).usdPerHour);
    const doubled = this.#troubles.some(({ kind, atMs }) => kind === 'prices_double' && atMs <= nowMs);
    return doubled ? price * 2n : price;
  }

  take(providerId: string): void {
    const counts = this.#count(providerId);
    counts.used += 1;
    counts.leases += 1;
  }

  giveBack(providerId: string, failed: boolean): void {
    const counts = this.#count(providerId);
    counts.used -= 1;
    if (failed) counts.failures += 1;
  }

  gone(providerId: string): void {
    this.#count(providerId).gone = true;
  }

  /** From the lease to the first answer. */
  drawStartMs(providerId: string, model: ServedModel): Ms {
    return (
      startMs(model, this.provider(providerId).bytesPerS) *
      drawBetween(this.#random, START_SHARE_LEAST, START_SHARE_MOST)
    );
  }

  #bids(providerId: string, nowMs: number): boolean {
    const { used, gone } = this.#count(providerId);
    if (gone || used >= this.provider(providerId).units) return false;
    return !this.#troubles.some((one) => one.kind === 'no_bids' && one.atMs <= nowMs && nowMs < one.untilMs);
  }

  #count(providerId: string): Counts {
    const counts = this.#counts.get(providerId);
    if (!counts) throw new RangeError(`no provider ${providerId}`);
    return counts;
  }
}

/** What was known of a provider before the run. */
function recordOf(leases: number, failures: number): TrackRecord {
  const count = (many: number): TrackRecord['started'] => ({ count: many, weight: many });
  const record = { ...newRecord('akash', '', 0), won: leases, started: count(leases - failures) };
  return { ...record, failures: { delivery_failed: count(failures) } };
}
