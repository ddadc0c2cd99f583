import { bigintOf, numberOf, textOf, type Sql } from '../store/sql.ts';
import type { ActResult, AssignOp, DepositOp, DepositResult, SuspenseRecord } from './access.ts';
import { suspense } from './accounts.ts';
import type { Customers } from './customers.ts';
import type { Journal } from './journal.ts';

const REFERENCE_MAX = 300;

/**
 * Money from outside, credited once by its reference: that is part of its transfer's id, which the file lets in only once.
 * What has no known owner waits in suspense. What a reference is made of is the watcher's: the ledger knows no chain.
 */
export class Deposits {
  readonly #journal: Journal;
  readonly #customers: Customers;
  readonly #waiting = new Map<string, SuspenseRecord>();

  constructor(journal: Journal, customers: Customers, sql: Sql | null) {
    this.#journal = journal;
    this.#customers = customers;
    for (const row of sql?.all(IN_SUSPENSE, [suspense().name]) ?? []) {
      const reference = textOf(row, 'id').slice('deposit:'.length);
      this.#waiting.set(reference, {
        reference,
        amount: bigintOf(row, 'amount'),
        source: textOf(row, 'source'),
        reason: textOf(row, 'reason'),
        atMs: numberOf(row, 'at_ms'),
      });
    }
  }

  inSuspense(): SuspenseRecord[] {
    return [...this.#waiting.values()];
  }

  credit({ reference, customer, amount, source, actor, reason, atMs }: DepositOp): DepositResult {
    if (reference === '' || reference.length > REFERENCE_MAX || reference.includes('\0'))
      return { ok: false, why: `a reference has 1 to ${REFERENCE_MAX} characters` };
    const id = `deposit:${reference}`;
    const known = this.#journal.findTransfer(id);
    if (known) {
      const same = known.amount === amount && known.debit === source.name;
      if (!same) return { ok: false, why: `the reference ${reference} was used for another deposit` };
      return { ok: true, existed: true, suspense: known.credit === suspense().name };
    }
    const movement = { id, type: 'deposit', debit: source, amount, actor, reason, atMs };
    if (customer !== null && this.#customers.find(customer)) {
      const paid = this.#customers.pay(customer, movement);
      return paid.ok ? { ...paid, suspense: false } : paid;
    }
    const broken = this.#journal.whyNot([{ debit: source, credit: suspense(), amount }]);
    if (broken !== null) return { ok: false, why: broken };
    const accounts = { debit: this.#journal.open(source), credit: this.#journal.open(suspense()) };
    this.#journal.post({ ...movement, ...accounts, request: null });
    this.#waiting.set(reference, { reference, amount, source: source.name, reason, atMs });
    return { ok: true, existed: false, suspense: true };
  }

  assign({ reference, customer, actor, reason, atMs }: AssignOp): ActResult {
    const id = `assign:${reference}`;
    const known = this.#journal.findTransfer(id);
    if (known) {
      if (known.credit === this.#customers.paidAccount(customer).name) return { ok: true, existed: true };
      return { ok: false, why: 'this deposit was assigned to another account', code: 'conflict' };
    }
    const waiting = this.#waiting.get(reference);
    if (!waiting) return { ok: false, why: 'no such deposit is in suspense', code: 'not_found' };
    if (!this.#customers.find(customer)) return { ok: false, why: 'there is no such account', code: 'not_found' };
    const { amount } = waiting;
    const movement = { id, type: 'deposit_assign', debit: suspense(), amount, actor, reason, atMs };
    const paid = this.#customers.pay(customer, movement);
    if (paid.ok) this.#waiting.delete(reference);
    return paid;
  }
}

// The partial index on these types is used only by a query that says the same.
const IN_SUSPENSE = `SELECT t.id, t.amount, t.reason, t.at_ms, d.name AS source FROM transfers t
  JOIN accounts d ON d.no = t.debit JOIN accounts c ON c.no = t.credit
  WHERE t.type IN ('deposit', 'deposit_assign') AND t.type = 'deposit' AND c.name = ?
    AND NOT EXISTS (SELECT 1 FROM transfers a WHERE a.id = 'assign:' || substr(t.id, 9) AND a.id IS NOT NULL)
  ORDER BY t.seq`;
