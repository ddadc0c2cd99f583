import { bigintOf, numberOf, numberOrNull, textOf, textOrNull, type Sql } from '../store/sql.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import { taken, type ActResult, type CustomerOp, type CustomerRecord, type FreezeOp } from './access.ts';
import { breakage, cash, customerPaid, customerPromo, promoExpense, type AccountSpec } from './accounts.ts';
import { storable } from './chain.ts';
import type { Account, Journal } from './journal.ts';
import type { Balance, GrantOp, TransferOp, TransferResult } from './operations.ts';

const CREDITS_MAX: NanoUsd = 4_000_000_000_000_000_000n;

/** One lot of credit, see the table `lots`. */
export interface Lot {
  readonly account: Account;
  readonly kind: 'paid' | 'promo';
  readonly expiresMs: EpochMs | null;
  readonly atMs: EpochMs;
}

export interface Customer {
  record: CustomerRecord;
  /** In draw-down order. */
  readonly lots: Lot[];
  credits: NanoUsd;
  used: NanoUsd;
}

/** Promo before paid, then what expires first, then what came first. Breakage follows the same order. */
export function compareLots(a: Lot, b: Lot): number {
  if (a.kind !== b.kind) return a.kind === 'promo' ? -1 : 1;
  const expiry = (a.expiresMs ?? Infinity) - (b.expiresMs ?? Infinity);
  if (a.expiresMs !== b.expiresMs && !Number.isNaN(expiry)) return expiry;
  return a.atMs - b.atMs || Number(a.account.no - b.account.no);
}

interface Expiring {
  readonly customer: Customer;
  readonly lot: Lot;
  readonly expiresMs: EpochMs;
}

/** Customers and their lots of credit. */
export class Customers {
  readonly #journal: Journal;
  readonly #customers = new Map<string, Customer>();
  /** Lots that will expire or still hold something after it, the next one first. */
  readonly #expiring: Expiring[] = [];

  constructor(journal: Journal, sql: Sql | null) {
    this.#journal = journal;
    if (sql) this.#load(sql);
  }

  #load(sql: Sql): void {
    for (const row of sql.all('SELECT * FROM customers')) {
      const id = textOf(row, 'id');
      const record = {
        id,
        name: textOf(row, 'name'),
        frozen: numberOf(row, 'frozen') === 1,
        frozenReason: textOrNull(row, 'frozen_reason'),
        frozenMs: numberOrNull(row, 'frozen_ms'),
        atMs: numberOf(row, 'at_ms'),
      };
      this.#customers.set(id, { record, lots: [], credits: 0n, used: 0n });
    }
    for (const row of sql.all('SELECT l.*, a.name FROM lots l JOIN accounts a ON a.no = l.account_no')) {
      const customer = this.#customers.get(textOf(row, 'customer'));
      const account = this.#journal.find(textOf(row, 'name'));
      if (!customer || !account) throw new Error('a lot without its customer or account');
      const kind = textOf(row, 'kind') === 'promo' ? 'promo' : 'paid';
      customer.lots.push({ account, kind, expiresMs: numberOrNull(row, 'expires_ms'), atMs: numberOf(row, 'at_ms') });
    }
    for (const customer of this.#customers.values()) {
      customer.lots.sort(compareLots);
      for (const lot of customer.lots) {
        if (lot.expiresMs !== null) this.#expiring.push({ customer, lot, expiresMs: lot.expiresMs });
      }
    }
    this.#expiring.sort((a, b) => a.expiresMs - b.expiresMs);
    // Grants have ids, captures have none: the index on them leaves those out.
    const granted = `SELECT l.customer, SUM(t.amount) AS amount FROM transfers t JOIN lots l ON l.account_no = t.credit
      WHERE t.id IS NOT NULL AND t.type IN ('grant', 'deposit', 'deposit_assign') GROUP BY l.customer`;
    for (const row of sql.all(granted)) {
      const customer = this.#customers.get(textOf(row, 'customer'));
      if (customer) customer.credits = bigintOf(row, 'amount');
    }
  }

  find(id: string): Customer | undefined {
    return this.#customers.get(id);
  }

  records(): CustomerRecord[] {
    return [...this.#customers.values()].map((customer) => customer.record);
  }

  balance(id: string): Balance | null {
    const customer = this.#customers.get(id);
    if (!customer) return null;
    let posted = 0n;
    let held = 0n;
    for (const { account } of customer.lots) {
      posted += account.posted;
      held += account.held;
    }
    return { credits: customer.credits, used: customer.used, posted, held };
  }

  create({ id, name, atMs }: CustomerOp): ActResult {
    const known = this.#customers.get(id)?.record;
    if (known) return known.name === name ? { ok: true, existed: true } : taken('account', false);
    const record = { id, name, frozen: false, frozenReason: null, frozenMs: null, atMs };
    this.#customers.set(id, { record, lots: [], credits: 0n, used: 0n });
    this.#journal.write('INSERT INTO customers (id, name, frozen, at_ms) VALUES (?, ?, 0, ?)', [
      id,
      name,
      BigInt(atMs),
    ]);
    return { ok: true, existed: false };
  }

  freeze({ id, reason, atMs }: FreezeOp): ActResult {
    const customer = this.#customers.get(id);
    if (!customer) return { ok: false, why: 'there is no such account', code: 'not_found' };
    const frozen = reason !== null;
    if (customer.record.frozen === frozen) return { ok: true, existed: true };
    const frozenMs = frozen ? atMs : null;
    customer.record = { ...customer.record, frozen, frozenReason: reason, frozenMs };
    const values = [frozen ? 1n : 0n, reason, frozenMs === null ? null : BigInt(frozenMs), id];
    this.#journal.write('UPDATE customers SET frozen = ?, frozen_reason = ?, frozen_ms = ? WHERE id = ?', values);
    return { ok: true, existed: false };
  }

  grant(grant: GrantOp): TransferResult {
    const { id, customer: owner, kind, amount, actor, reason, atMs } = grant;
    const customer = this.#customers.get(owner);
    if (!customer) return { ok: false, why: 'there is no such account' };
    // Paid credit is one lot for all deposits: one of them cannot make it expire.
    const expiresMs = kind === 'paid' ? null : grant.expiresMs;
    const credit = kind === 'paid' ? customerPaid(owner) : customerPromo(owner, id);
    const debit = kind === 'paid' && grant.given !== true ? cash() : promoExpense();
    const known = this.#journal.findTransfer(id);
    if (known) {
      // A lot whose credit has expired is gone: what was its expiry is not compared then.
      const lot = customer.lots.find(({ account }) => account.spec.name === credit.name);
      const same =
        known.amount === amount &&
        known.credit === credit.name &&
        known.reason.toWellFormed() === storable(reason).toWellFormed() &&
        (lot === undefined || lot.expiresMs === expiresMs);
      return same ? { ok: true, existed: true } : { ok: false, why: 'this id was used for another grant' };
    }
    return this.#add(owner, { kind, credit, expiresMs }, { id, type: 'grant', debit, amount, actor, reason, atMs });
  }

  paidAccount(owner: string): AccountSpec {
    return customerPaid(owner);
  }

  /** Money that came in otherwise than by a grant; the caller knows that its id is new. */
  pay(owner: string, movement: Omit<TransferOp, 'op' | 'credit'>): TransferResult {
    return this.#add(owner, { kind: 'paid', credit: customerPaid(owner), expiresMs: null }, movement);
  }

  #add(
    owner: string,
    lot: { readonly kind: 'paid' | 'promo'; readonly credit: AccountSpec; readonly expiresMs: EpochMs | null },
    movement: Omit<TransferOp, 'op' | 'credit'>,
  ): TransferResult {
    const customer = this.#customers.get(owner);
    if (!customer) return { ok: false, why: 'there is no such account' };
    const { debit, amount, atMs } = movement;
    // All grants of an account are added up at every start: their sum must fit the file's integers.
    if (customer.credits + amount > CREDITS_MAX)
      return { ok: false, why: 'an account can be granted 4 billion USD in all' };
    const broken = this.#journal.whyNot([{ debit, credit: lot.credit, amount }]);
    if (broken !== null) return { ok: false, why: broken };
    const account = this.#journal.open(lot.credit);
    if (!customer.lots.some((known) => known.account === account)) {
      this.#openLot(customer, { account, kind: lot.kind, expiresMs: lot.expiresMs, atMs });
    }
    this.#journal.post({ ...movement, debit: this.#journal.open(debit), credit: account, request: null });
    customer.credits += amount;
    return { ok: true, existed: false };
  }

  #openLot(customer: Customer, lot: Lot): void {
    const { account, kind, expiresMs, atMs } = lot;
    customer.lots.push(lot);
    customer.lots.sort(compareLots);
    if (expiresMs !== null) {
      this.#expiring.push({ customer, lot, expiresMs });
      this.#expiring.sort((a, b) => a.expiresMs - b.expiresMs);
    }
    const expiry = expiresMs === null ? null : BigInt(expiresMs);
    const values = [account.no, customer.record.id, kind, expiry, BigInt(atMs)];
    this.#journal.write('INSERT INTO lots VALUES (?, ?, ?, ?, ?)', values);
  }

  /**
   * What is left of a lot after its expiry becomes breakage, except what requests in flight still hold: that follows
   * when they are settled. Looks only at lots that are due.
   */
  expireLots(nowMs: EpochMs): void {
    let due = 0;
    while ((this.#expiring[due]?.expiresMs ?? Infinity) <= nowMs) due += 1;
    if (due === 0) return;
    const waiting = this.#expiring.splice(0, due).filter((entry) => !this.#expire(entry, nowMs));
    this.#expiring.unshift(...waiting);
  }

  /** Whether nothing of the lot is left; then no hold looks at it again. */
  #expire({ customer, lot }: Expiring, nowMs: EpochMs): boolean {
    const { account } = lot;
    const left = account.posted - account.held;
    if (left > 0n) {
      this.#journal.post({
        id: null,
        type: 'promo_expire',
        debit: account,
        credit: this.#journal.open(breakage()),
        amount: left,
        request: null,
        actor: 'ledger',
        reason: `credit of ${customer.record.id} expired`,
        atMs: nowMs,
      });
    }
    if (account.posted > 0n) return false;
    customer.lots.splice(customer.lots.indexOf(lot), 1);
    return true;
  }
}
