import { describeError } from '../../errors.ts';
import type { AkashParts } from './parts.ts';

/** An order that nobody took falls, whoever forgot it: providers hold machines back for their bids. */
const ORDER_LIFE_MS = 300_000;
/** So long a transaction's outcome is left to whoever sent it. */
const FORGOTTEN_MS = 60_000;

/** What nobody asks for any more is brought to its end. */
export class Upkeep {
  readonly #parts: AkashParts;
  readonly #busy = new Set<string>();

  constructor(parts: AkashParts) {
    this.#parts = parts;
  }

  run(): void {
    const { orders, clock } = this.#parts;
    const now = clock.now();
    for (const { orderId, state, closing, postedAtMs, pending } of orders.live()) {
      if (state === 'open' && !closing && now - postedAtMs > ORDER_LIFE_MS) this.#drop(orderId);
      // Of an earlier run, or of a call that gave up waiting.
      else if (pending && now - pending.sinceMs > FORGOTTEN_MS) {
        this.#alone(orderId, () => orders.settleNow(orderId));
      }
    }
  }

  #drop(orderId: string): void {
    const { orders } = this.#parts;
    this.#alone(orderId, async () => {
      const current = await orders.find(orderId);
      if (current?.state === 'open') await orders.end(orderId, 'order_timeout');
    });
  }

  #alone(orderId: string, work: () => Promise<void>): void {
    if (this.#busy.has(orderId)) return;
    this.#busy.add(orderId);
    const { orders, log } = this.#parts;
    orders
      .run(orderId, work)
      .catch((error: unknown) => log(`order ${orderId}: ${describeError(error)}`))
      .finally(() => this.#busy.delete(orderId));
  }
}
