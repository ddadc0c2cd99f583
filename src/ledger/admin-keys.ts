import { numberOf, numberOrNull, textOf, type Sql } from '../store/sql.ts';
import {
  taken,
  type ActResult,
  type AdminKeyOp,
  type AdminKeyRecord,
  type AdminRole,
  type RevokeAdminKeyOp,
} from './access.ts';
import type { Journal } from './journal.ts';

/** Keys of people who run the gateway, by their hash. The root key is not among them: it is the entry's. */
export class AdminKeys {
  readonly #journal: Journal;
  readonly #keys = new Map<string, AdminKeyRecord>();

  constructor(journal: Journal, sql: Sql | null) {
    this.#journal = journal;
    for (const row of sql?.all('SELECT * FROM admin_keys ORDER BY rowid') ?? []) {
      const id = textOf(row, 'id');
      this.#keys.set(id, {
        id,
        hash: textOf(row, 'hash'),
        hint: textOf(row, 'hint'),
        name: textOf(row, 'name'),
        role: textOf(row, 'role') as AdminRole,
        atMs: numberOf(row, 'at_ms'),
        expiresMs: numberOrNull(row, 'expires_ms'),
        revokedMs: numberOrNull(row, 'revoked_ms'),
      });
    }
  }

  records(): AdminKeyRecord[] {
    return [...this.#keys.values()];
  }

  add({ id, hash, hint, name, role, expiresMs, atMs }: AdminKeyOp): ActResult {
    const known = this.#keys.get(id);
    if (known) {
      const same = known.name === name && known.role === role && known.expiresMs === expiresMs;
      return same && known.hash === hash ? { ok: true, existed: true } : taken('key', same);
    }
    this.#keys.set(id, { id, hash, hint, name, role, expiresMs, atMs, revokedMs: null });
    const values = [id, hash, hint, name, role, BigInt(atMs), expiresMs === null ? null : BigInt(expiresMs)];
    this.#journal.write('INSERT INTO admin_keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL)', values);
    return { ok: true, existed: false };
  }

  revoke({ id, atMs }: RevokeAdminKeyOp): ActResult {
    const record = this.#keys.get(id);
    if (!record) return { ok: false, why: 'there is no such admin key', code: 'not_found' };
    if (record.revokedMs !== null) return { ok: true, existed: true };
    this.#keys.set(id, { ...record, revokedMs: atMs });
    this.#journal.write('UPDATE admin_keys SET revoked_ms = ? WHERE id = ?', [BigInt(atMs), id]);
    return { ok: true, existed: false };
  }
}
