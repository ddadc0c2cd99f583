import type { Clock } from '../clock.ts';
import { describeError } from '../errors.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import { counted, formatUsd, type EpochMs, type Ms, type NanoUsd } from '../units.ts';
import { adviseOn, capacityOf, turnOf, type Advice, type Capacity } from './breakeven.ts';
import { orderNeeds } from './fitness.ts';
import type { Fleet } from './fleet.ts';
import type { Decide } from './parts.ts';
import { costPerHour } from './place.ts';
import type { Pool } from './pool/pools.ts';
import { asksOf } from './prices.ts';

const LOOK_MS: Ms = 60_000;
/** A pool whose replicas have just come has not had its day yet. */
const READY_LEAST_MS: Ms = 600_000;
const QUANTILE = 0.75;

export interface AdvisingOptions {
  readonly clock: Clock;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly decide: Decide;
  readonly log: (line: string) => void;
}

export interface PoolAdvice extends Advice {
  readonly spec: PoolSpec;
  readonly replicas: number;
  readonly capacity: Capacity;
}

/** Says what pools bring in and cost: when asked, and by itself when one begins to lose money. */
export class Advising {
  readonly #options: AdvisingOptions;
  readonly #fleet: Fleet;
  readonly #said = new Map<string, 'earns' | 'loses'>();
  #lookedMs: EpochMs = -Infinity;

  constructor(options: AdvisingOptions, fleet: Fleet) {
    this.#options = options;
    this.#fleet = fleet;
  }

  advice({ router }: Pool): PoolAdvice {
    const { spec, meter } = router;
    const nowMs = this.#options.clock.now();
    const ready = this.#ready(spec.id);
    const bids = this.#bids(spec, nowMs);
    const capacity = capacityOf(spec, this.#fleet.book.pool(spec.id).rates);
    const seenNanoUsdPerHour = bids[Math.max(0, Math.ceil(bids.length * QUANTILE) - 1)] ?? null;
    const paid = ready.map(({ costNanoUsdPerHour }) => costNanoUsdPerHour ?? spec.ceilingNanoUsdPerHour);
    const sum = paid.reduce((total, one) => total + one, 0n);
    const [costNanoUsdPerHour, costFrom]: [NanoUsd, string] =
      paid.length > 0
        ? [sum / BigInt(paid.length), `of ${paid.length} leased now`]
        : seenNanoUsdPerHour === null
          ? [spec.ceilingNanoUsdPerHour, "the operator's ceiling: no bid was seen"]
          : [seenNanoUsdPerHour, `three quarters of ${counted(bids.length, 'bid')} seen`];
    const load = { rate: meter.rate(nowMs), average: meter.average(nowMs) };
    const input = { spec, capacity, load, replicas: ready.length, costNanoUsdPerHour, costFrom, seenNanoUsdPerHour };
    return { ...adviseOn(input), spec, replicas: ready.length, capacity };
  }

  /** Once a minute: tells when a pool begins to lose money, and when it no longer does. */
  look(pools: readonly Pool[]): void {
    const nowMs = this.#options.clock.now();
    if (nowMs - this.#lookedMs < LOOK_MS) return;
    this.#lookedMs = nowMs;
    for (const id of this.#said.keys()) if (!pools.some(({ router }) => router.spec.id === id)) this.#said.delete(id);
    for (const pool of pools) {
      const { id } = pool.router.spec;
      const old = this.#ready(id).filter(({ readyMs }) => readyMs !== null && nowMs - readyMs >= READY_LEAST_MS);
      if (old.length === 0) continue;
      const advice = this.advice(pool);
      const turn = turnOf(this.#said.get(id) ?? null, advice);
      if (turn === null) continue;
      this.#said.set(id, turn);
      this.#tell(id, turn, advice);
    }
  }

  #tell(pool: string, turn: 'earns' | 'loses', { reason, costUsdPerHour, earnsUsdPerHour, utilisation }: Advice): void {
    const { decide, log } = this.#options;
    const kind = turn === 'loses' ? 'pool.loses_money' : 'pool.earns_again';
    const detail = {
      costs_usd_per_hour: costUsdPerHour.toFixed(6),
      earns_usd_per_hour: (earnsUsdPerHour.today ?? 0).toFixed(6),
      utilisation,
    };
    decide({ pool, kind, reason, detail }).catch((error: unknown) => log(`advice on ${pool}: ${describeError(error)}`));
  }

  /** Machines that are paid by the hour. */
  #ready(pool: string): ReturnType<Fleet['ofPool']> {
    return this.#fleet.ofPool(pool).filter(({ state, market }) => state === 'ready' && market !== 'api');
  }

  /** For an hour, the cheapest first. */
  #bids(spec: PoolSpec, nowMs: EpochMs): NanoUsd[] {
    const seen = this.#fleet.prices.of(spec.id, asksOf(spec, orderNeeds(spec, null)), nowMs);
    const costs = seen.flatMap(({ market, bids }) => {
      const terms = this.#options.markets.get(market)?.terms();
      if (!terms || market === 'api') return [];
      return bids.map(({ priceNanoUsdPerBlock }) => costPerHour(priceNanoUsdPerBlock, terms));
    });
    return costs.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  }
}

/** Small models on small machines earn thousandths of a cent: two digits of whatever it is. */
const perHour = (amount: number): string => {
  const digits = amount > 0 ? 1 - Math.floor(Math.log10(amount)) : 0;
  return amount.toFixed(Math.min(12, Math.max(4, digits)));
};
const orNull = (amount: number | null, format: (amount: number) => string): string | null =>
  amount === null ? null : format(amount);

/** As the admin API shows it. */
export function viewAdvice({ spec, capacity, replicas, ...advice }: PoolAdvice): Record<string, unknown> {
  const { usdPerMillion, usdPerMillionOutput, earnsUsdPerHour, price } = advice;
  const perMillion = (amount: number | null): string | null => orNull(amount, (value) => value.toFixed(4));
  const share = (value: number | null): number | null => value && Math.round(value * 1000) / 1000;
  return {
    model: spec.id,
    gpu:
      spec.hardware.gpus === 0
        ? null
        : `${spec.hardware.gpus} x ${spec.hardware.gpu.map(({ model }) => model).join(' or ')}`,
    replicas,
    tokens_per_second: {
      output: Math.round(capacity.outputTokensPerS * 10) / 10,
      input: capacity.inputTokensPerS && Math.round(capacity.inputTokensPerS * 10) / 10,
      source: capacity.source,
    },
    usd_per_hour: {
      costs: perHour(advice.costUsdPerHour),
      earns_full: perHour(earnsUsdPerHour.full),
      earns_today: orNull(earnsUsdPerHour.today, perHour),
    },
    usd_per_million_tokens: { full: perMillion(usdPerMillion.full), today: perMillion(usdPerMillion.today) },
    usd_per_million_output_tokens: {
      full: perMillion(usdPerMillionOutput.full),
      today: perMillion(usdPerMillionOutput.today),
    },
    utilisation: { today: share(advice.utilisation), break_even: share(advice.breakEvenUtilisation) },
    now: { ceiling_usd_per_hour: formatUsd(spec.ceilingNanoUsdPerHour) },
    recommended: {
      ceiling_usd_per_hour: orNull(advice.ceilingUsdPerHour, perHour),
      input_usd_per_million: price.input.toFixed(4),
      output_usd_per_million: price.output.toFixed(4),
    },
    verdict: advice.verdict,
    reason: advice.reason,
  };
}
