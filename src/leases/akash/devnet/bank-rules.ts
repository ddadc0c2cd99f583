import { MsgGrant, MsgRevoke } from 'cosmjs-types/cosmos/authz/v1beta1/tx';
import { MsgMultiSend, MsgSend } from 'cosmjs-types/cosmos/bank/v1beta1/tx';
import { isAddress } from './address.ts';
import { emitPlain, moveCoins, type Context } from './context.ts';
import type { Coin } from './decimal.ts';
import { denial, plainDenial } from './denials.ts';
import { grantKey } from './deposit-rules.ts';
import { rfc3339 } from './go-time.ts';
import { concatBytes, readFields, textField, type WireField } from './protobuf.ts';
import { rule, type Rules } from './rule.ts';
import type { DepositGrant } from './state.ts';

/**
 * Cosmos' bank and authz, as far as a tenant meets them: sends and DepositAuthorizations. Since SDK 0.50 their messages are
 * checked where they are carried out, so a wrong one is in a block and pays its fee.
 */

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
    run: (context, { fromAddress, toAddress, amount }) => {
      checkAddress(toAddress, 'invalid to address: decoding bech32 failed');
      checkCoins(amount);
      sendCoins(context, fromAddress, toAddress, amount);
    },
  }),
  rule({
    type: MsgMultiSend,
    gas: 30_000,
    signer: ({ inputs }) => inputs[0]?.address ?? '',
    run: (context, { inputs, outputs }) => {
      if (inputs.length !== 1) throw plainDenial('multiple senders not allowed');
      checkCoins(inputs[0]?.coins ?? []);
      for (const { address, coins } of outputs) {
        checkAddress(address);
        checkCoins(coins);
      }
      const total = (side: readonly { readonly coins: readonly WireCoin[] }[]): string =>
        JSON.stringify(sumCoins(side.flatMap(({ coins }) => coins)));
      if (total(inputs) !== total(outputs)) throw plainDenial('sum inputs != sum outputs');
      for (const { address, coins } of outputs) sendCoins(context, inputs[0]?.address ?? '', address, coins);
    },
  }),
  rule({
    type: MsgGrant,
    gas: 30_000,
    signer: ({ granter }) => granter,
    run: (context, message) => {
      const { granter, grantee } = message;
      if (granter === grantee) throw denial('authz/self_grant');
      checkAddress(grantee, 'invalid grantee address: decoding bech32 failed');
      const grant = readGrant(message);
      touchAccount(context, grantee);
      if (isExpired(grant.expiresS, context)) {
        const [now, until] = [rfc3339(context.timeS), rfc3339(grant.expiresS ?? 0n)];
        const front = `expiration must be after the current block time (${now}), got ${until}`;
        throw denial('authz/invalid_expiration', { front });
      }
      context.state.grants.set(grantKey(granter, grantee), grant);
      emitPlain(context, 'cosmos.authz.v1beta1.EventGrant', { msg_type_url: DEPOSIT_MESSAGE, granter, grantee });
    },
  }),
  rule({
    type: MsgRevoke,
    gas: 20_000,
    signer: ({ granter }) => granter,
    run: (context, { granter, grantee, msgTypeUrl }) => {
      if (granter === grantee) throw denial('authz/self_grant');
      const key = grantKey(granter, grantee);
      if (msgTypeUrl !== DEPOSIT_MESSAGE || context.state.grants.get(key) === undefined) {
        throw denial('authz/no_grant', { front: `failed to delete grant with key ${granter}` });
      }
      context.state.grants.delete(key);
    },
  }),
];

export function checkAddress(address: string, front = `invalid address ${address.slice(0, 60)}`): void {
  if (!isAddress(address)) throw denial('sdk/invalid_address', { front });
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

/** Grants and allowances whose date is over are gone with the block that comes after it. */
export function dropExpired(context: Pick<Context, 'state' | 'timeS'>): void {
  for (const table of [context.state.grants, context.state.allowances]) {
    for (const [key, { expiresS }] of table.entries()) if (isExpired(expiresS, context)) table.delete(key);
  }
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
