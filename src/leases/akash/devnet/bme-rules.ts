import { MsgBurnACT, MsgBurnMint, MsgMintACT } from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { isAddress } from './address.ts';
import {
  AKT_PRICE,
  balanceOf,
  burnCoins,
  emit,
  mintCoins,
  MODULES,
  moveCoins,
  PARAMS,
  type Context,
} from './context.ts';
import { DEC_ONE, mulDec, quoDec, truncateDec, type Coin, type Dec } from './decimal.ts';
import { denial } from './denials.ts';
import { bytesField, concatBytes, textField, varintField } from './protobuf.ts';
import { rule, type Rules } from './rule.ts';
import type { MintRecord, State } from './state.ts';

/** The burn-mint engine: ACT is minted by burning AKT, in a queue that is worked off in epochs (node: x/bme/keeper). */

const CANCEL = { unknown: 0, epsilon: 1, minimum_mint: 6, max_attempts: 9 } as const;
const CANCEL_NAMES: Readonly<Record<number, string>> = {
  0: 'unknown',
  1: 'epsilon',
  6: 'minimum_mint',
  9: 'max_attempts',
};

interface BurnRequest {
  readonly owner: string;
  readonly to: string;
  readonly coinsToBurn: { readonly denom: string; readonly amount: string } | undefined;
}

export const bmeRules: Rules = [
  rule({
    type: MsgMintACT,
    gas: 40_000,
    signer: ({ owner }) => owner,
    check: checkBurn,
    run: (context, message) => requestBurn(context, message, 'uact'),
  }),
  rule({
    type: MsgBurnACT,
    gas: 40_000,
    signer: ({ owner }) => owner,
    check: checkBurn,
    run: (context, message) => requestBurn(context, message, 'uakt'),
  }),
  rule({
    type: MsgBurnMint,
    gas: 40_000,
    signer: ({ owner }) => owner,
    check: checkBurn,
    run: (context, message) => requestBurn(context, message, message.denomToMint),
  }),
];

function checkBurn({ owner, to, coinsToBurn }: BurnRequest): void {
  if (!isAddress(owner)) throw denial('sdk/invalid_address', { front: 'invalid owner address' });
  if (owner !== to) throw denial('bme/unauthorized', { front: 'owner and to addresses must match' });
  if (!/^\d{1,40}$/.test(coinsToBurn?.amount ?? '')) throw denial('sdk/invalid_coins');
  if (BigInt(coinsToBurn?.amount ?? '0') === 0n) throw denial('bme/invalid_amount', { front: 'amount must not be 0' });
}

/** Coins go to the module now, what they become arrives in a later block. */
function requestBurn(context: Context, message: BurnRequest, toDenom: string): Uint8Array {
  const burn: Coin = { denom: message.coinsToBurn?.denom ?? '', amount: BigInt(message.coinsToBurn?.amount ?? '0') };
  const route = `${burn.denom} -> ${toDenom}`;
  if (route !== 'uakt -> uact' && route !== 'uact -> uakt') {
    throw denial('bme/invalid_denom', { front: `invalid swap route ${route}` });
  }
  const halted = mintStatus(context.state, context.mintsHalted).status >= 3;
  if (halted && toDenom === 'uact') throw denial('bme/circuit_breaker');
  const { height } = context;
  const sequence = context.state.mints.values().filter((record) => record.height === height).length + 1;
  const pending = pendingBalance(context.state, burn.denom);
  context.state.numbers.set(`pending ${burn.denom}`, pending + burn.amount);
  moveCoins(context, message.owner, MODULES.bme, burn);
  const record: MintRecord = {
    source: message.owner,
    denom: burn.denom,
    toDenom,
    height,
    sequence,
    burn,
    status: 'pending',
    attempts: 0,
    minted: null,
    spread: null,
    cancelReason: CANCEL.unknown,
  };
  context.state.mints.set(mintKey(record), record);
  return concatBytes(bytesField(1, mintIdBytes(record)), varintField(2, 1));
}

const mintKey = (record: MintRecord): string =>
  [record.denom, record.toDenom, record.source, record.height, record.sequence].join(' ');

export function mintIdBytes(record: MintRecord): Uint8Array {
  return concatBytes(
    textField(1, record.denom),
    textField(2, record.toDenom),
    textField(3, record.source),
    varintField(4, record.height),
    varintField(5, record.sequence),
  );
}

const pendingBalance = (state: State, denom: string): bigint => state.numbers.get(`pending ${denom}`) ?? 0n;

/** Collateral per outstanding ACT, at the oracle's price. */
export function collateralRatio(state: State): Dec {
  const free = balanceOf(state, MODULES.bme, 'uakt') - pendingBalance(state, 'uakt');
  const outstanding = state.supply.get('uact') ?? 0n;
  const value = mulDec(free * DEC_ONE, AKT_PRICE);
  return outstanding === 0n ? value : quoDec(value, outstanding * DEC_ONE);
}

export interface MintStatus {
  /** 1 healthy, 2 warning, 3 halted for its collateral. */
  readonly status: 1 | 2 | 3;
  readonly ratio: Dec;
  readonly epochBlocks: number;
}

export function mintStatus(state: State, halted: boolean): MintStatus {
  const ratio = halted ? (DEC_ONE * 85n) / 100n : collateralRatio(state);
  const bp = Number((ratio * 10_000n) / DEC_ONE);
  const { warnBp, haltBp, epochBlocks } = PARAMS.mint;
  if (bp > warnBp) return { status: 1, ratio, epochBlocks };
  if (bp <= haltBp) return { status: 3, ratio, epochBlocks };
  // Each 10 bp below the warning make an epoch a tenth longer, up to about a day.
  const longer = Math.floor(epochBlocks * 1.1 ** Math.floor((warnBp - bp) / 10));
  return { status: 2, ratio, epochBlocks: Math.min(14_400, longer) };
}

/** At each block's end: burns of ACT in epochs of their own, mints when their epoch comes and nothing is halted. */
export function endMintBlock(context: Context): void {
  workOff(context, 'burn epoch', 'uakt', PARAMS.mint.epochBlocks);
  const { status, epochBlocks } = mintStatus(context.state, context.mintsHalted);
  if (status < 3) workOff(context, 'mint epoch', 'uact', epochBlocks);
}

function workOff(context: Context, epoch: string, toDenom: string, epochBlocks: number): void {
  const due = Number(context.state.numbers.get(epoch) ?? 0n);
  if (due > context.height) return;
  context.state.numbers.set(epoch, BigInt(context.height + epochBlocks));
  const pending = context.state.mints
    .values()
    .filter((record) => record.status === 'pending' && record.toDenom === toDenom)
    .slice(0, PARAMS.mint.recordsPerBlock);
  for (const record of pending) carryOut(context, record);
}

function carryOut(context: Context, record: MintRecord): void {
  const rate = record.toDenom === 'uact' ? AKT_PRICE : quoDec(DEC_ONE, AKT_PRICE);
  const amount = truncateDec(mulDec(record.burn.amount * DEC_ONE, rate));
  if (context.mintsCanceled) {
    cancel(context, record, CANCEL.unknown);
  } else if (amount <= 0n) {
    cancel(context, record, CANCEL.epsilon);
  } else if (record.toDenom === 'uact' && amount < PARAMS.mint.minimumUact) {
    cancel(context, record, CANCEL.minimum_mint);
  } else {
    execute(context, record, amount);
  }
}

function cancel(context: Context, record: MintRecord, cancelReason: number): void {
  const { state } = context;
  state.mints.set(mintKey(record), { ...record, status: 'canceled', cancelReason });
  state.numbers.set(`pending ${record.denom}`, pendingBalance(state, record.denom) - record.burn.amount);
  moveCoins(context, MODULES.bme, record.source, record.burn);
  emit(context, 'akash.bme.v1.EventLedgerRecordCanceled', {
    id: idJson(record),
    cancel_reason: CANCEL_NAMES[cancelReason] ?? 'unknown',
    owner: record.source,
    to: record.source,
    coins_to_burn: coinJson(record.burn),
    denom_to_mint: record.toDenom,
  });
}

/** AKT stays in the vault as collateral; ACT is burnt. The spread stays in the vault. */
function execute(context: Context, record: MintRecord, amount: bigint): void {
  const { state } = context;
  const minting = record.toDenom === 'uact';
  const spread = (amount * (minting ? PARAMS.mint.spreadBp : PARAMS.mint.settleSpreadBp)) / 10_000n;
  state.numbers.set(`pending ${record.denom}`, pendingBalance(state, record.denom) - record.burn.amount);
  if (minting) {
    mintCoins(state, MODULES.bme, { denom: 'uact', amount });
  } else {
    burnCoins(state, MODULES.bme, record.burn);
    const short = amount - balanceOf(state, MODULES.bme, 'uakt');
    if (short > 0n) mintCoins(state, MODULES.bme, { denom: 'uakt', amount: short });
  }
  const minted = { denom: record.toDenom, amount };
  moveCoins(context, MODULES.bme, record.source, { denom: record.toDenom, amount: amount - spread });
  const done: MintRecord = { ...record, status: 'executed', minted, spread: { denom: record.toDenom, amount: spread } };
  state.mints.set(mintKey(record), done);
  emit(context, 'akash.bme.v1.EventLedgerRecordExecuted', {
    id: idJson(record),
    burned_from: record.source,
    minted_to: record.source,
    burner: 'bme',
    minter: 'bme',
    minted: { coin: coinJson(minted), price: minting ? '1.000000000000000000' : '' },
    spread: coinJson({ denom: record.toDenom, amount: spread }),
  });
}

const coinJson = ({ denom, amount }: Coin) => ({ denom, amount: amount.toString() });
const idJson = (record: MintRecord) => ({
  denom: record.denom,
  to_denom: record.toDenom,
  source: record.source,
  height: record.height.toString(),
  sequence: record.sequence.toString(),
});
