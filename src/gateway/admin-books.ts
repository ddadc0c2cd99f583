import type { Hono } from 'hono';
import { z } from 'zod';
import { formatUsd } from '../units.ts';
import { addAction } from './admin-action.ts';
import { bodyOf, countOf, iso, reason, refused } from './admin-body.ts';
import type { AppDeps, AppEnv } from './deps.ts';

const AUDIT_LIMIT = 100;
const AUDIT_LIMIT_MAX = 1000;
const assignSchema = z.strictObject({ reference: z.string().min(1).max(300), account: z.string().max(200), reason });

/** The books: whether they add up, who did what, and deposits that wait for their owner. */
export function addBooks(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock } = deps;
  app.get('/ledger/check', async (context) => context.json(await ledger.ask({ op: 'check' })));
  app.get('/audit', async (context) => {
    const limit = countOf(context, 'limit', AUDIT_LIMIT_MAX) ?? AUDIT_LIMIT;
    const before = countOf(context, 'before', Number.MAX_SAFE_INTEGER);
    const rows = await ledger.ask({ op: 'audits', limit: limit + 1, before });
    const page = rows.slice(0, limit);
    const data = page.map(({ seq, atMs, admin, name, role, action, target, detail, request, outcome }) => {
      return { seq, at: iso(atMs), admin, name, role, action, target, outcome, detail, request_id: request };
    });
    const more = rows.length > limit;
    return context.json({ data, has_more: more, next_before: more ? (page.at(-1)?.seq ?? null) : null });
  });
  app.get('/deposits', async (context) => {
    const records = await ledger.ask({ op: 'suspense' });
    const data = records.map(({ reference, amount, source, reason: why, atMs }) => {
      return { reference, amount_usd: formatUsd(amount), source, reason: why, at: iso(atMs) };
    });
    return context.json({ data });
  });
  addAction(app, deps, {
    method: 'post',
    path: '/deposits/assign',
    role: 'finance',
    action: 'deposit.assigned',
    run: async (context, action) => {
      const { reference, account, reason: why } = await bodyOf(context, deps, assignSchema);
      action.about(reference, { account, reason: why });
      const assignment = { reference, customer: account, actor: action.actor, reason: why };
      const result = await action.ask({ op: 'assign', ...assignment, atMs: clock.now() });
      if (!result.ok) throw refused(result);
      return context.json({ reference, account });
    },
  });
}
