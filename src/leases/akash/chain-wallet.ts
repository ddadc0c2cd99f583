import {
  Bip39,
  EnglishMnemonic,
  Secp256k1,
  sha256,
  Slip10,
  Slip10Curve,
  Slip10RawIndex,
  stringToPath,
} from '@cosmjs/crypto';
import { fromHex, toBech32 } from '@cosmjs/encoding';
import { rawSecp256k1PubkeyToRawAddress } from '@cosmjs/tendermint-rpc';

const PREFIX = 'akash';
const INSPECT = Symbol.for('nodejs.util.inspect.custom');

/** One account of the chain. */
export interface Wallet {
  readonly address: string;
  /** Compressed. */
  readonly publicKey: Uint8Array;
  /** secp256k1 over SHA-256, as 64 bytes r||s. @throws Error when a signer of its own does not sign */
  sign(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
}

/** Whose money it is: the treasury's wallet, and those derived from the same secret. */
export interface Keyring {
  /** Whether wallets can be derived from it. */
  readonly derives: boolean;
  /** 0 is the treasury's. */
  wallet(index: number): Wallet;
}

/** A key in this process. It signs, and prints as its address wherever it ends up. */
class OwnWallet implements Wallet {
  readonly address: string;
  /** Compressed. */
  readonly publicKey: Uint8Array;
  readonly #privateKey: Uint8Array;

  constructor(privateKey: Uint8Array) {
    this.#privateKey = privateKey;
    this.publicKey = Secp256k1.compressPubkey(Secp256k1.makeKeypair(privateKey).pubkey);
    this.address = toBech32(PREFIX, rawSecp256k1PubkeyToRawAddress(this.publicKey));
  }

  /** secp256k1 over SHA-256, as 64 bytes r||s. */
  sign(bytes: Uint8Array): Uint8Array {
    const signature = Secp256k1.createSignature(sha256(bytes), this.#privateKey);
    return Uint8Array.from([...signature.r(32), ...signature.s(32)]);
  }

  toString(): string {
    return this.address;
  }

  toJSON(): string {
    return this.address;
  }

  [INSPECT](): string {
    return `Wallet ${this.address}`;
  }
}

/**
 * The operator's key: a mnemonic, from which a wallet per pool is derived, or one private key in hex. The text is handed in
 * by the configuration (file or environment) and kept nowhere else.
 */
export class OwnKeyring implements Keyring {
  readonly #seed: Uint8Array | null;
  readonly #privateKey: Uint8Array | null;
  readonly #wallets = new Map<number, OwnWallet>();

  private constructor(seed: Uint8Array | null, privateKey: Uint8Array | null) {
    this.#seed = seed;
    this.#privateKey = privateKey;
  }

  /**
   * Takes a mnemonic of 12 to 24 words, 64 hex digits, or JSON with one of them as `mnemonic` or `private_key`.
   * @throws Error that does not repeat the text
   */
  static async open(text: string): Promise<OwnKeyring> {
    const bare = keyText(text.trim());
    if (/^(0x)?[0-9a-fA-F]{64}$/.test(bare)) return new OwnKeyring(null, fromHex(bare.replace(/^0x/, '')));
    try {
      const mnemonic = new EnglishMnemonic(bare.split(/\s+/).join(' '));
      return new OwnKeyring(await Bip39.mnemonicToSeed(mnemonic), null);
    } catch {
      throw new Error('the key is neither a mnemonic of English words nor a private key of 64 hex digits');
    }
  }

  /** Whether wallets can be derived from it. */
  get derives(): boolean {
    return this.#seed !== null;
  }

  /** 0 is the treasury's. */
  wallet(index: number): OwnWallet {
    const known = this.#wallets.get(index);
    if (known) return known;
    const wallet = new OwnWallet(this.#derive(index));
    this.#wallets.set(index, wallet);
    return wallet;
  }

  #derive(index: number): Uint8Array {
    if (this.#privateKey) {
      if (index !== 0) throw new Error('a single private key has no derived wallets');
      return this.#privateKey;
    }
    const path = [...stringToPath("m/44'/118'/0'/0"), Slip10RawIndex.normal(index)];
    return Slip10.derivePath(Slip10Curve.Secp256k1, this.#seed ?? new Uint8Array(), path).privkey;
  }

  toString(): string {
    return '[keyring]';
  }

  toJSON(): string {
    return '[keyring]';
  }

  [INSPECT](): string {
    return '[keyring]';
  }
}

function keyText(text: string): string {
  if (!text.startsWith('{')) return text;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return '';
  }
  if (typeof parsed !== 'object' || parsed === null) return '';
  const found = ['mnemonic', 'private_key', 'privateKey'].map((name) => (parsed as Record<string, unknown>)[name]);
  return found.find((value): value is string => typeof value === 'string')?.trim() ?? '';
}
