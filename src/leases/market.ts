import type { Engine, MarketName, PoolKind, Price, Trust } from '../spec.ts';
import type { Container } from '../spec/container.ts';
import type { Breach, DisputeNote } from '../spec/dispute.ts';
import type { Hardware } from '../spec/hardware.ts';
import type { Needs } from '../spec/trust.ts';
import type { Registry, Weights } from '../spec/weights.ts';
import type { Blocks, EpochMs, Ms, NanoUsd, Tokens } from '../units.ts';

/**
 * What every market of leases keeps, the embedded one as well as the Akash network. It has to fit both, so: bids come
 * one by one after an order is posted; whatever touches the outside ends in done, refused or unknown, and unknown is
 * looked up (by the id that we chose) before anything is tried again; a refund may come later than the close.
 */

export type Outcome<T> =
  | { readonly kind: 'done'; readonly value: T }
  /** Nothing happened, and the same call would be refused again. */
  | { readonly kind: 'refused'; readonly reason: string }
  /** It may have happened: look it up (`order`, `status`, `list`) before repeating. */
  | { readonly kind: 'unknown'; readonly reason: string };

export const done = <T>(value: T): Outcome<T> => ({ kind: 'done', value });
export const refused = (reason: string): Outcome<never> => ({ kind: 'refused', reason });
export const unknown = (reason: string): Outcome<never> => ({ kind: 'unknown', reason });

/** What a market charges and how it counts time. */
export interface MarketTerms {
  /** Rent is drawn per block. */
  readonly blockMs: Ms;
  /** What the tenant pays on top of the rent, in basis points of it. */
  readonly takeFeeBp: number;
  /** What the provider pays out of the rent, in basis points of it. */
  readonly makeFeeBp: number;
  /** The smallest escrow deposit. */
  readonly depositMinNanoUsd: NanoUsd;
  readonly settlement: string;
  /** Its leases cannot outlive this process, so a stop closes them; others stay and are adopted at the next start. */
  readonly endsWithProcess: boolean;
}

/** What shall run on the leased machine. */
export interface Workload {
  readonly pool: string;
  readonly kind: PoolKind;
  readonly engine: Engine;
  /** The name the model server must answer to. */
  readonly model: string;
  readonly image: string | null;
  /** How the image is started; null: as its engine says. */
  readonly container?: Container | null;
  readonly weights?: Weights | null;
  readonly registry?: Registry | null;
  readonly slots: number;
  readonly contextTokens: Tokens;
}

export interface OrderRequest {
  /** Ours, unique for ever: posting it twice posts it once. Carries the fencing epoch of its scheduler. */
  readonly id: string;
  readonly pool: string;
  readonly hardware: Hardware;
  readonly trust: Trust;
  /** Where the machine must stand, as the market names it; null: anywhere. */
  readonly region?: string | null;
  /** What a provider must say of itself, where the market has that. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** The least notice before a machine is taken back, where the market has that; null: none is asked for. */
  readonly reclamationMs?: Ms | null;
  /** The most a provider may ask per block, fees not included. */
  readonly ceilingNanoUsdPerBlock: NanoUsd;
  /** Tokens an hour that the machine is to serve, as far as known: what is paid by the token is compared by it. */
  readonly expected?: { readonly input: number; readonly output: number };
  readonly workload: Workload;
}

export interface Bid {
  readonly id: string;
  readonly orderId: string;
  readonly provider: string;
  readonly priceNanoUsdPerBlock: NanoUsd;
  readonly atMs: EpochMs;
  readonly block: Blocks;
  /** What the provider says of its price and machine: shown to operators. */
  readonly note: string;
  /** The provider's own guess from lease to running; null when it makes none. */
  readonly startMs: Ms | null;
  /** Where the replica would run, as far as the market knows. Left out: trust `any`, and no region. */
  readonly trust?: Trust;
  readonly region?: string | null;
}

export type OrderState = 'open' | 'leased' | 'closed';

export interface OrderView {
  readonly id: string;
  readonly state: OrderState;
  readonly postedAtMs: EpochMs;
  readonly postedBlock: Blocks;
  readonly bids: readonly Bid[];
  /** Everybody who will answer has answered; false where the market cannot know. */
  readonly complete: boolean;
  /** Providers that did not bid, and why, where the market tells. */
  readonly declined: readonly { readonly provider: string; readonly reason: string }[];
}

export type LeaseState = 'opening' | 'active' | 'closed';

export type CloseReason =
  'tenant' | 'provider' | 'overdrawn' | 'order_timeout' | 'delivery_failed' | 'market_restart' | 'shutdown';

/** Amounts always add up: deposit = rent + fees + refund + withheld once the lease is closed, plus what is in escrow before. */
export interface Lease {
  readonly id: string;
  readonly orderId: string;
  readonly bidId: string;
  readonly pool: string;
  readonly provider: string;
  readonly priceNanoUsdPerBlock: NanoUsd;
  readonly state: LeaseState;
  readonly openedAtMs: EpochMs;
  readonly openedBlock: Blocks;
  readonly settledBlock: Blocks;
  readonly closedAtMs: EpochMs | null;
  readonly closedBlock: Blocks | null;
  readonly closeReason: CloseReason | null;
  readonly depositNanoUsd: NanoUsd;
  /** What the provider earned, its make fee taken off or not: rent before the make fee. */
  readonly rentNanoUsd: NanoUsd;
  readonly takeFeeNanoUsd: NanoUsd;
  /** Paid by the provider out of its rent. */
  readonly makeFeeNanoUsd: NanoUsd;
  readonly refundNanoUsd: NanoUsd;
  /** Rent of disputed blocks with its fee: neither paid nor given back until the disputes are decided. */
  readonly withheldNanoUsd?: NanoUsd;
  /** The last one filed. */
  readonly dispute: DisputeNote | null;
  /** The provider takes its machine back: from then on the lease cannot be counted on. Absent where none may. */
  readonly reclaimMs?: EpochMs | null;
}

export type DeliveryState = 'none' | 'starting' | 'running' | 'failed';

export interface Delivery {
  readonly state: DeliveryState;
  readonly sinceMs: EpochMs | null;
  /** Base address of the model server, without `/v1`. */
  readonly url: string | null;
  /** Requests it takes at a time, where that is not as many as the workload asked for. */
  readonly slots?: number;
  /** What it calls the model, and its dialect, where those are not the pool's. */
  readonly model?: string | null;
  readonly engine?: Engine | null;
  /** Where requests are paid by tokens, and the lease is not paid by time. */
  readonly tokenPrice?: Price | null;
  /** PEM of the certificate that it shows: with one, whoever shows another gets no request. */
  readonly certificate?: string | null;
  /** Requests to it carry this bearer key. Never in logs, exports or admin replies. */
  readonly apiKey: string | null;
  readonly detail: string;
}

export interface LeaseStatus {
  readonly lease: Lease;
  readonly delivery: Delivery;
}

export interface ProviderView {
  readonly id: string;
  readonly market: MarketName;
  readonly hardware: { readonly cpu: number; readonly memoryBytes: number; readonly gpus: readonly string[] };
  readonly capacity: number;
  readonly used: number;
  readonly policy: string;
  readonly audited: boolean;
  /** What one more lease would cost a block now, fees not included, where it publishes that. */
  readonly asksNanoUsdPerBlock?: NanoUsd | null;
  /** The only pool that it serves; absent: any that fits. */
  readonly pool?: string;
  /** Where its machines stand, as far as its market knows. */
  readonly region?: string | null;
  readonly leases: number;
  readonly failures: number;
  readonly disputes: number;
}

/** Of a lease: what its container prints, or what happens to it. */
export interface LogRequest {
  readonly what: 'logs' | 'events';
  /** Goes on until somebody stops it. */
  readonly follow: boolean;
  /** So many last lines of what was printed before. */
  readonly tail: number;
  /** Null: all. */
  readonly service: string | null;
}

export interface LogLine {
  /** Which container, or what the event is about. */
  readonly source: string;
  readonly text: string;
}

/** What an operator is told of a market that may be out of reach. */
export interface MarketHealth {
  /** Why it takes no orders now; null: it does. */
  readonly problem: string | null;
  /** Ready to be shown: no secrets. */
  readonly detail: Readonly<Record<string, unknown>>;
}

export interface Market {
  readonly name: MarketName;
  /** Absent where a market is always within reach. */
  health?(): MarketHealth;
  terms(): MarketTerms;
  /** The current block: rent is counted from one to the next. */
  block(): Blocks;
  /** Posts an order; bids arrive afterwards. Idempotent by id. */
  tender(order: OrderRequest): Promise<Outcome<OrderView>>;
  /** The order with the bids so far; null when the market never saw it, or saw it too long ago. */
  order(id: string): Promise<OrderView | null>;
  /**
   * Takes a bid: the deposit goes into escrow, the other bids fall, a lease is made. Idempotent by order id: again, it
   * gives the lease that was made, and finishes it when its deposit was in doubt. A market whose money has a coarser unit
   * rounds deposits up to it; the lease says what was paid.
   */
  accept(orderId: string, bidId: string, depositNanoUsd: NanoUsd): Promise<Outcome<Lease>>;
  /** Withdraws an order that nobody is to win; refused when it became a lease. Idempotent. */
  cancel(orderId: string): Promise<Outcome<void>>;
  /** Has the provider start the workload. Idempotent. */
  deploy(leaseId: string, workload: Workload): Promise<Outcome<void>>;
  status(leaseId: string): Promise<LeaseStatus | null>;
  /**
   * What a lease's machine says, until it ends or `signal` does; absent where it cannot be asked.
   * @throws Error when the provider does not answer
   */
  logs?(leaseId: string, request: LogRequest, signal: AbortSignal): AsyncIterable<LogLine>;
  /** Adds to the escrow; `fundingId` makes a repeat harmless. */
  fund(leaseId: string, amountNanoUsd: NanoUsd, fundingId: string): Promise<Outcome<Lease>>;
  /** Ends the lease: rent is drawn up to now, the rest of the deposit comes back. Idempotent. */
  close(leaseId: string, reason: CloseReason): Promise<Outcome<Lease>>;
  /** Told what requests on this lease have cost so far; only where a delivery has a token price. */
  metered?(leaseId: string, paidNanoUsd: NanoUsd): void;
  /**
   * Files a dispute for a breach, once per lease and kind: again, it gives the one there is. Withholds the bad interval's
   * rent where the market can; where it has no say in disputes, it counts on our own record of the provider (`local`).
   * The lease goes on until it is closed; one that ended may still be disputed while the market remembers it.
   */
  dispute(leaseId: string, breach: Breach): Promise<Outcome<DisputeNote>>;
  /** Decides a dispute of a lease of its: what was withheld goes to the one or the other. Again, it changes nothing. */
  judge(
    disputeId: string,
    verdict: { readonly upheld: boolean; readonly reason: string },
  ): Promise<Outcome<DisputeNote>>;
  /** Everything of ours that is open or opening, to find it again after a restart or an outcome that was unknown. */
  list(): Promise<{ readonly orders: readonly OrderView[]; readonly leases: readonly LeaseStatus[] }>;
  providers(): Promise<readonly ProviderView[]>;
  /** Why no machine of this market can ever be what is asked, for a pool; null: one may be. Left out: one may be. */
  cannot?(pool: string, needs: Needs): string | null;
  /** Called when something changed that the scheduler may want to look at now. */
  onChange(listener: () => void): void;
  /** Ends what lives on this machine; SIGTERM's part of the work. */
  stop(): Promise<void>;
}
