import { describeError } from '../errors.ts';
import type { Market, OrderView, Workload } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import type { Needs } from '../spec/trust.ts';
import { versionOf } from '../spec/version.ts';
import { formatUsd, minBig, type Ms, type NanoUsd } from '../units.ts';
import { whyAvoid } from './avoid.ts';
import { ceilingOf } from './ceiling.ts';
import type { Offer } from './choice.ts';
import { orderPrefix } from './epoch.ts';
import { orderNeeds } from './fitness.ts';
import type { Parts } from './parts.ts';
import { ceilingPerBlock, costPerHour } from './place.ts';
import type { Pool } from './pool/pools.ts';
import type { PoolRouter } from './pool/router.ts';
import { asksOf } from './prices.ts';
import type { Beside, OrderRecord, ReplicaRecord, RunsAs } from './records.ts';
import { expectedTokens } from './reserve.ts';
import { describeCause, type Cause } from './wake.ts';
import { payerOf } from './waking.ts';

/** What came of an order so far. */
export interface Seen {
  readonly offers: readonly Offer[];
  readonly declined: OrderRecord['declined'];
  /** Every provider that will answer has answered. */
  readonly complete: boolean;
  /** Of the slowest market that may still bring a bid. */
  readonly blockMs: Ms;
}

/** Who may bid: everybody, only those who are paid by the token, or all but those. */
export type Who = 'all' | 'reserve' | 'machines';

export interface OrderOptions {
  readonly who?: Who;
  readonly beside?: Beside | undefined;
  /** The most that an hour may cost, where that is less than the pool's ceiling. */
  readonly mostNanoUsdPerHour?: NanoUsd | undefined;
  /** Of an order that wakes the pool. */
  readonly cause?: Cause | undefined;
  /** Figures behind the reason. */
  readonly detail?: Readonly<Record<string, unknown>> | undefined;
}

type Asked = OrderRecord['markets'][number];

/** An order before it is won: its rows, its ceilings, the bids for it. */
export class Tender {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The rows of one more replica and its order. They come first: a crash leaves nothing that we don't know of. */
  async place(pool: Pool, reason: string, options: OrderOptions = {}): Promise<void> {
    const { who = 'all', beside = {}, mostNanoUsdPerHour: most, cause } = options;
    const { clock, fleet, newId, epoch, decide } = this.#parts;
    const { spec } = pool.router;
    const payer = cause ? payerOf(pool.router, cause) : null;
    // Who was to pay for it has left.
    if (cause?.fee && !payer) return;
    const [id, orderId, now] = [newId('rep-'), newId(orderPrefix(epoch)), clock.now()];
    const { cpu, memoryBytes, gpus } = spec.hardware;
    const asks = asksOf(spec, orderNeeds(spec, beside.needs));
    const asked = this.#ceilings(spec, { who, asks, most });
    const ceilingUsdPerHour = formatUsd(this.#highest(asked, spec));
    const replica = newReplica({ id, pool: spec.id, orderId, orderedMs: now, reason, runs: runsAs(spec), beside });
    const cap = most === undefined ? {} : { capNanoUsdPerHour: most };
    const saved = fleet.save({ ...replica, ...cap, ...(cause && { wake: cause }) });
    // Before anything is awaited: whoever plans meanwhile must not count it.
    fleet.notes(id).reserve = who === 'reserve';
    fleet.notes(id).payer = payer;
    payer?.follow('ordered');
    await saved;
    await fleet.saveOrder({
      id: orderId,
      pool: spec.id,
      replica: id,
      state: 'open',
      reason,
      orderedMs: now,
      closedMs: null,
      markets: asked,
      bids: [],
      declined: [],
      choice: null,
      offer: { cpu, memoryBytes, gpus, ceilingUsdPerHour, asks, limited: most !== undefined },
    });
    if (who !== 'reserve') pool.router.setPhase('order placed');
    const { replaces, why } = beside;
    const follows = replaces === undefined ? {} : { replaces, why };
    const detail = { order: orderId, ceiling_usd_per_hour: ceilingUsdPerHour, ...follows, ...options.detail };
    const wake = cause && { wake: describeCause(cause) };
    await decide({ pool: spec.id, kind: 'order.placed', reason, detail: { ...detail, ...wake } });
  }

  /** Where it is asked, and up to which price there. */
  #ceilings(
    spec: PoolSpec,
    { who, asks, most }: { readonly who: Who; readonly asks: string; readonly most: NanoUsd | undefined },
  ): Asked[] {
    const { clock, fleet, markets } = this.#parts;
    const nowMs = clock.now();
    const prices = fleet.prices.of(spec.id, asks, nowMs);
    return [...markets]
      .filter(([name]) => spec.markets?.includes(name) ?? true)
      .filter(([name]) => who === 'all' || (name === 'api') === (who === 'reserve'))
      .map(([name, market]) => {
        const cap = ceilingPerBlock(spec.ceilingNanoUsdPerHour, market.terms());
        const seen = prices.filter((one) => one.market === name);
        const { nanoUsdPerBlock, step, from } = ceilingOf(name, cap, { seen, nowMs });
        const limit = most === undefined ? null : ceilingPerBlock(most, market.terms());
        if (limit !== null) {
          const why = 'no more than with what moving a replica pays';
          return { name, ceilingNanoUsdPerBlock: minBig(limit, cap), block: market.block(), refusal: null, why };
        }
        const why = step === 0 ? from : `${from}, raised: step ${step}`;
        return { name, ceilingNanoUsdPerBlock: nanoUsdPerBlock, block: market.block(), refusal: null, why };
      });
  }

  /** In USD an hour, fees included: what the order may come to. */
  #highest(asked: readonly Asked[], spec: PoolSpec): NanoUsd {
    const costs = asked.map(({ name, ceilingNanoUsdPerBlock }) => {
      const terms = this.#parts.markets.get(name)?.terms();
      return terms ? costPerHour(ceilingNanoUsdPerBlock, terms) : 0n;
    });
    const highest = costs.reduce((most, one) => (one > most ? one : most), 0n);
    return asked.length === 0 ? spec.ceilingNanoUsdPerHour : minBig(highest, spec.ceilingNanoUsdPerHour);
  }

  /** Posts the order in every market at once. One whose answer is unknown is looked up like the others, not asked twice. */
  async post(order: OrderRecord, { spec, meter, stats }: PoolRouter, needs: Needs): Promise<OrderRecord> {
    const { clock, fleet, markets } = this.#parts;
    const now = clock.now();
    const expected = expectedTokens(meter.rate(now), meter.average(now), stats.waiting + stats.inFlight);
    const { id: pool, hardware, attributes = {}, reclamationMs = null } = spec;
    // Of several regions a market can be asked for none: the bids are sorted out here.
    const region = needs.regions?.length === 1 ? (needs.regions[0] ?? null) : null;
    const asks = { hardware, trust: needs.trust, region, attributes, reclamationMs, expected };
    const answers = await Promise.all(
      order.markets.map(async (asked) => {
        const { ceilingNanoUsdPerBlock } = asked;
        const workload = workloadOf(spec);
        const request = { id: order.id, pool, ...asks, ceilingNanoUsdPerBlock, workload };
        return { ...asked, refusal: await whyRefused(markets.get(asked.name)?.tender(request)) };
      }),
    );
    if (answers.every(({ refusal }) => refusal === null)) return order;
    return fleet.saveOrder({ ...order, markets: answers });
  }

  async look(order: OrderRecord): Promise<Seen> {
    const { fleet, markets } = this.#parts;
    const offers: Offer[] = [];
    const declined: { market: MarketName; provider: string; reason: string }[] = [];
    let complete = true;
    let blockMs = 0;
    for (const { name, refusal } of order.markets) {
      const market = markets.get(name);
      if (!market || refusal !== null) continue;
      const view = await this.#seeOrder(market, order.id);
      const done = view !== null && (view.complete || view.state !== 'open');
      complete &&= done;
      if (!done) blockMs = Math.max(blockMs, market.terms().blockMs);
      for (const one of view?.declined ?? []) declined.push({ market: name, ...one });
      if (view?.state !== 'open' || view.bids.length === 0) continue;
      for (const bid of view.bids) {
        const who = { market: name, provider: bid.provider };
        const score = fleet.book.score(who, order.pool, fleet.active());
        const quarantinedUntilMs = fleet.book.quarantine(who)?.untilMs ?? 0;
        const failedMs = fleet.book.find(who)?.failedMs ?? null;
        const avoid = whyAvoid({ ...who, failedMs }, fleet.active(), this.#parts.clock.now());
        offers.push({ market: name, terms: market.terms(), bid, score, quarantinedUntilMs, avoid });
      }
    }
    return { offers, declined, complete, blockMs };
  }

  /** A market that cannot be asked now holds up no other. */
  async #seeOrder(market: Market, orderId: string): Promise<OrderView | null> {
    try {
      return await market.order(orderId);
    } catch (error) {
      this.#parts.log(`bids of order ${orderId} on ${market.name}: ${describeError(error)}`);
      return null;
    }
  }
}

async function whyRefused(tender: ReturnType<Market['tender']> | undefined): Promise<string | null> {
  try {
    const outcome = await tender;
    return outcome?.kind === 'refused' ? outcome.reason : null;
  } catch {
    return null;
  }
}

export function workloadOf(spec: PoolSpec): Workload {
  const { id, kind, engine, model, image, container, slots, contextTokens, weights = null, registry = null } = spec;
  return { pool: id, kind, engine, model, image, container, weights, registry, slots, contextTokens };
}

function runsAs(spec: PoolSpec): RunsAs {
  const { engine, model, kind } = spec;
  return { version: versionOf(spec), engine, model, kind };
}

type Given = 'id' | 'pool' | 'orderId' | 'orderedMs' | 'reason' | 'runs' | 'beside';

function newReplica(given: Pick<ReplicaRecord, Given>): ReplicaRecord {
  return {
    ...given,
    state: 'ordering',
    market: null,
    bidId: null,
    leaseId: null,
    provider: null,
    priceNanoUsdPerBlock: null,
    costNanoUsdPerHour: null,
    leasedMs: null,
    runningMs: null,
    readyMs: null,
    drainMs: null,
    closedMs: null,
    failed: false,
    fundings: 0,
  };
}
