import type { Price } from '../spec.ts';
import type { Sql } from '../store/sql.ts';
import { minBig, nanoFromPicoUp, type EpochMs, type NanoUsd } from '../units.ts';
import { usageRevenue } from './accounts.ts';
import type { Customer, Customers, Key } from './customers.ts';
import { insertHold, readHold, updateHold, type Hold } from './hold-rows.ts';
import type { Journal } from './journal.ts';
import type { ExtendOp, HoldOp, HoldResult, LimitSource, ProgressOp, SettleOp, SettleResult } from './operations.ts';
import { costPico, soundCounts, type TokenCounts } from './pricing.ts';
import type { Replays } from './replays.ts';

const NOTHING: TokenCounts = { inputTokens: 0, cachedTokens: 0, outputTokens: 0 };

/** A hold younger than this lives in memory only: a crash under-bills at most so much of a request. */
const JOURNAL_AFTER_MS = 1000;

export interface HoldsOptions {
  readonly journal: Journal;
  readonly customers: Customers;
  readonly replays: Replays;
  /** The price of that version if it is that model's. */
  readonly priceOf: (version: number, model: string) => Price | undefined;
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

  /** Ids are never used again: one that was settled is caught by the table's UNIQUE, which ends the writer uncharged. */
  hold(operation: HoldOp): HoldResult {
    const { request, customer: owner, key: keyId, model, priceVersion, amount, atMs, deadlineMs } = operation;
    const customer = this.#options.customers.find(owner);
    const price = this.#options.priceOf(priceVersion, model);
    const key = this.#options.customers.key(keyId);
    if (!customer || customer.record.frozen) return refuse('unknown_customer', amount);
    // A key that is not known here would spend without its limit.
    if (keyId !== null && key?.record.customer !== owner) return refuse('unknown_customer', amount);
    // Before anything that may have changed since: a finished request is answered from an empty account too.
    const taken = this.#options.replays.whyNot(operation);
    if (taken === 'too_many_keys') return refuse(taken, amount);
    if (taken) return { ...refuse('repeated', amount), earlier: taken };
    if (!price) return refuse('unknown_price', amount);
    if (this.#holds.has(request)) return refuse('exists', amount);
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
    this.#options.replays.claim(operation);
    return { ok: true };
  }

  extend({ request, amount }: ExtendOp, nowMs: EpochMs): HoldResult {
    const hold = this.#holds.get(request);
    if (!hold) return refuse('no_hold', amount);
    const short = this.#whyShort({ customer: hold.customer, key: hold.key, amount, atMs: nowMs });
    if (short) return short;
    this.#reserve(hold, amount, nowMs);
    // In the same commit as the accounts' held: after a crash between the two, the difference would be held for ever.
    if (hold.journaled) this.#update(hold);
    return { ok: true };
  }

  progress({ request, tokens: claimed }: ProgressOp): void {
    const hold = this.#holds.get(request);
    const tokens = soundCounts(claimed);
    if (!hold || tokens.outputTokens < hold.progress.outputTokens) return;
    const { inputTokens, outputTokens } = hold.progress;
    hold.stale ||= tokens.outputTokens !== outputTokens || tokens.inputTokens !== inputTokens;
    hold.progress = tokens;
  }

  settle(operation: SettleOp): SettleResult {
    const { request, tokens: claimed, status, detail, atMs } = operation;
    const hold = this.#holds.get(request);
    if (!hold) return { ok: false, charged: 0n, priceVersion: 0 };
    this.#holds.delete(request);
    const { journal } = this.#options;
    const { customer, key, priceVersion, model } = hold;
    const tokens = soundCounts(claimed);
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
      heldMs: hold.atMs,
    });
    if (hold.journaled) {
      journal.write(`UPDATE holds SET state = 'settled' WHERE request = ?`, [request]);
    }
    this.#options.replays.settle(operation, charged);
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
    for (const hold of this.#holds.values()) {
      if (!dead(hold)) continue;
      const { request, progress: tokens } = hold;
      this.settle({ op: 'settle', request, tokens, status: 'recovered', detail: { error }, atMs: nowMs });
      count += 1;
    }
    return count;
  }

  load(sql: Sql): void {
    const { customers, priceOf, journal } = this.#options;
    const owners = {
      customer: (id: string) => customers.find(id),
      key: (id: string | null) => customers.key(id),
      price: priceOf,
      account: (name: string) => journal.find(name),
    };
    for (const row of sql.all(`SELECT * FROM holds WHERE state = 'pending'`)) {
      const hold = readHold(row, owners);
      if (hold.key) hold.key.held += hold.amount;
      this.#holds.set(hold.request, hold);
    }
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
    if (key && limit !== null) {
      if (limit - key.spent - key.held < free) {
        limitSource = 'key';
        free = limit - key.spent - key.held;
      }
      // Waiting helps only when both would let it through.
      posted = minBig(posted, limit - key.spent);
    }
    if (amount <= free && amount >= 0n) return null;
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
    sortLegs(hold);
    if (left !== 0n) throw new Error('a hold was granted that its lots do not cover');
    hold.amount += amount;
    if (hold.key) hold.key.held += amount;
  }

  #insert(hold: Hold): void {
    const { journal, epoch, replays } = this.#options;
    for (const { account, amount } of hold.legs) {
      account.journaled += amount;
      journal.touch(account);
    }
    hold.journaled = true;
    hold.stale = false;
    insertHold(journal, hold, epoch);
    replays.journal(hold.request);
  }

  #update(hold: Hold): void {
    hold.stale = false;
    updateHold(this.#options.journal, hold);
  }
}

type Refusal = Extract<HoldResult, { ok: false }>;

function refuse(why: Exclude<Refusal['why'], 'insufficient'>, needed: NanoUsd): Refusal {
  return { ok: false, why, needed, available: 0n, limitSource: 'account', transient: false };
}

/** Legs are charged in draw-down order, also those that an extension found in a newer lot. */
function sortLegs({ legs, customer: { lots } }: Hold): void {
  if (legs.length < 2) return;
  const order = new Map(lots.map((lot, at) => [lot.account, at]));
  legs.sort((a, b) => (order.get(a.account) ?? 0) - (order.get(b.account) ?? 0));
}
