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
import type { LocalProvider } from '../../spec.ts';
import { decideBid, placeOf } from './auction.ts';

/** An order that nobody takes falls, as on Akash. */
const ORDER_LIFE_MS = 300_000;
const ORDERS_MAX = 1000;

interface Order {
  readonly request: OrderRequest;
  readonly postedAtMs: number;
  readonly postedBlock: Blocks;
  readonly bids: Bid[];
  readonly declined: { provider: string; reason: string }[];
  readonly timers: (() => void)[];
  readonly asked: number;
  state: OrderView['state'];
}

export interface OrderBookOptions {
  readonly providers: readonly LocalProvider[];
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
    const { clock, providers, block } = this.#options;
    const order: Order = {
      request,
      postedAtMs: clock.now(),
      postedBlock: block(),
      bids: [],
      declined: [],
      timers: [],
      asked: providers.length,
      state: 'open',
    };
    this.#orders.set(request.id, order);
    for (const provider of providers)
      order.timers.push(clock.timer(provider.replyMs, () => this.#reply(order, provider)));
    order.timers.push(clock.timer(ORDER_LIFE_MS, () => fall(order)));
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

  #reply(order: Order, provider: LocalProvider): void {
    if (order.state !== 'open') return;
    const { terms, clock, block, leasesOf, onChange } = this.#options;
    const { id } = order.request;
    const { trust = 'any', region = null } = placeOf(provider);
    const decision = decideBid(provider, leasesOf(provider.id), order.request, terms.blockMs);
    if (decision.bid) {
      order.bids.push({
        id: `${id}/${provider.id}`,
        orderId: id,
        provider: provider.id,
        priceNanoUsdPerBlock: decision.priceNanoUsdPerBlock,
        atMs: clock.now(),
        block: block(),
        note: decision.note,
        startMs: null,
        trust,
        region,
      });
    } else {
      order.declined.push({ provider: provider.id, reason: decision.reason });
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
  for (const cancel of order.timers.splice(0)) cancel();
  if (order.state === 'open') order.state = 'closed';
}

function view(order: Order): OrderView {
  const { request, state, postedAtMs, postedBlock, bids, declined } = order;
  const complete = bids.length + declined.length >= order.asked;
  return { id: request.id, state, postedAtMs, postedBlock, bids: [...bids], declined: [...declined], complete };
}
