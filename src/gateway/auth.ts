import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { AppError } from '../errors.ts';
import { endOf, isLive, type KeyRecord, type KeySettings } from '../ledger/access.ts';
import type { Ledger } from '../ledger/operations.ts';
import { randomText, type RandomBytes } from '../random.ts';
import type { EpochMs } from '../units.ts';

const SEEN_MAX = 10_000;
/** The same words whatever is wrong with a key. */
export const BAD_KEY = 'this API key is unknown, expired or revoked';
export const KEY_PREFIX = 'sk-ub-';

const encoder = new TextEncoder();

/** Keys are random, so a plain hash is enough: there is nothing to guess. */
export function hashKey(key: string): string {
  return bytesToHex(sha256(encoder.encode(key)));
}

/** 131 bits of randomness behind the prefix. */
export function newKey(random: RandomBytes): string {
  return `${KEY_PREFIX}${randomText(random, 40)}`;
}

/** What an admin sees of a key once it was shown. */
export function hintOf(key: string): string {
  return `${key.slice(0, KEY_PREFIX.length + 4)}…`;
}

export interface Caller {
  readonly customer: string;
  readonly key: string;
  /** What its rate is counted by: a rotated key goes on where the one before it was. */
  readonly meter: string;
  readonly name: string;
  readonly endsMs: EpochMs | null;
  readonly settings: KeySettings;
}

/** Bearer keys in memory, by their hash: looked up for every request, changed by few. */
export class Keys {
  readonly #ledger: Ledger;
  readonly #byHash = new Map<string, KeyRecord>();
  /** Headers seen lately and their keys, so that hashing is not paid for every request. */
  readonly #seen = new Map<string, KeyRecord>();

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** Reads the keys anew; after every change of one. */
  async refresh(): Promise<void> {
    const records = await this.#ledger.ask({ op: 'keys' });
    this.#byHash.clear();
    this.#seen.clear();
    for (const record of records) this.#byHash.set(record.hash, record);
  }

  /**
   * Who calls.
   * @throws AppError `invalid_api_key` for a key that is missing, unknown, revoked or expired: the same words for each.
   */
  authenticate(authorization: string | undefined, nowMs: EpochMs): Caller {
    const record = this.#find(authorization ?? '');
    if (!record || !isLive(record, nowMs)) {
      throw new AppError('invalid_api_key', BAD_KEY);
    }
    const { customer, id, root, name, settings } = record;
    return { customer, key: id, meter: root, name, endsMs: endOf(record), settings };
  }

  #find(authorization: string): KeyRecord | undefined {
    const seen = this.#seen.get(authorization);
    if (seen) return seen;
    const key = bearerOf(authorization);
    if (key === null) {
      throw new AppError('invalid_api_key', 'send your key as "Authorization: Bearer sk-ub-…"');
    }
    const record = this.#byHash.get(hashKey(key));
    if (record) {
      if (this.#seen.size >= SEEN_MAX) this.#seen.clear();
      this.#seen.set(authorization, record);
    }
    return record;
  }
}

/** @throws AppError `permission_denied` */
export function requireModel({ settings: { models } }: Pick<Caller, 'settings'>, model: string): void {
  if (models !== null && !models.includes(model)) {
    throw new AppError('permission_denied', `this API key may not use the model ${model}`, { param: 'model' });
  }
}

export function bearerOf(authorization: string | undefined): string | null {
  const match = /^Bearer +(\S{1,512}) *$/i.exec(authorization ?? '');
  return match?.[1] ?? null;
}

/** Compares hashes, so neither length nor content of a wrong key shows in the time it takes. */
export function isAdmin(authorization: string | undefined, adminKeyHash: string): boolean {
  const key = bearerOf(authorization);
  return key !== null && isSameHash(hashKey(key), adminKeyHash);
}

/** Takes as long whether they differ or not. */
export function isSameHash(hash: string, other: string): boolean {
  let different = hash.length ^ other.length;
  for (let at = 0; at < hash.length; at += 1) different |= hash.charCodeAt(at) ^ other.charCodeAt(at);
  return different === 0;
}
