import { bigintOf, numberOf, textOf, type Sql, type SqlRow } from '../store/sql.ts';
import type { EpochMs } from '../units.ts';
import type { Journal } from './journal.ts';

/** A request under an Idempotency-Key that has ended with a charge: its key is used up until `expiresMs`. */
export interface Finished {
  readonly hash: string;
  readonly account: string;
  readonly bodyHash: string;
  readonly request: string;
  readonly expiresMs: EpochMs;
  /** The reply, encrypted; null where none was kept. */
  readonly sealed: Uint8Array | null;
}

/** A request in flight under an Idempotency-Key. */
export interface Claim {
  readonly hash: string;
  readonly account: string;
  readonly bodyHash: string;
  readonly request: string;
  /** Of its hold. */
  readonly deadlineMs: EpochMs;
  /** Whether its row is written, together with its hold's. */
  journaled: boolean;
}

const PUT = 'INSERT OR REPLACE INTO replays VALUES (?, ?, ?, ?, ?, ?, ?)';
const FIND = `SELECT * FROM replays WHERE hash = ? AND state = 'completed'`;
const EXPIRED = `SELECT hash, account, expires_ms FROM replays WHERE state = 'completed' AND expires_ms <= ?
  ORDER BY expires_ms LIMIT ?`;

type Changes = Map<string, Finished | null>;

/**
 * The table `replays`. Written through the journal, so in the same commit as the money; read on the book's own connection,
 * with what that cannot see yet laid over it. Without a disk the overlay is all there is.
 */
export class ReplayRows {
  readonly #sql: Sql | null;
  readonly #journal: Journal;
  /** Of the next commit. In the order of their ends, which is that of their expiry. */
  #next: Changes = new Map();
  /** Of the commit that is on its way to the disk. */
  #taken: Changes = new Map();

  constructor(sql: Sql | null, journal: Journal) {
    this.#sql = sql;
    this.#journal = journal;
  }

  find(hash: string): Finished | null {
    const changed = this.#changed(hash);
    if (changed !== undefined) return changed;
    const [row] = this.#sql?.all(FIND, [hash]) ?? [];
    return row ? finishedOf(row) : null;
  }

  /** Those that have expired, the oldest first, at most `count`. */
  expired(nowMs: EpochMs, count: number): Pick<Finished, 'hash' | 'account'>[] {
    const rows = this.#sql?.all(EXPIRED, [BigInt(nowMs), BigInt(count)]);
    if (rows) {
      const known = rows.map((row) => ({ hash: textOf(row, 'hash'), account: textOf(row, 'account') }));
      return known.filter(({ hash }) => this.#changed(hash) === undefined);
    }
    const found: Finished[] = [];
    for (const finished of this.#next.values()) {
      if (!finished || finished.expiresMs > nowMs || found.length === count) break;
      found.push(finished);
    }
    return found;
  }

  finish(finished: Finished): void {
    const { hash, account, bodyHash, request, expiresMs, sealed } = finished;
    this.#next.delete(hash);
    this.#next.set(hash, finished);
    this.#journal.write(PUT, [hash, account, bodyHash, request, 'completed', BigInt(expiresMs), sealed]);
  }

  claim({ hash, account, bodyHash, request, deadlineMs }: Claim): void {
    this.#journal.write(PUT, [hash, account, bodyHash, request, 'in_flight', BigInt(deadlineMs), null]);
  }

  /** The reply is lost, its mark stays. */
  strip(hash: string): void {
    for (const changes of [this.#next, this.#taken]) {
      const changed = changes.get(hash);
      if (changed) changes.set(hash, { ...changed, sealed: null });
    }
    this.#journal.write('UPDATE replays SET sealed = NULL WHERE hash = ?', [hash]);
  }

  remove(hash: string): void {
    if (this.#sql) this.#next.set(hash, null);
    else this.#next.delete(hash);
    this.#journal.write('DELETE FROM replays WHERE hash = ?', [hash]);
  }

  /** How many marks each account has. */
  counts(): { readonly account: string; readonly rows: number }[] {
    const query = `SELECT account, COUNT(*) AS rows FROM replays GROUP BY account`;
    const rows = this.#sql?.all(query) ?? [];
    return rows.map((row) => ({ account: textOf(row, 'account'), rows: numberOf(row, 'rows') }));
  }

  /** The replies that are kept, the oldest first. */
  kept(): { readonly hash: string; readonly account: string; readonly bytes: number }[] {
    const query = `SELECT hash, account, LENGTH(sealed) AS bytes FROM replays WHERE sealed IS NOT NULL ORDER BY expires_ms`;
    const rows = this.#sql?.all(query) ?? [];
    return rows.map((row) => ({
      hash: textOf(row, 'hash'),
      account: textOf(row, 'account'),
      bytes: numberOf(row, 'bytes'),
    }));
  }

  /** What was in flight when the file was left: each with its hold. */
  claims(): Claim[] {
    const query = `SELECT r.* FROM replays r JOIN holds h ON h.request = r.request AND h.state = 'pending'
      WHERE r.state = 'in_flight'`;
    const rows = this.#sql?.all(query) ?? [];
    return rows.map((row) => {
      const { hash, account, bodyHash, request, expiresMs } = finishedOf(row);
      return { hash, account, bodyHash, request, deadlineMs: expiresMs, journaled: true };
    });
  }

  /** A commit has been taken: what it holds is not on disk before `confirm`. */
  take(): void {
    if (!this.#sql || this.#next.size === 0) return;
    for (const [hash, changed] of this.#next) this.#taken.set(hash, changed);
    this.#next = new Map();
  }

  confirm(): void {
    if (this.#taken.size > 0) this.#taken = new Map();
  }

  #changed(hash: string): Finished | null | undefined {
    const next = this.#next.get(hash);
    return next === undefined ? this.#taken.get(hash) : next;
  }
}

function finishedOf(row: SqlRow): Finished {
  const sealed = row['sealed'];
  return {
    hash: textOf(row, 'hash'),
    account: textOf(row, 'account'),
    bodyHash: textOf(row, 'body_hash'),
    request: textOf(row, 'request'),
    expiresMs: Number(bigintOf(row, 'expires_ms')),
    sealed: sealed instanceof Uint8Array ? sealed : null,
  };
}
