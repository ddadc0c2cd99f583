import { AllowedMsgAllowance, BasicAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { MsgGrantAllowance, MsgRevokeAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/tx';
import { checkAddress, isExpired, touchAccount } from './bank-rules.ts';
import { emitPlain, type Context } from './context.ts';
import { formatCoins, type Coin } from './decimal.ts';
import { Denial, denial } from './denials.ts';
import { grantKey } from './deposit-rules.ts';
import { rule, type Rules } from './rule.ts';
import type { FeeAllowance } from './state.ts';

/** Cosmos' feegrant module: one account pays the fees of another. */

export const feeRules: Rules = [
  rule({
    type: MsgGrantAllowance,
    gas: 30_000,
    signer: ({ granter }) => granter,
    run: (context, message) => {
      const { granter, grantee } = message;
      if (granter === grantee) {
        throw denial('sdk/invalid_address', { front: 'cannot self-grant fee authorization' });
      }
      checkAddress(grantee);
      const key = grantKey(granter, grantee);
      const had = context.state.allowances.get(key);
      if (had !== undefined && !isExpired(had.expiresS, context)) {
        throw denial('sdk/invalid_request', { front: 'fee allowance already exists' });
      }
      const allowance = readAllowance(message);
      touchAccount(context, grantee);
      if (allowance.expiresS !== null && allowance.expiresS < context.timeS) {
        throw denial('sdk/invalid_request', { front: 'expiration is before current block time' });
      }
      context.state.allowances.set(key, allowance);
      emitPlain(context, 'set_feegrant', { granter, grantee });
    },
  }),
  rule({
    type: MsgRevokeAllowance,
    gas: 20_000,
    signer: ({ granter }) => granter,
    run: (context, { granter, grantee }) => {
      if (granter === grantee) throw denial('sdk/invalid_address', { front: 'addresses must be different' });
      const key = grantKey(granter, grantee);
      if (context.state.allowances.get(key) === undefined) {
        throw denial('sdk/not_found', { front: 'fee-grant not found' });
      }
      context.state.allowances.delete(key);
      emitPlain(context, 'revoke_feegrant', { granter, grantee });
    },
  }),
];

export interface FeeUse {
  readonly coins: readonly Coin[];
  readonly payer: string;
  readonly granter: string;
}

/** Takes a fee off what its granter allows, for messages of these types. */
export function useAllowance(context: Context, fee: FeeUse, typeUrls: readonly string[]): void {
  const { granter, payer: grantee } = fee;
  const key = grantKey(granter, grantee);
  try {
    const left = accept(context, context.state.allowances.get(key), { coins: fee.coins, typeUrls });
    if (left === null) {
      context.state.allowances.delete(key);
      emitPlain(context, 'revoke_feegrant', { granter, grantee });
    } else context.state.allowances.set(key, left);
    emitPlain(context, 'use_feegrant', { granter, grantee });
    if (left !== null) emitPlain(context, 'update_feegrant', { granter, grantee });
  } catch (error) {
    // The SDK writes the addresses' raw bytes here.
    if (error instanceof Denial) throw error.wrap(`${granter} does not allow to pay fees for ${grantee}`);
    throw error;
  }
}

/** What is left of it; null: nothing. */
function accept(
  context: Context,
  allowance: FeeAllowance | undefined,
  { coins, typeUrls }: { readonly coins: readonly Coin[]; readonly typeUrls: readonly string[] },
): FeeAllowance | null {
  if (allowance === undefined) throw denial('sdk/not_found', { front: 'fee-grant not found' });
  if (allowance.messages !== null && !typeUrls.every((typeUrl) => allowance.messages?.includes(typeUrl))) {
    throw denial('feegrant/message_not_allowed', { front: 'message does not exist in allowed messages' });
  }
  if (isExpired(allowance.expiresS, context)) throw denial('feegrant/expired', { front: 'basic allowance' });
  if (allowance.limit === null) return allowance;
  const left = new Map(allowance.limit.map(({ denom, amount }) => [denom, amount]));
  for (const { denom, amount } of coins) left.set(denom, (left.get(denom) ?? 0n) - amount);
  const rest = [...left].map(([denom, amount]) => ({ denom, amount }));
  if (rest.some(({ amount }) => amount < 0n)) throw denial('feegrant/limit_exceeded', { front: 'basic allowance' });
  const limit = rest.filter(({ amount }) => amount > 0n);
  return limit.length === 0 ? null : { ...allowance, limit };
}

function readAllowance({ granter, grantee, allowance }: MsgGrantAllowance): FeeAllowance {
  let [any, messages]: [typeof allowance, readonly string[] | null] = [allowance, null];
  if (any?.typeUrl === AllowedMsgAllowance.typeUrl) {
    const outer = AllowedMsgAllowance.decode(any.value);
    if (outer.allowedMessages.length === 0) {
      throw denial('feegrant/no_messages', { front: "allowed messages shouldn't be empty" });
    }
    [any, messages] = [outer.allowance, outer.allowedMessages];
  }
  if (any?.typeUrl !== BasicAllowance.typeUrl) {
    throw denial('sdk/invalid_type', {
      front: 'the emulated network knows BasicAllowance and AllowedMsgAllowance only',
    });
  }
  const basic = BasicAllowance.decode(any.value);
  const limit = basic.spendLimit.map(({ denom, amount }) => ({ denom, amount: BigInt(amount) }));
  if (limit.some(({ amount }) => amount <= 0n)) {
    throw denial('sdk/invalid_coins', { front: `send amount is invalid: ${formatCoins(limit)}` });
  }
  const expiresS = basic.expiration?.seconds ?? null;
  return { granter, grantee, limit: limit.length === 0 ? null : limit, expiresS, messages };
}
