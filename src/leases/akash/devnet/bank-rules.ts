import { MsgGrant, MsgRevoke } from 'cosmjs-types/cosmos/authz/v1beta1/tx';
import { MsgMultiSend, MsgSend } from 'cosmjs-types/cosmos/bank/v1beta1/tx';
import { AllowedMsgAllowance, BasicAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { MsgGrantAllowance, MsgRevokeAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/tx';
import { isAddress } from './address.ts';
import { emitPlain, moveCoins, type Context } from './context.ts';
import type { Coin } from './decimal.ts';
import { denial, plainDenial } from './denials.ts';
import { grantKey } from './deposit-rules.ts';
import { concatBytes, readFields, textField, type WireField } from './protobuf.ts';
import { rule, type Rules } from './rule.ts';
import type { DepositGrant, FeeAllowance } from './state.ts';

/** Cosmos' own modules, as far as a tenant meets them: sends, DepositAuthorizations, fee grants. */

const DEPOSIT_AUTHORIZATION = '/akash.escrow.v1.DepositAuthorization';
/** What a DepositAuthorization says it is for. */
const DEPOSIT_MESSAGE = '/akash.escrow.v1.MsgAccountDeposit';
/** ACT reaches others by escrow alone. */
const SEND_DISABLED = new Set(['uact']);

interface WireCoin {
  readonly denom: string;
  readonly amount: string;
}

export const bankRules: Rules = [
  rule({
    type: MsgSend,
    gas: 30_000,
    signer: ({ fromAddress }) => fromAddress,
    check: ({ fromAddress, toAddress, amount }) => {
      checkAddresses(fromAddress, toAddress);
      checkCoins(amount);
    },
    run: (context, { fromAddress, toAddress, amount }) => sendCoins(context, fromAddress, toAddress, amount),
  }),
  rule({
    type: MsgMultiSend,
    gas: 30_000,
    signer: ({ inputs }) => inputs[0]?.address ?? '',
    check: ({ inputs, outputs }) => {
      if (inputs.length !== 1) throw plainDenial('multiple senders not allowed');
      checkCoins(inputs[0]?.coins ?? []);
      for (const { address, coins } of outputs) {
        checkAddresses(address);
        checkCoins(coins);
      }
      const total = (side: readonly { readonly coins: readonly WireCoin[] }[]): string =>
        JSON.stringify(sumCoins(side.flatMap(({ coins }) => coins)));
      if (total(inputs) !== total(outputs)) throw plainDenial('sum inputs != sum outputs');
    },
    run: (context, { inputs, outputs }) => {
      for (const { address, coins } of outputs) sendCoins(context, inputs[0]?.address ?? '', address, coins);
    },
  }),
  rule({
    type: MsgGrant,
    gas: 30_000,
    signer: ({ granter }) => granter,
    check: ({ granter, grantee }) => {
      checkAddresses(granter, grantee);
      if (granter === grantee) throw denial('sdk/invalid_address', { front: 'cannot self-grant' });
    },
    run: (context, message) => {
      const grant = readGrant(message);
      touchAccount(context, grant.grantee);
      context.state.grants.set(grantKey(grant.granter, grant.grantee), grant);
      const { granter, grantee } = grant;
      emitPlain(context, 'cosmos.authz.v1beta1.EventGrant', { msg_type_url: DEPOSIT_MESSAGE, granter, grantee });
    },
  }),
  rule({
    type: MsgRevoke,
    gas: 20_000,
    signer: ({ granter }) => granter,
    run: (context, { granter, grantee, msgTypeUrl }) => {
      const key = grantKey(granter, grantee);
      if (msgTypeUrl !== DEPOSIT_MESSAGE || context.state.grants.get(key) === undefined) {
        throw denial('authz/no_grant', { front: `failed to delete grant with key ${granter}` });
      }
      context.state.grants.delete(key);
    },
  }),
  rule({
    type: MsgGrantAllowance,
    gas: 30_000,
    signer: ({ granter }) => granter,
    check: ({ granter, grantee }) => {
      checkAddresses(granter, grantee);
      if (granter === grantee) {
        throw denial('sdk/invalid_address', { front: 'cannot self-grant fee authorization' });
      }
    },
    run: (context, message) => {
      const key = grantKey(message.granter, message.grantee);
      const had = context.state.allowances.get(key);
      if (had !== undefined && !isExpired(had.expiresS, context)) {
        throw denial('sdk/invalid_request', { front: 'fee allowance already exists' });
      }
      touchAccount(context, message.grantee);
      context.state.allowances.set(key, readAllowance(message));
    },
  }),
  rule({
    type: MsgRevokeAllowance,
    gas: 20_000,
    signer: ({ granter }) => granter,
    run: (context, { granter, grantee }) => {
      const key = grantKey(granter, grantee);
      if (context.state.allowances.get(key) === undefined) {
        throw denial('sdk/not_found', { front: 'fee-grant not found' });
      }
      context.state.allowances.delete(key);
    },
  }),
];

function checkAddresses(...addresses: readonly string[]): void {
  for (const address of addresses) {
    if (!isAddress(address)) throw denial('sdk/invalid_address', { front: `invalid address ${address.slice(0, 60)}` });
  }
}

function checkCoins(coins: readonly WireCoin[]): void {
  const wrong =
    coins.length === 0 || coins.some(({ denom, amount }) => denom === '' || !/^[1-9]\d{0,40}$/.test(amount));
  if (wrong) throw denial('sdk/invalid_coins', { front: coins.map((coin) => `${coin.amount}${coin.denom}`).join(',') });
}

function sumCoins(coins: readonly WireCoin[]): string[] {
  const sums = new Map<string, bigint>();
  for (const { denom, amount } of coins) sums.set(denom, (sums.get(denom) ?? 0n) + BigInt(amount));
  return [...sums].map(([denom, sum]) => `${denom} ${sum}`).sort((a, b) => (a < b ? -1 : 1));
}

function sendCoins(context: Context, from: string, to: string, coins: readonly WireCoin[]): void {
  for (const { denom, amount } of coins) {
    if (SEND_DISABLED.has(denom)) {
      throw denial('bank/send_disabled', { front: `${denom} transfers are currently disabled` });
    }
    touchAccount(context, to);
    moveCoins(context, from, to, { denom, amount: BigInt(amount) });
  }
  emitPlain(context, 'message', { sender: from });
}

/** Whoever receives coins has an account from then on. */
export function touchAccount(context: Pick<Context, 'state'>, address: string): void {
  const { accounts } = context.state;
  if (accounts.get(address) !== undefined) return;
  accounts.set(address, { address, number: BigInt(accounts.values().length), sequence: 0n, pubkey: null });
}

export function isExpired(expiresS: bigint | null, { timeS }: Pick<Context, 'timeS'>): boolean {
  return expiresS !== null && expiresS <= timeS;
}

function readGrant({ granter, grantee, grant }: MsgGrant): DepositGrant {
  const any = grant.authorization;
  if (any?.typeUrl !== DEPOSIT_AUTHORIZATION) {
    throw denial('sdk/invalid_type', { front: `the emulated network grants ${DEPOSIT_AUTHORIZATION} only` });
  }
  const fields = readFields(any.value);
  const scopes = fields.filter(({ number }) => number === 2).flatMap(readNumbers);
  if (scopes.length === 0) throw denial('escrow/invalid_authz_scope', { front: 'empty scope' });
  if (scopes.some((scope) => scope !== 1 && scope !== 2)) throw denial('escrow/invalid_authz_scope');
  const old = fields.filter(({ number }) => number === 1).map(({ bytes }) => readCoin(bytes));
  if (old.some(({ amount }) => amount !== 0n)) {
    throw denial('sdk/invalid_coins', { front: 'spend limit is deprecated and must be zero' });
  }
  const limits = fields.filter(({ number }) => number === 3).map(({ bytes }) => readCoin(bytes));
  if (limits.some(({ amount }) => amount <= 0n)) {
    throw denial('sdk/invalid_coins', { front: 'spend limits are not valid' });
  }
  return { granter, grantee, scopes, limits, expiresS: grant.expiration?.seconds ?? null };
}

/** Repeated numbers come packed or one by one. */
function readNumbers({ bytes, value }: WireField): number[] {
  return bytes.length === 0 ? [Number(value)] : [...bytes];
}

function readCoin(bytes: Uint8Array): Coin {
  const text = (number: number): string =>
    new TextDecoder().decode(readFields(bytes).findLast((field) => field.number === number)?.bytes);
  const amount = text(2);
  return { denom: text(1), amount: /^-?\d{1,40}$/.test(amount) ? BigInt(amount) : 0n };
}

/** The Any's value of a stored grant. */
export function grantBytes(grant: DepositGrant): Uint8Array {
  const coin = (number: number, { denom, amount }: Coin): Uint8Array => {
    const inner = concatBytes(textField(1, denom), textField(2, amount.toString()));
    return concatBytes(Uint8Array.of((number << 3) | 2, inner.length), inner);
  };
  return concatBytes(
    coin(1, { denom: 'uakt', amount: 0n }),
    Uint8Array.of(0x12, grant.scopes.length, ...grant.scopes),
    ...grant.limits.map((limit) => coin(3, limit)),
  );
}

function readAllowance({ granter, grantee, allowance }: MsgGrantAllowance): FeeAllowance {
  let [any, messages]: [typeof allowance, readonly string[] | null] = [allowance, null];
  if (any?.typeUrl === AllowedMsgAllowance.typeUrl) {
    const outer = AllowedMsgAllowance.decode(any.value);
    if (outer.allowedMessages.length === 0) throw denial('feegrant/no_messages');
    [any, messages] = [outer.allowance, outer.allowedMessages];
  }
  if (any?.typeUrl !== BasicAllowance.typeUrl) {
    throw denial('sdk/invalid_type', {
      front: 'the emulated network knows BasicAllowance and AllowedMsgAllowance only',
    });
  }
  const basic = BasicAllowance.decode(any.value);
  const limit = basic.spendLimit.map(({ denom, amount }) => ({ denom, amount: BigInt(amount) }));
  const expiresS = basic.expiration?.seconds ?? null;
  return { granter, grantee, limit: limit.length === 0 ? null : limit, expiresS, messages };
}
