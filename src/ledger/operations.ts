import type { Price } from '../spec.ts';
import type { EpochMs, NanoUsd } from '../units.ts';
import type {
  AccessOp,
  AccessQuery,
  ActResult,
  AdminKeyRecord,
  AuditNote,
  AuditOp,
  AuditRecord,
  CustomerRecord,
  DepositResult,
  KeyRecord,
  ProjectRecord,
  Spending,
  SuspenseRecord,
} from './access.ts';
import type { AccountSpec } from './accounts.ts';
import type { LeaseUsage, LeaseUsageQuery } from './lease-usage.ts';
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
  /** Its client read more slowly than the model wrote: its time says nothing of the machine. */
  readonly slowClient?: boolean;
  /** Tokens that a model server claimed beyond what we counted or allowed; never charged. */
  readonly refusedTokens?: number;
  /** How often another machine went on with the answer. */
  readonly resumed?: number;
  /** Leases whose machines worked on it before, or beside, the last one. */
  readonly before?: readonly string[];
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
  /** Of the amount: the most that the account pays for having the pool woken for this request. */
  readonly wakeFee?: NanoUsd;
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
  /** What is due by now of the fee for a wake. */
  readonly wakeFee?: NanoUsd;
  /** What the usage row shows if nobody settles it. */
  readonly detail?: UsageDetail;
}

/** Ends a hold: charges what was used (at most what is held), gives the rest back, writes the usage row. Durable. */
export interface SettleOp {
  readonly op: 'settle';
  readonly request: string;
  readonly tokens: TokenCounts;
  /** The pool was woken for it: charged besides the tokens, at most what was held for that. */
  readonly wakeFee?: NanoUsd;
  readonly status: UsageStatus;
  readonly detail: UsageDetail;
  readonly atMs: EpochMs;
  /** For a hold with an Idempotency-Key: the reply, encrypted, and the cost that it names. Kept in the charge's commit. */
  readonly replay?: { readonly sealed: Uint8Array; readonly cost: NanoUsd };
  /** What its attempts cost us where somebody is paid by tokens; owed from then on, whatever the customer is charged. */
  readonly purchases?: readonly Purchase[];
}

export interface Purchase {
  readonly provider: string;
  /** Above zero. */
  readonly amount: NanoUsd;
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
  /** Nobody paid for it, whatever its kind: it is an expense. */
  readonly given?: boolean;
  readonly amount: NanoUsd;
  readonly expiresMs: EpochMs | null;
  readonly actor: string;
  readonly reason: string;
  readonly atMs: EpochMs;
  readonly audit?: AuditNote | undefined;
}

/** Registers a price; the same price again keeps its version. */
export interface PriceOp {
  readonly op: 'price';
  readonly model: string;
  readonly price: Price;
  readonly atMs: EpochMs;
}

export type Query =
  | AccessQuery
  | { readonly op: 'balance'; readonly customer: string }
  | { readonly op: 'account'; readonly name: string }
  | { readonly op: 'usage'; readonly request: string }
  | LeaseUsageQuery
  | { readonly op: 'check' };

export type LedgerOp =
  HoldOp | ExtendOp | ProgressOp | SettleOp | TransferOp | TransfersOp | GrantOp | AccessOp | PriceOp | Query;

/** What an admin does to the books: `audit` goes into the same commit. */
export type AuditedOp = GrantOp | Exclude<AccessOp, AuditOp>;

export type LimitSource = 'account' | 'project' | 'key';

/** The request that had an Idempotency-Key before; `mismatch`: it had another body. */
export interface EarlierRequest {
  readonly request: string;
  readonly state: 'in_flight' | 'completed' | 'mismatch';
  /** The encrypted reply of a completed one, where it was kept. */
  readonly sealed: Uint8Array | null;
}

export type HoldRefusal =
  | 'exists'
  | 'unknown_customer'
  | 'frozen'
  /** The key expired, was revoked, or was rotated and its overlap is over. */
  | 'key_ended'
  | 'unknown_price'
  | 'no_hold'
  /** Its Idempotency-Key has a request already, see `earlier`. */
  | 'repeated'
  /** Its account has used as many Idempotency-Keys as are remembered. */
  | 'too_many_keys';

export type HoldResult =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly why: 'insufficient' | HoldRefusal;
      /** With `repeated`; said once that request's charge is on disk. */
      readonly earlier?: EarlierRequest;
      readonly needed: NanoUsd;
      readonly available: NanoUsd;
      readonly limitSource: LimitSource;
      /** It would fit once requests in flight have given back what they don't use. */
      readonly transient: boolean;
      /** When the window of the limit that is too small ends; left out where there is none. */
      readonly resetsMs?: EpochMs;
    };

export interface SettleResult {
  readonly ok: boolean;
  /** All of it. */
  readonly charged: NanoUsd;
  /** Of it, for having the pool woken. */
  readonly wakeFee?: NanoUsd;
  readonly priceVersion: number;
}

export type TransferResult =
  { readonly ok: true; readonly existed: boolean } | { readonly ok: false; readonly why: string };

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
  /** Of that version: what the charge was computed with. */
  readonly price: Price | null;
  readonly tokens: TokenCounts;
  /** For tokens, and what was charged for them. */
  readonly held: NanoUsd;
  readonly charged: NanoUsd;
  /** What was charged besides for having the pool woken. */
  readonly wakeFee: NanoUsd;
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
  customer: ActResult;
  freeze: ActResult;
  key: ActResult;
  rotate: ActResult;
  revoke: ActResult;
  project: ActResult;
  adminKey: ActResult;
  revokeAdminKey: ActResult;
  deposit: DepositResult;
  assign: ActResult;
  audit: null;
  price: number;
  keys: readonly KeyRecord[];
  customers: readonly CustomerRecord[];
  spending: Spending | null;
  projects: readonly ProjectRecord[];
  adminKeys: readonly AdminKeyRecord[];
  suspense: readonly SuspenseRecord[];
  audits: readonly AuditRecord[];
  balance: Balance | null;
  account: AccountRecord | null;
  usage: UsageRecord | null;
  leaseUsage: readonly LeaseUsage[];
  check: CheckReport;
}

/** The ledger as everybody else sees it. */
export interface Ledger {
  ask<O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]>;
  /** Hands over what is queued and ends the writer. */
  close(): Promise<void>;
}
