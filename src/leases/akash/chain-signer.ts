import { Secp256k1, Secp256k1Signature, sha256 } from '@cosmjs/crypto';
import { toBech32 } from '@cosmjs/encoding';
import { rawSecp256k1PubkeyToRawAddress } from '@cosmjs/tendermint-rpc';
import { Agent } from 'undici';
import { z } from 'zod';
import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { Ms } from '../../units.ts';
import type { Keyring, Wallet } from './chain-wallet.ts';
import { deadline, readLimited } from './limits.ts';

export interface SignerOptions {
  /** `unix:/path`, `http://` on this machine, or `https://`. */
  readonly url: string;
  /** Sent as a bearer key; null: none. */
  readonly key: string | null;
  /** Wallets that will be asked for: the treasury's (0) and derived ones. */
  readonly indexes: readonly number[];
  readonly clock: Clock;
  readonly timeoutMs?: Ms;
}

const TIMEOUT_MS: Ms = 5000;
const REPLY_BYTES_MAX = 4096;
const SIGN_BYTES_MAX = 1_000_000;
/** Signatures asked for at a time; more wait within the socket's own line. */
const CONNECTIONS = 4;
const WAITING_MAX = 256;

const accountSchema = z.object({ public_key: z.base64() });
const signatureSchema = z.object({ signature: z.base64() });

/**
 * A program that holds the keys and signs for us, so that who reads this process's memory has none of them.
 * `GET /account?index=N` -> `{public_key}`: the compressed secp256k1 key of m/44'/118'/0'/0/N, base64.
 * `POST /sign {index, bytes}` -> `{signature}`: secp256k1 over SHA-256 of the bytes, 64 bytes r||s, all base64. The bytes are
 * a transaction's SignDoc or the text of a provider's token: it may look into them and refuse.
 */
export class RemoteKeyring implements Keyring {
  readonly derives = true;
  readonly #wallets: ReadonlyMap<number, Wallet>;
  readonly #door: SignerDoor;

  private constructor(door: SignerDoor, wallets: ReadonlyMap<number, Wallet>) {
    this.#door = door;
    this.#wallets = wallets;
  }

  /** @throws Error when the signer does not answer as it should */
  static async open(options: SignerOptions): Promise<RemoteKeyring> {
    const door = new SignerDoor(options);
    const wallets = new Map<number, Wallet>();
    try {
      for (const index of new Set([0, ...options.indexes])) wallets.set(index, await door.wallet(index));
    } catch (error) {
      await door.close();
      throw error;
    }
    return new RemoteKeyring(door, wallets);
  }

  wallet(index: number): Wallet {
    const wallet = this.#wallets.get(index);
    if (!wallet) throw new Error(`the signer was not asked for the wallet ${index}`);
    return wallet;
  }

  close(): Promise<void> {
    return this.#door.close();
  }
}

class SignerDoor {
  readonly #options: SignerOptions;
  readonly #agent: Agent;
  readonly #origin: string;
  #waiting = 0;

  constructor(options: SignerOptions) {
    this.#options = options;
    const socket = /^unix:(\/.+)$/.exec(options.url)?.[1];
    this.#origin = socket === undefined ? options.url.replace(/\/$/, '') : 'http://signer';
    this.#agent = new Agent({ connections: CONNECTIONS, connect: socket === undefined ? {} : { socketPath: socket } });
  }

  async wallet(index: number): Promise<Wallet> {
    const { public_key: text } = accountSchema.parse(await this.#ask('GET', `/account?index=${index}`));
    const publicKey = Uint8Array.from(Buffer.from(text, 'base64'));
    if (publicKey.length !== 33) throw new Error('the signer gave a public key that is not a compressed one');
    const address = toBech32('akash', rawSecp256k1PubkeyToRawAddress(publicKey));
    return { address, publicKey, sign: (bytes) => this.#sign(index, publicKey, bytes) };
  }

  /** Checked here: a wrong signature would be found by the chain alone, and after its fee was reckoned with. */
  async #sign(index: number, publicKey: Uint8Array, bytes: Uint8Array): Promise<Uint8Array> {
    if (bytes.length > SIGN_BYTES_MAX) throw new Error('that is too long to be signed');
    const reply = await this.#ask('POST', '/sign', { index, bytes: Buffer.from(bytes).toString('base64') });
    const signature = Uint8Array.from(Buffer.from(signatureSchema.parse(reply).signature, 'base64'));
    if (signature.length !== 64) throw new Error('the signer gave a signature that has not 64 bytes');
    const fits = Secp256k1.verifySignature(Secp256k1Signature.fromFixedLength(signature), sha256(bytes), publicKey);
    if (!fits) throw new Error('the signer gave a signature that does not fit its key');
    return signature;
  }

  async #ask(method: 'GET' | 'POST', path: string, body?: unknown): Promise<unknown> {
    const { clock, key, timeoutMs = TIMEOUT_MS } = this.#options;
    if (this.#waiting >= WAITING_MAX) throw new Error('the signer has too much to sign already');
    const late = deadline(clock, timeoutMs, NEVER, `the signer did not answer within ${timeoutMs / 1000} s`);
    this.#waiting += 1;
    try {
      const reply = await this.#agent.request({
        origin: this.#origin,
        method,
        path,
        headers: {
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: late.signal,
      });
      const text = await readLimited(reply.body, REPLY_BYTES_MAX);
      // What it says may repeat what it was sent.
      if (reply.statusCode !== 200) throw new Error(`the signer refused (${reply.statusCode})`);
      return JSON.parse(text);
    } catch (error) {
      if (late.signal.aborted) throw late.signal.reason instanceof Error ? late.signal.reason : error;
      throw new Error(`the signer: ${describeError(error)}`, { cause: error });
    } finally {
      this.#waiting -= 1;
      late.cancel();
    }
  }

  close(): Promise<void> {
    return this.#agent.destroy();
  }
}

const NEVER = new AbortController().signal;
