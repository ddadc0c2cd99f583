import type { Price } from '../spec.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type { AccountSpec } from './accounts.ts';
import type { TokenCounts } from './pricing.ts';

/**
 * What the one writer can be asked. Plain data, because it crosses a thread (later a Durable Object's boundary). A reply
 * to an operation marked durable comes after its rows are on disk.
 */

export type UsageStatus = 'done' | 'length' | 'cancelled' | 'failed' | 'recovered';

/** What the look-up by id shows besides the amounts; no prompt, no completion. */
export interface UsageDetail {
  readonly stream?: boolean;
  readonly lease?: string | null;
  readonly provider?: string | null;
  readonly market?: string | null;
  readonly finish?: string | null;
  readonly error?: string | null;
  readonly coldStartMs?: number;
  readonly waitedMs?: number;
  readonly firstTokenMs?: number | null;
  readonly totalMs?: number;
  /** Tokens that a model server claimed beyond what we counted or allowed; never charged. */
  readonly refusedTokens?: number;
}

/** What a client's Idempotency-Key comes to, without the key itself. */
export interface Idempotency {
  /** Of account, route and key. */
  readonly hash: string;
  readonly bodyHash: string;
}

export interface HoldOp {
  readonly op: 'hold';
  readonly request: string;
  readonly customer: string;
  readonly key: string | null;
  readonly model: string;
  readonly priceVersion: number;
  readonly amount: NanoUsd;
  readonly atMs: EpochMs;
  readonly deadlineMs: EpochMs;
  readonly idempotency?: Idempotency;
}

/** Raises the hold by `amount`. */
export interface ExtendOp {
  readonly op: 'extend';
  readonly request: string;
  readonly amount: NanoUsd;
}

/** What a live request has used so far: the checkpoint that recovery charges. Not answered. */
export interface ProgressOp {
  readonly op: 'progress';
  readonly request: string;
  readonly tokens: TokenCounts;
}

/** Ends a hold: charges what was used (at most what is held), gives the rest back, writes the usage row. Durable. */
export interface SettleOp {
  readonly op: 'settle';
  readonly request: string;
  readonly tokens: TokenCounts;
  readonly status: UsageStatus;
  readonly detail: UsageDetail;
  readonly atMs: EpochMs;
  /** For a hold with an Idempotency-Key: the reply, encrypted, and the cost that it names. Kept in the charge's commit. */
  readonly replay?: { readonly sealed: Uint8Array; readonly cost: NanoUsd };
}

/** Any other movement. Durable; the same id again changes nothing. */
export interface TransferOp {
  readonly op: 'transfer';
  readonly id: string;
  readonly type: string;
  readonly debit: AccountSpec;
  readonly credit: AccountSpec;
  readonly amount: NanoUsd;
  readonly actor: string;
  readonly reason: string;
  readonly atMs: EpochMs;
}

/** Several movements in one transaction: all or none. Durable. */
export interface TransfersOp {
  readonly op: 'transfers';
  readonly transfers: readonly Omit<TransferOp, 'op'>[];
}

export interface GrantOp {
  readonly op: 'grant';
  readonly id: string;
  readonly customer: string;
  readonly kind: 'paid' | 'promo';
  readonly amount: NanoUsd;
  readonly expiresMs: EpochMs | null;
  readonly actor: string;
  readonly reason: string;
  readonly atMs: EpochMs;
}

export interface CustomerOp {
  readonly op: 'customer';
  readonly id: string;
  readonly name: string;
  readonly atMs: EpochMs;
}

export interface KeySettings {
  readonly models: readonly string[] | null;
  readonly spendLimit: NanoUsd | null;
  readonly expiresMs: EpochMs | null;
  /** Requests and tokens a minute, requests at a time; null: the gateway's defaults. Kept by the gateway, not by the book. */
  readonly rpm: number | null;
  readonly tpm: number | null;
  readonly concurrency: number | null;
}

export interface KeyOp {
  readonly op: 'key';
  readonly id: string;
  readonly hash: string;
  readonly hint: string;
  readonly customer: string;
  readonly name: string;
  readonly settings: KeySettings;
  readonly atMs: EpochMs;
}

export interface RevokeOp {
  readonly op: 'revoke';
  readonly id: string;
  readonly atMs: EpochMs;
}

/** Registers a price; the same price again keeps its version. */
export interface PriceOp {
  readonly op: 'price';
  readonly model: string;
  readonly price: Price;
  readonly atMs: EpochMs;
}

export type Query =
  | { readonly op: 'keys' }
  | { readonly op: 'customers' }
  | { readonly op: 'balance'; readonly customer: string }
  | { readonly op: 'account'; readonly name: string }
  | { readonly op: 'usage'; readonly request: string }
  | { readonly op: 'check' };

export type LedgerOp =
  | HoldOp
  | ExtendOp
  | ProgressOp
  | SettleOp
  | TransferOp
  | TransfersOp
  | GrantOp
  | CustomerOp
  | KeyOp
  | RevokeOp
  | PriceOp
  | Query;

export type LimitSource = 'account' | 'project' | 'key';

/** The request that had an Idempotency-Key before; `mismatch`: it had another body. */
export interface EarlierRequest {
  readonly request: string;
  readonly state: 'in_flight' | 'completed' | 'mismatch';
  /** The encrypted reply of a completed one, where it was kept. */
  readonly sealed: Uint8Array | null;
}

export type HoldResult =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly why:
        'insufficient' | 'exists' | 'unknown_customer' | 'unknown_price' | 'no_hold' | 'repeated' | 'too_many_keys';
      /** With `repeated`. Its answer comes once that request's charge is on disk. */
      readonly earlier?: EarlierRequest;
      readonly needed: NanoUsd;
      readonly available: NanoUsd;
      readonly limitSource: LimitSource;
      /** It would fit once requests in flight have given back what they don't use. */
      readonly transient: boolean;
    };

export interface SettleResult {
  readonly ok: boolean;
  readonly charged: NanoUsd;
  readonly priceVersion: number;
}

export type TransferResult =
  { readonly ok: true; readonly existed: boolean } | { readonly ok: false; readonly why: string };

export interface KeyRecord {
  readonly id: string;
  readonly hash: string;
  readonly hint: string;
  readonly customer: string;
  readonly name: string;
  readonly settings: KeySettings;
  readonly atMs: EpochMs;
  readonly revokedMs: EpochMs | null;
}

export interface CustomerRecord {
  readonly id: string;
  readonly name: string;
  readonly frozen: boolean;
  readonly atMs: EpochMs;
}

export interface Balance {
  /** Ever granted or paid in. */
  readonly credits: NanoUsd;
  /** Ever charged. */
  readonly used: NanoUsd;
  readonly posted: NanoUsd;
  readonly held: NanoUsd;
}

export interface AccountRecord extends AccountSpec {
  readonly posted: NanoUsd;
  readonly held: NanoUsd;
}

export interface UsageRecord {
  readonly request: string;
  readonly customer: string;
  readonly key: string | null;
  readonly model: string;
  readonly priceVersion: number;
  readonly tokens: TokenCounts;
  readonly held: NanoUsd;
  readonly charged: NanoUsd;
  readonly status: UsageStatus;
  readonly detail: UsageDetail;
  readonly atMs: EpochMs;
}

export interface CheckReport {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[];
}

/** The reply to each operation, by its name. */
export interface LedgerReplies {
  hold: HoldResult;
  extend: HoldResult;
  progress: null;
  settle: SettleResult;
  transfer: TransferResult;
  transfers: TransferResult;
  grant: TransferResult;
  customer: TransferResult;
  key: TransferResult;
  revoke: TransferResult;
  price: number;
  keys: readonly KeyRecord[];
  customers: readonly CustomerRecord[];
  balance: Balance | null;
  account: AccountRecord | null;
  usage: UsageRecord | null;
  check: CheckReport;
}

/** The ledger as everybody else sees it. */
export interface Ledger {
  ask<O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]>;
  /** Hands over what is queued and ends the writer. */
  close(): Promise<void>;
}
