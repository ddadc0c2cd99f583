import type { EpochMs, Ms, NanoUsd } from '../units.ts';
import type { Trust } from '../spec/trust.ts';
import type { AccountSpec } from './accounts.ts';

/**
 * Who may use the gateway and how much of it: customers, their keys and projects, admin keys, and the log of what admins
 * did. Plain data, part of what the one writer can be asked; all of it durable.
 */

/** Calendar windows in UTC, weeks from Monday on; 'none' never starts again. */
export type SpendReset = 'none' | 'day' | 'week' | 'month';
export const SPEND_RESETS = ['none', 'day', 'week', 'month'] as const satisfies readonly SpendReset[];

export type AdminRole = 'operator' | 'finance' | 'read-only';
export const ADMIN_ROLES = ['operator', 'finance', 'read-only'] as const satisfies readonly AdminRole[];

export interface Admin {
  /** The admin key's id. */
  readonly admin: string;
  readonly name: string;
  readonly role: AdminRole;
}

/** An admin's action as the log has it, with the name and the role that its key had then. No secrets in `detail`. */
export interface AuditNote extends Admin {
  /** `account.created` */
  readonly action: string;
  readonly target: string | null;
  readonly detail: Readonly<Record<string, unknown>>;
  /** Of the HTTP request. */
  readonly request: string;
}

/** Something an admin can do: its row in the log is in the same commit; a refusal leaves none. */
interface Audited {
  readonly audit?: AuditNote | undefined;
}

export interface CustomerOp extends Audited {
  readonly op: 'customer';
  readonly id: string;
  readonly name: string;
  readonly atMs: EpochMs;
}

/** Freezes an account, or with a null reason unfreezes it: new holds are refused, running ones go on and are charged. */
export interface FreezeOp extends Audited {
  readonly op: 'freeze';
  readonly id: string;
  readonly reason: string | null;
  readonly atMs: EpochMs;
}

export interface CustomerRecord {
  readonly id: string;
  readonly name: string;
  readonly frozen: boolean;
  readonly frozenReason: string | null;
  readonly frozenMs: EpochMs | null;
  readonly atMs: EpochMs;
}

export interface KeySettings {
  readonly models: readonly string[] | null;
  /** Keys of one project share its spend limit, if it has one. */
  readonly project: string | null;
  readonly spendLimit: NanoUsd | null;
  readonly limitReset: SpendReset;
  readonly expiresMs: EpochMs | null;
  /** Requests and tokens a minute, requests at a time; null: the gateway's defaults. Kept by the gateway, not by the book. */
  readonly rpm: number | null;
  readonly tpm: number | null;
  readonly concurrency: number | null;
  /** What its requests' machines must be at least; null: whatever the pool says. Kept by the gateway, too. */
  readonly trust?: Trust | null;
  readonly regions?: readonly string[] | null;
  readonly providers?: readonly string[] | null;
  /** The most that a request accepts to pay for having its pool woken, unless it says otherwise itself. */
  readonly wakeFeeMax?: NanoUsd | null;
}

export const UNLIMITED: KeySettings = {
  models: null,
  project: null,
  spendLimit: null,
  limitReset: 'none',
  expiresMs: null,
  rpm: null,
  tpm: null,
  concurrency: null,
  trust: null,
  regions: null,
  providers: null,
  wakeFeeMax: null,
};

export interface KeyOp extends Audited {
  readonly op: 'key';
  readonly id: string;
  readonly hash: string;
  readonly hint: string;
  readonly customer: string;
  readonly name: string;
  readonly settings: KeySettings;
  readonly atMs: EpochMs;
}

/** Puts a new key in the place of one that works. Both share what was spent; the old one ends after the overlap. */
export interface RotateOp extends Audited {
  readonly op: 'rotate';
  /** Of the key that is replaced. */
  readonly id: string;
  readonly overlapMs: Ms;
  readonly successor: { readonly id: string; readonly hash: string; readonly hint: string };
  readonly atMs: EpochMs;
}

export interface RevokeOp extends Audited {
  readonly op: 'revoke';
  readonly id: string;
  readonly atMs: EpochMs;
}

export interface KeyRecord {
  readonly id: string;
  readonly hash: string;
  readonly hint: string;
  readonly customer: string;
  readonly name: string;
  readonly settings: KeySettings;
  readonly atMs: EpochMs;
  readonly revokedMs: EpochMs | null;
  /** The first key of its chain of rotations: limits on spending and rate are kept by it. */
  readonly root: string;
  /** Of a key that was rotated: when its overlap ends, and what took its place. */
  readonly endsMs: EpochMs | null;
  readonly replacedBy: string | null;
}

/** When a key ends by itself: at its expiry or with its overlap, whichever comes first. */
export function endOf({ settings: { expiresMs }, endsMs }: KeyRecord): EpochMs | null {
  if (expiresMs === null || endsMs === null) return expiresMs ?? endsMs;
  return Math.min(expiresMs, endsMs);
}

export function isLive(record: KeyRecord, nowMs: EpochMs): boolean {
  return record.revokedMs === null && nowMs < (endOf(record) ?? Infinity);
}

/** Sets what the keys of a project may spend together; null: no limit. Counts what they have spent already. */
export interface ProjectOp extends Audited {
  readonly op: 'project';
  readonly customer: string;
  readonly name: string;
  readonly spendLimit: NanoUsd | null;
  readonly reset: SpendReset;
  readonly atMs: EpochMs;
}

/** One limit on spending, and where it stands. */
export interface CapView {
  readonly limit: NanoUsd | null;
  readonly reset: SpendReset;
  /** Charged and held in the window. */
  readonly spent: NanoUsd;
  readonly held: NanoUsd;
  /** When the window ends; null: never. */
  readonly resetsMs: EpochMs | null;
}

export interface ProjectRecord extends CapView {
  readonly customer: string;
  readonly name: string;
}

/** What a key and those it was rotated from have spent. */
export interface Spending {
  readonly total: NanoUsd;
  readonly day: NanoUsd;
  readonly week: NanoUsd;
  readonly month: NanoUsd;
  readonly cap: CapView;
  readonly project: ProjectRecord | null;
}

export interface AdminKeyOp extends Audited {
  readonly op: 'adminKey';
  readonly id: string;
  readonly hash: string;
  readonly hint: string;
  readonly name: string;
  readonly role: AdminRole;
  readonly expiresMs: EpochMs | null;
  readonly atMs: EpochMs;
}

export interface RevokeAdminKeyOp extends Audited {
  readonly op: 'revokeAdminKey';
  readonly id: string;
  readonly atMs: EpochMs;
}

export interface AdminKeyRecord extends Omit<AdminKeyOp, 'op' | 'audit'> {
  readonly revokedMs: EpochMs | null;
}

/** Money that came from outside, known by its reference (a transaction's hash and event, a receipt's number). */
export interface DepositOp extends Audited {
  readonly op: 'deposit';
  /** The same one again changes nothing. */
  readonly reference: string;
  /** An account that is not there, or null: the money waits in suspense. */
  readonly customer: string | null;
  readonly amount: NanoUsd;
  /** Where it lies now: a bank account, a wallet. */
  readonly source: AccountSpec;
  readonly actor: string;
  readonly reason: string;
  readonly atMs: EpochMs;
}

/** Gives a deposit in suspense to its owner, once. */
export interface AssignOp extends Audited {
  readonly op: 'assign';
  readonly reference: string;
  readonly customer: string;
  readonly actor: string;
  readonly reason: string;
  readonly atMs: EpochMs;
}

export type DepositResult =
  | { readonly ok: true; readonly existed: boolean; readonly suspense: boolean }
  | { readonly ok: false; readonly why: string };

export interface SuspenseRecord {
  readonly reference: string;
  readonly amount: NanoUsd;
  readonly source: string;
  readonly reason: string;
  readonly atMs: EpochMs;
}

/** Logs an action that is not the ledger's, or a refused one. */
export interface AuditOp {
  readonly op: 'audit';
  readonly note: AuditNote;
  /** 'ok' or the code of the refusal. */
  readonly outcome: string;
  readonly atMs: EpochMs;
}

export interface AuditRecord extends AuditNote {
  readonly seq: number;
  readonly atMs: EpochMs;
  readonly outcome: string;
}

export type AccessOp =
  | CustomerOp
  | FreezeOp
  | KeyOp
  | RotateOp
  | RevokeOp
  | ProjectOp
  | AdminKeyOp
  | RevokeAdminKeyOp
  | DepositOp
  | AssignOp
  | AuditOp;

export type AccessQuery =
  | { readonly op: 'keys' }
  | { readonly op: 'customers' }
  | { readonly op: 'spending'; readonly key: string; readonly atMs: EpochMs }
  | { readonly op: 'projects'; readonly customer: string; readonly atMs: EpochMs }
  | { readonly op: 'adminKeys' }
  | { readonly op: 'suspense' }
  /** Newest first; `before`: rows with a lower number only. */
  | { readonly op: 'audits'; readonly limit: number; readonly before: number | null };

/** `idempotency_completed`: it was made before, with a secret that is shown once; `idempotency_mismatch`: as something else. */
export type RefusalCode = 'not_found' | 'conflict' | 'idempotency_completed' | 'idempotency_mismatch';

/** What was done, or why not. */
export type ActResult =
  | { readonly ok: true; readonly existed: boolean }
  | { readonly ok: false; readonly why: string; readonly code?: RefusalCode };

/** An id that is taken, by the same with another secret or by something else. */
export function taken(what: string, same: boolean): ActResult {
  if (same) return { ok: false, why: `this ${what} was made before and is shown once`, code: 'idempotency_completed' };
  return { ok: false, why: `this id was used for another ${what}`, code: 'idempotency_mismatch' };
}
