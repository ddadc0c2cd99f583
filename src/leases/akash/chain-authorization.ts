import {
  DepositAuthorization,
  DepositAuthorization_Scope as Scope,
} from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { Coin } from 'cosmjs-types/cosmos/base/v1beta1/coin';
import { BinaryReader, BinaryWriter } from 'cosmjs-types/binary';
import type { Micro } from './amounts.ts';

/**
 * DepositAuthorization with `spend_limits`, which chain-sdk 1.0.0-alpha.25 lacks: the chain refuses the older
 * `spend_limit`. Field 3, repeated Coin.
 */
export const AUTHORIZATION_TYPE = '/akash.escrow.v1.DepositAuthorization';
const SPEND_LIMITS = 3;
const DELIMITED = 2;

export function encodeAuthorization(denom: string, amount: Micro): Uint8Array {
  const writer = new BinaryWriter();
  writer.uint32((SPEND_LIMITS << 3) | DELIMITED).bytes(Coin.encode({ denom, amount: String(amount) }).finish());
  const scopes = DepositAuthorization.encode(DepositAuthorization.fromPartial({ scopes: [Scope.deployment] })).finish();
  return Buffer.concat([scopes, writer.finish()]);
}

/** What may still be spent of a denom. */
export function limitOf(authorization: Uint8Array, denom: string): Micro {
  const reader = new BinaryReader(authorization);
  let limit = 0n;
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag >>> 3 !== SPEND_LIMITS) {
      reader.skipType(tag & 7);
      continue;
    }
    const coin = Coin.decode(reader.bytes());
    if (coin.denom === denom) limit += BigInt(coin.amount);
  }
  return limit;
}
