import type { Clock } from '../../clock.ts';
import type { Ms } from '../../units.ts';
import type { Micro } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { Order } from './chain-types.ts';
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

/**
 * Lets each pool's wallet, which holds nothing, pay deposits and fees out of the treasury's: up to an amount and until a
 * date, so a leaked pool key can burn no more. Grants that stand are left alone.
 */
export async function openGrants(chain: Chain, options: GrantOptions): Promise<void> {
  const { treasury, pools, deposits, feesUakt, lifeMs, clock, log } = options;
  for (const { pool, wallet } of pools) {
    const ends = { from: treasury.address, to: wallet.address, untilMs: clock.now() + lifeMs };
    const orders: Order[] = [];
    const granted = await chain.depositGrant(treasury.address, wallet.address);
    if (granted === null || granted < deposits / 2n) orders.push({ type: 'grant_deposits', ...ends, amount: deposits });
    if (!(await chain.hasFeeGrant(treasury.address, wallet.address))) {
      orders.push({ type: 'grant_fees', ...ends, uakt: feesUakt });
    }
    if (orders.length === 0) continue;
    const sent = await chain.send({ wallet: treasury, orders, note: () => Promise.resolve() });
    if (sent.kind === 'done') log(`pool ${pool} pays from ${wallet.address}, out of grants of the treasury's`);
    else log(`the grants of pool ${pool} could not be made: ${sent.reason}`);
  }
}
