import type { Clock } from '../../clock.ts';
import { operatorEquity, treasury } from '../../ledger/accounts.ts';
import type { Ledger } from '../../ledger/operations.ts';
import type { NanoUsd } from '../../units.ts';
import type { Escrow } from '../local/escrow.ts';
import { leaseIdOf } from './names.ts';
import { nanoOf } from './amounts.ts';
import type { OrderRow } from './records.ts';

const MARKET = 'akash';

export interface TreasuryOptions {
  readonly ledger: Ledger;
  readonly escrow: Escrow;
  readonly clock: Clock;
  readonly log: (line: string) => void;
}

/**
 * The chain's money in our ledger. The chain moves it, the ledger follows: each transfer has an id made from what it is
 * for, so following twice changes nothing, and what a crash left out is made up for.
 */
export class Treasury {
  readonly #options: TreasuryOptions;

  constructor(options: TreasuryOptions) {
    this.#options = options;
  }

  /** Brings the ledger's treasury to what the wallets hold, when nothing is under way: what was sent to them or taken out. */
  async reconcile(held: NanoUsd, height: number): Promise<void> {
    const { ledger, log } = this.#options;
    const known = (await ledger.ask({ op: 'account', name: treasury(MARKET).name }))?.posted ?? 0n;
    if (known === held) return;
    const [debit, credit] =
      held > known ? [treasury(MARKET), operatorEquity(MARKET)] : [operatorEquity(MARKET), treasury(MARKET)];
    const amount = held > known ? held - known : known - held;
    const id = `treasury:${MARKET}:block-${height}:${held}`;
    const reason = `what the wallets hold at block ${height}`;
    const result = await this.#post({ id, type: 'treasury_reconcile', debit, credit, amount, reason });
    if (!result.ok) log(`the treasury of the Akash market could not be reconciled: ${result.why}`);
  }

  /** All that the ledger should have of an order, in its order; most of it is there already. */
  async follow(row: OrderRow): Promise<void> {
    const leaseId = leaseIdOf(row.orderId);
    for (const { id, amount } of row.payments) await this.#deposit(leaseId, nanoOf(amount), id);
    if (row.lastDraw && row.lease && row.lastDraw.rent > 0n) {
      const { fromBlock, toBlock, rent } = row.lastDraw;
      const draw = { fromBlock, toBlock, rent, takeFee: 0n, makeFee: 0n };
      const result = await this.#options.escrow.draw(row.lease, draw);
      if (!result.ok) throw new Error(`rent of ${leaseId} was refused: ${result.why}`);
    }
    if (row.state === 'closed') await this.#options.escrow.refund(leaseId);
  }

  /** The chain took it, so the wallet had it: where the ledger did not know of that yet, it learns it now. */
  async #deposit(leaseId: string, amount: NanoUsd, id: string): Promise<void> {
    const { escrow } = this.#options;
    if ((await escrow.deposit(leaseId, amount, id)).ok) return;
    const cover = {
      id: `treasury:${MARKET}:${leaseId}:${id}`,
      type: 'treasury_reconcile',
      debit: treasury(MARKET),
      credit: operatorEquity(MARKET),
      amount,
      reason: `paid by a wallet for ${leaseId}`,
    };
    await this.#post(cover);
    const again = await escrow.deposit(leaseId, amount, id);
    if (!again.ok) throw new Error(`a deposit of ${leaseId} was refused by the ledger: ${again.why}`);
  }

  #post(transfer: {
    readonly id: string;
    readonly type: string;
    readonly debit: ReturnType<typeof treasury>;
    readonly credit: ReturnType<typeof treasury>;
    readonly amount: NanoUsd;
    readonly reason: string;
  }): ReturnType<Escrow['deposit']> {
    const { ledger, clock } = this.#options;
    return ledger.ask({ op: 'transfer', actor: 'market', atMs: clock.now(), ...transfer });
  }
}
