import type { Clock } from '../../clock.ts';
import type { NanoUsd } from '../../units.ts';
import { nextLeaseState, type LeaseEvent } from '../machine.ts';
import type { CloseReason, Lease, LeaseState, MarketTerms } from '../market.ts';
import { blockPrice, drawRent, perBlockTotal } from '../rent.ts';
import type { LeaseRow, MarketRecords } from '../records.ts';
import type { Escrow } from './escrow.ts';

export interface LeaseBookOptions {
  readonly records: MarketRecords;
  readonly escrow: Escrow;
  readonly clock: Clock;
  readonly terms: MarketTerms;
}

/**
 * Leases of the embedded market and their money. A row is always written before its transfer, and says enough to post
 * that transfer again; so after a crash at any point the books can be brought together (`recover`).
 */
export class LeaseBook {
  readonly #options: LeaseBookOptions;
  readonly #rows = new Map<string, LeaseRow>();

  constructor(options: LeaseBookOptions) {
    this.#options = options;
  }

  block(): number {
    return Math.floor(this.#options.clock.now() / this.#options.terms.blockMs);
  }

  find(id: string): Lease | null {
    return this.#rows.get(id)?.lease ?? null;
  }

  active(): Lease[] {
    return this.live().filter(({ state }) => state === 'active');
  }

  /** Active ones and those whose deposit is on the way: all that take up a provider's capacity. */
  live(): Lease[] {
    return [...this.#rows.values()].map(({ lease }) => lease).filter(({ state }) => state !== 'closed');
  }

  /** Opens a lease with its deposit in escrow; false when the treasury holds too little. */
  async open(lease: Lease): Promise<boolean> {
    const { escrow, terms } = this.#options;
    const deposits = [{ id: 'deposit', amount: lease.depositNanoUsd }];
    const { takeFeeBp, makeFeeBp } = terms;
    await this.#save({ lease, drawnFromBlock: lease.openedBlock, deposits, takeFeeBp, makeFeeBp });
    const paid = await escrow.deposit(lease.id, lease.depositNanoUsd, 'deposit');
    if (paid.ok) {
      await this.#change(lease.id, { state: this.#next(lease.id, { type: 'deposited' }) });
      return true;
    }
    const state = this.#next(lease.id, { type: 'deposit_refused' });
    const row = this.#row(lease.id);
    const ended: Lease = { ...row.lease, state, depositNanoUsd: 0n, closeReason: 'overdrawn', ...this.#closing() };
    await this.#save({ ...row, deposits: [], lease: ended });
    return false;
  }

  async fund(id: string, amount: NanoUsd, fundingId: string): Promise<'funded' | 'refused' | 'closed'> {
    const row = this.#row(id);
    if (row.lease.state !== 'active') return 'closed';
    if (row.deposits.some((deposit) => deposit.id === fundingId)) return 'funded';
    const deposits = [...row.deposits, { id: fundingId, amount }];
    await this.#save({ ...row, deposits, lease: { ...row.lease, depositNanoUsd: row.lease.depositNanoUsd + amount } });
    const paid = await this.#options.escrow.deposit(id, amount, fundingId);
    if (paid.ok) return 'funded';
    const now = this.#row(id);
    const without = now.deposits.filter((deposit) => deposit.id !== fundingId);
    await this.#save({
      ...now,
      deposits: without,
      lease: { ...now.lease, depositNanoUsd: now.lease.depositNanoUsd - amount },
    });
    return 'refused';
  }

  /** Whether rent is due that is worth a row: every few blocks, or when the escrow runs dry. */
  due(id: string, everyBlocks: number): boolean {
    const { lease, takeFeeBp, makeFeeBp } = this.#row(id);
    const blocks = this.block() - lease.settledBlock;
    const each = perBlockTotal(blockPrice(lease.priceNanoUsdPerBlock, takeFeeBp, makeFeeBp));
    return blocks >= everyBlocks || escrowOf(lease) < each * BigInt(Math.max(0, blocks));
  }

  /** Draws the rent that is due; true when the escrow could not pay all of it. */
  async settle(id: string): Promise<boolean> {
    const row = this.#row(id);
    const { lease, takeFeeBp, makeFeeBp } = row;
    if (lease.state !== 'active') return false;
    const price = blockPrice(lease.priceNanoUsdPerBlock, takeFeeBp, makeFeeBp);
    const draw = drawRent(price, this.block() - lease.settledBlock, escrowOf(lease));
    if (draw.blocks === 0) return draw.overdrawn;
    const [fromBlock, toBlock] = [lease.settledBlock, lease.settledBlock + draw.blocks];
    const drawn: Lease = {
      ...lease,
      settledBlock: toBlock,
      rentNanoUsd: lease.rentNanoUsd + draw.rent,
      takeFeeNanoUsd: lease.takeFeeNanoUsd + draw.takeFee,
      makeFeeNanoUsd: lease.makeFeeNanoUsd + draw.makeFee,
    };
    await this.#save({ ...row, lease: drawn, drawnFromBlock: fromBlock });
    const posted = await this.#options.escrow.draw(drawn, { fromBlock, toBlock, ...draw });
    if (!posted.ok) throw new Error(`rent of ${id} was refused: ${posted.why}`);
    return draw.overdrawn;
  }

  /** Ends a lease and gives the rest of its deposit back. */
  async close(id: string, reason: CloseReason): Promise<Lease> {
    const row = this.#row(id);
    if (row.lease.state === 'closed') return row.lease;
    const refundNanoUsd = escrowOf(row.lease);
    await this.#options.escrow.refund(id);
    const state = this.#next(id, { type: 'closed', reason });
    await this.#change(id, { state, closeReason: reason, refundNanoUsd, ...this.#closing() });
    return this.#row(id).lease;
  }

  async dispute(id: string, reason: string): Promise<void> {
    await this.#change(id, { dispute: { reason, atMs: this.#options.clock.now() } });
  }

  /**
   * Ends what an earlier process left open, at its last persisted block: its model servers died with it. Posts again
   * what may not have reached the ledger, then refunds.
   */
  async recover(): Promise<Lease[]> {
    const { records, escrow, clock } = this.#options;
    const ended: Lease[] = [];
    for (const row of await records.openLeases()) {
      const { lease } = row;
      this.#rows.set(lease.id, row);
      let deposited = 0n;
      for (const { id, amount } of row.deposits) {
        if ((await escrow.deposit(lease.id, amount, id)).ok) deposited += amount;
      }
      const blocks = lease.settledBlock - row.drawnFromBlock;
      const draw = drawRent(blockPrice(lease.priceNanoUsdPerBlock, row.takeFeeBp, row.makeFeeBp), blocks, deposited);
      await escrow.draw(lease, { fromBlock: row.drawnFromBlock, toBlock: lease.settledBlock, ...draw });
      await escrow.refund(lease.id);
      const closed = { ...lease, depositNanoUsd: deposited };
      await this.#save({
        ...row,
        lease: {
          ...closed,
          state: 'closed',
          closeReason: 'market_restart',
          refundNanoUsd: escrowOf(closed),
          closedAtMs: clock.now(),
          closedBlock: lease.settledBlock,
        },
      });
      ended.push(this.#row(lease.id).lease);
    }
    return ended;
  }

  /** Keeps the memory of ended leases small; their rows stay on disk. */
  forget(id: string): void {
    if (this.#rows.get(id)?.lease.state === 'closed') this.#rows.delete(id);
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

  async #save(row: LeaseRow): Promise<void> {
    this.#rows.set(row.lease.id, row);
    await this.#options.records.saveLease(row);
  }
}

/** What is still in escrow: deposits less rent and take fee (the make fee comes out of the rent). */
export function escrowOf(lease: Lease): NanoUsd {
  return lease.depositNanoUsd - lease.rentNanoUsd - lease.takeFeeNanoUsd - lease.refundNanoUsd;
}
