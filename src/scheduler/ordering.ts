import type { Lease } from '../leases/market.ts';
import { formatUsd, parseUsd, type NanoUsd } from '../units.ts';
import { chooseBid, type Choice, type Offer } from './choice.ts';
import { leaseOfOrder, type Ending } from './ending.ts';
import { earliestBid, orderNeeds, sortOut } from './fitness.ts';
import { marketOf, type Parts } from './parts.ts';
import { ceilingPerBlock, costPerHour, depositFor } from './place.ts';
import { START_GUESS_MS } from './pool/wake-offer.ts';
import type { Pool } from './pool/pools.ts';
import { canRise } from './prices.ts';
import type { OrderRecord, ReplicaRecord } from './records.ts';
import { Tender, type OrderOptions, type Seen } from './tender.ts';
import { payerOf } from './waking.ts';
import { bidWindow } from './window.ts';

/** From "one more replica" to a lease: an order, its bids, the choice, the deposit. */
export class Ordering {
  readonly #parts: Parts;
  readonly #ending: Ending;
  readonly #tender: Tender;

  constructor(parts: Parts, ending: Ending) {
    this.#parts = parts;
    this.#tender = new Tender(parts);
    this.#ending = ending;
  }

  /** One more replica: its rows, and those of its order. */
  order(pool: Pool, reason: string, options?: OrderOptions): Promise<void> {
    return this.#tender.place(pool, reason, options);
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
    const order = notes.posted ? placed : await this.#tender.post(placed, pool.router, needs);
    notes.posted = true;
    const seen = await this.#tender.look(order);
    const standing = seen.offers.filter(({ bid }) => !notes.refusedBids.has(bid.id));
    const { fit: offers, unfit, why } = sortOut(standing, needs);
    const firstBidMs = record.firstBidMs ?? earliestBid(seen.offers);
    if (this.#isOpen(record, pool, { order, seen, offers })) return;
    fleet.noteBids(record.id, seen.offers);
    const choice = chooseBid(offers, spec, {
      perProvider: fleet.perProvider(spec.id),
      nowMs: clock.now(),
      lifeMs: fleet.expectedLifeMs(spec, record.id),
      startMs: pool.router.expectedStartMs ?? START_GUESS_MS,
      mostNanoUsdPerHour: order.offer.limited ? parseUsd(order.offer.ceilingUsdPerHour) : null,
    });
    const none = notes.lastRefusal ?? why ?? whyNone(order, offers.length, choice);
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
      firstBidMs,
      priceNanoUsdPerBlock: bid.priceNanoUsdPerBlock,
      costNanoUsdPerHour: costPerHour(bid.priceNanoUsdPerBlock, terms),
      reason: choice.reason,
      trust: bid.trust ?? 'any',
      region: bid.region ?? null,
    });
    await fleet.saveOrder(told);
    return this.#take(accepting, pool);
  }

  /** Whether more bids are to be waited for. */
  #isOpen(
    record: ReplicaRecord,
    { router }: Pool,
    { order, seen, offers }: { readonly order: OrderRecord; readonly seen: Seen; readonly offers: readonly Offer[] },
  ): boolean {
    const { clock, fleet, markets } = this.#parts;
    const { orderedMs, offer, pool } = order;
    const nowMs = clock.now();
    const seenNanoUsdPerHour = fleet.prices.of(pool, offer.asks ?? '', nowMs).flatMap(({ market, bids }) => {
      const terms = markets.get(market)?.terms();
      return terms ? bids.map((bid) => costPerHour(bid.priceNanoUsdPerBlock, terms)) : [];
    });
    const window = {
      ...{ orderedMs, nowMs, complete: seen.complete, blockMs: seen.blockMs, seenNanoUsdPerHour },
      bids: offers.map(({ bid, terms }) => {
        return { atMs: bid.atMs, costNanoUsdPerHour: costPerHour(bid.priceNanoUsdPerBlock, terms) };
      }),
      waiting: router.stats.waiting > 0,
      lifeMs: fleet.expectedLifeMs(router.spec, record.id),
    };
    return bidWindow(window, router.spec) === 'wait';
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
    const { uncancelled, payer } = fleet.notes(record.id);
    for (const { name } of order?.markets ?? []) if (name !== record.market) uncancelled.add(name);
    // It is settled without its fee if it left while the bid was taken, and whoever else is in line would ride on that.
    const { wake = null } = record;
    const unpaid = payer !== null && wake !== null && payerOf(pool.router, wake) === null;
    const starting = await fleet.save({ ...record, state: 'starting', leaseId: lease.id, leasedMs: clock.now() });
    fleet.book.bid({ market: record.market ?? '', provider: lease.provider }, 'won');
    if (order) await fleet.saveOrder({ ...order, state: 'won', closedMs: clock.now() });
    if (!fleet.notes(record.id).reserve) pool.router.setPhase('bid won');
    const { id, provider, depositNanoUsd } = lease;
    const detail = { order: record.orderId, lease: id, provider, deposit_usd: formatUsd(depositNanoUsd) };
    await decide({ pool: record.pool, kind: 'lease.opened', reason: record.reason, detail });
    if (unpaid) return this.#ending.end(starting, 'who was to pay for the wake left before it was leased');
    await this.#ending.cancelElsewhere(starting);
  }

  async #noBid(record: ReplicaRecord, order: OrderRecord, reason: string): Promise<void> {
    const { clock, fleet, markets, pools, decide } = this.#parts;
    const spec = pools.find(record.pool)?.router.spec;
    const rises = canRise(order, (name) => {
      const terms = markets.get(name)?.terms();
      return spec && terms ? ceilingPerBlock(spec.ceilingNanoUsdPerHour, terms) : 0n;
    });
    await fleet.saveOrder({ ...order, state: 'fell', closedMs: clock.now() });
    if (!fleet.notes(record.id).reserve) pools.find(record.pool)?.router.setPhase(`no machine: ${reason}`);
    const detail = { order: order.id, ceiling_usd_per_hour: order.offer.ceilingUsdPerHour, declined: order.declined };
    const told = rises
      ? `${reason} at up to ${order.offer.ceilingUsdPerHour} USD/h: the next order offers more`
      : reason;
    await decide({ pool: record.pool, kind: 'order.fell', reason: told, detail });
    // What the market says to a higher price is asked at once.
    fleet.notes(record.id).retries = rises;
    await this.#ending.fail(record, told, null);
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
