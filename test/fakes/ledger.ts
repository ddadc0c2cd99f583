import type { Ledger, LedgerOp, LedgerReplies, SettleOp, UsageRecord } from '../../src/ledger/operations.ts';

export interface Settlement extends SettleOp {
  readonly charged: bigint;
}

/**
 * A ledger that also remembers: what was asked, and the usage rows, which a ledger without a disk does not keep. A test
 * may hold one kind of operation back, or have it fail.
 */
export class WatchedLedger implements Ledger {
  readonly asked: LedgerOp[] = [];
  readonly settlements: Settlement[] = [];
  readonly #ledger: Ledger;
  readonly #usage = new Map<string, UsageRecord>();
  readonly #before = new Map<LedgerOp['op'], () => Promise<void>>();
  /** What the ledger gets instead of what it was asked. */
  change: (operation: LedgerOp) => LedgerOp = (operation) => operation;
  /** Of every request that is looked up, in place of its own. */
  usageStatus: UsageRecord['status'] | null = null;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** Runs before each operation of this kind: a wait, or an error. */
  before(op: LedgerOp['op'], wait: () => Promise<void>): void {
    this.#before.set(op, wait);
  }

  asks<K extends LedgerOp['op']>(op: K): Extract<LedgerOp, { op: K }>[] {
    return this.asked.filter((asked): asked is Extract<LedgerOp, { op: K }> => asked.op === op);
  }

  async ask<O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]> {
    this.asked.push(operation);
    await this.#before.get(operation.op)?.();
    const asked: LedgerOp = operation;
    if (asked.op === 'usage') return this.#usageOf(asked.request) as LedgerReplies[O['op']];
    const reply = (await this.#ledger.ask(this.change(operation))) as LedgerReplies[O['op']];
    if (asked.op === 'settle') this.#keep(asked, reply as LedgerReplies['settle']);
    return reply;
  }

  close(): Promise<void> {
    return this.#ledger.close();
  }

  #usageOf(request: string): UsageRecord | null {
    const usage = this.#usage.get(request) ?? null;
    return usage && { ...usage, status: this.usageStatus ?? usage.status };
  }

  #keep(settle: SettleOp, { ok, charged, wakeFee = 0n, priceVersion }: LedgerReplies['settle']): void {
    if (!ok) throw new Error(`nothing was held for ${settle.request}`);
    this.settlements.push({ ...settle, charged });
    const hold = this.asks('hold').find(({ request }) => request === settle.request);
    const { customer = '', key = null, model = '', amount = 0n, wakeFee: wakeHeld = 0n } = hold ?? {};
    const { request, tokens, status, detail, atMs } = settle;
    const price = this.asks('price').findLast((asked) => asked.model === model)?.price ?? null;
    const held = amount - wakeHeld;
    const charge = { priceVersion, price, tokens, held, charged: charged - wakeFee, wakeFee, status };
    this.#usage.set(request, { request, customer, key, model, ...charge, detail, atMs });
  }
}
