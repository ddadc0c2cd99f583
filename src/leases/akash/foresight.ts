import { describeError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import type { Alarms } from './alarms.ts';
import { rentMicro, type Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import { leaseIdOf } from './names.ts';
import type { AkashOrders } from './orders.ts';
import type { OrderRow } from './records.ts';
import { runwayOf, urgentTopUp, wantedOf, type Runway } from './runway.ts';

export interface ForesightOptions {
  readonly chain: Pick<Chain, 'deployment'> & { readonly head: Chain['head'] };
  readonly orders: AkashOrders;
  readonly alarms: Alarms;
  /** Between two looks, and for how long a payment may be on its way. */
  readonly everyMs: Ms;
  readonly sendingMs: Ms;
  readonly blockMs: () => Ms;
  readonly log: (line: string) => void;
}

const ALARM = 'lease.runs_dry';

/** Looks after the escrows of live leases by the chain's own numbers: none ends by surprise. */
export class Foresight {
  readonly #options: ForesightOptions;
  /** By order: what was seen last. */
  readonly #seen = new Map<string, Runway>();

  constructor(options: ForesightOptions) {
    this.#options = options;
  }

  runways(): ReadonlyMap<string, Runway> {
    return this.#seen;
  }

  /** Rent of an hour of all leases. */
  hourly(): Micro {
    const perHour = Math.ceil(3_600_000 / this.#options.blockMs());
    return this.#live().reduce((sum, { rate }) => sum + rentMicro(rate, perHour), 0n);
  }

  /** One that cannot be looked at now holds up no other. */
  async look(): Promise<void> {
    const live = this.#live();
    const ids = new Set(live.map(({ orderId }) => orderId));
    for (const orderId of this.#seen.keys()) {
      if (ids.has(orderId)) continue;
      this.#seen.delete(orderId);
      this.#options.alarms.clear(`${ALARM} ${leaseIdOf(orderId)}`);
    }
    for (const { orderId } of live) {
      try {
        await this.#options.orders.run(orderId, () => this.#watch(orderId));
      } catch (error) {
        this.#options.log(`runway of ${leaseIdOf(orderId)}: ${describeError(error)}`);
      }
    }
  }

  /** Within the order's turn: nobody else pays into the escrow meanwhile. */
  async #watch(orderId: string): Promise<void> {
    const { chain, orders, alarms, log, everyMs, sendingMs, blockMs } = this.#options;
    const row = await orders.find(orderId);
    if (!row || !isLive(row)) return;
    const deployment = await chain.deployment(row);
    const block = chain.head?.height ?? 0;
    if (deployment?.state !== 'active') return;
    const runway = runwayOf(deployment.escrow, row.rate, block);
    this.#seen.set(orderId, runway);
    const name = `${ALARM} ${leaseIdOf(orderId)}`;
    const wanted = wantedOf(row);
    const watchfulness = { urgentMs: 2 * everyMs + sendingMs, blockMs: blockMs() };
    const amount = urgentTopUp(runway, wanted, row.rate, watchfulness);
    if (amount === 0n) return alarms.clear(name);
    const left = `${runway.funds} uact are left, for ${runway.blocksLeft} blocks`;
    const count = row.payments.filter(({ id }) => id.startsWith('rescue-')).length + 1;
    const step = await orders.send(row, {
      purpose: 'fund',
      orders: [{ type: 'deposit', id: row, amount }],
      payment: { id: `rescue-${count}`, amount },
    });
    if (step.kind === 'refused') return alarms.raise(name, `${left}; it could not be filled: ${step.reason}`);
    if (step.kind === 'unknown') return;
    alarms.clear(name);
    log(`lease ${leaseIdOf(orderId)} was about to run dry (${left}): ${amount} uact were added`);
  }

  #live(): OrderRow[] {
    return this.#options.orders.live().filter(isLive);
  }
}

/** A payment that is on its way is waited for. */
function isLive({ lease, closing, pending }: OrderRow): boolean {
  return lease?.state === 'active' && closing === null && pending === null;
}
