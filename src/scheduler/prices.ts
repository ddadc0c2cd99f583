import type { MarketName, PoolSpec } from '../spec.ts';
import type { Needs } from '../spec/trust.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import { SEEN_MS, type PriceSeen } from './ceiling.ts';
import type { OrderRecord } from './records.ts';
import { NO_BID_MS } from './window.ts';

/** Of a pool. */
const ORDERS_KEPT = 300;

/** What orders of the last days showed of prices: kept in their rows, and here for those who decide. */
export class Prices {
  readonly #pools = new Map<string, PriceSeen[]>();

  /** An order that is over, with the bids that came. Again: nothing new. */
  add(order: OrderRecord): void {
    const seen = pricesOf(order);
    if (seen.length === 0) return;
    const before = (this.#pools.get(order.pool) ?? []).filter((one) => one.order !== order.id);
    this.#pools.set(order.pool, [...before, ...seen].slice(-ORDERS_KEPT));
  }

  /** Of a pool, for such a machine. */
  of(pool: string, asks: string, nowMs: EpochMs): readonly PriceSeen[] {
    return (this.#pools.get(pool) ?? []).filter((one) => one.asks === asks && one.closedMs > nowMs - SEEN_MS);
  }
}

/** Everything about a machine that its price may hang on, in one text. */
export function asksOf({ hardware, attributes = {} }: PoolSpec, needs: Needs): string {
  const { gpus, gpu, cpu, memoryBytes, storageBytes } = hardware;
  const models = gpu.map(({ vendor, model, ramBytes, interface: port = null }) =>
    [vendor, model, ramBytes, port].join('/'),
  );
  const provider = Object.entries(attributes).map(([name, value]) => `${name}=${value}`);
  const machine = [gpus, models.sort(), cpu, memoryBytes, storageBytes];
  return JSON.stringify([...machine, needs.trust, needs.regions, needs.providers, provider.sort()]);
}

/** By market; none where nobody could have bid, or where it was not waited for. Rows of earlier versions do not say for what. */
export function pricesOf(order: OrderRecord): PriceSeen[] {
  const { id, pool, closedMs, orderedMs, offer, markets, bids, state, choice } = order;
  const { asks, limited = false } = offer;
  if (asks === undefined || closedMs === null) return [];
  // One that was withdrawn before anything was chosen tells nothing; nor does one that was not to cost what others do.
  const whole = !limited && (closedMs - orderedMs >= NO_BID_MS || (state === 'fell' && choice !== null));
  return markets
    .filter(({ refusal }) => refusal === null)
    .map(({ name, ceilingNanoUsdPerBlock }) => {
      const own = bids.filter(({ market }) => market === name);
      return {
        ...{ order: id, pool, asks, market: name, closedMs, ceilingNanoUsdPerBlock, answered: whole },
        bids: own.map(({ provider, priceNanoUsdPerBlock }) => ({ provider, priceNanoUsdPerBlock })),
      };
    })
    .filter(({ bids: own, answered }) => own.length > 0 || answered);
}

/** Whether an order that nobody took may be placed again at a higher price in one of its markets. */
export function canRise({ markets, bids, offer }: OrderRecord, cap: (market: MarketName) => NanoUsd): boolean {
  if (offer.limited) return false;
  return markets.some(({ name, refusal, ceilingNanoUsdPerBlock }) => {
    return refusal === null && bids.every(({ market }) => market !== name) && ceilingNanoUsdPerBlock < cap(name);
  });
}
