import type { Price } from '../spec.ts';
import { bigintOf, numberOf, textOf, textOrNull, type Sql } from '../store/sql.ts';
import type { EpochMs } from '../units.ts';
import type { AuditNote } from './access.ts';
import { AdminKeys } from './admin-keys.ts';
import { ApiKeys } from './api-keys.ts';
import { AuditLog } from './audit.ts';
import { Customers } from './customers.ts';
import { Deposits } from './deposits.ts';
import { Holds } from './holds.ts';
import { JournalFile, type Batch } from './journal-file.ts';
import { Journal } from './journal.ts';
import { leaseUsage } from './lease-usage.ts';
import { migrateLedger } from './migrate.ts';
import type {
  LedgerOp,
  LedgerReplies,
  PriceOp,
  Query,
  TransferOp,
  TransferResult,
  UsageDetail,
  UsageRecord,
  UsageStatus,
} from './operations.ts';
import { FILE_BOUNDS, Replays, type ReplayBounds } from './replays.ts';
import { sumUsage } from './usage-sums.ts';

type Reply = LedgerReplies[LedgerOp['op']];
type BookOp = Exclude<LedgerOp, { op: 'check' }>;

/**
 * A book: one hash chain with its accounts, customers and holds, and the only judge of its balances. `apply` decides in
 * memory at once; what is new is put on disk in one transaction by `commit`, or by another thread that is given what `take`
 * returns. Between the two nothing durable may be acknowledged. Without `sql` it lives in memory alone (the edge's fixed account, tests).
 */
export class Book {
  /** The number of this start: a later one fences this book off. */
  readonly epoch: number;
  readonly #sql: Sql | null;
  readonly #file: JournalFile | null;
  readonly #journal: Journal;
  readonly #customers: Customers;
  readonly #keys: ApiKeys;
  readonly #holds: Holds;
  readonly #replays: Replays;
  readonly #deposits: Deposits;
  readonly #adminKeys: AdminKeys;
  readonly #audit: AuditLog;
  readonly #prices = new Map<number, { model: string; price: Price }>();

  constructor(sql: Sql | null, nowMs: EpochMs, bounds: ReplayBounds = FILE_BOUNDS) {
    this.#sql = sql;
    this.epoch = sql ? migrateLedger(sql) : 1;
    this.#file = sql ? new JournalFile(sql, this.epoch) : null;
    this.#journal = new Journal(sql, this.#file?.seq ?? 0n);
    this.#customers = new Customers(this.#journal, sql);
    this.#replays = new Replays(sql, this.#journal, bounds);
    const hasCustomer = (id: string): boolean => this.#customers.find(id) !== undefined;
    this.#keys = new ApiKeys({ journal: this.#journal, sql, nowMs, hasCustomer });
    if (sql) this.#loadUsage(sql, nowMs);
    this.#deposits = new Deposits(this.#journal, this.#customers, sql);
    this.#adminKeys = new AdminKeys(this.#journal, sql);
    this.#audit = new AuditLog(this.#journal, sql);
    this.#loadPrices();
    this.#holds = new Holds({
      journal: this.#journal,
      customers: this.#customers,
      replays: this.#replays,
      keys: this.#keys,
      priceOf: (version, model) => {
        const known = this.#prices.get(version);
        return known?.model === model ? known.price : undefined;
      },
      epoch: this.epoch,
    });
    if (sql) this.#holds.load(sql);
    this.#holds.recover(nowMs, () => true, 'the gateway ended while this request was running');
    this.commit();
  }

  get seq(): bigint {
    return this.#journal.seq;
  }

  get dirty(): boolean {
    return this.#journal.dirty;
  }

  get pendingHolds(): number {
    return this.#holds.pending;
  }

  apply(operation: BookOp, nowMs: EpochMs): Reply {
    switch (operation.op) {
      case 'hold':
        return this.#holds.hold(operation);
      case 'extend':
        return this.#holds.extend(operation, nowMs);
      case 'progress':
        this.#holds.progress(operation);
        return null;
      case 'settle':
        return this.#holds.settle(operation);
      default: {
        const reply = this.#act(operation);
        if ('audit' in operation && operation.audit) this.#log(operation.audit, reply, nowMs);
        return reply;
      }
    }
  }

  #act(operation: Exclude<BookOp, { op: 'hold' | 'extend' | 'progress' | 'settle' }>): Reply {
    switch (operation.op) {
      case 'transfer':
        return this.#transfer([operation]);
      case 'transfers':
        return this.#transfer(operation.transfers);
      case 'grant':
        return this.#customers.grant(operation);
      case 'deposit':
        return this.#deposits.credit(operation);
      case 'assign':
        return this.#deposits.assign(operation);
      case 'customer':
        return this.#customers.create(operation);
      case 'freeze':
        return this.#customers.freeze(operation);
      case 'key':
        return this.#keys.add(operation);
      case 'rotate':
        return this.#keys.rotate(operation);
      case 'revoke':
        return this.#keys.revoke(operation);
      case 'project':
        return this.#keys.setProject(operation);
      case 'adminKey':
        return this.#adminKeys.add(operation);
      case 'revokeAdminKey':
        return this.#adminKeys.revoke(operation);
      case 'audit':
        this.#audit.add(operation.note, operation.outcome, operation.atMs);
        return null;
      case 'price':
        return this.#setPrice(operation);
      default:
        return this.#answer(operation);
    }
  }

  #answer(query: Exclude<Query, { op: 'check' }>): Reply {
    switch (query.op) {
      case 'keys':
        return this.#keys.records();
      case 'customers':
        return this.#customers.records();
      case 'spending':
        return this.#keys.spending(query.key, query.atMs);
      case 'projects':
        return this.#keys.projects(query.customer, query.atMs);
      case 'adminKeys':
        return this.#adminKeys.records();
      case 'suspense':
        return this.#deposits.inSuspense();
      case 'audits':
        return this.#audit.list(query.limit, query.before);
      case 'balance':
        return this.#customers.balance(query.customer);
      case 'account': {
        const account = this.#journal.find(query.name);
        return account ? { ...account.spec, posted: account.posted, held: account.held } : null;
      }
      case 'usage':
        return this.#usage(query.request);
      case 'leaseUsage':
        return leaseUsage(this.#sql, query);
    }
  }

  /** A refusal is logged by whoever tells its code to the admin. */
  #log(note: AuditNote, reply: Reply, nowMs: EpochMs): void {
    if (typeof reply !== 'object' || reply === null || !('ok' in reply) || !reply.ok) return;
    const repeated = 'existed' in reply && reply.existed;
    this.#audit.add(repeated ? { ...note, detail: { ...note.detail, repeated } } : note, 'ok', nowMs);
  }

  /** Work that time brings: old holds to disk, dead ones settled, expired credit written off. */
  tick(nowMs: EpochMs): void {
    this.#holds.recover(nowMs, ({ deadlineMs }) => deadlineMs <= nowMs, 'the request outlived its deadline');
    this.#holds.journalOld(nowMs);
    this.#customers.expireLots(nowMs);
    this.#replays.prune(nowMs);
  }

  /** Everything new, for whoever has the disk; then nobody may call `commit`. In the order of the calls, each once. */
  take(): Batch | null {
    this.#replays.take();
    return this.#journal.take();
  }

  /** A batch that was taken is on disk. */
  confirm(batch: Batch): void {
    this.#journal.confirm(batch);
    this.#replays.confirm();
  }

  /** Takes and writes at once, on this thread. */
  commit(): void {
    const batch = this.take();
    if (!batch) return;
    this.#file?.write(batch);
    this.confirm(batch);
  }

  #transfer(transfers: readonly Omit<TransferOp, 'op'>[]): TransferResult {
    const fresh = new Map<string, Omit<TransferOp, 'op'>>();
    for (const transfer of transfers) {
      const { id, type, debit, credit, amount } = transfer;
      const twin = fresh.get(id);
      const known = twin
        ? { ...twin, debit: twin.debit.name, credit: twin.credit.name }
        : this.#journal.findTransfer(id);
      if (!known) {
        fresh.set(id, transfer);
        continue;
      }
      const same =
        known.type === type && known.debit === debit.name && known.credit === credit.name && known.amount === amount;
      if (!same) return { ok: false, why: `the id ${id} was used for another transfer` };
    }
    if (fresh.size === 0) return { ok: true, existed: true };
    const broken = this.#journal.whyNot([...fresh.values()]);
    if (broken !== null) return { ok: false, why: broken };
    for (const { id, type, debit, credit, amount, actor, reason, atMs } of fresh.values()) {
      const accounts = { debit: this.#journal.open(debit), credit: this.#journal.open(credit) };
      this.#journal.post({ id, type, ...accounts, amount, request: null, actor, reason, atMs });
    }
    return { ok: true, existed: false };
  }

  #setPrice({ model, price, atMs }: PriceOp): number {
    let latest = 0;
    for (const [version, known] of this.#prices) if (known.model === model) latest = version;
    const current = this.#prices.get(latest)?.price;
    const same =
      current &&
      current.inputPico === price.inputPico &&
      current.cachedInputPico === price.cachedInputPico &&
      current.outputPico === price.outputPico;
    if (same) return latest;
    const version = this.#prices.size + 1;
    this.#prices.set(version, { model, price });
    const values = [price.inputPico, price.cachedInputPico, price.outputPico, BigInt(atMs)];
    this.#journal.write('INSERT INTO price_versions VALUES (?, ?, ?, ?, ?, ?)', [BigInt(version), model, ...values]);
    return version;
  }

  #loadUsage(sql: Sql, nowMs: EpochMs): void {
    for (const { customer, key, reset, atMs, amount } of sumUsage(sql, nowMs)) {
      const owner = this.#customers.find(customer);
      if (owner && reset === 'none') owner.used += amount;
      if (key !== null) this.#keys.restore(key, atMs, reset, amount);
    }
  }

  #loadPrices(): void {
    for (const row of this.#sql?.all('SELECT * FROM price_versions ORDER BY version') ?? []) {
      const price = {
        inputPico: bigintOf(row, 'input_pico'),
        cachedInputPico: bigintOf(row, 'cached_input_pico'),
        outputPico: bigintOf(row, 'output_pico'),
      };
      this.#prices.set(numberOf(row, 'version'), { model: textOf(row, 'model'), price });
    }
  }

  #usage(request: string): UsageRecord | null {
    const [row] = this.#sql?.all('SELECT * FROM usage WHERE request = ?', [request]) ?? [];
    if (!row) return null;
    const priceVersion = numberOf(row, 'price_version');
    return {
      ...{ request, customer: textOf(row, 'account'), key: textOrNull(row, 'key') },
      ...{ model: textOf(row, 'model'), priceVersion },
      price: this.#prices.get(priceVersion)?.price ?? null,
      tokens: {
        inputTokens: numberOf(row, 'input_tokens'),
        cachedTokens: numberOf(row, 'cached_tokens'),
        outputTokens: numberOf(row, 'output_tokens'),
      },
      held: bigintOf(row, 'held'),
      charged: bigintOf(row, 'charged'),
      wakeFee: row['wake_fee'] === null ? 0n : bigintOf(row, 'wake_fee'),
      status: textOf(row, 'status') as UsageStatus,
      detail: JSON.parse(textOf(row, 'detail')) as UsageDetail,
      atMs: numberOf(row, 'at_ms'),
    };
  }
}
