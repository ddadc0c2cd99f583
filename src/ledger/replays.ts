import type { Sql } from '../store/sql.ts';
import type { EpochMs, Ms, NanoUsd } from '../units.ts';
import type { Journal } from './journal.ts';
import type { EarlierRequest, HoldOp, SettleOp } from './operations.ts';
import { ReplayRows, type Claim } from './replay-rows.ts';

/** How long a key that was charged for stays used. */
const KEPT_MS: Ms = 24 * 60 * 60 * 1000;
/** Expired rows that one tick removes. */
const PRUNED_MAX = 500;

export interface ReplayBounds {
  /** Replies kept, and their bytes: beyond either the oldest are dropped; their keys stay used. */
  readonly accountReplies: number;
  readonly accountBytes: number;
  readonly replies: number;
  readonly bytes: number;
  /** Keys used within a day: beyond it new ones are refused, because one forgotten early could be charged twice. */
  readonly accountKeys: number;
  readonly keys: number;
}

export const FILE_BOUNDS: ReplayBounds = {
  accountReplies: 10_000,
  accountBytes: 64 * 1024 * 1024,
  replies: 100_000,
  bytes: 512 * 1024 * 1024,
  accountKeys: 1_000_000,
  keys: 5_000_000,
};

/** An isolate of workerd has 128 MB in all. */
export const MEMORY_BOUNDS: ReplayBounds = {
  accountReplies: 1_000,
  accountBytes: 4 * 1024 * 1024,
  replies: 10_000,
  bytes: 16 * 1024 * 1024,
  accountKeys: 20_000,
  keys: 50_000,
};

/** What is kept for one account, or for all. */
class Kept {
  keys = 0;
  bytes = 0;
  /** Bytes of each reply and whose it is, by its key's hash, the oldest first. */
  readonly replies = new Map<string, { readonly account: string; readonly bytes: number }>();

  add(hash: string, reply: { readonly account: string; readonly bytes: number }): void {
    this.replies.set(hash, reply);
    this.bytes += reply.bytes;
  }

  drop(hash: string): void {
    this.bytes -= this.replies.get(hash)?.bytes ?? 0;
    this.replies.delete(hash);
  }
}

/**
 * Requests under an Idempotency-Key. A key is claimed with its hold and decided with its settlement: used up when the
 * request was finished or charged, free again when it came to nothing. Its row is written with the hold's row and with the
 * charge, never alone: after a crash there is a used key for each charge, and a charge or a finished request for each used key.
 */
export class Replays {
  readonly #rows: ReplayRows;
  readonly #bounds: ReplayBounds;
  readonly #claims = new Map<string, Claim>();
  /** The same claims by their request. */
  readonly #requests = new Map<string, Claim>();
  readonly #accounts = new Map<string, Kept>();
  readonly #all = new Kept();

  constructor(sql: Sql | null, journal: Journal, bounds: ReplayBounds) {
    this.#rows = new ReplayRows(sql, journal);
    this.#bounds = bounds;
    for (const { account, rows } of this.#rows.counts()) this.#count(account, rows);
    for (const { hash, account, bytes } of this.#rows.kept()) this.#keep(hash, account, bytes);
    for (const claim of this.#rows.claims()) this.#remember(claim);
  }

  /** Why a hold may not run, or null: it has no key, or one that is free. */
  whyNot({ idempotency, customer, atMs }: HoldOp): EarlierRequest | 'too_many_keys' | null {
    if (!idempotency) return null;
    const { hash, bodyHash } = idempotency;
    const claim = this.#claims.get(hash);
    if (claim)
      return { request: claim.request, state: claim.bodyHash === bodyHash ? 'in_flight' : 'mismatch', sealed: null };
    const finished = this.#rows.find(hash);
    if (finished && finished.expiresMs > atMs) {
      const { request } = finished;
      // The file may still have what is being dropped: memory judges.
      const sealed = this.#all.replies.has(hash) ? finished.sealed : null;
      return finished.bodyHash === bodyHash
        ? { request, state: 'completed', sealed }
        : { request, state: 'mismatch', sealed: null };
    }
    if (finished) this.#forget(hash, finished.account);
    const { accountKeys, keys } = this.#bounds;
    const full = this.#all.keys >= keys || (this.#accounts.get(customer)?.keys ?? 0) >= accountKeys;
    return full ? 'too_many_keys' : null;
  }

  /** A hold was granted: its key is taken. */
  claim({ idempotency, customer: account, request, deadlineMs }: HoldOp): void {
    if (!idempotency) return;
    this.#remember({ ...idempotency, account, request, deadlineMs, journaled: false });
    this.#count(account, 1);
  }

  /** The hold's row goes to disk: so does its key's. */
  journal(request: string): void {
    const claim = this.#requests.get(request);
    if (!claim) return;
    claim.journaled = true;
    this.#rows.claim(claim);
  }

  /** Decides over the key of a request that ends here. */
  settle({ request, status, replay, atMs }: SettleOp, charged: NanoUsd): void {
    const claim = this.#requests.get(request);
    if (!claim) return;
    const { hash, account, bodyHash, journaled } = claim;
    this.#claims.delete(hash);
    this.#requests.delete(request);
    const finished = status === 'done' || status === 'length';
    if (!finished && charged === 0n) {
      this.#count(account, -1);
      if (journaled) this.#rows.remove(hash);
      return;
    }
    // A reply that names another cost than what was charged is not what the client is told.
    const sealed = replay && finished && replay.cost === charged ? replay.sealed : null;
    const fits = sealed !== null && this.#makeRoom(account, sealed.length);
    this.#rows.finish({ hash, account, bodyHash, request, expiresMs: atMs + KEPT_MS, sealed: fits ? sealed : null });
    if (fits) this.#keep(hash, account, sealed.length);
  }

  /** Removes expired rows, so many in one step. */
  prune(nowMs: EpochMs): void {
    if (this.#all.keys === this.#claims.size) return;
    for (const { hash, account } of this.#rows.expired(nowMs, PRUNED_MAX)) this.#forget(hash, account);
  }

  take(): void {
    this.#rows.take();
  }

  confirm(): void {
    this.#rows.confirm();
  }

  #remember(claim: Claim): void {
    this.#claims.set(claim.hash, claim);
    this.#requests.set(claim.request, claim);
  }

  #forget(hash: string, account: string): void {
    this.#drop(hash, account);
    this.#count(account, -1);
    this.#rows.remove(hash);
  }

  #count(account: string, keys: number): void {
    const kept = this.#accounts.get(account) ?? new Kept();
    this.#accounts.set(account, kept);
    kept.keys += keys;
    this.#all.keys += keys;
    if (kept.keys === 0) this.#accounts.delete(account);
  }

  #keep(hash: string, account: string, bytes: number): void {
    this.#accounts.get(account)?.add(hash, { account, bytes });
    this.#all.add(hash, { account, bytes });
  }

  #drop(hash: string, account: string): void {
    this.#accounts.get(account)?.drop(hash);
    this.#all.drop(hash);
  }

  /** Drops the oldest replies until one of so many bytes fits; false when it never would. */
  #makeRoom(account: string, bytes: number): boolean {
    const { accountReplies, accountBytes, replies, bytes: allBytes } = this.#bounds;
    if (bytes > accountBytes || bytes > allBytes || accountReplies < 1 || replies < 1) return false;
    const own = this.#accounts.get(account);
    if (own) this.#dropOldest(own, accountReplies - 1, accountBytes - bytes);
    this.#dropOldest(this.#all, replies - 1, allBytes - bytes);
    return true;
  }

  #dropOldest(kept: Kept, replies: number, bytes: number): void {
    for (const [hash, { account }] of kept.replies) {
      if (kept.replies.size <= replies && kept.bytes <= bytes) return;
      this.#drop(hash, account);
      this.#rows.strip(hash);
    }
  }
}
