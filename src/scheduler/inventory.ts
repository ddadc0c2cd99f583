import { describeError } from '../errors.ts';
import type { Market, ProviderView } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import { reaches } from '../spec/trust.ts';
import type { EpochMs, Ms } from '../units.ts';
import { orderNeeds } from './fitness.ts';
import type { Fleet } from './fleet.ts';
import type { Candidate } from './moving.ts';
import { costPerHour } from './place.ts';
import { asksOf } from './prices.ts';

/** Published prices are read so often. */
const READ_MS: Ms = 30_000;
/** So long a bid is taken for what its provider would bid again. */
const BID_MS: Ms = 7_200_000;

/** What machines are to be had for, from what their markets publish and from the bids for our own orders. */
export class Inventory {
  readonly #markets: ReadonlyMap<MarketName, Market>;
  readonly #fleet: Fleet;
  readonly #log: (line: string) => void;
  readonly #views = new Map<MarketName, readonly ProviderView[]>();
  #readAtMs: EpochMs = -Infinity;
  #reading = false;

  constructor(markets: ReadonlyMap<MarketName, Market>, fleet: Fleet, log: (line: string) => void) {
    this.#markets = markets;
    this.#fleet = fleet;
    this.#log = log;
  }

  /** Reads them again when it is time; nobody waits for it. */
  refresh(nowMs: EpochMs): void {
    if (this.#reading || nowMs - this.#readAtMs < READ_MS) return;
    this.#readAtMs = nowMs;
    this.#reading = true;
    void this.#read().finally(() => (this.#reading = false));
  }

  async #read(): Promise<void> {
    for (const [name, market] of this.#markets) {
      try {
        this.#views.set(name, await market.providers());
      } catch (error) {
        this.#views.delete(name);
        this.#log(`providers of the market ${name}: ${describeError(error)}`);
      }
    }
  }

  /** Who may take over a replica of this pool, as far as is known. */
  candidates(spec: PoolSpec, nowMs: EpochMs): Candidate[] {
    const found: Candidate[] = [];
    for (const [name, views] of this.#views) {
      if (!(spec.markets?.includes(name) ?? true)) continue;
      for (const view of views) {
        const one = this.#published(view, spec);
        if (one) found.push(one);
      }
    }
    found.push(...this.#recent(spec, nowMs).filter((bid) => !found.some(({ provider }) => provider === bid.provider)));
    return found.filter((one) => (this.#fleet.book.quarantine(one)?.untilMs ?? 0) <= nowMs);
  }

  #published(view: ProviderView, spec: PoolSpec): Candidate | null {
    const terms = this.#markets.get(view.market)?.terms();
    const { asksNanoUsdPerBlock: price = null, used, capacity } = view;
    if (!terms || price === null || used >= capacity || !fits(view, spec)) return null;
    const { market, id: provider } = view;
    const score = this.#fleet.book.score({ market, provider }, spec.id);
    const { failureChance } = score;
    // A server of the operator's own runs already.
    const startMs = market === 'owned' ? 0 : score.startMs;
    const costNanoUsdPerHour = costPerHour(price, terms);
    return { market, provider, costNanoUsdPerHour, failureChance, startMs, source: 'published' };
  }

  /** The newest bid of each provider; what is published is known better. */
  #recent(spec: PoolSpec, nowMs: EpochMs): Candidate[] {
    const newest = new Map<string, Candidate>();
    for (const { market, closedMs, bids } of this.#fleet.prices.of(
      spec.id,
      asksOf(spec, orderNeeds(spec, null)),
      nowMs,
    )) {
      const terms = this.#markets.get(market)?.terms();
      // Those who run already publish their prices; what is paid by the token has none for an hour.
      if (!terms || market === 'owned' || market === 'api' || closedMs <= nowMs - BID_MS) continue;
      for (const { provider, priceNanoUsdPerBlock } of bids) {
        const view = this.#views.get(market)?.find(({ id }) => id === provider);
        if (market !== 'akash' && (!view || view.used >= view.capacity)) continue;
        const { failureChance, startMs } = this.#fleet.book.score({ market, provider }, spec.id);
        const costNanoUsdPerHour = costPerHour(priceNanoUsdPerBlock, terms);
        newest.set(provider, { market, provider, costNanoUsdPerHour, failureChance, startMs, source: 'bid' });
      }
    }
    return [...newest.values()];
  }
}

/** As far as its market says what it has. Whether it really fits, its bid shows. */
function fits({ hardware: has, audited, pool, region = null }: ProviderView, spec: PoolSpec): boolean {
  if (pool !== undefined) return pool === spec.id;
  const { hardware, trust } = spec;
  const gpus = has.gpus.filter((model) => hardware.gpu.length === 0 || hardware.gpu.some((gpu) => gpu.model === model));
  if (reaches(trust, 'audited') && !audited) return false;
  if (spec.region !== null && spec.region !== region) return false;
  return has.cpu >= hardware.cpu && has.memoryBytes >= hardware.memoryBytes && gpus.length >= hardware.gpus;
}
