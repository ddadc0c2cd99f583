import { touchAccount } from './bank-rules.ts';
import { MODULES, mintCoins } from './context.ts';
import type { Coin } from './decimal.ts';
import { emptyState, type State } from './state.ts';

/** Noble's USDC as Akash's mainnet knows it. */
export const USDC_DENOM = 'ibc/170C677610AC31DF0904FFE09CD3B5C657492170E7E52372E48756B71E56F2F1';

const WHOLE = 1_000_000n;

/** Enough to rent for a while; all of it is play money. */
export const FUNDS = {
  tenant: [
    { denom: 'uakt', amount: 10_000n * WHOLE },
    { denom: 'uact', amount: 1_000n * WHOLE },
  ],
  payer: [
    { denom: 'uakt', amount: 100n * WHOLE },
    { denom: USDC_DENOM, amount: 10_000n * WHOLE },
  ],
  other: [{ denom: 'uakt', amount: 10_000n * WHOLE }],
  /** Collateral of what ACT there is. */
  vault: [{ denom: 'uakt', amount: 1_000_000n * WHOLE }],
} as const satisfies Record<string, readonly Coin[]>;

/** What a user's tenant begins with: little ACT, so that a gateway is seen to mint more of it. */
export const USER_FUNDS = [
  { denom: 'uakt', amount: 10_000n * WHOLE },
  { denom: 'uact', amount: 10n * WHOLE },
] as const satisfies readonly Coin[];

export function createGenesis(
  holders: readonly { readonly address: string; readonly funds: readonly Coin[] }[],
): State {
  const state = emptyState();
  for (const { address, funds } of [...holders, { address: MODULES.bme, funds: FUNDS.vault }]) {
    touchAccount({ state }, address);
    for (const coin of funds) mintCoins(state, address, coin);
  }
  return state;
}
