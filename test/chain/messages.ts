import { MsgSend } from 'cosmjs-types/cosmos/bank/v1beta1/tx';
import type { AnyMessage } from './signing.ts';

export function send(from: string, to: string, amount: bigint, denom = 'uakt'): AnyMessage {
  const value = { fromAddress: from, toAddress: to, amount: [{ denom, amount: String(amount) }] };
  return { typeUrl: MsgSend.typeUrl, value: MsgSend.encode(MsgSend.fromPartial(value)).finish() };
}
