import { Secp256k1, sha256 } from '@cosmjs/crypto';
import { BaseAccount } from 'cosmjs-types/cosmos/auth/v1beta1/auth';
import { QueryAccountRequest, QueryAccountResponse } from 'cosmjs-types/cosmos/auth/v1beta1/query';
import { PubKey } from 'cosmjs-types/cosmos/crypto/secp256k1/keys';
import { SignMode } from 'cosmjs-types/cosmos/tx/signing/v1beta1/signing';
import { AuthInfo, SignDoc, TxBody, TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import type { Wallet } from '../../src/leases/akash/devnet/wallet.ts';
import { call } from './node-rpc.ts';

export interface AnyMessage {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** A transaction by hand, as right or as wrong as a test wants it. */
export interface Parts {
  readonly wallet: Wallet;
  readonly chainId: string;
  readonly accountNumber: bigint;
  readonly messages: readonly AnyMessage[];
  readonly sequence?: bigint;
  readonly feeUakt?: bigint;
  readonly feeDenom?: string;
  readonly gas?: bigint;
  readonly granter?: string;
  readonly memo?: string;
  readonly timeoutHeight?: bigint;
  /** Unordered when it is named; null: without a time-out. */
  readonly timeoutNs?: bigint | null;
}

export function sign(parts: Parts): Uint8Array {
  const { wallet, chainId, accountNumber, sequence = 0n, feeUakt = 10_000n, gas = 400_000n, timeoutNs } = parts;
  const timeout =
    timeoutNs === undefined || timeoutNs === null
      ? {}
      : { timeoutTimestamp: { seconds: timeoutNs / 1_000_000_000n, nanos: Number(timeoutNs % 1_000_000_000n) } };
  const bodyBytes = TxBody.encode(
    TxBody.fromPartial({
      messages: [...parts.messages],
      memo: parts.memo ?? '',
      timeoutHeight: parts.timeoutHeight ?? 0n,
      unordered: timeoutNs !== undefined,
      ...timeout,
    }),
  ).finish();
  const publicKey = { typeUrl: PubKey.typeUrl, value: PubKey.encode({ key: wallet.publicKey }).finish() };
  const amount = feeUakt === 0n ? [] : [{ denom: parts.feeDenom ?? 'uakt', amount: String(feeUakt) }];
  const authInfoBytes = AuthInfo.encode(
    AuthInfo.fromPartial({
      signerInfos: [{ publicKey, modeInfo: { single: { mode: SignMode.SIGN_MODE_DIRECT } }, sequence }],
      fee: { amount, gasLimit: gas, granter: parts.granter ?? '' },
    }),
  ).finish();
  const doc = SignDoc.encode({ bodyBytes, authInfoBytes, chainId, accountNumber }).finish();
  const signature = Secp256k1.createSignature(sha256(doc), wallet.privateKey);
  const signatures = [new Uint8Array([...signature.r(32), ...signature.s(32)])];
  return TxRaw.encode({ bodyBytes, authInfoBytes, signatures }).finish();
}

/** Of the newest block, in nanoseconds since 1970. */
export async function chainTimeNs(rpcUrl: string): Promise<bigint> {
  const { result } = await call(rpcUrl, 'status', {});
  const { sync_info: sync } = result as { sync_info: { latest_block_time: string } };
  return BigInt(Date.parse(sync.latest_block_time)) * 1_000_000n;
}

export async function numberOf(rpcUrl: string, address: string): Promise<bigint> {
  const data = Buffer.from(QueryAccountRequest.encode({ address }).finish()).toString('hex');
  const { result } = await call(rpcUrl, 'abci_query', { path: '/cosmos.auth.v1beta1.Query/Account', data });
  const { response } = result as { response: { value: string } };
  const { account } = QueryAccountResponse.decode(Buffer.from(response.value, 'base64'));
  return BaseAccount.decode(account?.value ?? new Uint8Array()).accountNumber;
}
