/**
 * The chart of accounts. Every account has one asset; a transfer moves one amount from a debit to a credit account of the
 * same asset, so it sums to zero by its shape.
 */
export type AccountKind = 'asset' | 'liability' | 'income' | 'expense' | 'equity';

export interface AccountSpec {
  readonly name: string;
  readonly kind: AccountKind;
  readonly asset: string;
  /** Whether posted - held must stay at zero or above. */
  readonly bounded: boolean;
}

const account = (name: string, kind: AccountKind, bounded: boolean, asset = 'USD'): AccountSpec => ({
  name,
  kind,
  asset,
  bounded,
});

const REVENUES_MAX = 1000;
/** Asked for with every request: its name is made once. */
const revenues = new Map<string, AccountSpec>();

/** Assets and expenses grow by debits, the rest by credits. */
export function growsByDebit(kind: AccountKind): boolean {
  return kind === 'asset' || kind === 'expense';
}

/** What a customer has: one account for paid credit, one for each promo grant. We owe it until it is used. */
export const customerPaid = (customer: string): AccountSpec => account(`user:${customer}:paid`, 'liability', true);
export const customerPromo = (customer: string, grant: string): AccountSpec =>
  account(`user:${customer}:promo:${grant}`, 'liability', true);
/** Deposits whose owner is not known. */
export const suspense = (): AccountSpec => account('suspense:deposits', 'liability', true);
/** Money received by hand or by a watcher; the bank or wallet it lies in. */
export const cash = (): AccountSpec => account('cash:operator', 'asset', false);
export const promoExpense = (): AccountSpec => account('expense:promo', 'expense', false);
export const usageRevenue = (model: string): AccountSpec => {
  let known = revenues.get(model);
  if (!known) {
    known = account(`revenue:usage:${model}`, 'income', false);
    if (revenues.size >= REVENUES_MAX) revenues.clear();
    revenues.set(model, known);
  }
  return known;
};
/** What accounts pay for having a pool woken for them. */
export const wakeRevenue = (model: string): AccountSpec => account(`revenue:wake:${model}`, 'income', false);
export const breakage = (): AccountSpec => account('revenue:breakage', 'income', false);
/** What leases of a market are paid from. */
export const treasury = (market: string): AccountSpec => account(`treasury:${market}`, 'asset', true);
export const operatorEquity = (market: string): AccountSpec => account(`equity:${market}`, 'equity', false);
/** Deposit of one lease. */
export const escrow = (market: string, lease: string): AccountSpec =>
  account(`escrow:${market}:${lease}`, 'asset', true);
/** Rent of one dispute, until it is decided. */
export const withheldRent = (market: string, dispute: string): AccountSpec =>
  account(`withheld:${market}:${dispute}`, 'asset', true);
export const leaseExpense = (pool: string): AccountSpec => account(`expense:lease:${pool}`, 'expense', false);
/** What answers of a pool cost where they are paid by tokens, and what is owed for them. */
export const tokenExpense = (pool: string): AccountSpec => account(`expense:tokens:${pool}`, 'expense', false);
export const payable = (provider: string): AccountSpec => account(`payable:api:${provider}`, 'liability', false);
/** The fees that a market takes. */
export const marketFees = (market: string): AccountSpec => account(`expense:market-fees:${market}`, 'expense', false);

/**
 * A network's own coin, which pays its fees and is turned into what leases are settled in. Amounts are billionths of the
 * coin, as those in USD are of a dollar.
 */
export const coinTreasury = (market: string, coin: string): AccountSpec =>
  account(`treasury:${market}:${coin.toLowerCase()}`, 'asset', true, coin);
export const coinEquity = (market: string, coin: string): AccountSpec =>
  account(`equity:${market}:${coin.toLowerCase()}`, 'equity', false, coin);
export const networkFees = (market: string, coin: string): AccountSpec =>
  account(`expense:network-fees:${market}`, 'expense', false, coin);
/** Coin that waits to be turned. */
export const minting = (market: string, coin: string): AccountSpec => account(`minting:${market}`, 'asset', true, coin);
/** The two sides of turning one asset into another: what was given, and what it became. */
export const coinExchange = (market: string, coin: string): AccountSpec =>
  account(`exchange:${market}:${coin.toLowerCase()}`, 'equity', false, coin);
export const usdExchange = (market: string): AccountSpec => account(`exchange:${market}:usd`, 'equity', false);
export const mintSpread = (market: string): AccountSpec => account(`expense:mint-spread:${market}`, 'expense', false);
