import { settleFromAkt } from './akt-fallback.ts';
import { MODULES, moveCoins, type Context } from './context.ts';
import { decFromInt, DEC_ONE, truncateDec, type Dec, type DecCoin } from './decimal.ts';
import { denial } from './denials.ts';
import { restoreGrant } from './deposit-rules.ts';
import { escrowKey, paymentKey, type Depositor, type EscrowAccount, type EscrowPayment } from './state.ts';

/**
 * Escrow as Akash keeps it (node: x/escrow/keeper). Settlement is lazy: nothing moves between two events, then rate x
 * blocks is drawn at once, cut to whole units. What a deposit still holds goes back to who made it.
 */

/** Gas grows with what has to be settled; at most so many blocks are charged for. */
const SETTLE_GAS = { base: 6_000, perBlock: 20, blocksMax: 5_000 };

export function getAccount(context: Context, scope: EscrowAccount['scope'], xid: string): EscrowAccount {
  const account = context.state.escrows.get(escrowKey(scope, xid));
  if (account === undefined) throw denial('escrow/account_not_found');
  return account;
}

export function createAccount(
  context: Context,
  account: { readonly scope: EscrowAccount['scope']; readonly xid: string; readonly owner: string },
  deposits: readonly Depositor[],
): void {
  const key = escrowKey(account.scope, account.xid);
  if (context.state.escrows.get(key) !== undefined) throw denial('escrow/account_exists');
  const empty: EscrowAccount = {
    ...account,
    state: 'open',
    transferred: [],
    settledAt: context.height,
    funds: [],
    deposits: [],
  };
  context.state.escrows.set(key, takeDeposits(context, empty, deposits));
}

/** A deposit after the first; it pays the debt of an overdrawn account and closes that, without reviving anything. */
export function depositToAccount(
  context: Context,
  id: { readonly scope: EscrowAccount['scope']; readonly xid: string },
  deposits: readonly Depositor[],
): void {
  const before = getAccount(context, id.scope, id.xid);
  if (before.state === 'closed') throw denial('escrow/account_closed');
  const account = takeDeposits(context, before, deposits);
  if (account.state !== 'overdrawn') {
    context.state.escrows.set(escrowKey(id.scope, id.xid), account);
    return;
  }
  const settled = settle(context, account);
  const payments = settled.payments.map((payment) => payOut(context, closeIfOpen(payment)));
  save(context, settled.overdrawn ? settled.account : { ...settled.account, state: 'closed' }, payments);
}

function takeDeposits(context: Context, account: EscrowAccount, deposits: readonly Depositor[]): EscrowAccount {
  let { funds, transferred } = account;
  for (const deposit of deposits) {
    const { denom, amount } = deposit.balance;
    moveCoins(context, deposit.owner, MODULES.escrow, { denom, amount: truncateDec(amount) });
    const held = funds.find((one) => one.denom === denom)?.amount ?? 0n;
    funds = put(funds, { denom, amount: (held < 0n ? 0n : held) + amount });
    if (!transferred.some((one) => one.denom === denom)) transferred = put(transferred, { denom, amount: 0n });
  }
  return { ...account, funds, transferred, deposits: [...account.deposits, ...deposits] };
}

export function closeAccount(context: Context, scope: EscrowAccount['scope'], xid: string): void {
  const before = getAccount(context, scope, xid);
  if (before.state === 'closed') throw denial('escrow/account_closed');
  const { account, payments } = settle(context, before);
  const paid = payments.map((payment) => payOut(context, closeIfOpen(payment)));
  save(context, account.state === 'open' ? { ...account, state: 'closed' } : account, paid);
}

export interface PaymentId {
  readonly scope: EscrowAccount['scope'];
  readonly accountXid: string;
  readonly xid: string;
}

export function createPayment(context: Context, id: PaymentId, owner: string, rate: DecCoin): void {
  const settled = settle(context, getAccount(context, id.scope, id.accountXid));
  if (settled.overdrawn) throw denial('escrow/account_overdrawn');
  if (!settled.account.funds.some(({ denom }) => denom === rate.denom)) throw denial('escrow/invalid_denomination');
  if (rate.amount === 0n) throw denial('escrow/payment_rate_zero');
  const key = paymentKey(id.scope, id.accountXid, id.xid);
  if (context.state.payments.get(key) !== undefined) throw denial('escrow/payment_exists');
  save(context, settled.account, settled.payments);
  context.state.payments.set(key, { ...id, owner, state: 'open', rate, balance: 0n, unsettled: 0n, withdrawn: 0n });
}

export function withdrawPayment(context: Context, id: PaymentId): void {
  const account = getAccount(context, id.scope, id.accountXid);
  if (getPayment(context, id).state !== 'open') throw denial('escrow/payment_closed');
  const settled = settle(context, account);
  const payments = settled.overdrawn
    ? settled.payments
    : settled.payments.map((payment) => (payment.xid === id.xid ? payOut(context, payment) : payment));
  save(context, settled.account, payments);
}

export function closePayment(context: Context, id: PaymentId): void {
  const account = getAccount(context, id.scope, id.accountXid);
  const before = getPayment(context, id);
  if (before.state === 'closed') throw denial('escrow/payment_closed');
  const settled = settle(context, account);
  // With nothing to settle in this block the keeper leaves the payment as it is; a close has to close it all the same.
  const list = settled.payments.length > 0 || settled.overdrawn ? settled.payments : [before];
  const payments = list.map((payment) => (payment.xid === id.xid ? payOut(context, closeIfOpen(payment)) : payment));
  save(context, settled.account, payments);
}

function getPayment(context: Context, id: PaymentId): EscrowPayment {
  const payment = context.state.payments.get(paymentKey(id.scope, id.accountXid, id.xid));
  if (payment === undefined) throw denial('escrow/payment_not_found');
  return payment;
}

const closeIfOpen = (payment: EscrowPayment): EscrowPayment =>
  payment.state === 'open' ? { ...payment, state: 'closed' } : payment;

export interface Settlement {
  readonly account: EscrowAccount;
  readonly payments: readonly EscrowPayment[];
  readonly overdrawn: boolean;
}

/** Draws what is due up to this block. Nothing is stored yet. */
export function settle(context: Context, before: EscrowAccount): Settlement {
  if (before.state === 'closed') throw denial('escrow/account_closed');
  if ((before.funds[0]?.amount ?? 0n) < 0n) return { account: before, payments: [], overdrawn: true };
  const blocks = before.state === 'overdrawn' ? 0 : context.height - before.settledAt;
  context.gas.consume(SETTLE_GAS.base + SETTLE_GAS.perBlock * Math.min(blocks, SETTLE_GAS.blocksMax), 'escrow');
  let account: EscrowAccount = before.state === 'overdrawn' ? before : { ...before, settledAt: context.height };
  const due = paymentsOf(context, before).filter(
    ({ state }) => state === 'overdrawn' || (state === 'open' && blocks > 0),
  );
  if (due.length === 0) return { account, payments: [], overdrawn: false };
  const settled: EscrowPayment[] = [];
  for (const payment of due) {
    const owed = payment.state === 'overdrawn' ? payment.unsettled : amountDue(payment.rate.amount, blocks);
    const drawn = draw(account, payment.rate.denom, owed);
    account = drawn.account;
    const short = owed - drawn.paid;
    settled.push({
      ...payment,
      balance: payment.balance + drawn.paid,
      unsettled: (payment.state === 'overdrawn' ? 0n : payment.unsettled) + short,
      state: short > 0n ? 'overdrawn' : 'open',
    });
  }
  const isShort = (list: readonly EscrowPayment[]): boolean => list.some(({ state }) => state === 'overdrawn');
  if (!isShort(settled)) return { account, payments: settled, overdrawn: false };
  const helped = settleFromAkt(context, { account, payments: settled }, draw);
  if (!isShort(helped.payments)) return { ...helped, overdrawn: false };
  const payments = helped.payments.map((payment) => payOut(context, { ...payment, state: 'overdrawn' }));
  return { account: { ...helped.account, state: 'overdrawn' }, payments, overdrawn: true };
}

/** Rate x blocks, cut to whole units: what is charged for a stretch of blocks. */
export function amountDue(rate: Dec, blocks: number): Dec {
  return ((rate * BigInt(blocks)) / DEC_ONE) * DEC_ONE;
}

/** Takes from the deposits in the order they were made. Funds go below zero by what is missing. */
function draw(account: EscrowAccount, denom: string, owed: Dec): { account: EscrowAccount; paid: Dec } {
  let rest = owed;
  const deposits: Depositor[] = [];
  for (const deposit of account.deposits) {
    const take = deposit.balance.denom !== denom ? 0n : deposit.balance.amount < rest ? deposit.balance.amount : rest;
    rest -= take;
    const amount = deposit.balance.amount - take;
    if (amount > 0n) deposits.push({ ...deposit, balance: { ...deposit.balance, amount } });
  }
  const paid = owed - rest;
  const add = (list: readonly DecCoin[], change: Dec): DecCoin[] =>
    list.map((one) => (one.denom === denom ? { denom, amount: one.amount + change } : one));
  return {
    account: { ...account, deposits, funds: add(account.funds, -owed), transferred: add(account.transferred, paid) },
    paid,
  };
}

function payOut(context: Context, payment: EscrowPayment): EscrowPayment {
  const earned = truncateDec(payment.balance);
  if (earned === 0n) return payment;
  moveCoins(context, MODULES.escrow, payment.owner, { denom: payment.rate.denom, amount: earned });
  return { ...payment, withdrawn: payment.withdrawn + earned, balance: payment.balance - decFromInt(earned) };
}

/** Stores account and payments, then tells the others what ended: first the account, then each payment. */
function save(context: Context, account: EscrowAccount, payments: readonly EscrowPayment[]): void {
  const { state } = context;
  const ended = account.state === 'closed' || account.state === 'overdrawn';
  const kept = ended ? refundDeposits(context, account) : account;
  state.escrows.set(escrowKey(kept.scope, kept.xid), kept);
  for (const payment of payments) state.payments.set(paymentOf(payment), payment);
  if (ended) context.hooks.accountClosed(context, kept);
  for (const payment of payments) {
    if (payment.state === 'closed' || payment.state === 'overdrawn') context.hooks.paymentClosed(context, payment);
  }
}

const paymentOf = (payment: EscrowPayment): string => paymentKey(payment.scope, payment.accountXid, payment.xid);

function refundDeposits(context: Context, account: EscrowAccount): EscrowAccount {
  let { funds } = account;
  for (const { owner, source, balance } of account.deposits) {
    const coin = { denom: balance.denom, amount: truncateDec(balance.amount) };
    moveCoins(context, MODULES.escrow, owner, coin);
    if (source === 'grant') restoreGrant(context, owner, account.owner, coin);
    const held = funds.find(({ denom }) => denom === coin.denom)?.amount ?? 0n;
    funds = put(funds, { denom: coin.denom, amount: held - balance.amount });
  }
  return { ...account, funds, deposits: [] };
}

/** In the chain's order of keys: overdrawn payments first, then open ones, each by their id. */
function paymentsOf(context: Context, account: EscrowAccount): EscrowPayment[] {
  const own = context.state.payments
    .values()
    .filter(({ scope, accountXid }) => scope === account.scope && accountXid === account.xid)
    .sort((a, b) => (a.xid < b.xid ? -1 : 1));
  return [...own.filter(({ state }) => state === 'overdrawn'), ...own.filter(({ state }) => state === 'open')];
}

function put(list: readonly DecCoin[], coin: DecCoin): DecCoin[] {
  if (!list.some(({ denom }) => denom === coin.denom)) return [...list, coin];
  return list.map((one) => (one.denom === coin.denom ? coin : one));
}
