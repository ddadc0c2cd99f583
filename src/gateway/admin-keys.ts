import type { Hono } from 'hono';
import { z } from 'zod';
import { ADMIN_ROLES } from '../ledger/access.ts';
import { addAction } from './admin-action.ts';
import { hintOfAdminKey, newAdminKey } from './admin-auth.ts';
import { bodyOf, endTimeOf, expiry, idempotent, iso, name, refused } from './admin-body.ts';
import { hashKey } from './auth.ts';
import type { AppDeps, AppEnv } from './deps.ts';

const adminKeySchema = z.strictObject({ name, role: z.enum(ADMIN_ROLES), expires_at: expiry.nullish() });

/** Keys of people who run the gateway, each with a role. */
export function addAdminKeys(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock, newId, random } = deps;
  app.get('/admin-keys', async (context) => {
    const records = await ledger.ask({ op: 'adminKeys' });
    const data = records.map(({ id, hint, name: label, role, atMs, expiresMs, revokedMs }) => ({
      id,
      hint,
      name: label,
      role,
      created_at: iso(atMs),
      expires_at: iso(expiresMs),
      revoked_at: iso(revokedMs),
    }));
    return context.json({ data });
  });
  addAction(app, deps, {
    method: 'post',
    path: '/admin-keys',
    action: 'admin_key.created',
    run: async (context, action) => {
      const body = await bodyOf(context, deps, adminKeySchema);
      const key = newAdminKey(random);
      const id = idempotent(context, 'admin-', 'admin-keys') ?? newId('admin-');
      const expiresMs = endTimeOf(body.expires_at, clock.now());
      const record = { id, hash: hashKey(key), hint: hintOfAdminKey(key), name: body.name, role: body.role };
      action.about(id, { hint: record.hint, ...body });
      const result = await action.ask({ op: 'adminKey', ...record, expiresMs, atMs: clock.now() });
      if (!result.ok) throw refused(result, { id });
      return context.json({ id, key }, 201);
    },
  });
  addAction(app, deps, {
    method: 'delete',
    path: '/admin-keys/:id',
    action: 'admin_key.revoked',
    run: async (context, action) => {
      const result = await action.ask({ op: 'revokeAdminKey', id: context.req.param('id') ?? '', atMs: clock.now() });
      if (!result.ok) throw refused(result);
      return context.body(null, 204);
    },
  });
}
