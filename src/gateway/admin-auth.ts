import { AppError } from '../errors.ts';
import type { Admin, AdminRole } from '../ledger/access.ts';
import { randomText, type RandomBytes } from '../random.ts';
import { bearerOf, hashKey, isAdmin } from './auth.ts';
import type { AppDeps } from './deps.ts';

export const ADMIN_KEY_PREFIX = 'ak-ub-';

/** The key of the entry's settings: always an operator, never revoked, not in the ledger. */
const ROOT: Admin = { admin: 'root', name: 'root key', role: 'operator' };

const BAD_ADMIN_KEY = 'this admin key is unknown, expired or revoked';

/** 238 bits of randomness behind the prefix. */
export function newAdminKey(random: RandomBytes): string {
  return `${ADMIN_KEY_PREFIX}${randomText(random, 40)}`;
}

export function hintOfAdminKey(key: string): string {
  return `${key.slice(0, ADMIN_KEY_PREFIX.length + 4)}…`;
}

/**
 * Which admin calls. Admins are few and call seldom: the ledger is asked anew each time, so a revoked key ends at once.
 * @throws AppError `invalid_api_key` for a key that is missing, unknown, revoked or expired
 */
export async function authenticateAdmin(deps: AppDeps, authorization: string | undefined): Promise<Admin> {
  if (deps.adminKeyHash !== null && isAdmin(authorization, deps.adminKeyHash)) return ROOT;
  const key = bearerOf(authorization);
  const hash = key === null ? null : hashKey(key);
  const nowMs = deps.clock.now();
  const records = hash === null ? [] : await deps.ledger.ask({ op: 'adminKeys' });
  const record = records.find((one) => one.hash === hash);
  if (!record || record.revokedMs !== null || nowMs >= (record.expiresMs ?? Infinity)) {
    const why = key === null ? 'send an admin key as "Authorization: Bearer …"' : BAD_ADMIN_KEY;
    throw new AppError('invalid_api_key', why);
  }
  return { admin: record.id, name: record.name, role: record.role };
}

/** An operator may do everything, finance what moves money; reading is open to all. */
const MAY_DO: Record<'finance' | 'operator', readonly AdminRole[]> = {
  finance: ['finance', 'operator'],
  operator: ['operator'],
};

/** @throws AppError `permission_denied` */
export function requireRole({ role }: Admin, needed: 'finance' | 'operator'): void {
  const allowed = MAY_DO[needed];
  if (allowed.includes(role)) return;
  throw new AppError('permission_denied', `this admin key has the role ${role}; this needs ${allowed.join(' or ')}`);
}
