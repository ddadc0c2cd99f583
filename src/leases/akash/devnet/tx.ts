import { Secp256k1, Secp256k1Signature, sha256 } from '@cosmjs/crypto';
import { toHex } from '@cosmjs/encoding';
import { PubKey } from 'cosmjs-types/cosmos/crypto/secp256k1/keys';
import { SignMode } from 'cosmjs-types/cosmos/tx/signing/v1beta1/signing';
import { AuthInfo, SignDoc, TxBody, TxRaw, type SignerInfo } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import { addressOfPubkey } from './address.ts';
import { emitPlain, MODULES, moveCoins, PARAMS, type Context } from './context.ts';
import { formatCoins, type Coin } from './decimal.ts';
import { Denial, denial, plainDenial } from './denials.ts';
import { useAllowance } from './fee-rules.ts';
import { goTime } from './go-time.ts';
import type { Message } from './rule.ts';
import { readMessage } from './rules.ts';
import type { AuthAccount } from './state.ts';

/** What the chain checks before a transaction's messages: cosmos-sdk v0.53, x/auth/ante. */

export interface Tx {
  readonly bytes: Uint8Array;
  /** Upper-case hex, as nodes write it. */
  readonly hash: string;
  readonly raw: TxRaw;
  readonly body: TxBody;
  readonly messages: readonly Message[];
  /** Whose signatures it needs, in order. */
  readonly signers: readonly string[];
  readonly signerInfos: readonly SignerInfo[];
  readonly fee: {
    readonly coins: readonly Coin[];
    readonly gasLimit: bigint;
    readonly payer: string;
    readonly granter: string;
  };
}

export const hashOf = (bytes: Uint8Array): string => toHex(sha256(bytes)).toUpperCase();

export function decodeTx(bytes: Uint8Array): Tx {
  if (bytes.length > PARAMS.txBytesMax) throw denial('sdk/tx_too_large');
  try {
    const raw = TxRaw.decode(bytes);
    const body = TxBody.decode(raw.bodyBytes);
    const { fee, signerInfos } = AuthInfo.decode(raw.authInfoBytes);
    const messages = body.messages.map((any) => readMessage(any));
    const first = messages[0]?.signer ?? '';
    const payer = fee?.payer === undefined || fee.payer === '' ? first : fee.payer;
    return {
      bytes,
      hash: hashOf(bytes),
      raw,
      body,
      messages,
      signers: [...new Set([...messages.map(({ signer }) => signer), payer])],
      signerInfos,
      fee: {
        coins: (fee?.amount ?? []).map(({ denom, amount }) => ({ denom, amount: BigInt(amount) })),
        gasLimit: fee?.gasLimit ?? 0n,
        payer,
        granter: fee?.granter ?? '',
      },
    };
  } catch (error) {
    if (error instanceof Denial) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw denial('sdk/tx_decode', { front: `${why}: tx parse error` });
  }
}

export interface AnteOptions {
  readonly mode: 'check' | 'deliver' | 'simulate';
  readonly chainId: string;
  readonly timeMs: number;
  /** Transactions of an account that wait before this one. */
  readonly ahead: (address: string) => bigint;
  /** Whether an unordered transaction with this time-out waits already. */
  readonly waiting: (nonce: string) => boolean;
}

/** Throws a Denial; what it changes (fee, sequence, key, nonce) stays when the messages fail afterwards. */
export function runAnte(context: Context, tx: Tx, options: AnteOptions): void {
  checkBasics(tx);
  context.gas.consume(PARAMS.gas.base, 'ante');
  checkTimeouts(context, tx, options);
  if (tx.body.memo.length > PARAMS.memoMax) {
    const front = `maximum number of characters is ${PARAMS.memoMax} but received ${tx.body.memo.length} characters`;
    throw denial('sdk/memo_too_large', { front });
  }
  const padding = options.mode === 'simulate' ? tx.signers.length * 64 - signatureBytes(tx) : 0;
  context.gas.consume(PARAMS.gas.perByte * (tx.bytes.length + Math.max(0, padding)), 'txSize');
  if (options.mode === 'check') checkGasPrice(tx);
  payFee(context, tx);
  if (tx.body.unordered) takeNonces(context, tx, options);
  for (const [at, address] of tx.signers.entries()) checkSigner(context, tx, { at, address, options });
}

const signatureBytes = (tx: Tx): number => tx.raw.signatures.reduce((sum, { length }) => sum + length, 0);

function checkBasics(tx: Tx): void {
  if (tx.messages.length === 0) {
    throw denial('sdk/invalid_request', { front: 'must contain at least one message' });
  }
  for (const message of tx.messages) message.check();
  if (tx.raw.signatures.length === 0) throw denial('sdk/no_signatures');
  if (tx.raw.signatures.length !== tx.signers.length) {
    const front = `wrong number of signers; expected ${tx.signers.length}, got ${tx.raw.signatures.length}`;
    throw denial('sdk/unauthorized', { front });
  }
}

function checkTimeouts(context: Context, tx: Tx, { timeMs }: AnteOptions): void {
  const { timeoutHeight } = tx.body;
  if (timeoutHeight > 0n && BigInt(context.height) > timeoutHeight) {
    const front = `block height: ${context.height}, timeout height: ${timeoutHeight}`;
    throw denial('sdk/tx_timeout_height', { front });
  }
  const [timeNs, timeoutNs] = [BigInt(timeMs) * 1_000_000n, nanosOf(tx)];
  if (timeoutNs !== 0n && timeoutNs < timeNs) {
    const front = `block time: ${goTime(timeNs)}, timeout timestamp: ${goTime(timeoutNs)}`;
    throw denial('sdk/tx_timeout', { front });
  }
}

function nanosOf(tx: Tx): bigint {
  const { timeoutTimestamp: at } = tx.body;
  return at === undefined ? 0n : at.seconds * 1_000_000_000n + BigInt(at.nanos);
}

export const nonceKeys = (tx: Tx): string[] =>
  tx.body.unordered ? tx.signers.map((address) => `${address} ${nanosOf(tx)}`) : [];

function takeNonces(context: Context, tx: Tx, { mode, timeMs, waiting }: AnteOptions): void {
  const request = (front: string): Denial => denial('sdk/invalid_request', { front });
  if (nanosOf(tx) === 0n) throw request('unordered transaction must have timeout_timestamp set');
  const mostNs = BigInt(timeMs + PARAMS.unorderedMaxMs) * 1_000_000n;
  if (nanosOf(tx) > mostNs) throw request('unordered tx ttl exceeds 10m0s');
  context.gas.consume(PARAMS.gas.unordered, 'unordered tx');
  if (mode === 'simulate') return;
  for (const key of nonceKeys(tx)) {
    if (context.state.nonces.get(key) !== undefined || (mode === 'check' && waiting(key))) {
      const [address, nanos] = key.split(' ');
      throw request(`failed to add unordered nonce: already used timeout ${nanos} for address ${address}`);
    }
    context.state.nonces.set(key, nanosOf(tx));
  }
}

function checkGasPrice({ fee }: Tx): void {
  const required = (fee.gasLimit * PARAMS.gasPricePer10k + 9_999n) / 10_000n;
  const paid = fee.coins.find(({ denom }) => denom === 'uakt')?.amount ?? 0n;
  if (paid >= required) return;
  const front = `insufficient fees; got: ${formatCoins(fee.coins)} required: ${required}uakt`;
  throw denial('sdk/insufficient_fee', { front });
}

function payFee(context: Context, tx: Tx): void {
  const { coins, payer, granter } = tx.fee;
  let from = payer;
  if (granter !== '' && granter !== payer) {
    useAllowance(
      context,
      tx.fee,
      tx.messages.map(({ typeUrl }) => typeUrl),
    );
    from = granter;
  }
  if (context.state.accounts.get(from) === undefined) {
    throw denial('sdk/unknown_address', { front: `fee payer address: ${from} does not exist` });
  }
  try {
    for (const coin of coins) moveCoins(context, from, MODULES.fees, coin);
  } catch (error) {
    // The checks name the cause once more.
    if (!(error instanceof Denial) || error.code !== 5) throw error;
    throw denial('sdk/insufficient_funds', { front: error.message });
  }
  emitPlain(context, 'tx', { fee: formatCoins(coins), fee_payer: from });
}

interface SignerCheck {
  readonly at: number;
  readonly address: string;
  readonly options: AnteOptions;
}

function checkSigner(context: Context, tx: Tx, { at, address, options }: SignerCheck): void {
  const account = context.state.accounts.get(address);
  if (account === undefined) throw denial('sdk/unknown_address', { front: `account ${address} does not exist` });
  const info = tx.signerInfos[at];
  if (info === undefined) throw denial('sdk/unauthorized', { front: 'invalid number of signer infos' });
  context.gas.consume(PARAMS.gas.signature, 'ante verify: secp256k1');
  const pubkey = readPubkey(info, { account, at }, options.mode);
  const expected = account.sequence + (options.mode === 'check' ? options.ahead(address) : 0n);
  if (tx.body.unordered) {
    if (info.sequence !== 0n) {
      throw denial('sdk/invalid_request', { front: 'sequence is not allowed for unordered transactions' });
    }
  } else if (info.sequence !== expected) {
    const front = `account sequence mismatch, expected ${expected}, got ${info.sequence}`;
    throw denial('sdk/wrong_sequence', { front });
  }
  if (options.mode !== 'simulate') checkSignature(tx, { at, account, pubkey, info, chainId: options.chainId });
  const sequence = tx.body.unordered ? account.sequence : account.sequence + 1n;
  context.state.accounts.set(address, { ...account, pubkey: pubkey ?? account.pubkey, sequence });
  if (!tx.body.unordered) emitPlain(context, 'tx', { acc_seq: `${address}/${info.sequence}` });
  emitPlain(context, 'tx', { signature: Buffer.from(tx.raw.signatures[at] ?? []).toString('base64') });
}

function readPubkey(
  info: SignerInfo,
  { account, at }: { readonly account: AuthAccount; readonly at: number },
  mode: AnteOptions['mode'],
): Uint8Array | null {
  if (info.publicKey === undefined) {
    if (account.pubkey === null && mode !== 'simulate') {
      throw denial('sdk/invalid_pubkey', { front: 'account has no pubkey' });
    }
    return account.pubkey;
  }
  if (info.publicKey.typeUrl !== PubKey.typeUrl) {
    throw denial('sdk/invalid_pubkey', { front: `the emulated network knows ${PubKey.typeUrl} only` });
  }
  const { key } = PubKey.decode(info.publicKey.value);
  // In simulations clients put an empty or a made-up key.
  if (mode === 'simulate') return account.pubkey;
  if (key.length !== 33 || addressOfPubkey(key) !== account.address) {
    throw denial('sdk/invalid_pubkey', {
      front: `pubKey does not match signer address ${account.address} with signer index: ${at}`,
    });
  }
  return key;
}

interface SignatureCheck {
  readonly at: number;
  readonly account: AuthAccount;
  readonly pubkey: Uint8Array | null;
  readonly info: SignerInfo;
  readonly chainId: string;
}

function checkSignature(tx: Tx, { at, account, pubkey, info, chainId }: SignatureCheck): void {
  if (info.modeInfo?.single?.mode !== SignMode.SIGN_MODE_DIRECT) {
    throw plainDenial('the emulated network takes SIGN_MODE_DIRECT only');
  }
  const { bodyBytes, authInfoBytes } = tx.raw;
  const doc = SignDoc.encode({ bodyBytes, authInfoBytes, chainId, accountNumber: account.number }).finish();
  if (pubkey !== null && verifies(tx.raw.signatures[at], doc, pubkey)) return;
  const front =
    `signature verification failed; please verify account number (${account.number}) ` +
    `and chain-id (${chainId}): (unable to verify single signer signature)`;
  throw denial('sdk/unauthorized', { front });
}

/** A 64-byte r||s over SHA-256 of the message. */
export function verifies(signature: Uint8Array | undefined, message: Uint8Array, pubkey: Uint8Array): boolean {
  if (signature?.length !== 64) return false;
  try {
    return Secp256k1.verifySignature(Secp256k1Signature.fromFixedLength(signature), sha256(message), pubkey);
  } catch {
    return false;
  }
}
