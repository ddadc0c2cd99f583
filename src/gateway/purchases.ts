import type { Purchase } from '../ledger/operations.ts';
import { costPico, soundCounts, type TokenCounts } from '../ledger/pricing.ts';
import type { Slot } from '../scheduler/pool/slot.ts';
import { nanoFromPicoUp } from '../units.ts';

/** What one request's attempts used, and what is owed for that to whoever is paid by tokens: failed attempts too. */
export class Purchases {
  readonly #all: Purchase[] = [];
  /** Of every attempt. */
  readonly leases = new Set<string>();

  get all(): readonly Purchase[] {
    return this.#all;
  }

  note(slot: Slot, claimed: TokenCounts): void {
    const tokens = soundCounts(claimed);
    const { tokenPrice, provider } = slot.target;
    let amount = 0n;
    if (tokenPrice) {
      amount = nanoFromPicoUp(costPico(tokenPrice, tokens));
      if (amount > 0n) this.#all.push({ provider, amount });
    }
    this.leases.add(slot.target.leaseId);
    slot.used(tokens.inputTokens, tokens.outputTokens, amount);
  }
}
