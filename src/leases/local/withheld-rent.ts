import type { Clock } from '../../clock.ts';
import { leaseExpense, marketFees, treasury, withheldRent, type AccountSpec } from '../../ledger/accounts.ts';
import type { Ledger } from '../../ledger/operations.ts';
import type { NanoUsd } from '../../units.ts';
import type { Dispute } from '../dispute.ts';
import type { DisputeMoney } from '../disputes.ts';
import { withheldTotal } from '../withholding.ts';

interface Part {
  readonly id: string;
  readonly type: string;
  readonly debit: AccountSpec;
  readonly credit: AccountSpec;
  readonly amount: NanoUsd;
  readonly reason: string;
}

/**
 * Disputed rent in the ledger: taken back out of what was drawn into an account of the dispute's own, and from there to
 * the treasury or to where it was. Every transfer has an id made from what it is for.
 */
export class WithheldRent implements DisputeMoney {
  readonly #ledger: Ledger;
  readonly #clock: Clock;
  readonly #market: string;

  constructor(ledger: Ledger, clock: Clock, market: string) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#market = market;
  }

  withhold(dispute: Dispute): Promise<void> {
    const { id, provider } = dispute;
    const debit = withheldRent(this.#market, id);
    return this.#post([
      ...this.#paid(dispute).map(({ account, amount, name }) => ({
        ...{ id: `${id}:withheld${name}`, type: 'rent_withheld', debit, credit: account, amount },
        reason: `disputed with ${provider}`,
      })),
    ]);
  }

  payOut(dispute: Dispute): Promise<void> {
    const { id, provider, withheld, verdict } = dispute;
    if (withheld === null || verdict === null) return Promise.resolve();
    const credit = withheldRent(this.#market, id);
    if (verdict.upheld) {
      const amount = withheldTotal(withheld);
      const reason = `dispute with ${provider} upheld`;
      return this.#post([
        { id: `${id}:returned`, type: 'withheld_returned', debit: treasury(this.#market), credit, amount, reason },
      ]);
    }
    return this.#post(
      this.#paid(dispute).map(({ account, amount, name }) => ({
        ...{ id: `${id}:paid${name}`, type: 'withheld_paid', debit: account, credit, amount },
        reason: `dispute with ${provider} rejected`,
      })),
    );
  }

  /** Where the draws put it: the make fee out of the rent, both fees together. */
  #paid({ pool, withheld }: Dispute): { account: AccountSpec; amount: NanoUsd; name: string }[] {
    if (withheld === null) return [];
    const { rentNanoUsd, takeFeeNanoUsd, makeFeeNanoUsd } = withheld;
    return [
      { account: leaseExpense(pool), amount: rentNanoUsd - makeFeeNanoUsd, name: '' },
      { account: marketFees(this.#market), amount: takeFeeNanoUsd + makeFeeNanoUsd, name: ':fee' },
    ];
  }

  async #post(parts: readonly Part[]): Promise<void> {
    const due = parts.filter(({ amount }) => amount > 0n);
    if (due.length === 0) return;
    const common = { actor: 'market', atMs: this.#clock.now() };
    const transfers = due.map((part) => ({ ...part, ...common }));
    const result = await this.#ledger.ask({ op: 'transfers', transfers });
    if (!result.ok) throw new Error(`withheld rent could not be moved: ${result.why}`);
  }
}
