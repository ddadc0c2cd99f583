import { Bip39, EnglishMnemonic, Secp256k1, sha256, Slip10, Slip10Curve, stringToPath } from '@cosmjs/crypto';
import { PubKey } from 'cosmjs-types/cosmos/crypto/secp256k1/keys';
import { SignMode } from 'cosmjs-types/cosmos/tx/signing/v1beta1/signing';
import { AuthInfo, SignDoc, TxBody, TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import type { RandomBytes } from '../../../random.ts';
import { addressOfPubkey } from './address.ts';

/** Keys that the emulated network makes for itself and for its users. */
export interface Wallet {
  readonly mnemonic: string;
  readonly address: string;
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

export async function createWallet(random: RandomBytes): Promise<Wallet> {
  return openWallet(Bip39.encode(random(16)).toString());
}

export async function openWallet(mnemonic: string): Promise<Wallet> {
  const seed = await Bip39.mnemonicToSeed(new EnglishMnemonic(mnemonic));
  const privateKey = Slip10.derivePath(Slip10Curve.Secp256k1, seed, stringToPath("m/44'/118'/0'/0/0")).privkey;
  const publicKey = Secp256k1.compressPubkey(Secp256k1.makeKeypair(privateKey).pubkey);
  return { mnemonic, privateKey, publicKey, address: addressOfPubkey(publicKey) };
}

export interface Unsigned {
  readonly chainId: string;
  readonly accountNumber: bigint;
  readonly messages: readonly { readonly typeUrl: string; readonly value: Uint8Array }[];
  readonly gas: bigint;
  readonly feeUakt: bigint;
  /** No two unordered transactions of one account have the same. */
  readonly timeoutNanos: bigint;
}

/** An unordered transaction: providers send several at a time and need not count them. */
export function signUnordered(wallet: Wallet, tx: Unsigned): Uint8Array {
  const bodyBytes = TxBody.encode(
    TxBody.fromPartial({
      messages: [...tx.messages],
      unordered: true,
      timeoutTimestamp: {
        seconds: tx.timeoutNanos / 1_000_000_000n,
        nanos: Number(tx.timeoutNanos % 1_000_000_000n),
      },
    }),
  ).finish();
  const publicKey = { typeUrl: PubKey.typeUrl, value: PubKey.encode({ key: wallet.publicKey }).finish() };
  const authInfoBytes = AuthInfo.encode(
    AuthInfo.fromPartial({
      signerInfos: [{ publicKey, modeInfo: { single: { mode: SignMode.SIGN_MODE_DIRECT } }, sequence: 0n }],
      fee: { amount: [{ denom: 'uakt', amount: tx.feeUakt.toString() }], gasLimit: tx.gas },
    }),
  ).finish();
  const { chainId, accountNumber } = tx;
  const doc = SignDoc.encode({ bodyBytes, authInfoBytes, chainId, accountNumber }).finish();
  const signature = Secp256k1.createSignature(sha256(doc), wallet.privateKey);
  const fixed = new Uint8Array([...signature.r(32), ...signature.s(32)]);
  return TxRaw.encode({ bodyBytes, authInfoBytes, signatures: [fixed] }).finish();
}
