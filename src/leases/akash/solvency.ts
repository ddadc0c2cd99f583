import type { Alarms } from './alarms.ts';
import { nanoOf, type Micro } from './amounts.ts';
import { formatUsd } from '../../units.ts';
import type { Chain } from './chain.ts';
import type { Wallet } from './chain-wallet.ts';

export interface SolvencyOptions {
  readonly chain: Pick<Chain, 'balance' | 'balanceUakt' | 'depositGrant'>;
  /** 0 is the treasury's. */
  readonly wallet: (index: number) => Wallet;
  readonly alarms: Alarms;
}

/** About four transactions: an order, its lease, a top-up, its end. */
const FEES_UAKT = 40_000n;

/**
 * Is there money for what comes next? An order that could not be paid is refused before it is posted, with the reason that
 * its requests are told; the network would refuse it too, in words that nobody understands.
 */
export class Solvency {
  readonly #options: SolvencyOptions;

  constructor(options: SolvencyOptions) {
    this.#options = options;
  }

  /** Null: it can be paid, or nobody could say. */
  async refusal(walletIndex: number, need: Micro): Promise<string | null> {
    const { chain, wallet, alarms } = this.#options;
    const treasury = wallet(0).address;
    let found: readonly [Micro, bigint, Micro | null];
    try {
      found = await Promise.all([
        chain.balance(treasury),
        chain.balanceUakt(treasury),
        walletIndex === 0 ? Promise.resolve(null) : this.#granted(walletIndex),
      ]);
    } catch {
      // The chain itself will say.
      return null;
    }
    const [uact, uakt, granted] = found;
    const empty =
      uact < need ? `the treasury is empty: it has ${usd(uact)} ACT, and ${usd(need)} ACT are needed now` : null;
    const noFees = uakt < FEES_UAKT ? `the treasury cannot pay network fees: it has ${uakt} uakt` : null;
    const used =
      granted !== null && granted < need
        ? `of a pool's grant ${usd(granted)} ACT are left, ${usd(need)} are needed`
        : null;
    alarms.set('treasury.empty', empty);
    alarms.set('treasury.no_fees', noFees);
    if (walletIndex !== 0) alarms.set(`grant.empty ${wallet(walletIndex).address}`, used);
    // Who waits for a machine is told this; how much there is stays the operator's.
    if (empty !== null) return 'the treasury of the Akash market is empty';
    if (noFees !== null) return 'the treasury of the Akash market cannot pay the network fees';
    return used === null ? null : "the pool's grant on the Akash market is used up";
  }

  /** What a pool's wallet may pay: its own, and what it was granted. */
  async #granted(walletIndex: number): Promise<Micro> {
    const { chain, wallet } = this.#options;
    const { address } = wallet(walletIndex);
    const [own, grant] = await Promise.all([chain.balance(address), chain.depositGrant(wallet(0).address, address)]);
    return own + (grant?.amount ?? 0n);
  }
}

const usd = (amount: Micro): string => formatUsd(nanoOf(amount));
