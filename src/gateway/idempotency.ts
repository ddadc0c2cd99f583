import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { AppError, describeError } from '../errors.ts';
import type { EarlierRequest, Idempotency } from '../ledger/operations.ts';
import type { RandomBytes } from '../random.ts';
import type { Reservation } from './admission.ts';
import type { KeepReply } from './relay-job.ts';
import type { WholeReply } from './transport.ts';

/** WebCrypto's, as Node and workerd both have it. */
export type Subtle = typeof crypto.subtle;

export interface IdempotencyDeps {
  readonly subtle: Subtle;
  readonly random: RandomBytes;
  /** A larger reply is not kept. */
  readonly limits: { readonly replayBytes: number };
  readonly log: (line: string) => void;
}

/** Where an Idempotency-Key counts. */
export interface IdempotencyScope {
  readonly account: string;
  readonly route: string;
}

const HEADER = 'Idempotency-Key';
const REPLAYED = { 'x-underbid-idempotent-replay': 'true' };
const IV_BYTES = 12;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Null without the header.
 * @throws AppError `invalid_request`
 */
export function readIdempotencyKey(header: string | undefined): string | null {
  if (header === undefined) return null;
  if (/^[\x21-\x7e]{1,255}$/.test(header)) return header;
  throw new AppError('invalid_request', `an ${HEADER} has 1 to 255 visible characters and no blanks`, {
    param: HEADER,
  });
}

/**
 * A client's Idempotency-Key for one request. The ledger gets hashes and ciphertext; what opens a kept reply is derived from
 * the header itself, which only the client has. The body's hash is keyed with it too: nobody can test a guess at a prompt.
 */
export class IdempotencyKey {
  readonly #deps: IdempotencyDeps;
  readonly #header: Uint8Array;
  readonly #scope: string;
  readonly #hash: string;

  private constructor(deps: IdempotencyDeps, header: string, { account, route }: IdempotencyScope) {
    this.#deps = deps;
    this.#header = encoder.encode(header);
    this.#scope = JSON.stringify([account, route]);
    this.#hash = bytesToHex(sha256(encoder.encode(JSON.stringify(['underbid idempotency', account, route, header]))));
  }

  /**
   * Null without the header.
   * @throws AppError `invalid_request`
   */
  static read(header: string | undefined, scope: IdempotencyScope, deps: IdempotencyDeps): IdempotencyKey | null {
    const key = readIdempotencyKey(header);
    return key === null ? null : new IdempotencyKey(deps, key, scope);
  }

  /** What the ledger judges by: the key, and whether a repeat has the same body. */
  async claim(body: string): Promise<Idempotency> {
    const { subtle } = this.#deps;
    const secret = this.#derive('body', '');
    // Bodies may be large, so not by our own code on the gateway's thread.
    const key = await subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
    const hash = await subtle.sign('HMAC', key, encoder.encode(body));
    return { hash: this.#hash, bodyHash: bytesToHex(new Uint8Array(hash)) };
  }

  /** Has the reply of a request that is about to be settled stored with its charge. */
  keeper(request: string, reservation: Reservation): KeepReply {
    return async (tokens, compose) => {
      const cost = reservation.costOf(tokens);
      const sealed = await this.seal(request, compose(cost));
      if (sealed) reservation.keepReply(sealed, cost);
    };
  }

  /** The reply as the ledger may keep it; null when it is too large or cannot be sealed, which never fails a request. */
  async seal(request: string, { headers, body }: WholeReply): Promise<Uint8Array | null> {
    const { subtle, random, limits, log } = this.#deps;
    try {
      const plain = encoder.encode(`${JSON.stringify(headers)}\n${body}`);
      if (plain.length > limits.replayBytes) return null;
      const iv = random(IV_BYTES);
      const sealed = await subtle.encrypt(this.#cipher(request, iv), await this.#sealingKey(request), plain);
      const bytes = new Uint8Array(IV_BYTES + sealed.byteLength);
      bytes.set(iv);
      bytes.set(new Uint8Array(sealed), IV_BYTES);
      return bytes;
    } catch (error) {
      log(`${request}: its reply is not kept: ${describeError(error)}`);
      return null;
    }
  }

  /**
   * The kept reply of the request that had this key before.
   * @throws AppError `idempotency_mismatch`, `idempotency_in_flight`, or `idempotency_completed` where none is kept
   */
  async replay({ request, state, sealed }: EarlierRequest): Promise<WholeReply> {
    if (state === 'mismatch') throw new AppError('idempotency_mismatch', `this ${HEADER} was used with another body`);
    const metadata = { generation_id: request };
    if (state === 'in_flight') {
      const message = `a request with this ${HEADER} is running: repeat this one when that has ended`;
      throw new AppError('idempotency_in_flight', message, { metadata, retryAfterS: 1 });
    }
    const reply = sealed ? await this.#open(request, sealed) : null;
    if (reply) return { body: reply.body, headers: { ...reply.headers, ...REPLAYED } };
    const message =
      `a request with this ${HEADER} has ended, and its reply is not kept: ` +
      `GET /v1/generation?id=${request} says what became of it, another key makes another request`;
    throw new AppError('idempotency_completed', message, { metadata });
  }

  /** Null when the bytes are not what was sealed: then the request counts as one whose reply was not kept. */
  async #open(request: string, sealed: Uint8Array): Promise<WholeReply | null> {
    const { subtle, log } = this.#deps;
    try {
      const cipher = this.#cipher(request, sealed.slice(0, IV_BYTES));
      const plain = await subtle.decrypt(cipher, await this.#sealingKey(request), sealed.slice(IV_BYTES));
      const text = decoder.decode(plain);
      const end = text.indexOf('\n');
      return { headers: JSON.parse(text.slice(0, end)) as Record<string, string>, body: text.slice(end + 1) };
    } catch (error) {
      log(`${request}: its kept reply cannot be opened: ${describeError(error)}`);
      return null;
    }
  }

  #cipher(
    request: string,
    iv: Uint8Array<ArrayBuffer>,
  ): { name: string; iv: Uint8Array<ArrayBuffer>; additionalData: Uint8Array<ArrayBuffer> } {
    return { name: 'AES-GCM', iv, additionalData: encoder.encode(request) };
  }

  /** One for each request: an IV that comes twice for a header that comes again would not be for the same key. */
  #sealingKey(request: string): ReturnType<Subtle['importKey']> {
    const secret = this.#derive('reply', request);
    return this.#deps.subtle.importKey('raw', secret, { name: 'AES-GCM' }, false, ['encrypt', 'decrypt']);
  }

  #derive(purpose: string, salt: string): Uint8Array<ArrayBuffer> {
    const info = encoder.encode(`underbid idempotency 1 ${purpose} ${this.#scope}`);
    return new Uint8Array(hkdf(sha256, this.#header, encoder.encode(salt), info, 32));
  }
}
