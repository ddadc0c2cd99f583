import { moduleAddress } from './address.ts';
import { denial } from './denials.ts';
import type { Coin } from './decimal.ts';
import type { EscrowAccount, EscrowPayment, State } from './state.ts';

/** The modules' parameters; governance may change them on the real network. Defaults: chain-sdk `go/node`, v2.1. */
export const PARAMS = {
  deploymentMinDeposits: { uakt: 500_000n, uact: 500_000n },
  bidMinDeposits: { uakt: 500_000n, uact: 500_000n },
  orderMaxBids: 20,
  reclamationMinS: 3_600n,
  reclamationMaxS: 2_592_000n,
  memoMax: 256,
  txBytesMax: 1_048_576,
  unorderedMaxMs: 600_000,
  /** uakt per 10,000 gas: the node's default of 0.0025uakt. */
  gasPricePer10k: 25n,
  gas: { base: 25_000, perByte: 10, signature: 1_000, unordered: 2_240, event: 500 },
  mint: {
    warnBp: 9_500,
    haltBp: 9_000,
    epochBlocks: 10,
    spreadBp: 25n,
    settleSpreadBp: 0n,
    recordsPerBlock: 50,
    minimumUact: 10_000_000n,
    attemptsMax: 3,
  },
} as const;

/** 1 ACT is 1 USD; AKT's price in USD, 18 decimals, is the devnet's own. */
export const AKT_PRICE = 500_000_000_000_000_000n;

export interface ChainEvent {
  readonly type: string;
  readonly attributes: readonly (readonly [string, string])[];
}

/** Modules are addresses too, derived from their names. */
export const MODULES = {
  escrow: moduleAddress('escrow'),
  bme: moduleAddress('bme'),
  fees: moduleAddress('fee_collector'),
} as const;

/** Counts gas; over the limit it throws the chain's own refusal. */
export class GasMeter {
  readonly limit: bigint;
  readonly #factor: bigint;
  #used = 0n;

  /** A factor above 1 makes everything dearer than a simulation said. */
  constructor(limit: bigint, factor = 1n) {
    this.limit = limit;
    this.#factor = factor;
  }

  get used(): bigint {
    return this.#used;
  }

  consume(amount: number | bigint, location: string): void {
    this.#used += BigInt(amount) * this.#factor;
    if (this.#used <= this.limit) return;
    const front = `out of gas in location: ${location}; gasWanted: ${this.limit}, gasUsed: ${this.#used}`;
    throw denial('sdk/out_of_gas', { front });
  }
}

/** What modules tell each other; wired in rules.ts, so that no rule file needs another one that needs it. */
export interface Hooks {
  accountClosed(context: Context, account: EscrowAccount): void;
  paymentClosed(context: Context, payment: EscrowPayment): void;
}

/** What a message is carried out in. */
export interface Context {
  readonly state: State;
  readonly height: number;
  /** Of the block, in seconds since 1970. */
  readonly timeS: bigint;
  readonly gas: GasMeter;
  readonly events: ChainEvent[];
  readonly hooks: Hooks;
  /** Switches of the mint. */
  readonly mintsHalted: boolean;
  readonly mintsCanceled: boolean;
}

/** A typed event: values are JSON, as the SDK's EmitTypedEvent writes them. */
export function emit(context: Context, type: string, values: Readonly<Record<string, unknown>>): void {
  const attributes = Object.entries(values).map(([key, value]): [string, string] => [key, JSON.stringify(value)]);
  context.events.push({ type, attributes });
}

/** An event of old, with plain values. */
export function emitPlain(context: Context, type: string, values: Readonly<Record<string, string>>): void {
  context.events.push({ type, attributes: Object.entries(values) });
}

const balanceKey = (address: string, denom: string): string => `${address} ${denom}`;

export function balanceOf(state: State, address: string, denom: string): bigint {
  return state.balances.get(balanceKey(address, denom)) ?? 0n;
}

export function balancesOf(state: State, address: string): Coin[] {
  return state.balances
    .entries()
    .filter(([key, amount]) => key.startsWith(`${address} `) && amount > 0n)
    .map(([key, amount]) => ({ denom: key.slice(address.length + 1), amount }))
    .sort((a, b) => (a.denom < b.denom ? -1 : 1));
}

export function addBalance(state: State, address: string, { denom, amount }: Coin): void {
  state.balances.set(balanceKey(address, denom), balanceOf(state, address, denom) + amount);
}

/** Coins out of nothing: genesis and mints. */
export function mintCoins(state: State, address: string, coin: Coin): void {
  addBalance(state, address, coin);
  state.supply.set(coin.denom, (state.supply.get(coin.denom) ?? 0n) + coin.amount);
}

export function burnCoins(state: State, address: string, { denom, amount }: Coin): void {
  addBalance(state, address, { denom, amount: -amount });
  state.supply.set(denom, (state.supply.get(denom) ?? 0n) - amount);
}

/** Moves coins or throws; modules are addresses too. */
export function moveCoins(context: Context, from: string, to: string, coin: Coin): void {
  const held = balanceOf(context.state, from, coin.denom);
  if (held < coin.amount) {
    const front = `spendable balance ${held}${coin.denom} is smaller than ${coin.amount}${coin.denom}`;
    throw denial('sdk/insufficient_funds', { front });
  }
  if (coin.amount === 0n) return;
  context.gas.consume(4_000, 'bank');
  addBalance(context.state, from, { denom: coin.denom, amount: -coin.amount });
  addBalance(context.state, to, coin);
  const amount = `${coin.amount}${coin.denom}`;
  emitPlain(context, 'coin_spent', { spender: from, amount });
  emitPlain(context, 'coin_received', { receiver: to, amount });
  emitPlain(context, 'transfer', { recipient: to, sender: from, amount });
  emitPlain(context, 'message', { sender: from });
}
