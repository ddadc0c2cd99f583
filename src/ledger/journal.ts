import { bigintOf, numberOf, textOf, type Sql, type SqlValue } from '../store/sql.ts';
import type { EpochMs, NanoUsd, PicoUsd } from '../units.ts';
import { growsByDebit, type AccountKind, type AccountSpec } from './accounts.ts';
import { storable } from './chain.ts';
import type { Batch, Row } from './journal-file.ts';
import type { TransferOp, UsageDetail, UsageStatus } from './operations.ts';
import type { TokenCounts } from './pricing.ts';

/** An account in the writer's memory. `held` counts every hold, `journaled` only those whose row is on disk. */
export interface Account {
  readonly no: bigint;
  readonly spec: AccountSpec;
  posted: NanoUsd;
  held: NanoUsd;
  journaled: NanoUsd;
}

export interface TransferRow {
  readonly id: string | null;
  readonly type: string;
  readonly debit: Account;
  readonly credit: Account;
  readonly amount: NanoUsd;
  readonly request: string | null;
  readonly actor: string;
  readonly reason: string;
  readonly atMs: EpochMs;
}

/** A transfer whose id is known. */
export interface KnownTransfer {
  readonly type: string;
  readonly debit: string;
  readonly credit: string;
  readonly amount: NanoUsd;
  readonly reason: string;
}

export interface UsageRow {
  readonly request: string;
  readonly customer: string;
  readonly key: string | null;
  readonly model: string;
  readonly priceVersion: number;
  readonly tokens: TokenCounts;
  readonly costPico: PicoUsd;
  readonly held: NanoUsd;
  readonly charged: NanoUsd;
  /** Held and charged for a wake, besides; null: no fee was offered. */
  readonly wake: { readonly held: NanoUsd; readonly fee: NanoUsd } | null;
  readonly status: UsageStatus;
  readonly detail: UsageDetail;
  readonly atMs: EpochMs;
  /** When its hold was made; null in rows of version 1. */
  readonly heldMs: EpochMs | null;
}

const INT64_MAX = 2n ** 63n - 1n;

/**
 * Accounts, transfers and usage rows. Rows are added in memory; `take` makes one transaction of all that is new, each
 * touched account once, however many transfers moved it.
 */
export class Journal {
  readonly #sql: Sql | null;
  readonly #accounts = new Map<string, Account>();
  readonly #newAccounts: Account[] = [];
  readonly #touched = new Set<Account>();
  #rows: Row[] = [];
  /** Ids that are not on disk yet; without a disk, all. */
  readonly #recentIds = new Map<string, KnownTransfer>();
  #newIds: string[] = [];
  #seq: bigint;

  constructor(sql: Sql | null, seq: bigint) {
    this.#sql = sql;
    this.#seq = seq;
    if (!sql) return;
    for (const row of sql.all('SELECT * FROM accounts ORDER BY no')) {
      const spec: AccountSpec = {
        name: textOf(row, 'name'),
        kind: textOf(row, 'kind') as AccountKind,
        asset: textOf(row, 'asset'),
        bounded: numberOf(row, 'bounded') === 1,
      };
      const held = bigintOf(row, 'held');
      this.#accounts.set(spec.name, {
        no: bigintOf(row, 'no'),
        spec,
        posted: bigintOf(row, 'posted'),
        held,
        journaled: held,
      });
    }
  }

  get seq(): bigint {
    return this.#seq;
  }

  get dirty(): boolean {
    return this.#rows.length > 0 || this.#touched.size > 0 || this.#newAccounts.length > 0;
  }

  find(name: string): Account | undefined {
    return this.#accounts.get(name);
  }

  open(spec: AccountSpec): Account {
    const found = this.#accounts.get(spec.name);
    if (found) return found;
    const account: Account = { no: BigInt(this.#accounts.size + 1), spec, posted: 0n, held: 0n, journaled: 0n };
    this.#accounts.set(spec.name, account);
    this.#newAccounts.push(account);
    return account;
  }

  /** Marks an account whose journaled holds changed. */
  touch(account: Account): void {
    this.#touched.add(account);
  }

  /** A statement on another table that belongs into the next commit. */
  write(text: string, values: readonly SqlValue[]): void {
    if (this.#sql) this.#rows.push({ text, values, link: null });
  }

  /** The transfer that has this id already, on disk or waiting for the next commit. */
  findTransfer(id: string): KnownTransfer | null {
    const recent = this.#recentIds.get(id);
    if (recent) return recent;
    const [row] =
      this.#sql?.all(
        `SELECT t.type, d.name AS debit, c.name AS credit, t.amount, t.reason FROM transfers t
         JOIN accounts d ON d.no = t.debit JOIN accounts c ON c.no = t.credit WHERE t.id = ?`,
        [id],
      ) ?? [];
    if (!row) return null;
    return {
      type: textOf(row, 'type'),
      debit: textOf(row, 'debit'),
      credit: textOf(row, 'credit'),
      amount: bigintOf(row, 'amount'),
      reason: textOf(row, 'reason'),
    };
  }

  /** Why these transfers together would break a bound, or null. Changes nothing. */
  whyNot(transfers: readonly Pick<TransferOp, 'debit' | 'credit' | 'amount'>[]): string | null {
    const touched = new Map<string, { spec: AccountSpec; by: bigint }>();
    for (const { debit, credit, amount } of transfers) {
      if (amount <= 0n) return 'an amount must be above zero';
      if (debit.asset !== credit.asset || debit.name === credit.name)
        return 'a transfer stays within one asset and between two accounts';
      for (const { spec, by } of [
        { spec: debit, by: amount },
        { spec: credit, by: -amount },
      ]) {
        const known = this.#accounts.get(spec.name)?.spec ?? touched.get(spec.name)?.spec ?? spec;
        if (known.kind !== spec.kind || known.asset !== spec.asset || known.bounded !== spec.bounded)
          return `${spec.name} is an account of another kind`;
        const sum = touched.get(spec.name)?.by ?? 0n;
        touched.set(spec.name, { spec, by: sum + (growsByDebit(spec.kind) ? by : -by) });
      }
    }
    for (const [name, { spec, by }] of touched) {
      const { posted, held } = this.#accounts.get(name) ?? { posted: 0n, held: 0n };
      if (spec.bounded && by < 0n && posted - held + by < 0n) return `${name} holds too little`;
      if (posted + by > INT64_MAX || posted + by < -INT64_MAX) return `${name} cannot hold so much`;
    }
    return null;
  }

  /** Adds a transfer whose bounds the caller has checked. */
  post(transfer: TransferRow): void {
    const { debit, credit, amount } = transfer;
    debit.posted += growsByDebit(debit.spec.kind) ? amount : -amount;
    credit.posted += growsByDebit(credit.spec.kind) ? -amount : amount;
    this.#touched.add(debit);
    this.#touched.add(credit);
    const { id, type, request, actor, atMs } = transfer;
    const names = [debit.spec.name, credit.spec.name] as const;
    if (id !== null) {
      this.#recentIds.set(id, { type, debit: names[0], credit: names[1], amount, reason: storable(transfer.reason) });
      this.#newIds.push(id);
    }
    if (!this.#sql) return;
    this.#seq += 1n;
    const reason = storable(transfer.reason);
    const values = [this.#seq, id, type, debit.no, credit.no, amount, BigInt(atMs), request, actor, reason];
    this.#rows.push({ text: INSERT_TRANSFER, values, link: names });
  }

  addUsage(row: UsageRow): void {
    if (!this.#sql) return;
    this.#seq += 1n;
    const seq = this.#seq;
    const detail = JSON.stringify(row.detail);
    const values = [
      seq,
      row.request,
      row.customer,
      row.key,
      row.model,
      BigInt(row.priceVersion),
      BigInt(row.tokens.inputTokens),
      BigInt(row.tokens.cachedTokens),
      BigInt(row.tokens.outputTokens),
      row.costPico,
      row.held,
      row.charged,
      row.status,
      detail,
      BigInt(row.atMs),
      row.heldMs === null ? null : BigInt(row.heldMs),
      row.wake?.held ?? null,
      row.wake?.fee ?? null,
    ];
    this.#rows.push({ text: INSERT_USAGE, values, link: 'usage' });
  }

  /**
   * All that is new, as the statements of one transaction; null when nothing is. What it holds counts as known until
   * `confirm`: the file does not have it yet.
   */
  take(): Batch | null {
    if (!this.#sql) {
      this.#touched.clear();
      this.#newAccounts.length = 0;
      return null;
    }
    if (!this.dirty) return null;
    const rows: Row[] = [];
    for (const { no, spec, posted, journaled } of this.#newAccounts) {
      const { name, kind, asset, bounded } = spec;
      const values = [no, name, kind, asset, bounded ? 1n : 0n, posted, journaled];
      rows.push({ text: 'INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?)', values, link: null });
    }
    for (const { no, posted, journaled } of this.#touched) {
      const values = [posted, journaled, no];
      rows.push({ text: 'UPDATE accounts SET posted = ?, held = ? WHERE no = ?', values, link: null });
    }
    for (const row of this.#rows) rows.push(row);
    const ids = this.#newIds;
    this.#newAccounts.length = 0;
    this.#touched.clear();
    this.#rows = [];
    this.#newIds = [];
    return { rows, ids, seq: this.#seq };
  }

  /** A batch is on disk: its ids are found there from now on. */
  confirm({ ids }: Batch): void {
    for (const id of ids) this.#recentIds.delete(id);
  }
}

const INSERT_TRANSFER = 'INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)';
const INSERT_USAGE = `INSERT INTO usage (seq, request, account, key, model, price_version, input_tokens, cached_tokens,
  output_tokens, cost_pico, held, charged, status, detail, at_ms, held_ms, wake_held, wake_fee, hash)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;
