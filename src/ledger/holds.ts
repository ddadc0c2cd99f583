import type { Price } from '../spec.ts';
import { bigintOf, numberOf, textOf, textOrNull, type Sql, type SqlRow } from '../store/sql.ts';
import { minBig, nanoFromPicoUp, type EpochMs, type NanoUsd } from '../units.ts';
import { usageRevenue } from './accounts.ts';
import type { Customer, Customers, Key } from './customers.ts';
import type { Account, Journal } from './journal.ts';
import type { ExtendOp, HoldOp, HoldResult, LimitSource, ProgressOp, SettleOp, SettleResult } from './operations.ts';
import { costPico, type TokenCounts } from './pricing.ts';

interface Leg {
  readonly account: Account;
  amount: NanoUsd;
}

interface Hold {
  readonly request: string;
  readonly customer: Customer;
  readonly key: Key | undefined;
  readonly keyId: string | null;
  readonly model: string;
  readonly priceVersion: number;
  readonly price: Price;
  readonly atMs: EpochMs;
  readonly deadlineMs: EpochMs;
  readonly legs: Leg[];
  amount: NanoUsd;
  progress: TokenCounts;
  /** Whether its row is on disk, and whether that row is behind. */
  journaled: boolean;
  stale: boolean;
}

const NOTHING: TokenCounts = { inputTokens: 0, cachedTokens: 0, outputTokens: 0 };

/** A hold younger than this lives in memory only: a crash under-bills at most so much of a request. */
const JOURNAL_AFTER_MS = 1000;

export interface HoldsOptions {
  readonly journal: Journal;
  readonly customers: Customers;
  readonly priceOf: (version: number) => Price | undefined;
  /** Number of this start: holds of an earlier one have no living owner. */
  readonly epoch: number;
}

/** Money reserved for requests in flight: hold, extend, settle; each hold is settled exactly once. */
export class Holds {
  readonly #options: HoldsOptions;
  readonly #holds = new Map<string, Hold>();

  constructor(options: HoldsOptions) {
    this.#options = options;
  }

  get pending(): number {
    return this.#holds.size;
  }

  hold(operation: HoldOp): HoldResult {
    const { request, customer: owner, key: keyId, model, priceVersion, amount, atMs, deadlineMs } = operation;
    const customer = this.#options.customers.find(owner);
    const price = this.#options.priceOf(priceVersion);
    if (!customer || customer.record.frozen) return refuse('unknown_customer', amount);
    if (!price) return refuse('unknown_price', amount);
    if (this.#holds.has(request)) return refuse('exists', amount);
    const key = this.#options.customers.key(keyId);
    const short = this.#whyShort({ customer, key, amount, atMs });
    if (short) return short;
    const hold: Hold = {
      request,
      customer,
      key,
      keyId,
      model,
      priceVersion,
      price,
      atMs,
      deadlineMs,
      legs: [],
      amount: 0n,
      progress: NOTHING,
      journaled: false,
      stale: false,
    };
    this.#reserve(hold, amount, atMs);
    this.#holds.set(request, hold);
    return { ok: true };
  }

  extend({ request, amount }: ExtendOp, nowMs: EpochMs): HoldResult {
    const hold = this.#holds.get(request);
    if (!hold) return refuse('no_hold', amount);
    const short = this.#whyShort({ customer: hold.customer, key: hold.key, amount, atMs: nowMs });
    if (short) return short;
    this.#reserve(hold, amount, nowMs);
    hold.stale = true;
    return { ok: true };
  }

  progress({ request, tokens }: ProgressOp): void {
    const hold = this.#holds.get(request);
    if (!hold || tokens.outputTokens < hold.progress.outputTokens) return;
    hold.progress = tokens;
    hold.stale = true;
  }

  settle({ request, tokens, status, detail, atMs }: SettleOp): SettleResult {
    const hold = this.#holds.get(request);
    if (!hold) return { ok: false, charged: 0n, priceVersion: 0 };
    this.#holds.delete(request);
    const { journal } = this.#options;
    const { customer, key, priceVersion, model } = hold;
    const cost = costPico(hold.price, tokens);
    const charged = minBig(nanoFromPicoUp(cost), hold.amount);
    let left = charged;
    for (const { account, amount } of hold.legs) {
      account.held -= amount;
      if (hold.journaled) {
        account.journaled -= amount;
        journal.touch(account);
      }
      const part = minBig(left, amount);
      left -= part;
      if (part === 0n) continue;
      const credit = journal.open(usageRevenue(model));
      const reason = `usage of ${model}`;
      journal.post({
        id: null,
        type: 'capture',
        debit: account,
        credit,
        amount: part,
        request,
        actor: 'gateway',
        reason,
        atMs,
      });
    }
    if (key) {
      key.held -= hold.amount;
      key.spent += charged;
    }
    customer.used += charged;
    journal.addUsage({
      request,
      customer: customer.record.id,
      key: hold.keyId,
      model,
      priceVersion,
      tokens,
      costPico: cost,
      held: hold.amount,
      charged,
      status,
      detail,
      atMs,
    });
    if (hold.journaled) {
      journal.write((sql) => sql.run(`UPDATE holds SET state = 'settled' WHERE request = ?`, [request]));
    }
    return { ok: true, charged, priceVersion };
  }

  /** Writes holds that became a second old, and the progress of those already written. */
  journalOld(nowMs: EpochMs): void {
    for (const hold of this.#holds.values()) {
      if (!hold.journaled && nowMs - hold.atMs >= JOURNAL_AFTER_MS) this.#insert(hold);
      else if (hold.journaled && hold.stale) this.#update(hold);
    }
  }

  /** Settles what nobody will settle any more: at its last checkpoint, so never above what was delivered. */
  recover(nowMs: EpochMs, dead: (hold: { deadlineMs: EpochMs }) => boolean, error: string): number {
    let count = 0;
    for (const hold of [...this.#holds.values()]) {
      if (!dead(hold)) continue;
      const { request, progress: tokens } = hold;
      this.settle({ op: 'settle', request, tokens, status: 'recovered', detail: { error }, atMs: nowMs });
      count += 1;
    }
    return count;
  }

  load(sql: Sql): void {
    for (const row of sql.all(`SELECT * FROM holds WHERE state = 'pending'`)) this.#loadOne(row);
  }

  #loadOne(row: SqlRow): void {
    const { customers, priceOf, journal } = this.#options;
    const customer = customers.find(textOf(row, 'account'));
    const price = priceOf(numberOf(row, 'price_version'));
    if (!customer || !price) throw new Error('a hold without its account or price');
    const legs = parseLegs(textOf(row, 'legs'), (name) => journal.find(name));
    const keyId = textOrNull(row, 'key');
    const key = customers.key(keyId);
    const amount = bigintOf(row, 'amount');
    if (key) key.held += amount;
    const request = textOf(row, 'request');
    this.#holds.set(request, {
      request,
      customer,
      key,
      keyId,
      model: textOf(row, 'model'),
      priceVersion: numberOf(row, 'price_version'),
      price,
      atMs: numberOf(row, 'at_ms'),
      deadlineMs: numberOf(row, 'deadline_ms'),
      legs,
      amount,
      progress: JSON.parse(textOf(row, 'progress')) as TokenCounts,
      journaled: true,
      stale: false,
    });
  }

  /** Null when the amount fits into the customer's credit and the key's limit; nothing is changed. */
  #whyShort(ask: { customer: Customer; key: Key | undefined; amount: NanoUsd; atMs: EpochMs }): HoldResult | null {
    const { customer, key, amount, atMs } = ask;
    let posted = 0n;
    let free = 0n;
    for (const { account, expiresMs } of customer.lots) {
      if (expiresMs !== null && expiresMs <= atMs) continue;
      posted += account.posted;
      free += account.posted - account.held;
    }
    let limitSource: LimitSource = 'account';
    const limit = key?.record.settings.spendLimit ?? null;
    if (key && limit !== null && limit - key.spent - key.held < free) {
      limitSource = 'key';
      free = limit - key.spent - key.held;
      posted = minBig(posted, limit - key.spent);
    }
    if (amount <= free) return null;
    return {
      ok: false,
      why: 'insufficient',
      needed: amount,
      available: free,
      limitSource,
      transient: amount <= posted,
    };
  }

  #reserve(hold: Hold, amount: NanoUsd, atMs: EpochMs): void {
    const { journal } = this.#options;
    let left = amount;
    for (const { account, expiresMs } of hold.customer.lots) {
      if (left === 0n) break;
      if (expiresMs !== null && expiresMs <= atMs) continue;
      const part = minBig(left, account.posted - account.held);
      if (part <= 0n) continue;
      left -= part;
      account.held += part;
      if (hold.journaled) {
        account.journaled += part;
        journal.touch(account);
      }
      const leg = hold.legs.find((known) => known.account === account);
      if (leg) leg.amount += part;
      else hold.legs.push({ account, amount: part });
    }
    if (left !== 0n) throw new Error('a hold was granted that its lots do not cover');
    hold.amount += amount;
    if (hold.key) hold.key.held += amount;
  }

  #insert(hold: Hold): void {
    const { journal, epoch } = this.#options;
    for (const { account, amount } of hold.legs) {
      account.journaled += amount;
      journal.touch(account);
    }
    hold.journaled = true;
    hold.stale = false;
    const { request, customer, keyId, model, priceVersion, amount, progress, atMs, deadlineMs } = hold;
    const values = [request, customer.record.id, keyId, model, BigInt(priceVersion), amount, writeLegs(hold.legs)];
    const rest = [JSON.stringify(progress), BigInt(epoch), BigInt(atMs), BigInt(deadlineMs)];
    journal.write((sql) =>
      sql.run(`INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)`, [...values, ...rest]),
    );
  }

  #update(hold: Hold): void {
    hold.stale = false;
    const values = [hold.amount, writeLegs(hold.legs), JSON.stringify(hold.progress), hold.request];
    this.#options.journal.write((sql) =>
      sql.run('UPDATE holds SET amount = ?, legs = ?, progress = ? WHERE request = ?', values),
    );
  }
}

function refuse(why: 'unknown_customer' | 'unknown_price' | 'exists' | 'no_hold', needed: NanoUsd): HoldResult {
  return { ok: false, why, needed, available: 0n, limitSource: 'account', transient: false };
}

/** `name=amount` joined by blanks: account names hold neither. */
export function writeLegs(legs: readonly { readonly account: Account; readonly amount: NanoUsd }[]): string {
  return legs.map(({ account, amount }) => `${account.spec.name}=${amount}`).join(' ');
}

function parseLegs(text: string, find: (name: string) => Account | undefined): Leg[] {
  return text
    .split(' ')
    .filter((part) => part !== '')
    .map((part) => {
      const at = part.lastIndexOf('=');
      const account = find(part.slice(0, at));
      if (!account) throw new Error('a hold on an unknown account');
      return { account, amount: BigInt(part.slice(at + 1)) };
    });
}
