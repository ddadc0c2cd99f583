import type { Clock } from '../../clock.ts';
import type { Blocks, NanoUsd } from '../../units.ts';
import { nextLeaseState, type LeaseEvent } from '../machine.ts';
import type { CloseReason, Lease, LeaseState, MarketTerms } from '../market.ts';
import { blockPrice, drawRent, perBlockTotal, rentOfBlocks } from '../rent.ts';
import type { LeaseRow, MarketRecords } from '../records.ts';
import type { Escrow } from './escrow.ts';

export interface LeaseBookOptions {
  readonly records: MarketRecords;
  readonly escrow: Escrow;
  readonly clock: Clock;
  readonly terms: MarketTerms;
}

/** Payments into an escrow that a row names; older ones have long been in the ledger. */
const DEPOSITS_KEPT = 20;

export type Opening = 'opened' | 'open_already' | 'deposit_refused' | 'closed';

/**
 * Leases of the embedded market and their money. A row is always written before its transfer, and says enough to post
 * that transfer again; so after a crash (`recover`) or a failed write (`#catchUp`) at any point, row and books are brought
 * together. Calls for one lease must follow one another.
 */
export class LeaseBook {
  readonly #options: LeaseBookOptions;
  readonly #rows = new Map<string, LeaseRow>();
  /** Leases of which memory may be ahead of the disk, or the row ahead of the ledger. */
  readonly #unsure = new Set<string>();
  /** Leases whose refund may be in the ledger already: nothing more is drawn from them or added to them. */
  readonly #refunding = new Set<string>();

  constructor(options: LeaseBookOptions) {
    this.#options = options;
  }

  block(): Blocks {
    return Math.floor(this.#options.clock.now() / this.#options.terms.blockMs);
  }

  find(id: string): Lease | null {
    return this.#rows.get(id)?.lease ?? null;
  }

  row(id: string): LeaseRow | null {
    return this.#rows.get(id) ?? null;
  }

  active(): Lease[] {
    return this.live().filter(({ state }) => state === 'active');
  }

  /** Active ones and those whose deposit is on the way: all that take up a provider's capacity. */
  live(): Lease[] {
    return [...this.#rows.values()].map(({ lease }) => lease).filter(({ state }) => state !== 'closed');
  }

  /** A new lease, opening: from now on it takes up capacity. `open` pays for it. */
  add(lease: Lease): void {
    const { takeFeeBp, makeFeeBp } = this.#options.terms;
    const deposits = [{ id: 'deposit', amount: lease.depositNanoUsd }];
    this.#rows.set(lease.id, { lease, drawnFromBlock: lease.openedBlock, deposits, takeFeeBp, makeFeeBp });
    this.#unsure.add(lease.id);
  }

  /** Opens a lease that was added: its deposit goes into escrow, unless the treasury holds too little. */
  async open(id: string): Promise<Opening> {
    await this.#catchUp(id);
    const { lease, deposits } = this.#row(id);
    if (lease.state === 'active') return 'open_already';
    if (lease.state === 'closed') return lease.depositNanoUsd === 0n ? 'deposit_refused' : 'closed';
    if (deposits.length > 0) {
      await this.#change(id, { state: this.#next(id, { type: 'deposited' }) });
      return 'opened';
    }
    const state = this.#next(id, { type: 'deposit_refused' });
    await this.#change(id, { state, closeReason: 'overdrawn', ...this.#closing() });
    return 'deposit_refused';
  }

  async fund(id: string, amount: NanoUsd, fundingId: string): Promise<'funded' | 'refused' | 'closed'> {
    await this.#catchUp(id);
    const row = this.#row(id);
    if (row.deposits.some((deposit) => deposit.id === fundingId)) return 'funded';
    if (row.lease.state !== 'active' || this.#refunding.has(id)) return 'closed';
    const { lease } = row;
    const deposits = [...row.deposits.slice(1 - DEPOSITS_KEPT), { id: fundingId, amount }];
    const funded = { ...row, deposits, lease: { ...lease, depositNanoUsd: lease.depositNanoUsd + amount } };
    let paid = true;
    await this.#save(funded, async () => {
      paid = (await this.#options.escrow.deposit(id, amount, fundingId)).ok;
    });
    if (paid) return 'funded';
    await this.#save(row);
    return 'refused';
  }

  /** Whether rent is due that is worth a row: every few blocks, or when the escrow runs dry. */
  due(id: string, everyBlocks: Blocks): boolean {
    const { lease, takeFeeBp, makeFeeBp } = this.#row(id);
    const blocks = this.block() - lease.settledBlock;
    const each = perBlockTotal(blockPrice(lease.priceNanoUsdPerBlock, takeFeeBp, makeFeeBp));
    return blocks >= everyBlocks || escrowOf(lease) < each * BigInt(Math.max(0, blocks));
  }

  /** Draws the rent that is due; true when the escrow could not pay all of it. */
  async settle(id: string): Promise<boolean> {
    await this.#catchUp(id);
    const row = this.#row(id);
    const { lease, takeFeeBp, makeFeeBp } = row;
    if (lease.state !== 'active' || this.#refunding.has(id)) return false;
    const price = blockPrice(lease.priceNanoUsdPerBlock, takeFeeBp, makeFeeBp);
    const draw = drawRent(price, this.block() - lease.settledBlock, escrowOf(lease));
    if (draw.blocks === 0) return draw.overdrawn;
    const drawn: Lease = {
      ...lease,
      settledBlock: lease.settledBlock + draw.blocks,
      rentNanoUsd: lease.rentNanoUsd + draw.rent,
      takeFeeNanoUsd: lease.takeFeeNanoUsd + draw.takeFee,
      makeFeeNanoUsd: lease.makeFeeNanoUsd + draw.makeFee,
    };
    await this.#save({ ...row, lease: drawn, drawnFromBlock: lease.settledBlock }, (saved) => this.#postDraw(saved));
    return draw.overdrawn;
  }

  /** Ends a lease and gives the rest of its deposit back. */
  async close(id: string, reason: CloseReason): Promise<Lease> {
    await this.#catchUp(id);
    const { lease } = this.#row(id);
    if (lease.state === 'closed') return lease;
    this.#refunding.add(id);
    await this.#options.escrow.refund(id);
    const state = this.#next(id, { type: 'closed', reason });
    await this.#change(id, { state, closeReason: reason, refundNanoUsd: escrowOf(lease), ...this.#closing() });
    this.#refunding.delete(id);
    return this.#row(id).lease;
  }

  /**
   * Ends what an earlier process left open, at its last persisted block: its model servers died with it. Posts again
   * what may not have reached the ledger, then refunds.
   */
  async recover(): Promise<Lease[]> {
    const { records, escrow, clock } = this.#options;
    const ended: Lease[] = [];
    for (const row of await records.openLeases()) {
      const { id } = row.lease;
      this.#put(row);
      await this.#catchUp(id);
      await escrow.refund(id);
      const { lease } = this.#row(id);
      await this.#change(id, {
        state: 'closed',
        closeReason: 'market_restart',
        refundNanoUsd: escrowOf(lease),
        closedAtMs: clock.now(),
        closedBlock: lease.settledBlock,
      });
      ended.push(this.#row(id).lease);
      this.forget(id);
    }
    return ended;
  }

  /** Keeps the memory of ended leases small; their rows stay on disk. */
  forget(id: string): void {
    if (this.#rows.get(id)?.lease.state === 'closed' && !this.#unsure.has(id)) this.#rows.delete(id);
  }

  #closing(): Pick<Lease, 'closedAtMs' | 'closedBlock'> {
    return { closedAtMs: this.#options.clock.now(), closedBlock: this.block() };
  }

  #next(id: string, event: LeaseEvent): LeaseState {
    const step = nextLeaseState(this.#row(id).lease.state, event);
    if ('refused' in step) throw new Error(step.refused);
    return step.state;
  }

  #row(id: string): LeaseRow {
    const row = this.#rows.get(id);
    if (!row) throw new Error(`no lease ${id}`);
    return row;
  }

  #change(id: string, change: Partial<Lease>): Promise<void> {
    const row = this.#row(id);
    return this.#save({ ...row, lease: { ...row.lease, ...change } });
  }

  #put(row: LeaseRow): void {
    this.#rows.set(row.lease.id, row);
    this.#unsure.add(row.lease.id);
  }

  /** The row to disk, then its transfer. What fails on the way is made up for by the next call. */
  async #save(row: LeaseRow, post?: (saved: LeaseRow) => Promise<void>): Promise<void> {
    this.#put(row);
    await this.#options.records.saveLease(row);
    await post?.(row);
    this.#unsure.delete(row.lease.id);
  }

  /**
   * Brings disk and ledger to what memory says: saves the row and posts its transfers, most of which are known there
   * already. A deposit that the treasury cannot pay is taken out of the row.
   */
  async #catchUp(id: string): Promise<void> {
    if (!this.#unsure.has(id)) return;
    const row = this.#row(id);
    await this.#options.records.saveLease(row);
    // After the refund nothing of it can be missing, and nothing may be added.
    if (row.lease.state === 'closed' || this.#refunding.has(id)) {
      if (row.lease.state === 'closed') this.#refunding.delete(id);
      this.#unsure.delete(id);
      return;
    }
    let [kept, depositNanoUsd] = [row.deposits, row.lease.depositNanoUsd];
    for (const deposit of row.deposits) {
      if ((await this.#options.escrow.deposit(id, deposit.amount, deposit.id)).ok) continue;
      kept = kept.filter(({ id: other }) => other !== deposit.id);
      depositNanoUsd -= deposit.amount;
    }
    await this.#postDraw(row);
    if (kept !== row.deposits) await this.#save({ ...row, deposits: kept, lease: { ...row.lease, depositNanoUsd } });
    this.#unsure.delete(id);
  }

  /** The last draw of a row into the ledger; no draw, no transfer. */
  async #postDraw({ lease, drawnFromBlock, takeFeeBp, makeFeeBp }: LeaseRow): Promise<void> {
    const [fromBlock, toBlock] = [drawnFromBlock, lease.settledBlock];
    if (toBlock === fromBlock) return;
    const price = blockPrice(lease.priceNanoUsdPerBlock, takeFeeBp, makeFeeBp);
    const rent = rentOfBlocks(price, toBlock - fromBlock);
    const posted = await this.#options.escrow.draw(lease, { fromBlock, toBlock, ...rent });
    if (!posted.ok) throw new Error(`rent of ${lease.id} was refused: ${posted.why}`);
  }
}

/** What is still in escrow: deposits less rent and take fee (the make fee comes out of the rent). */
export function escrowOf(lease: Lease): NanoUsd {
  return lease.depositNanoUsd - lease.rentNanoUsd - lease.takeFeeNanoUsd - lease.refundNanoUsd;
}
