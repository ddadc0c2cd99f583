import { eq } from 'drizzle-orm';
import type { Store } from '../../store/open.ts';
import { CLOSED_KEPT, PRUNE_EVERY, pruneClosed } from '../../store/retention.ts';
import { akashOrders } from '../../store/schema.ts';
import type { EpochMs, NanoUsd } from '../../units.ts';
import type { Bid, CloseReason, Lease, OrderRequest, OrderState } from '../market.ts';
import type { Micro } from './amounts.ts';
import type { SignedTx } from './chain-types.ts';

/** What a transaction of an order is for; one is under way at a time. */
export type Purpose = 'create' | 'lease' | 'fund' | 'close';

export interface Pending {
  readonly purpose: Purpose;
  readonly tx: SignedTx;
  /** What it pays into the escrow, and how that payment is called in the ledger. */
  readonly payment: Payment | null;
  /** Of a lease. */
  readonly bidId: string | null;
  readonly sinceMs: EpochMs;
}

export interface Payment {
  readonly id: string;
  readonly amount: Micro;
}

export interface ProviderDoor {
  readonly hostUri: string;
  /** PEM texts. */
  readonly certificates: readonly string[];
}

/** How its model server is reached, as it was ordered. */
export interface Reach {
  readonly expose: 'port' | 'ingress' | 'ip';
  /** PEM: what the model server shows, and nobody else; null: behind an ingress. */
  readonly certificate: string | null;
}

/** Rent from one block to another, as it goes into the ledger. */
export interface DrawnRent {
  readonly fromBlock: number;
  readonly toBlock: number;
  readonly rent: NanoUsd;
}

export interface DoneTx {
  readonly purpose: Purpose;
  readonly hash: string;
  readonly height: number;
  readonly feeUakt: bigint;
}

/**
 * One order on the chain and all that comes of it. It is written before every transaction is sent, with the transaction's
 * hash, so that whatever a crash leaves open can be looked up; the chain has the last word on everything else.
 */
export interface OrderRow {
  readonly orderId: string;
  readonly pool: string;
  readonly owner: string;
  readonly walletIndex: number;
  readonly dseq: bigint;
  /** Null: found on the chain, our own record of it was lost. */
  readonly request: OrderRequest | null;
  /** As it is sent to the provider, the lease's key taken out. */
  readonly manifest: string;
  /** Hex of its hash, with the key in it. */
  readonly version: string;
  readonly state: OrderState;
  /** The deployment exists, or existed, on the chain. */
  readonly created: boolean;
  readonly postedAtMs: EpochMs;
  readonly postedBlock: number;
  readonly bids: readonly Bid[];
  readonly pending: Pending | null;
  readonly payments: readonly Payment[];
  readonly lastDraw: DrawnRent | null;
  readonly lease: Lease | null;
  readonly gseq: number;
  readonly oseq: number;
  /** The rate as the chain has it, a decimal. */
  readonly rate: string;
  readonly manifestSentMs: EpochMs | null;
  /** Where its provider was reached last, and by which certificates: for when the chain cannot be asked. */
  readonly door?: ProviderDoor | null;
  /** Absent in an order of an earlier version, or one that only the chain tells of: its server is not spoken to. */
  readonly reach?: Reach | null;
  /** Its end was decided, and is to be brought about. */
  readonly closing: CloseReason | null;
  /** Ended, and the ledger has all of it. */
  readonly booked: boolean;
  readonly transactions: readonly DoneTx[];
}

/** Rows of orders on the Akash network. */
export class AkashRecords {
  readonly #store: Store;
  readonly #kept: number;
  #booked = PRUNE_EVERY - 1;

  /** @param kept rows that stay of orders that are over */
  constructor(store: Store, kept: number = CLOSED_KEPT) {
    this.#store = store;
    this.#kept = kept;
  }

  async save(row: OrderRow): Promise<void> {
    const changed = { state: row.booked ? 'closed' : 'open', body: row };
    await this.#store.db
      .insert(akashOrders)
      .values({ id: row.orderId, owner: row.owner, atMs: row.postedAtMs, ...changed })
      .onConflictDoUpdate({ target: akashOrders.id, set: changed });
    if (!row.booked) return;
    this.#booked += 1;
    if (this.#booked % PRUNE_EVERY === 0) await pruneClosed(this.#store, 'akash_orders', this.#kept);
  }

  async find(orderId: string): Promise<OrderRow | null> {
    const [row] = await this.#store.db.select().from(akashOrders).where(eq(akashOrders.id, orderId)).limit(1);
    return row ? (row.body as OrderRow) : null;
  }

  /** Whether there is, or was, any. */
  async any(): Promise<boolean> {
    return (await this.#store.db.select({ id: akashOrders.id }).from(akashOrders).limit(1)).length > 0;
  }

  /** All that is not over. */
  async open(): Promise<OrderRow[]> {
    const rows = await this.#store.db.select().from(akashOrders).where(eq(akashOrders.state, 'open'));
    return rows.map((row) => row.body as OrderRow);
  }
}
