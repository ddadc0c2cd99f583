import { balanceOf, burnCoins, MODULES } from './context.ts';
import { truncateDec } from './decimal.ts';
import { escrowKey, type State } from './state.ts';

/** The fault `escrow-overdrawn`: what escrows with a lease still hold is gone, so the next settlement finds them dry. */
export function drainEscrows(state: State): void {
  for (const payment of state.payments.values()) {
    const key = escrowKey(payment.scope, payment.accountXid);
    const account = state.escrows.get(key);
    if (payment.state !== 'open' || account?.state !== 'open' || account.deposits.length === 0) continue;
    for (const { balance } of account.deposits) {
      const amount = truncateDec(balance.amount);
      if (balanceOf(state, MODULES.escrow, balance.denom) >= amount) {
        burnCoins(state, MODULES.escrow, { denom: balance.denom, amount });
      }
    }
    const funds = account.funds.map(({ denom }) => ({ denom, amount: 0n }));
    state.escrows.set(key, { ...account, deposits: [], funds });
  }
  state.journal.forget();
}
