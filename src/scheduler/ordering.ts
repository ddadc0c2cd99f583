import { describeError } from '../errors.ts';
import type { Lease, Market, OrderView, Workload } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import type { Needs } from '../spec/trust.ts';
import { formatUsd, type NanoUsd } from '../units.ts';
import { leaseOfOrder, type Ending } from './ending.ts';
import { orderNeeds, sortOut } from './fitness.ts';
import { marketOf, type Parts } from './parts.ts';
import { bidWindow, ceilingPerBlock, chooseBid, costPerHour, depositFor, type Choice, type Offer } from './place.ts';
import type { Pool } from './pool/pools.ts';
import type { PoolRouter } from './pool/router.ts';
import { newReplica, runsAs } from './new-replica.ts';
import type { Beside, OrderRecord, ReplicaRecord } from './records.ts';
import { scoreProvider } from './reputation.ts';
import { expectedTokens } from './reserve.ts';
import { describeCause, type Cause } from './wake.ts';
import { payerOf } from './waking.ts';

interface Seen {
  readonly offers: readonly Offer[];
  readonly declined: OrderRecord['declined'];
  /** Every provider that will answer has answered. */
  readonly complete: boolean;
}

/** Who may bid: everybody, only those who are paid by the token, or all but those. */
export type Who = 'all' | 'reserve' | 'machines';

export interface OrderOptions {
  readonly who?: Who;
  readonly beside?: Beside | undefined;
  /** The replica that it is to follow. */
  readonly replaces?: string | undefined;
  /** Of an order that wakes the pool. */
  readonly cause?: Cause | undefined;
  /** It may cost no more than this, where that is less than the pool's ceiling. */
  readonly capNanoUsdPerHour?: NanoUsd | undefined;
}

/** From "one more replica" to a lease: an order, its bids, the choice, the deposit. */
export class Ordering {
  readonly #parts: Parts;
  readonly #ending: Ending;

  constructor(parts: Parts, ending: Ending) {
    this.#parts = parts;
    this.#ending = ending;
  }

  /** The rows of one more replica and its order. They come first: a crash leaves nothing that we don't know of. */
  async order(pool: Pool, reason: string, options: OrderOptions = {}): Promise<void> {
    const { who = 'all', beside = {}, replaces, cause, capNanoUsdPerHour: cap } = options;
    const { clock, fleet, markets, newId, decide } = this.#parts;
    const spec = { ...pool.router.spec, ...(cap === undefined ? {} : { ceilingNanoUsdPerHour: cap }) };
    const payer = cause ? payerOf(pool.router, cause) : null;
    // Who was to pay for it has left.
    if (cause?.fee && !payer) return;
    const [id, orderId, now] = [newId('rep-'), newId('ord-'), clock.now()];
    const { cpu, memoryBytes, gpus } = spec.hardware;
    const ceilingUsdPerHour = formatUsd(spec.ceilingNanoUsdPerHour);
    const asked = [...markets]
      .filter(([name]) => spec.markets?.includes(name) ?? true)
      .filter(([name]) => who === 'all' || (name === 'api') === (who === 'reserve'))
      .map(([name, market]) => {
        const ceilingNanoUsdPerBlock = ceilingPerBlock(spec, market.terms());
        return { name, ceilingNanoUsdPerBlock, block: market.block(), refusal: null };
      });
    const replica = newReplica({ id, pool: spec.id, orderId, orderedMs: now, reason, runs: runsAs(spec), beside });
    const more = { ...(replaces && { replaces }), ...(cause && { wake: cause }) };
    const saved = fleet.save({ ...replica, ...more, ...(cap === undefined ? {} : { capNanoUsdPerHour: cap }) });
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
      offer: { cpu, memoryBytes, gpus, ceilingUsdPerHour },
    });
    if (who !== 'reserve') pool.router.setPhase('order placed');
    const detail = { order: orderId, ceiling_usd_per_hour: ceilingUsdPerHour, ...(replaces && { replaces }) };
    const wake = cause && { wake: describeCause(cause) };
    await decide({ pool: spec.id, kind: 'order.placed', reason, detail: { ...detail, ...wake } });
  }

  /** Asks for bids, looks at those that came, and takes one when the window is over. */
  async gather(record: ReplicaRecord): Promise<void> {
    const { clock, fleet, pools } = this.#parts;
    const pool = pools.find(record.pool);
    const placed = await fleet.order(record.orderId);
    if (!pool || !placed) return this.#ending.fail(record, 'its pool or order is gone', null);
    const { spec } = pool.router;
    const notes = fleet.notes(record.id);
    const needs = orderNeeds(spec, record.beside?.needs);
    const order = notes.posted ? placed : await this.#post(placed, pool.router, needs);
    notes.posted = true;
    const seen = await this.#offers(order);
    const standing = seen.offers.filter(({ bid }) => !notes.refusedBids.has(bid.id));
    const { fit: offers, unfit, why } = sortOut(standing, needs);
    const bids = offers.map(({ bid }) => bid);
    const window = bidWindow({ orderedMs: order.orderedMs, bids, nowMs: clock.now(), complete: seen.complete }, spec);
    if (window === 'wait') return;
    const choice = chooseBid(offers, spec, fleet.perProvider(spec.id), clock.now());
    const none = notes.lastRefusal ?? why ?? whyNone(order, bids.length, choice);
    const table = [...choice.table, ...unfit];
    const told = {
      ...order,
      bids: seen.offers.map(({ bid, market }) => ({ ...bid, market })),
      declined: seen.declined,
      choice: { bidId: choice.offer?.bid.id ?? null, reason: choice.offer ? choice.reason : none, table },
    };
    if (!choice.offer) return this.#noBid(record, told, none);
    const { market, bid, terms } = choice.offer;
    notes.rivalNanoUsdPerHour = bestMachine(offers, choice.offer);
    // In memory before anything is awaited, so that another order's choice counts this one.
    const accepting = await fleet.save({
      ...record,
      state: 'accepting',
      market,
      bidId: bid.id,
      provider: bid.provider,
      priceNanoUsdPerBlock: bid.priceNanoUsdPerBlock,
      costNanoUsdPerHour: costPerHour(bid.priceNanoUsdPerBlock, terms),
      reason: choice.reason,
      trust: bid.trust ?? 'any',
      region: bid.region ?? null,
    });
    await fleet.saveOrder(told);
    return this.#take(accepting, pool);
  }

  /** The outcome of taking the bid is unknown: looks for the lease before trying again. */
  async takeAgain(record: ReplicaRecord): Promise<void> {
    const { clock, fleet, pools } = this.#parts;
    const pool = pools.find(record.pool);
    const market = marketOf(this.#parts, record);
    if (!pool || !market) return this.#ending.fail(record, 'its pool or market is gone', null);
    const sinceMs = fleet.notes(record.id).acceptingSinceMs ?? clock.now();
    if (clock.now() - sinceMs > pool.router.spec.limits.startMs) {
      return this.#ending.fail(record, 'the market did not say in time whether its bid was taken', null);
    }
    const lease = await leaseOfOrder(market, record.orderId);
    if (lease?.state === 'active') return this.#leased(record, pool, lease);
    return this.#take(record, pool);
  }

  async #take(record: ReplicaRecord, pool: Pool): Promise<void> {
    const { clock, fleet, decide } = this.#parts;
    const market = marketOf(this.#parts, record);
    const { bidId, priceNanoUsdPerBlock: price, orderId } = record;
    if (!market || bidId === null || price === null) return this.#ending.fail(record, 'its bid is unknown', null);
    const notes = fleet.notes(record.id);
    notes.acceptingSinceMs ??= clock.now();
    const deposit = depositFor(price, pool.router.spec.runwayMs, market.terms());
    const outcome = await market.accept(orderId, bidId, deposit);
    if (outcome.kind === 'unknown') return;
    if (outcome.kind === 'done') return this.#leased(record, pool, outcome.value);
    const { reason } = outcome;
    notes.refusedBids.add(bidId);
    notes.lastRefusal = reason;
    notes.acceptingSinceMs = null;
    const nothing = { market: null, bidId: null, provider: null, priceNanoUsdPerBlock: null, costNanoUsdPerHour: null };
    await fleet.save({ ...record, ...nothing, state: 'ordering', reason });
    await decide({ pool: record.pool, kind: 'bid.refused', reason, detail: { order: orderId, bid: bidId } });
  }

  async #leased(record: ReplicaRecord, pool: Pool, lease: Lease): Promise<void> {
    const { clock, fleet, decide } = this.#parts;
    const order = await fleet.order(record.orderId);
    // Noted before anything can fail: whatever becomes of this replica, its order falls everywhere else.
    const { uncancelled } = fleet.notes(record.id);
    for (const { name } of order?.markets ?? []) if (name !== record.market) uncancelled.add(name);
    const starting = await fleet.save({ ...record, state: 'starting', leaseId: lease.id, leasedMs: clock.now() });
    if (order) await fleet.saveOrder({ ...order, state: 'won', closedMs: clock.now() });
    if (!fleet.notes(record.id).reserve) pool.router.setPhase('bid won');
    const { id, provider, depositNanoUsd } = lease;
    const detail = { order: record.orderId, lease: id, provider, deposit_usd: formatUsd(depositNanoUsd) };
    await decide({ pool: record.pool, kind: 'lease.opened', reason: record.reason, detail });
    await this.#ending.cancelElsewhere(starting);
  }

  async #noBid(record: ReplicaRecord, order: OrderRecord, reason: string): Promise<void> {
    const { clock, fleet, pools, decide } = this.#parts;
    await fleet.saveOrder({ ...order, state: 'fell', closedMs: clock.now() });
    if (!fleet.notes(record.id).reserve) pools.find(record.pool)?.router.setPhase(`no machine: ${reason}`);
    const detail = { order: order.id, declined: order.declined };
    await decide({ pool: record.pool, kind: 'order.fell', reason, detail });
    await this.#ending.fail(record, reason, null);
  }

  /** Posts the order in every market at once. One whose answer is unknown is looked up like the others, not asked twice. */
  async #post(order: OrderRecord, { spec, meter, stats }: PoolRouter, needs: Needs): Promise<OrderRecord> {
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

  async #offers(order: OrderRecord): Promise<Seen> {
    const { fleet, markets } = this.#parts;
    const offers: Offer[] = [];
    const declined: { market: MarketName; provider: string; reason: string }[] = [];
    let complete = true;
    for (const { name, refusal } of order.markets) {
      const market = markets.get(name);
      if (!market || refusal !== null) continue;
      const view = await this.#seeOrder(market, order.id);
      complete &&= view !== null && (view.complete || view.state !== 'open');
      for (const one of view?.declined ?? []) declined.push({ market: name, ...one });
      if (view?.state !== 'open' || view.bids.length === 0) continue;
      const histories = new Map((await market.providers()).map((provider) => [provider.id, provider]));
      for (const bid of view.bids) {
        const score = scoreProvider(histories.get(bid.provider) ?? { leases: 0, failures: 0, disputes: 0 });
        const quarantinedUntilMs = fleet.failures.quarantinedUntil(bid.provider);
        offers.push({ market: name, terms: market.terms(), bid, score, quarantinedUntilMs });
      }
    }
    return { offers, declined, complete };
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

function whyNone(order: OrderRecord, bids: number, choice: Choice): string {
  if (bids > 0) return choice.reason;
  const [first] = order.markets;
  if (!first) return 'no configured market may bid';
  return order.markets.every(({ refusal }) => refusal !== null) ? (first.refusal ?? 'nobody bid') : 'nobody bid';
}

/** Where one that is paid by the token was chosen: the cheapest machine it was chosen before. */
function bestMachine(offers: readonly Offer[], chosen: Offer): NanoUsd | null {
  if (chosen.market !== 'api') return null;
  const costs = offers
    .filter(({ market }) => market !== 'api')
    .map(({ bid, terms }) => costPerHour(bid.priceNanoUsdPerBlock, terms));
  return costs.reduce<NanoUsd | null>((least, cost) => (least === null || cost < least ? cost : least), null);
}

export function workloadOf(spec: PoolSpec): Workload {
  const { id, kind, engine, model, image, container, slots, contextTokens, weights = null, registry = null } = spec;
  return { pool: id, kind, engine, model, image, container, weights, registry, slots, contextTokens };
}
