import { sha256 } from '@noble/hashes/sha2.js';
import { bigintOf, numberOf, textOf, type Sql } from '../store/sql.ts';
import type { EpochMs, NanoUsd, PicoUsd } from '../units.ts';
import { growsByDebit, type AccountKind, type AccountSpec } from './accounts.ts';
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
  readonly status: UsageStatus;
  readonly detail: UsageDetail;
  readonly atMs: EpochMs;
}

const SEPARATOR = '\u001f';
const encoder = new TextEncoder();

/** The next link of the chain: SHA-256 over the link before and the row's fields. */
export function chain(previous: Uint8Array, fields: readonly string[]): Uint8Array {
  const text = encoder.encode(fields.join(SEPARATOR));
  const bytes = new Uint8Array(previous.length + text.length);
  bytes.set(previous);
  bytes.set(text, previous.length);
  return sha256(bytes);
}

export const CHAIN_START = new Uint8Array(32);

/**
 * Accounts, transfers and usage rows. Rows are added in memory and written by `flush` in one transaction, each touched
 * account once, however many transfers moved it.
 */
export class Journal {
  readonly #sql: Sql | null;
  readonly #accounts = new Map<string, Account>();
  readonly #newAccounts: Account[] = [];
  readonly #touched = new Set<Account>();
  readonly #writes: (() => void)[] = [];
  readonly #pendingIds = new Map<string, TransferRow>();
  #seq = 0n;
  #hash: Uint8Array = CHAIN_START;

  constructor(sql: Sql | null) {
    this.#sql = sql;
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
    const [last] = sql.all(
      `SELECT seq, hash FROM (SELECT seq, hash FROM transfers UNION ALL SELECT seq, hash FROM usage) ORDER BY seq DESC LIMIT 1`,
    );
    if (last) {
      this.#seq = bigintOf(last, 'seq');
      this.#hash = last['hash'] as Uint8Array;
    }
  }

  get seq(): bigint {
    return this.#seq;
  }

  get dirty(): boolean {
    return this.#writes.length > 0 || this.#touched.size > 0 || this.#newAccounts.length > 0;
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

  /** A row of another table that belongs into the next commit. */
  write(work: (sql: Sql) => void): void {
    const sql = this.#sql;
    if (sql) this.#writes.push(() => work(sql));
  }

  /** The transfer that has this id already, on disk or waiting for the next commit. */
  findTransfer(id: string): { type: string; debit: string; credit: string; amount: bigint } | null {
    const pending = this.#pendingIds.get(id);
    if (pending) {
      const { type, debit, credit, amount } = pending;
      return { type, debit: debit.spec.name, credit: credit.spec.name, amount };
    }
    const [row] =
      this.#sql?.all(
        `SELECT t.type, d.name AS debit, c.name AS credit, t.amount FROM transfers t
         JOIN accounts d ON d.no = t.debit JOIN accounts c ON c.no = t.credit WHERE t.id = ?`,
        [id],
      ) ?? [];
    if (!row) return null;
    return {
      type: textOf(row, 'type'),
      debit: textOf(row, 'debit'),
      credit: textOf(row, 'credit'),
      amount: bigintOf(row, 'amount'),
    };
  }

  /** Why these transfers together would break a bound, or null. Changes nothing. */
  whyNot(transfers: readonly Pick<TransferOp, 'debit' | 'credit' | 'amount'>[]): string | null {
    const change = new Map<string, bigint>();
    const specs = new Map<string, AccountSpec>();
    for (const { debit, credit, amount } of transfers) {
      if (amount <= 0n) return 'an amount must be above zero';
      if (debit.asset !== credit.asset || debit.name === credit.name)
        return 'a transfer stays within one asset and between two accounts';
      const add = (spec: AccountSpec, by: bigint): void => {
        specs.set(spec.name, spec);
        change.set(spec.name, (change.get(spec.name) ?? 0n) + by);
      };
      add(debit, growsByDebit(debit.kind) ? amount : -amount);
      add(credit, growsByDebit(credit.kind) ? -amount : amount);
    }
    for (const [name, by] of change) {
      const known = this.#accounts.get(name);
      const spec = known?.spec ?? specs.get(name);
      const left = (known ? known.posted - known.held : 0n) + by;
      if (spec?.bounded && by < 0n && left < 0n) return `${name} holds too little`;
    }
    return null;
  }

  /** Adds a transfer whose bounds the caller has checked. */
  post(row: TransferRow): void {
    const { debit, credit, amount } = row;
    debit.posted += growsByDebit(debit.spec.kind) ? amount : -amount;
    credit.posted += growsByDebit(credit.spec.kind) ? -amount : amount;
    this.#touched.add(debit);
    this.#touched.add(credit);
    if (!this.#sql) return;
    this.#seq += 1n;
    const seq = this.#seq;
    const hash = chain(this.#hash, transferFields(seq, { ...row, debit: debit.spec.name, credit: credit.spec.name }));
    this.#hash = hash;
    if (row.id !== null) this.#pendingIds.set(row.id, row);
    this.write((sql) => {
      sql.run('INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', [
        seq,
        row.id,
        row.type,
        debit.no,
        credit.no,
        amount,
        BigInt(row.atMs),
        row.request,
        row.actor,
        row.reason,
        hash,
      ]);
    });
  }

  addUsage(row: UsageRow): void {
    if (!this.#sql) return;
    this.#seq += 1n;
    const seq = this.#seq;
    const detail = JSON.stringify(row.detail);
    const fields = usageFields(seq, { ...row, detail });
    const hash = chain(this.#hash, fields);
    this.#hash = hash;
    this.write((sql) => {
      sql.run('INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', [
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
        hash,
      ]);
    });
  }

  /** One transaction for all that is new. A failure here is fatal: memory has moved on and must be read anew. */
  flush(): void {
    const sql = this.#sql;
    if (sql && this.dirty) {
      sql.transaction(() => {
        for (const { no, spec, posted, journaled } of this.#newAccounts) {
          const { name, kind, asset, bounded } = spec;
          const values = [no, name, kind, asset, bounded ? 1n : 0n, posted, journaled];
          sql.run('INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?)', values);
        }
        for (const { no, posted, journaled } of this.#touched) {
          sql.run('UPDATE accounts SET posted = ?, held = ? WHERE no = ?', [posted, journaled, no]);
        }
        for (const write of this.#writes) write();
      });
    }
    this.#newAccounts.length = 0;
    this.#touched.clear();
    this.#writes.length = 0;
    this.#pendingIds.clear();
  }
}

export interface TransferText extends Omit<TransferRow, 'debit' | 'credit'> {
  readonly debit: string;
  readonly credit: string;
}

/** What of a transfer the chain covers: account names, not numbers, so that a renamed account shows. */
export function transferFields(seq: bigint, row: TransferText): string[] {
  const { id, type, debit, credit, amount, request, actor, reason, atMs } = row;
  return ['t', String(seq), id ?? '', type, debit, credit, String(amount), String(atMs), request ?? '', actor, reason];
}

export function usageFields(seq: bigint, row: Omit<UsageRow, 'detail'> & { readonly detail: string }): string[] {
  const { request, customer, key, model, priceVersion, tokens, costPico, held, charged, status, detail, atMs } = row;
  const { inputTokens, cachedTokens, outputTokens } = tokens;
  const counts = [inputTokens, cachedTokens, outputTokens, costPico, held, charged].map(String);
  return [
    'u',
    String(seq),
    request,
    customer,
    key ?? '',
    model,
    String(priceVersion),
    ...counts,
    status,
    detail,
    String(atMs),
  ];
}
