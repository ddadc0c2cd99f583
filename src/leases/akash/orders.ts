import type { Clock } from '../../clock.ts';
import type { EpochMs } from '../../units.ts';
import type { CloseReason } from '../market.ts';
import { Turns } from '../turns.ts';
import { nanoOf } from './amounts.ts';
import type { Chain } from './chain.ts';
import type { ChainDeployment, Included, Order, SendOutcome } from './chain-types.ts';
import type { Wallet } from './chain-wallet.ts';
import { drawTo, endLease, openLease } from './lease-rows.ts';
import { orderOfGroup } from './names.ts';
import type { AkashRecords, OrderRow, Payment, Purpose } from './records.ts';
import type { Treasury } from './treasury.ts';

export interface AkashOrdersOptions {
  readonly chain: Chain;
  readonly records: AkashRecords;
  readonly treasury: Treasury;
  readonly clock: Clock;
  readonly wallet: (index: number) => Wallet;
  /** Who pays fees and deposits of derived wallets; null: each for itself. */
  readonly feeGranter: (index: number) => string | undefined;
  readonly log: (line: string) => void;
}

export type Step =
  | { readonly kind: 'done'; readonly row: OrderRow }
  | { readonly kind: 'refused'; readonly row: OrderRow; readonly reason: string }
  | { readonly kind: 'unknown'; readonly reason: string };

export interface Sending {
  readonly purpose: Purpose;
  readonly orders: readonly Order[];
  readonly payment?: Payment | null;
  readonly bidId?: string | null;
}

const CLOSED_KEPT = 200;

/**
 * Orders and leases on the chain, one row each. A row is on disk before its transaction is sent and names it by its hash,
 * and memory follows the disk; so after a crash or a failed write at any point the chain says what happened, and nothing
 * is sent twice. Calls for one order follow one another (`run`).
 */
export class AkashOrders {
  readonly #options: AkashOrdersOptions;
  readonly #rows = new Map<string, OrderRow>();
  readonly #turns = new Turns();
  /** Rows of which the ledger may not have everything. */
  readonly #behind = new Set<string>();

  constructor(options: AkashOrdersOptions) {
    this.#options = options;
  }

  /** Reads what an earlier run left. */
  async load(): Promise<void> {
    for (const row of await this.#options.records.open()) this.#put(row, true);
  }

  /** Finds on the chain what no row tells of. */
  async adopt(owners: readonly { readonly index: number; readonly pool: string | null }[]): Promise<void> {
    const { chain, wallet } = this.#options;
    for (const { index, pool } of owners) {
      const { address } = wallet(index);
      for (const deployment of await chain.deployments(address)) await this.#adopt(deployment, index, pool);
    }
  }

  run<T>(orderId: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.run(orderId, work);
  }

  /** Nothing is under way any more. */
  idle(): Promise<unknown> {
    return this.#turns.idle();
  }

  live(): OrderRow[] {
    return [...this.#rows.values()].filter(({ booked }) => !booked);
  }

  /** No transaction is open, no end under way, and the ledger has everything. */
  get quiet(): boolean {
    return this.#behind.size === 0 && this.live().every(({ pending, closing }) => pending === null && closing === null);
  }

  known(orderId: string): OrderRow | null {
    return this.#rows.get(orderId) ?? null;
  }

  async find(orderId: string): Promise<OrderRow | null> {
    return this.#rows.get(orderId) ?? this.#options.records.find(orderId);
  }

  /** To disk first: what memory says was written. */
  async save(row: OrderRow): Promise<OrderRow> {
    await this.#options.records.save(row);
    this.#put(row, false);
    return row;
  }

  /** Makes sure that no transaction of the row is open. Null: it is not known yet what became of one. */
  async settle(row: OrderRow): Promise<OrderRow | null> {
    const { pending } = row;
    if (!pending) return row;
    // Nobody could say: whoever waits for it shall not wait for a transaction's whole time.
    if (this.#options.chain.silence() !== null) return null;
    const outcome = await this.#options.chain.resolve(pending.tx);
    if (outcome.kind === 'pending') return null;
    if (outcome.kind === 'included' && outcome.tx.code === 0) return this.#happened(row, outcome.tx);
    return this.save({ ...row, pending: null });
  }

  /** The same for a row that somebody else may be at work on: within its turn (`run`). */
  async settleNow(orderId: string): Promise<void> {
    const row = await this.find(orderId);
    if (row?.pending) await this.settle(row);
  }

  /** Signs, notes, sends; the row is as the chain left it. The row must have nothing pending. */
  async send(row: OrderRow, { purpose, orders, payment = null, bidId = null }: Sending): Promise<Step> {
    const { chain, wallet, feeGranter, clock } = this.#options;
    let current = row;
    const outcome: SendOutcome = await chain.send({
      wallet: wallet(row.walletIndex),
      feeGranter: feeGranter(row.walletIndex),
      orders,
      note: async (tx) => {
        current = await this.save({ ...row, pending: { purpose, tx, payment, bidId, sinceMs: clock.now() } });
      },
    });
    if (outcome.kind === 'unknown') return outcome;
    if (outcome.kind === 'done') return { kind: 'done', row: await this.#happened(current, outcome.tx) };
    if (current.pending) current = await this.save({ ...current, pending: null });
    return { kind: 'refused', row: current, reason: outcome.reason };
  }

  /** Ends an order, and its lease if it has one: the deployment is closed, and what is left of its deposit comes back. */
  async end(orderId: string, reason: CloseReason): Promise<Step> {
    const found = await this.find(orderId);
    if (!found) return { kind: 'unknown', reason: 'there is no such order' };
    if (found.booked) return { kind: 'done', row: found };
    const noted = found.closing === null ? await this.save({ ...found, closing: reason }) : found;
    const settled = await this.settle(noted);
    if (!settled) return { kind: 'unknown', reason: 'a transaction of it is still open' };
    let row = settled;
    if (row.state !== 'closed') {
      const closed = row.created ? await this.#closeDeployment(row) : { kind: 'done' as const, row };
      if (closed.kind !== 'done') return closed;
      row = await this.save({ ...closed.row, state: 'closed' });
    }
    return { kind: 'done', row: await this.book(row) };
  }

  /** The ledger follows the row; a row that has ended is over with that. */
  async book(row: OrderRow): Promise<OrderRow> {
    if (row.booked) return row;
    this.#behind.add(row.orderId);
    await this.#options.treasury.follow(row);
    this.#behind.delete(row.orderId);
    return row.state === 'closed' ? this.save({ ...row, booked: true }) : row;
  }

  /** What an earlier failure kept out of the ledger. */
  async catchUp(row: OrderRow): Promise<void> {
    if (this.#behind.has(row.orderId)) await this.book(row);
  }

  /** Rent up to a block, as it will be paid when the chain settles next. */
  async draw(row: OrderRow, block: number): Promise<OrderRow> {
    await this.catchUp(row);
    const drawn = drawTo(row, block);
    return drawn === row ? row : this.book(await this.save(drawn));
  }

  async #closeDeployment(row: OrderRow): Promise<Step> {
    const { chain } = this.#options;
    const silence = chain.silence();
    if (silence !== null) return { kind: 'unknown', reason: silence };
    const before = await chain.deployment(row);
    let current = row;
    if (before?.state === 'active') {
      const step = await this.send(row, { purpose: 'close', orders: [{ type: 'close_deployment', id: row }] });
      if (step.kind === 'unknown') return step;
      current = step.row;
      if (step.kind === 'refused' && (await chain.deployment(row))?.state === 'active') return step;
    }
    const [deployment, leases] = [await chain.deployment(row), await chain.leases(row)];
    return { kind: 'done', row: endLease(current, deployment, leases, this.#options.clock.now()) };
  }

  /** A transaction was included and did what it says. */
  async #happened(row: OrderRow, tx: Included): Promise<OrderRow> {
    const { pending } = row;
    if (!pending) return row;
    const { purpose, payment, bidId } = pending;
    const done = { purpose, hash: tx.hash, height: tx.height, feeUakt: tx.feeUakt };
    const transactions = row.transactions.some(({ hash }) => hash === tx.hash)
      ? row.transactions
      : [...row.transactions, done];
    const payments =
      payment === null || row.payments.some(({ id }) => id === payment.id) ? row.payments : [...row.payments, payment];
    const paid: OrderRow = { ...row, pending: null, transactions, payments };
    const next = await this.#applied(paid, { purpose, bidId, height: tx.height });
    return this.book(await this.save(next));
  }

  async #applied(
    row: OrderRow,
    { purpose, bidId, height }: { purpose: Purpose; bidId: string | null; height: number },
  ): Promise<OrderRow> {
    if (purpose === 'create') return { ...row, created: true, postedBlock: height };
    if (purpose === 'fund' && row.lease) {
      return { ...row, lease: { ...row.lease, depositNanoUsd: nanoOf(sumOf(row.payments)) } };
    }
    if (purpose !== 'lease') return row;
    const leases = await this.#options.chain.leases(row);
    return openLease(row, leases, { bidId, atMs: this.#options.clock.now() });
  }

  /** A deployment of ours that no row tells of: the records were lost, or a crash came before the first of them. */
  async #adopt(deployment: ChainDeployment, walletIndex: number, pool: string | null): Promise<void> {
    const { chain, clock, records, log } = this.#options;
    const orderId = orderOfGroup(deployment.groupName);
    if (orderId === null) return;
    const known = await this.find(orderId);
    if (known) {
      // Posted after all, though its transaction was given up. One that is open is looked up by its hash.
      if (!known.pending && (!known.created || known.booked)) await this.save(revived(known, deployment));
      return;
    }
    if (await records.find(orderId)) return;
    log(`deployment ${deployment.dseq} is ours, but no record tells of it: order ${orderId}`);
    const row = strangeRow(deployment, { orderId, walletIndex, pool, nowMs: clock.now() });
    const leases = await chain.leases(deployment);
    await this.save(openLease(row, leases, { bidId: null, atMs: clock.now() }));
  }

  #put(row: OrderRow, behind: boolean): void {
    this.#rows.delete(row.orderId);
    this.#rows.set(row.orderId, row);
    if (behind) this.#behind.add(row.orderId);
    const ended = [...this.#rows.values()].filter(({ booked }) => booked);
    for (const { orderId } of ended.slice(0, Math.max(0, ended.length - CLOSED_KEPT))) this.#rows.delete(orderId);
  }
}

export function sumOf(payments: readonly Payment[]): bigint {
  return payments.reduce((sum, { amount }) => sum + amount, 0n);
}

function revived(row: OrderRow, deployment: ChainDeployment): OrderRow {
  const paid = deployment.escrow.funds + deployment.escrow.transferred;
  const payments = row.payments.length > 0 ? row.payments : [{ id: 'deposit', amount: paid }];
  const state = row.state === 'closed' ? ('open' as const) : row.state;
  return { ...row, created: true, booked: false, state, payments, postedBlock: deployment.createdAt };
}

function strangeRow(
  deployment: ChainDeployment,
  given: { orderId: string; walletIndex: number; pool: string | null; nowMs: EpochMs },
): OrderRow {
  const { owner, dseq, escrow, createdAt, version } = deployment;
  return {
    orderId: given.orderId,
    pool: given.pool ?? 'unknown',
    owner,
    walletIndex: given.walletIndex,
    dseq,
    request: null,
    manifest: '',
    version,
    state: 'open',
    created: true,
    postedAtMs: given.nowMs,
    postedBlock: createdAt,
    bids: [],
    pending: null,
    payments: [{ id: 'adopted', amount: escrow.funds + escrow.transferred }],
    lastDraw: null,
    lease: null,
    gseq: 1,
    oseq: 1,
    rate: '0',
    manifestSentMs: null,
    closing: null,
    booked: false,
    transactions: [],
  };
}
