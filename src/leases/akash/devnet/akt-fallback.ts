import { mintStatus } from './bme-rules.ts';
import { AKT_PRICE, MODULES, moveCoins, type Context } from './context.ts';
import { mulDec, quoDec, truncateDec, type Dec } from './decimal.ts';
import type { EscrowAccount, EscrowPayment } from './state.ts';

/** Takes from deposits of one denomination what they still hold of it. */
export type Draw = (account: EscrowAccount, denom: string, owed: Dec) => { account: EscrowAccount; paid: Dec };

/**
 * While mints are halted for want of collateral, AKT that was added to an escrow pays what ACT no longer can, at the
 * oracle's price (node: x/escrow/keeper, settleFromAktFallback). It carries no debt.
 */
export function settleFromAkt(
  context: Context,
  before: { readonly account: EscrowAccount; readonly payments: readonly EscrowPayment[] },
  draw: Draw,
): { readonly account: EscrowAccount; readonly payments: readonly EscrowPayment[] } {
  const held = before.account.funds.find(({ denom }) => denom === 'uakt')?.amount ?? 0n;
  if (held <= 0n || mintStatus(context.state, context.mintsHalted).status < 3) return before;
  let { account } = before;
  const payments = before.payments.map((payment) => {
    if (payment.state !== 'overdrawn' || payment.unsettled === 0n) return payment;
    const needed = quoDec(payment.unsettled, AKT_PRICE);
    const drawn = draw(account, 'uakt', needed);
    if (drawn.paid === 0n) return payment;
    const funds = drawn.account.funds.map((one) =>
      one.denom === 'uakt' && one.amount < 0n ? { ...one, amount: 0n } : one,
    );
    account = { ...drawn.account, funds };
    moveCoins(context, MODULES.escrow, payment.owner, { denom: 'uakt', amount: truncateDec(drawn.paid) });
    const unsettled = payment.unsettled - mulDec(drawn.paid, AKT_PRICE);
    return unsettled > 0n ? { ...payment, unsettled } : { ...payment, unsettled: 0n, state: 'open' as const };
  });
  return { account, payments };
}
