import type { EpochMs, NanoUsd } from '../../units.ts';
import { escrow, leaseExpense, marketFees, operatorEquity, treasury } from '../../ledger/accounts.ts';
import type { Ledger, TransferResult } from '../../ledger/operations.ts';
import type { Clock } from '../../clock.ts';
import type { Lease } from '../market.ts';

/**
 * The money of embedded leases in the ledger. Every transfer has an id made from what it is for, so doing it again after a
 * crash changes nothing.
 */
export class Escrow {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #market: string;

  constructor(ledger: Ledger, clock: Clock, market: string) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#market = market;
  }

  /** The operator's money for this market. On the embedded one it is play money, granted once. */
  async openTreasury(amount: NanoUsd): Promise<void> {
    if (amount === 0n) return;
    const id = `treasury:${this.#market}:opening`;
    const known = await this.#ledger.ask({ op: 'account', name: treasury(this.#market).name });
    if (known) return;
    const accounts = { debit: treasury(this.#market), credit: operatorEquity(this.#market) };
    await this.#post({ id, type: 'treasury_open', ...accounts, amount, reason: 'opening balance of the treasury' });
  }

  async deposit(leaseId: string, amount: NanoUsd, id: string): Promise<TransferResult> {
    const accounts = { debit: escrow(this.#market, leaseId), credit: treasury(this.#market) };
    return this.#post({
      id: `lease:${leaseId}:${id}`,
      type: 'lease_deposit',
      ...accounts,
      amount,
      reason: `escrow of ${leaseId}`,
    });
  }

  /** One draw: rent to the provider less its make fee, both fees to the market's account, all or nothing. */
  async draw(lease: Lease, draw: DrawAmounts): Promise<TransferResult> {
    const { fromBlock, toBlock, rent, takeFee, makeFee } = draw;
    const id = `lease:${lease.id}:rent:${fromBlock}-${toBlock}`;
    const credit = escrow(this.#market, lease.id);
    const common = { credit, actor: 'market', atMs: this.#clock.now() };
    const parts = [
      {
        id,
        type: 'lease_rent',
        debit: leaseExpense(lease.pool),
        amount: rent - makeFee,
        reason: `rent to ${lease.provider}`,
      },
      {
        id: `${id}:fee`,
        type: 'market_fee',
        debit: marketFees(this.#market),
        amount: takeFee + makeFee,
        reason: 'take and make fee',
      },
    ].filter((part) => part.amount > 0n);
    if (parts.length === 0) return { ok: true, existed: true };
    return this.#ledger.ask({ op: 'transfers', transfers: parts.map((part) => ({ ...part, ...common })) });
  }

  /** Gives back all that is left in the escrow; the amount is the ledger's, so nothing is paid twice or forgotten. */
  async refund(leaseId: string): Promise<NanoUsd> {
    const account = escrow(this.#market, leaseId);
    const left = (await this.#ledger.ask({ op: 'account', name: account.name }))?.posted ?? 0n;
    if (left === 0n) return 0n;
    const accounts = { debit: treasury(this.#market), credit: account };
    const id = `lease:${leaseId}:refund`;
    const result = await this.#post({
      id,
      type: 'lease_refund',
      ...accounts,
      amount: left,
      reason: `rest of ${leaseId}`,
    });
    if (!result.ok) throw new Error(`a refund was refused: ${result.why}`);
    return left;
  }

  async balance(): Promise<NanoUsd> {
    return (await this.#ledger.ask({ op: 'account', name: treasury(this.#market).name }))?.posted ?? 0n;
  }

  #post(transfer: PostedTransfer): Promise<TransferResult> {
    return this.#ledger.ask({ op: 'transfer', actor: 'market', atMs: this.#clock.now(), ...transfer });
  }
}

export interface DrawAmounts {
  readonly fromBlock: number;
  readonly toBlock: number;
  readonly rent: NanoUsd;
  readonly takeFee: NanoUsd;
  readonly makeFee: NanoUsd;
}

interface PostedTransfer {
  readonly id: string;
  readonly type: string;
  readonly debit: ReturnType<typeof escrow>;
  readonly credit: ReturnType<typeof escrow>;
  readonly amount: NanoUsd;
  readonly reason: string;
  readonly atMs?: EpochMs;
}
