import type { Clock } from '../../clock.ts';
import type { Blocks } from '../../units.ts';
import {
  done,
  refused,
  type Bid,
  type MarketTerms,
  type OrderRequest,
  type OrderView,
  type Outcome,
} from '../market.ts';
import { ABOVE_CEILING, placeOf } from './auction.ts';
import type { BidAnswer, Bidder } from './bidder.ts';

/** An order that nobody takes falls, as on Akash. */
const ORDER_LIFE_MS = 300_000;
const ORDERS_MAX = 1000;

interface Order {
  readonly request: OrderRequest;
  readonly postedAtMs: number;
  readonly postedBlock: Blocks;
  readonly bids: Bid[];
  readonly declined: { provider: string; reason: string }[];
  /** Aborted when the order is no longer open: nobody need answer then. */
  readonly asking: AbortController;
  stopLife: () => void;
  readonly asked: number;
  state: OrderView['state'];
}

export interface OrderBookOptions {
  /** Who is asked for bids, as it stands when an order comes. */
  readonly bidders: () => readonly Bidder[];
  readonly terms: MarketTerms;
  readonly clock: Clock;
  readonly block: () => Blocks;
  /** Leases that a provider has now. */
  readonly leasesOf: (provider: string) => number;
  readonly onChange: () => void;
}

/** Orders of the embedded market: each provider answers after its own time, with a bid or with why not. */
export class OrderBook {
  readonly #options: OrderBookOptions;
  readonly #orders = new Map<string, Order>();

  constructor(options: OrderBookOptions) {
    this.#options = options;
  }

  post(request: OrderRequest): Outcome<OrderView> {
    const known = this.#orders.get(request.id);
    if (known) return done(view(known));
    this.#prune();
    if (this.#orders.size >= ORDERS_MAX) return refused('the market holds too many orders');
    const { clock, block } = this.#options;
    const bidders = this.#options.bidders();
    const order: Order = {
      request,
      postedAtMs: clock.now(),
      postedBlock: block(),
      bids: [],
      declined: [],
      asking: new AbortController(),
      stopLife: () => undefined,
      asked: bidders.length,
      state: 'open',
    };
    this.#orders.set(request.id, order);
    order.stopLife = clock.timer(ORDER_LIFE_MS, () => fall(order));
    for (const bidder of bidders) void this.#ask(order, bidder);
    return done(view(order));
  }

  find(id: string): OrderView | null {
    const order = this.#orders.get(id);
    return order ? view(order) : null;
  }

  request(id: string): OrderRequest | null {
    return this.#orders.get(id)?.request ?? null;
  }

  open(): OrderView[] {
    return [...this.#orders.values()].filter(({ state }) => state === 'open').map(view);
  }

  /** The order became a lease: no more bids. */
  win(id: string): void {
    const order = this.#orders.get(id);
    if (!order) return;
    fall(order);
    order.state = 'leased';
  }

  cancel(id: string): Outcome<void> {
    const order = this.#orders.get(id);
    if (order?.state === 'leased') return refused('the order became a lease');
    if (order) fall(order);
    return done(undefined);
  }

  cancelAll(): void {
    for (const order of this.#orders.values()) fall(order);
  }

  async #ask(order: Order, bidder: Bidder): Promise<void> {
    const { clock, block, leasesOf, onChange } = this.#options;
    const { id, ceilingNanoUsdPerBlock: ceiling } = order.request;
    let answer: BidAnswer;
    try {
      answer = await bidder.answer(order.request, () => leasesOf(bidder.id), order.asking.signal);
    } catch {
      answer = { bid: false, reason: 'failed to answer' };
    }
    if (order.state !== 'open') return;
    const { trust = 'any', region = null } = placeOf(bidder);
    if (answer.bid && answer.priceNanoUsdPerBlock > ceiling) answer = { bid: false, reason: ABOVE_CEILING };
    if (answer.bid) {
      order.bids.push({
        id: `${id}/${bidder.id}`,
        orderId: id,
        provider: bidder.id,
        priceNanoUsdPerBlock: answer.priceNanoUsdPerBlock,
        atMs: clock.now(),
        block: block(),
        note: answer.note,
        startMs: answer.startMs ?? null,
        trust,
        region,
      });
    } else {
      order.declined.push({ provider: bidder.id, reason: answer.reason });
    }
    onChange();
  }

  #prune(): void {
    const before = this.#options.clock.now() - 2 * ORDER_LIFE_MS;
    for (const [id, order] of this.#orders) {
      if (order.state !== 'open' && order.postedAtMs < before) this.#orders.delete(id);
    }
  }
}

function fall(order: Order): void {
  order.stopLife();
  if (order.state === 'open') order.state = 'closed';
  order.asking.abort(new Error('the order is closed'));
}

function view(order: Order): OrderView {
  const { request, state, postedAtMs, postedBlock, bids, declined } = order;
  const complete = bids.length + declined.length >= order.asked;
  return { id: request.id, state, postedAtMs, postedBlock, bids: [...bids], declined: [...declined], complete };
}
