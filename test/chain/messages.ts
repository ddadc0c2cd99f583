import { MsgGrant, MsgRevoke } from 'cosmjs-types/cosmos/authz/v1beta1/tx';
import { MsgSend } from 'cosmjs-types/cosmos/bank/v1beta1/tx';
import { AllowedMsgAllowance, BasicAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { MsgGrantAllowance, MsgRevokeAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/tx';
import { AUTHORIZATION_TYPE, encodeAuthorization } from '../../src/leases/akash/chain-authorization.ts';
import type { AnyMessage } from './signing.ts';

/** Messages that both the real chain and the emulated one carry out. */

export function send(from: string, to: string, amount: bigint, denom = 'uakt'): AnyMessage {
  const value = { fromAddress: from, toAddress: to, amount: [{ denom, amount: String(amount) }] };
  return { typeUrl: MsgSend.typeUrl, value: MsgSend.encode(MsgSend.fromPartial(value)).finish() };
}

export interface Allowance {
  readonly uakt: bigint;
  /** Null: any; else by their type URLs. */
  readonly messages?: readonly string[];
  readonly untilS?: bigint;
}

export function grantFees(granter: string, grantee: string, { uakt, messages, untilS }: Allowance): AnyMessage {
  const expiration = untilS === undefined ? {} : { expiration: { seconds: untilS, nanos: 0 } };
  const basic = BasicAllowance.fromPartial({ spendLimit: [{ denom: 'uakt', amount: String(uakt) }], ...expiration });
  let allowance = { typeUrl: BasicAllowance.typeUrl, value: BasicAllowance.encode(basic).finish() };
  if (messages) {
    const allowed = AllowedMsgAllowance.fromPartial({ allowance, allowedMessages: [...messages] });
    allowance = { typeUrl: AllowedMsgAllowance.typeUrl, value: AllowedMsgAllowance.encode(allowed).finish() };
  }
  const value = MsgGrantAllowance.encode(MsgGrantAllowance.fromPartial({ granter, grantee, allowance })).finish();
  return { typeUrl: MsgGrantAllowance.typeUrl, value };
}

export function revokeFees(granter: string, grantee: string): AnyMessage {
  const value = MsgRevokeAllowance.encode(MsgRevokeAllowance.fromPartial({ granter, grantee })).finish();
  return { typeUrl: MsgRevokeAllowance.typeUrl, value };
}

export function grantDeposits(granter: string, grantee: string, amount: bigint, untilS: bigint): AnyMessage {
  const authorization = { typeUrl: AUTHORIZATION_TYPE, value: encodeAuthorization('uact', amount) };
  const grant = { authorization, expiration: { seconds: untilS, nanos: 0 } };
  const value = MsgGrant.encode(MsgGrant.fromPartial({ granter, grantee, grant })).finish();
  return { typeUrl: MsgGrant.typeUrl, value };
}

export function revoke(granter: string, grantee: string, msgTypeUrl: string): AnyMessage {
  const value = MsgRevoke.encode(MsgRevoke.fromPartial({ granter, grantee, msgTypeUrl })).finish();
  return { typeUrl: MsgRevoke.typeUrl, value };
}
