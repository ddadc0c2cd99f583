import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { EpochMs, Ms } from '../../units.ts';
import type { Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { FeeGrant, DepositGrant, Order } from './chain-types.ts';
import type { Wallet } from './chain-wallet.ts';

export interface GrantRules {
  /** What a pool's wallet may put into escrows until its grant is renewed. */
  readonly deposits: Micro;
  readonly feesUakt: bigint;
  readonly lifeMs: Ms;
}

export interface GrantOptions extends GrantRules {
  readonly treasury: Wallet;
  readonly pools: readonly { readonly pool: string; readonly wallet: Wallet }[];
  readonly clock: Clock;
  readonly log: (line: string) => void;
}

/** Between two looks at the grants: far less than what half of one lasts at the hour's limit of deposits. */
const LOOK_MS: Ms = 300_000;
/** Of its life, what a grant must have left. */
const LIFE_SHARE = 4;

/**
 * Lets each pool's wallet, which holds nothing, pay deposits and fees out of the treasury's: up to an amount and until a
 * date, so a leaked pool key can burn no more. A grant that is half used up, or has a quarter of its life left, is
 * renewed; one that stands is left alone.
 */
export class Grants {
  readonly #chain: Chain;
  readonly #options: GrantOptions;
  readonly #told = new Map<string, string>();
  #nextMs: EpochMs = 0;
  #renewing = false;

  constructor(chain: Chain, options: GrantOptions) {
    this.#chain = chain;
    this.#options = options;
  }

  /** Renews what has to be, when it is time to look. */
  look(): void {
    const { clock, log } = this.#options;
    if (this.#renewing || clock.now() < this.#nextMs) return;
    this.renew().catch((error: unknown) => log(`the grants of the pools: ${describeError(error)}`));
  }

  /** @throws Error when the chain cannot be asked */
  async renew(): Promise<void> {
    const { pools, clock } = this.#options;
    this.#nextMs = clock.now() + LOOK_MS;
    this.#renewing = true;
    try {
      for (const { pool, wallet } of pools) await this.#renew(pool, wallet);
    } finally {
      this.#renewing = false;
    }
  }

  async #renew(pool: string, wallet: Wallet): Promise<void> {
    const { treasury, deposits: amount, feesUakt: uakt, lifeMs, clock, log } = this.#options;
    const ends = { from: treasury.address, to: wallet.address };
    const untilMs = clock.now() + lifeMs;
    const orders: Order[] = [];
    if (this.#isLow(await this.#chain.depositGrant(ends.from, ends.to), amount)) {
      orders.push({ type: 'grant_deposits', ...ends, untilMs, amount });
    }
    const fees = await this.#chain.feeGrant(ends.from, ends.to);
    if (this.#isLow(fees, uakt)) {
      // The chain takes no second allowance beside one that stands.
      if (fees !== null) orders.push({ type: 'revoke_fees', ...ends });
      orders.push({ type: 'grant_fees', ...ends, untilMs, uakt });
    }
    if (orders.length === 0) return;
    const sent = await this.#chain.send({ wallet: treasury, orders, note: () => Promise.resolve() });
    const told =
      sent.kind === 'done'
        ? `pool ${pool} pays from ${wallet.address}, out of grants of the treasury's`
        : `the grants of pool ${pool} could not be made: ${sent.reason}`;
    if (sent.kind === 'done' || this.#told.get(pool) !== told) log(told);
    this.#told.set(pool, told);
  }

  /** Amount null: as much as one likes. */
  #isLow(grant: DepositGrant | FeeGrant | null, whole: bigint): boolean {
    const { clock, lifeMs } = this.#options;
    if (grant === null) return true;
    const leftMs = grant.untilMs === null ? Infinity : grant.untilMs - clock.now();
    return (grant.amount !== null && grant.amount < whole / 2n) || leftMs < lifeMs / LIFE_SHARE;
  }
}
