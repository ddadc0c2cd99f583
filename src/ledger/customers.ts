import { bigintOf, numberOf, numberOrNull, textOf, textOrNull, type Sql } from '../store/sql.ts';
import { parseUsd, formatUsd, type EpochMs, type NanoUsd } from '../units.ts';
import { breakage, cash, customerPaid, customerPromo, promoExpense } from './accounts.ts';
import type { Account, Journal } from './journal.ts';
import type {
  Balance,
  CustomerOp,
  CustomerRecord,
  GrantOp,
  KeyOp,
  KeyRecord,
  KeySettings,
  RevokeOp,
  TransferResult,
} from './operations.ts';

const CREDITS_MAX: NanoUsd = 4_000_000_000_000_000_000n;

/** One lot of credit, see the table `lots`. */
export interface Lot {
  readonly account: Account;
  readonly kind: 'paid' | 'promo';
  readonly expiresMs: EpochMs | null;
  readonly atMs: EpochMs;
}

export interface Customer {
  readonly record: CustomerRecord;
  /** In draw-down order. */
  readonly lots: Lot[];
  credits: NanoUsd;
  used: NanoUsd;
}

export interface Key {
  record: KeyRecord;
  spent: NanoUsd;
  held: NanoUsd;
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

/** Customers, their lots of credit and their keys. */
export class Customers {
  readonly #journal: Journal;
  readonly #customers = new Map<string, Customer>();
  readonly #keys = new Map<string, Key>();
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
    const granted = `SELECT l.customer, SUM(t.amount) AS amount FROM transfers t
      JOIN lots l ON l.account_no = t.credit WHERE t.id IS NOT NULL AND t.type = 'grant' GROUP BY l.customer`;
    for (const row of sql.all(granted)) {
      const customer = this.#customers.get(textOf(row, 'customer'));
      if (customer) customer.credits = bigintOf(row, 'amount');
    }
    for (const row of sql.all('SELECT * FROM api_keys')) {
      const id = textOf(row, 'id');
      const record: KeyRecord = {
        id,
        hash: textOf(row, 'hash'),
        hint: textOf(row, 'hint'),
        customer: textOf(row, 'customer'),
        name: textOf(row, 'name'),
        settings: parseKeySettings(textOf(row, 'settings')),
        atMs: numberOf(row, 'at_ms'),
        revokedMs: numberOrNull(row, 'revoked_ms'),
      };
      this.#keys.set(id, { record, spent: 0n, held: 0n });
    }
    // Reads all of the usage once: about a second for every million requests.
    for (const row of sql.all('SELECT account, key, SUM(charged) AS amount FROM usage GROUP BY account, key')) {
      const amount = bigintOf(row, 'amount');
      const customer = this.#customers.get(textOf(row, 'account'));
      const key = this.key(textOrNull(row, 'key'));
      if (customer) customer.used += amount;
      if (key) key.spent += amount;
    }
  }

  find(id: string): Customer | undefined {
    return this.#customers.get(id);
  }

  key(id: string | null): Key | undefined {
    return id === null ? undefined : this.#keys.get(id);
  }

  keys(): KeyRecord[] {
    return [...this.#keys.values()].map((key) => key.record);
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

  create({ id, name, atMs }: CustomerOp): TransferResult {
    if (this.#customers.has(id)) return { ok: true, existed: true };
    this.#customers.set(id, { record: { id, name, frozen: false, atMs }, lots: [], credits: 0n, used: 0n });
    this.#journal.write('INSERT INTO customers (id, name, frozen, at_ms) VALUES (?, ?, 0, ?)', [
      id,
      name,
      BigInt(atMs),
    ]);
    return { ok: true, existed: false };
  }

  grant(grant: GrantOp): TransferResult {
    const { id, customer: owner, kind, amount, expiresMs, actor, reason, atMs } = grant;
    const customer = this.#customers.get(owner);
    if (!customer) return { ok: false, why: 'there is no such account' };
    const credit = kind === 'paid' ? customerPaid(owner) : customerPromo(owner, id);
    const debit = kind === 'paid' ? cash() : promoExpense();
    const known = this.#journal.findTransfer(id);
    if (known) {
      const same = known.amount === amount && known.credit === credit.name;
      return same ? { ok: true, existed: true } : { ok: false, why: 'this id was used for another grant' };
    }
    // All grants of an account are added up at every start: their sum must fit the file's integers.
    if (customer.credits + amount > CREDITS_MAX)
      return { ok: false, why: 'an account can be granted 4 billion USD in all' };
    const broken = this.#journal.whyNot([{ debit, credit, amount }]);
    if (broken !== null) return { ok: false, why: broken };
    const account = this.#journal.open(credit);
    if (!customer.lots.some((lot) => lot.account === account)) {
      // Paid credit is one lot for all deposits: one of them cannot make it expire.
      const expiry = kind === 'paid' ? null : expiresMs;
      const lot = { account, kind, expiresMs: expiry, atMs };
      customer.lots.push(lot);
      customer.lots.sort(compareLots);
      if (expiry !== null) {
        this.#expiring.push({ customer, lot, expiresMs: expiry });
        this.#expiring.sort((a, b) => a.expiresMs - b.expiresMs);
      }
      const values = [account.no, owner, kind, expiry === null ? null : BigInt(expiry), BigInt(atMs)];
      this.#journal.write('INSERT INTO lots VALUES (?, ?, ?, ?, ?)', values);
    }
    this.#journal.post({
      id,
      type: 'grant',
      debit: this.#journal.open(debit),
      credit: account,
      amount,
      request: null,
      actor,
      reason,
      atMs,
    });
    customer.credits += amount;
    return { ok: true, existed: false };
  }

  addKey({ id, hash, hint, customer, name, settings, atMs }: KeyOp): TransferResult {
    if (!this.#customers.has(customer)) return { ok: false, why: 'there is no such account' };
    if (this.#keys.has(id)) return { ok: true, existed: true };
    this.#keys.set(id, {
      record: { id, hash, hint, customer, name, settings, atMs, revokedMs: null },
      spent: 0n,
      held: 0n,
    });
    const values = [id, hash, hint, customer, name, writeKeySettings(settings), BigInt(atMs)];
    this.#journal.write(
      'INSERT INTO api_keys (id, hash, hint, customer, name, settings, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)',
      values,
    );
    return { ok: true, existed: false };
  }

  revokeKey({ id, atMs }: RevokeOp): TransferResult {
    const key = this.#keys.get(id);
    if (!key) return { ok: false, why: 'there is no such key' };
    if (key.record.revokedMs !== null) return { ok: true, existed: true };
    key.record = { ...key.record, revokedMs: atMs };
    this.#journal.write('UPDATE api_keys SET revoked_ms = ? WHERE id = ?', [BigInt(atMs), id]);
    return { ok: true, existed: false };
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

function writeKeySettings({ spendLimit, ...rest }: KeySettings): string {
  return JSON.stringify({ ...rest, spendLimitUsd: spendLimit === null ? null : formatUsd(spendLimit) });
}

function parseKeySettings(text: string): KeySettings {
  const { spendLimitUsd, ...rest } = JSON.parse(text) as Omit<KeySettings, 'spendLimit'> & {
    readonly spendLimitUsd: string | null;
  };
  return { ...rest, spendLimit: spendLimitUsd === null ? null : parseUsd(spendLimitUsd) };
}
