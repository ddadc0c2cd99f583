import type { Price } from '../spec.ts';
import { textOf, type Sql } from '../store/sql.ts';
import { maxBig, minBig, nanoFromPicoUp, type EpochMs, type NanoUsd } from '../units.ts';
import { payable, tokenExpense, usageRevenue, wakeRevenue } from './accounts.ts';
import { isLive } from './access.ts';
import type { ApiKeys } from './api-keys.ts';
import type { Customers } from './customers.ts';
import { insertHold, readHold, updateHold, type Hold } from './hold-rows.ts';
import type { Journal } from './journal.ts';
import type {
  ExtendOp,
  HoldOp,
  HoldRefusal,
  HoldResult,
  ProgressOp,
  Purchase,
  SettleOp,
  SettleResult,
} from './operations.ts';
import { costPico, soundCounts, type TokenCounts } from './pricing.ts';
import { RecentIds } from './recent-ids.ts';
import type { Replays } from './replays.ts';
import { NO_CAPS, whyShort } from './shortage.ts';

const NOTHING: TokenCounts = { inputTokens: 0, cachedTokens: 0, outputTokens: 0 };

/** A hold younger than this lives in memory only: a crash under-bills at most so much of a request. */
const JOURNAL_AFTER_MS = 1000;

export interface HoldsOptions {
  readonly journal: Journal;
  readonly customers: Customers;
  readonly replays: Replays;
  readonly keys: ApiKeys;
  /** The price of that version if it is that model's. */
  readonly priceOf: (version: number, model: string) => Price | undefined;
  /** Number of this start: holds of an earlier one have no living owner. */
  readonly epoch: number;
}

/** Requests that are known to be over without a look at the disk. */
const SETTLED_MAX = 2000;

/** Money reserved for requests in flight: hold, extend, settle; each hold is settled exactly once. */
export class Holds {
  readonly #options: HoldsOptions;
  readonly #holds = new Map<string, Hold>();
  readonly #settled = new RecentIds(SETTLED_MAX);

  constructor(options: HoldsOptions) {
    this.#options = options;
  }

  get pending(): number {
    return this.#holds.size;
  }

  /**
   * Ids are random and never used again. A repeat that comes soon is refused; one of a request that ended long ago would be
   * caught by the table's UNIQUE, which ends the writer uncharged: to refuse that too, every hold would have to ask the disk.
   */
  hold(operation: HoldOp): HoldResult {
    const { request, customer: owner, key: keyId, model, priceVersion, amount, atMs, deadlineMs } = operation;
    const customer = this.#options.customers.find(owner);
    const price = this.#options.priceOf(priceVersion, model);
    const key = this.#options.keys.find(keyId);
    if (!customer) return refuse('unknown_customer', amount);
    if (customer.record.frozen) return refuse('frozen', amount);
    // A key that is not known here would spend without its limit.
    if (keyId !== null && key?.record.customer !== owner) return refuse('unknown_customer', amount);
    if (key && !isLive(key.record, atMs)) return refuse('key_ended', amount);
    // Before anything that may have changed since: a finished request is answered from an empty account too.
    const taken = this.#options.replays.whyNot(operation);
    if (taken === 'too_many_keys') return refuse(taken, amount);
    if (taken) return { ...refuse('repeated', amount), earlier: taken };
    if (!price) return refuse('unknown_price', amount);
    if (this.#holds.has(request) || this.#settled.has(request)) return refuse('exists', amount);
    const short = whyShort({ customer, key, amount, atMs, heldMs: atMs });
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
      wakeHeld: minBig(amount, maxBig(0n, operation.wakeFee ?? 0n)),
      progress: NOTHING,
      wakeDue: 0n,
      detail: undefined,
      journaled: false,
      stale: false,
    };
    this.#reserve(hold, amount, atMs);
    for (const { spend } of key?.caps ?? NO_CAPS) spend.open(atMs, amount);
    this.#holds.set(request, hold);
    this.#options.replays.claim(operation);
    return { ok: true };
  }

  extend({ request, amount }: ExtendOp, nowMs: EpochMs): HoldResult {
    const hold = this.#holds.get(request);
    if (!hold) return refuse('no_hold', amount);
    const { customer, key, atMs: heldMs } = hold;
    const short = whyShort({ customer, key, amount, atMs: nowMs, heldMs });
    if (short) return short;
    this.#reserve(hold, amount, nowMs);
    for (const { spend } of key?.caps ?? NO_CAPS) spend.extend(heldMs, amount);
    // In the same commit as the accounts' held: after a crash between the two, the difference would be held for ever.
    if (hold.journaled) this.#update(hold);
    return { ok: true };
  }

  progress({ request, tokens: claimed, detail, wakeFee }: ProgressOp): void {
    const hold = this.#holds.get(request);
    const tokens = soundCounts(claimed);
    if (!hold || tokens.outputTokens < hold.progress.outputTokens) return;
    const { inputTokens, outputTokens } = hold.progress;
    hold.stale ||= tokens.outputTokens !== outputTokens || tokens.inputTokens !== inputTokens;
    hold.progress = tokens;
    if (wakeFee !== undefined && wakeFee !== hold.wakeDue) {
      hold.stale = true;
      hold.wakeDue = wakeFee;
    }
    if (detail) hold.detail = detail;
  }

  settle(operation: SettleOp): SettleResult {
    const { request, tokens: claimed, status, detail, atMs } = operation;
    const hold = this.#holds.get(request);
    if (!hold) return { ok: false, charged: 0n, priceVersion: 0 };
    this.#holds.delete(request);
    this.#settled.add(request);
    const { journal } = this.#options;
    const { customer, key, priceVersion, model } = hold;
    const tokens = soundCounts(claimed);
    const cost = costPico(hold.price, tokens);
    const held = hold.amount - hold.wakeHeld;
    const forTokens = minBig(nanoFromPicoUp(cost), held);
    const wakeFee = minBig(maxBig(0n, operation.wakeFee ?? 0n), hold.wakeHeld);
    const charged = forTokens + wakeFee;
    const parts = [{ type: 'capture', credit: usageRevenue(model), left: forTokens, reason: `usage of ${model}` }];
    const woken = `${model} was woken for it`;
    if (wakeFee > 0n) parts.push({ type: 'wake_fee', credit: wakeRevenue(model), left: wakeFee, reason: woken });
    for (const { account, amount } of hold.legs) {
      account.held -= amount;
      if (hold.journaled) {
        account.journaled -= amount;
        journal.touch(account);
      }
      let free = amount;
      for (const part of parts) {
        const taken = minBig(part.left, free);
        if (taken === 0n) continue;
        part.left -= taken;
        free -= taken;
        const credit = journal.open(part.credit);
        const { type, reason } = part;
        const why = { request, actor: 'gateway', reason, atMs };
        journal.post({ id: null, type, debit: account, credit, amount: taken, ...why });
      }
    }
    for (const purchase of operation.purchases ?? []) this.#buy(purchase, hold, atMs);
    for (const { spend } of key?.caps ?? NO_CAPS) spend.close(hold.atMs, hold.amount, charged);
    customer.used += charged;
    journal.addUsage({
      request,
      customer: customer.record.id,
      key: hold.keyId,
      model,
      priceVersion,
      tokens,
      costPico: cost,
      held,
      charged: forTokens,
      wake: hold.wakeHeld > 0n ? { held: hold.wakeHeld, fee: wakeFee } : null,
      status,
      detail,
      atMs,
      heldMs: hold.atMs,
    });
    if (hold.journaled) {
      journal.write(`UPDATE holds SET state = 'settled' WHERE request = ?`, [request]);
    }
    this.#options.replays.settle(operation, charged);
    return { ok: true, charged, ...(wakeFee > 0n ? { wakeFee } : {}), priceVersion };
  }

  #buy({ provider, amount }: Purchase, { request, model }: Hold, atMs: EpochMs): void {
    if (amount <= 0n) return;
    const { journal } = this.#options;
    const [debit, credit] = [journal.open(tokenExpense(model)), journal.open(payable(provider))];
    const reason = `tokens for ${model} from ${provider}`;
    journal.post({ id: null, type: 'token_cost', debit, credit, amount, request, actor: 'gateway', reason, atMs });
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
      const { request, progress: tokens, wakeDue: wakeFee } = hold;
      const detail = { ...hold.detail, error };
      this.settle({ op: 'settle', request, tokens, wakeFee, status: 'recovered', detail, atMs: nowMs });
      count += 1;
    }
    return count;
  }

  load(sql: Sql): void {
    const { customers, keys, priceOf, journal } = this.#options;
    const owners = {
      customer: (id: string) => customers.find(id),
      key: (id: string | null) => keys.find(id),
      price: priceOf,
      account: (name: string) => journal.find(name),
    };
    for (const row of sql.all(`SELECT * FROM holds WHERE state = 'pending'`)) {
      const hold = readHold(row, owners);
      for (const { spend } of hold.key?.caps ?? NO_CAPS) spend.open(hold.atMs, hold.amount);
      this.#holds.set(hold.request, hold);
    }
    const settled = sql.all('SELECT request FROM usage ORDER BY seq DESC LIMIT ?', [BigInt(SETTLED_MAX)]);
    for (const row of settled.toReversed()) this.#settled.add(textOf(row, 'request'));
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

function refuse(why: HoldRefusal, needed: NanoUsd): Extract<HoldResult, { ok: false }> {
  return { ok: false, why, needed, available: 0n, limitSource: 'account', transient: false };
}

/** Legs are charged in draw-down order, also those that an extension found in a newer lot. */
function sortLegs({ legs, customer: { lots } }: Hold): void {
  if (legs.length < 2) return;
  const order = new Map(lots.map((lot, at) => [lot.account, at]));
  legs.sort((a, b) => (order.get(a.account) ?? 0) - (order.get(b.account) ?? 0));
}
