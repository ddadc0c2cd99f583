import { describeError } from '../../errors.ts';
import type { Alarms } from './alarms.ts';
import type { Micro } from './amounts.ts';
import type { Guard, Included, Order, Permit } from './chain-types.ts';
import type { SpendingLimits, Taken } from './spending-limits.ts';
import type { Spending } from './treasury-records.ts';

export interface PurseOptions {
  readonly limits: SpendingLimits;
  readonly alarms: Alarms;
  /** Puts the fee of a transaction into the books. */
  readonly bookFee: (tx: Included) => Promise<void>;
  readonly log: (line: string) => void;
}

/** Cleared by whoever looks at the limits from time to time, once there is room again. */
const ALARM = 'limit.reached';

/**
 * The guard at the chain's door. It reads off the very orders what they pay, so no caller can forget to count; and it books
 * the fee of everything that was included, refused or not.
 */
export class Purse implements Guard {
  readonly #options: PurseOptions;

  constructor(options: PurseOptions) {
    this.#options = options;
  }

  async permit(orders: readonly Order[]): Promise<Permit> {
    const { limits } = this.#options;
    const taken: Spending[] = [];
    const giveBack = async (): Promise<void> => {
      for (const spending of taken.splice(0)) {
        await limits.giveBack(spending).catch((error: unknown) => {
          this.#options.log(`an amount stays counted though it was not spent: ${describeError(error)}`);
        });
      }
    };
    for (const kind of ['deposit', 'mint'] as const) {
      const result = this.#told(await limits.take(kind, kind === 'deposit' ? depositsOf(orders) : mintsOf(orders)));
      if (!result.ok) {
        await giveBack();
        return { kind: 'refused', reason: result.reason };
      }
      if (result.spending) taken.push(result.spending);
    }
    const noted = async (hash: string): Promise<void> => {
      for (const spending of taken) {
        await limits.mark(spending, hash).catch((error: unknown) => {
          this.#options.log(`an amount stays counted whatever becomes of ${hash}: ${describeError(error)}`);
        });
      }
    };
    return { kind: 'granted', giveBack, noted };
  }

  async unspent(hash: string): Promise<void> {
    await this.#options.limits.giveBackOf(hash).catch((error: unknown) => {
      this.#options.log(`what ${hash} did not pay stays counted: ${describeError(error)}`);
    });
  }

  /** What ends a lease is never held up by its fee: a lease that stands costs more. */
  async fee(uakt: bigint, orders: readonly Order[]): Promise<string | null> {
    const mustPass = orders.every(({ type }) => type === 'close_deployment');
    const result = this.#told(await this.#options.limits.take('fee', uakt, { mustPass }));
    return result.ok ? null : result.reason;
  }

  async included(tx: Included): Promise<void> {
    try {
      await this.#options.bookFee(tx);
    } catch (error) {
      // The order's row tells of it again; what is lost even so is named when the books are compared with the chain.
      this.#options.log(`the fee of ${tx.hash} is not in the books yet: ${describeError(error)}`);
    }
  }

  #told(taken: Taken): Taken {
    const { alarms } = this.#options;
    if (!taken.ok) alarms.raise(ALARM, taken.reason);
    return taken;
  }
}

function depositsOf(orders: readonly Order[]): Micro {
  return orders.reduce((sum, order) => {
    if (order.type === 'create_deployment') return sum + order.deposit;
    return order.type === 'deposit' ? sum + order.amount : sum;
  }, 0n);
}

function mintsOf(orders: readonly Order[]): Micro {
  return orders.reduce((sum, order) => (order.type === 'mint_act' ? sum + order.worth : sum), 0n);
}
