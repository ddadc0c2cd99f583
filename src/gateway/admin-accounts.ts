import type { Hono } from 'hono';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import type { Ledger } from '../ledger/operations.ts';
import { formatUsd, maxBig, parseUsd } from '../units.ts';
import { addAction } from './admin-action.ts';
import {
  amountOf,
  bodyOf,
  expiry,
  idempotent,
  iso,
  name,
  noAccount,
  project,
  reason,
  refused,
  reset,
  timeOf,
  usd,
  usdOrNull,
} from './admin-body.ts';
import type { AppDeps, AppEnv } from './deps.ts';

const accountSchema = z.strictObject({ name });
const creditSchema = z.strictObject({
  amount_usd: usd,
  kind: z.enum(['paid', 'promo']),
  reason,
  expires_at: expiry.nullish(),
});
const freezeSchema = z.strictObject({ reason });
const projectSchema = z.strictObject({ spend_limit_usd: usd.nullable(), limit_reset: reset.default('none') });

/** Accounts: who pays, with how much credit, and what their projects may spend. */
export function addAccounts(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock, newId } = deps;
  app.get('/accounts', async (context) => {
    const records = await ledger.ask({ op: 'customers' });
    const data = await Promise.all(records.map(({ id }) => describeAccount(ledger, id)));
    return context.json({ data });
  });
  app.get('/accounts/:id', async (context) => context.json(await describeAccount(ledger, context.req.param('id'))));
  app.get('/accounts/:id/credits', async (context) =>
    context.json(await describeAccount(ledger, context.req.param('id'))),
  );
  addAction(app, deps, {
    method: 'post',
    path: '/accounts',
    action: 'account.created',
    run: async (context, action) => {
      const body = await bodyOf(context, deps, accountSchema);
      const id = idempotent(context, 'acct-') ?? newId('acct-');
      action.about(id, { name: body.name });
      const result = await action.ask({ op: 'customer', id, name: body.name, atMs: clock.now() });
      if (!result.ok) throw refused(result);
      return context.json(await describeAccount(ledger, id), 201);
    },
  });
  addCredits(app, deps);
  addFreezing(app, deps);
  addProjects(app, deps);
}

function addCredits(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock, newId } = deps;
  addAction(app, deps, {
    method: 'post',
    path: '/accounts/:id/credits',
    role: 'finance',
    action: 'credit.granted',
    run: async (context, action) => {
      const customer = context.req.param('id') ?? '';
      const body = await bodyOf(context, deps, creditSchema);
      const id = idempotent(context, `grant-${customer}-`) ?? newId(`grant-${customer}-`);
      const { amount_usd: amount, kind, reason: why } = body;
      action.about(customer, { grant: id, amount_usd: amount, kind, reason: why });
      const expiresMs = timeOf(body.expires_at);
      const grant = { id, customer, kind, amount: parseUsd(amount), expiresMs, actor: action.actor, reason: why };
      const result = await action.ask({ op: 'grant', ...grant, atMs: clock.now() });
      if (!result.ok && result.why.includes('id was used')) {
        throw new AppError('idempotency_mismatch', 'this Idempotency-Key was used for another grant');
      }
      if (!result.ok)
        throw new AppError(result.why.includes('no such account') ? 'not_found' : 'invalid_request', result.why);
      return context.json({ id, ...(await describeAccount(ledger, customer)) }, result.existed ? 200 : 201);
    },
  });
}

function addFreezing(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock } = deps;
  addAction(app, deps, {
    method: 'post',
    path: '/accounts/:id/freeze',
    action: 'account.frozen',
    run: async (context, action) => {
      const id = context.req.param('id') ?? '';
      const { reason: why } = await bodyOf(context, deps, freezeSchema);
      action.about(id, { reason: why });
      const result = await action.ask({ op: 'freeze', id, reason: why, atMs: clock.now() });
      if (!result.ok) throw refused(result);
      return context.json(await describeAccount(ledger, id));
    },
  });
  addAction(app, deps, {
    method: 'post',
    path: '/accounts/:id/unfreeze',
    action: 'account.unfrozen',
    run: async (context, action) => {
      const id = context.req.param('id') ?? '';
      const result = await action.ask({ op: 'freeze', id, reason: null, atMs: clock.now() });
      if (!result.ok) throw refused(result);
      return context.json(await describeAccount(ledger, id));
    },
  });
}

function addProjects(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock } = deps;
  app.get('/accounts/:id/projects', async (context) => {
    const { id: customer } = await describeAccount(ledger, context.req.param('id'));
    const projects = await ledger.ask({ op: 'projects', customer: String(customer), atMs: clock.now() });
    const data = projects.map(({ name: label, limit, reset: window, spent, held, resetsMs }) => ({
      name: label,
      spend_limit_usd: usdOrNull(limit),
      limit_reset: window,
      spent_usd: formatUsd(spent),
      held_usd: formatUsd(held),
      remaining_usd: usdOrNull(limit === null ? null : maxBig(0n, limit - spent - held)),
      resets_at: iso(resetsMs),
    }));
    return context.json({ data });
  });
  addAction(app, deps, {
    method: 'put',
    path: '/accounts/:id/projects/:project',
    action: 'project.limited',
    run: async (context, action) => {
      const customer = context.req.param('id') ?? '';
      const label = project.safeParse(context.req.param('project'));
      if (!label.success) throw new AppError('invalid_request', 'a project has 1 to 100 letters', { param: 'project' });
      const body = await bodyOf(context, deps, projectSchema);
      action.about(customer, { project: label.data, ...body });
      const spendLimit = amountOf(body.spend_limit_usd);
      const limit = { customer, name: label.data, spendLimit, reset: body.limit_reset };
      const result = await action.ask({ op: 'project', ...limit, atMs: clock.now() });
      if (!result.ok) throw refused(result);
      return context.json({ name: label.data, ...body });
    },
  });
}

async function describeAccount(ledger: Ledger, id: string): Promise<Record<string, unknown>> {
  const records = await ledger.ask({ op: 'customers' });
  const record = records.find((customer) => customer.id === id);
  const balance = await ledger.ask({ op: 'balance', customer: id });
  if (!record || !balance) throw noAccount(id);
  const { credits, used, posted, held } = balance;
  return {
    id,
    name: record.name,
    created_at: iso(record.atMs),
    frozen: record.frozen,
    frozen_reason: record.frozenReason,
    frozen_at: iso(record.frozenMs),
    credits_usd: formatUsd(credits),
    used_usd: formatUsd(used),
    // What was granted and is neither used nor left.
    expired_usd: formatUsd(credits - used - posted),
    balance_usd: formatUsd(posted),
    held_usd: formatUsd(held),
  };
}
