import type { NanoUsd } from '../../units.ts';

/** Pure: what the books say against what the chain says, each difference by its name. */

export interface Compared {
  /** In the ledger. */
  readonly account: string;
  /** USD (ACT) or AKT. */
  readonly asset: 'USD' | 'AKT';
  /** Both in billionths. */
  readonly ledger: NanoUsd;
  readonly chain: NanoUsd;
  /** Of the chain over the ledger. */
  readonly difference: NanoUsd;
  /** Whether all of the difference is known. */
  readonly explained: boolean;
  /** Empty when they agree. */
  readonly why: string;
}

export interface Sides extends Pick<Compared, 'account' | 'asset' | 'ledger' | 'chain'> {
  /** What is known to be on its way from one to the other: rent that runs and is not booked yet. */
  readonly expected?: readonly { readonly amount: NanoUsd; readonly why: string }[];
  /** The chain cuts parts of its unit off at each settlement. */
  readonly roundingMax?: NanoUsd;
  /** Transactions are under way: a difference may be theirs. */
  readonly moving?: boolean;
}

/** What remains after all that is expected is either on its way or came and went without us. */
export function compare(sides: Sides): Compared {
  const { account, asset, ledger, chain, expected = [], roundingMax = 0n, moving = false } = sides;
  const difference = chain - ledger;
  const known = expected.filter(({ amount }) => amount !== 0n);
  const rest = known.reduce((left, { amount }) => left - amount, difference);
  const whys = known.map(({ why }) => why);
  const small = rest !== 0n && rest >= -roundingMax && rest <= roundingMax;
  if (small) whys.push('rounding of the chain');
  else if (rest !== 0n && moving) whys.push('transactions are under way');
  else if (rest > 0n) whys.push('came in from outside, or was given back and is not booked yet');
  else if (rest < 0n) whys.push('went out without this gateway');
  return { account, asset, ledger, chain, difference, explained: rest === 0n || small, why: whys.join('; ') };
}
