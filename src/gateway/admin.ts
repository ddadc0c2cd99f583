import { Hono, type Context } from 'hono';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import type { Ledger } from '../ledger/operations.ts';
import { formatUsd, parseUsd } from '../units.ts';

import { hashKey, hintOf, isAdmin, newKey } from './auth.ts';
import { BodyShare } from './body-room.ts';
import type { AppDeps, AppEnv } from './deps.ts';
import { decodePath } from './models.ts';
import { parseJsonBody } from './openai.ts';

const BODY_MAX = 1024 * 1024;
const name = z.string().min(1).max(200);
const usd = z.string().refine((text) => {
  try {
    return parseUsd(text) > 0n;
  } catch {
    return false;
  }
}, 'is an amount in USD above zero, as a string such as "5.00"');

/** ISO time or seconds since 1970, until the year 9999: milliseconds given by mistake are refused. */
const expiry = z.union([z.iso.datetime({ offset: true }), z.number().int().positive().max(253_402_300_799)]);

const accountSchema = z.strictObject({ name });
const creditSchema = z.strictObject({
  amount_usd: usd,
  kind: z.enum(['paid', 'promo']),
  reason: z.string().min(1).max(500),
  expires_at: expiry.nullish(),
});
const keySchema = z.strictObject({
  name,
  models: z.array(z.string().min(1).max(128)).min(1).max(100).nullish(),
  spend_limit_usd: usd.nullish(),
  rpm: z.number().int().min(1).nullish(),
  tpm: z.number().int().min(1).nullish(),
  concurrency: z.number().int().min(1).nullish(),
  expires_at: expiry.nullish(),
});
const disputeSchema = z.strictObject({ reason: z.string().min(1).max(1000) });

/** Routes for operators, behind the admin key. */
export function createAdmin(deps: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { fleet, ledger } = deps;
  app.use('*', async (context, next) => {
    if (deps.adminKeyHash === null || !isAdmin(context.req.header('authorization'), deps.adminKeyHash)) {
      throw new AppError('invalid_api_key', 'this needs the admin key as "Authorization: Bearer …"');
    }
    await next();
  });
  addAccounts(app, deps);
  app.get('/ledger/check', async (context) => context.json(await ledger.ask({ op: 'check' })));
  if (!fleet) return app;
  app.get('/pools', (context) => context.json({ data: fleet.pools() }));
  app.get('/pools/*', (context) => context.json(fleet.pool(restOf(context, '/admin/pools/'))));
  app.put('/pools/*', async (context) => {
    const { created, pool } = await fleet.putPool(
      restOf(context, '/admin/pools/'),
      await bodyOf(context, deps, z.looseObject({})),
    );
    return context.json(pool, created ? 201 : 200);
  });
  app.delete('/pools/*', async (context) => {
    await fleet.deletePool(restOf(context, '/admin/pools/'));
    return context.body(null, 204);
  });
  app.get('/replicas', (context) => context.json({ data: fleet.replicas() }));
  app.get('/orders', async (context) => context.json({ data: await fleet.orders() }));
  app.get('/leases', async (context) => context.json({ data: await fleet.leases() }));
  app.get('/leases/:id', async (context) => context.json((await fleet.lease(context.req.param('id'))) as object));
  app.post('/leases/:id/close', async (context) => {
    return context.json((await fleet.closeLease(context.req.param('id'))) as object);
  });
  app.post('/leases/:id/dispute', async (context) => {
    const { reason } = await bodyOf(context, deps, disputeSchema);
    return context.json((await fleet.disputeLease(context.req.param('id'), reason)) as object);
  });
  app.get('/providers', async (context) => context.json({ data: await fleet.providers() }));
  app.get('/decisions', async (context) => {
    const limit = z.coerce
      .number()
      .int()
      .min(1)
      .max(1000)
      .catch(200)
      .parse(context.req.query('limit') ?? 200);
    return context.json({ data: await fleet.decisions({ pool: context.req.query('pool'), limit }) });
  });
  return app;
}

function addAccounts(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock, newId, random, keys } = deps;
  app.get('/accounts', async (context) => {
    const records = await ledger.ask({ op: 'customers' });
    const data = await Promise.all(records.map(({ id }) => describeAccount(ledger, id)));
    return context.json({ data });
  });
  app.post('/accounts', async (context) => {
    const body = await bodyOf(context, deps, accountSchema);
    // With an Idempotency-Key the id follows from it, so a repeat finds the same account.
    const id = idempotent(context, 'acct-') ?? newId('acct-');
    await ledger.ask({ op: 'customer', id, name: body.name, atMs: clock.now() });
    return context.json(await describeAccount(ledger, id), 201);
  });
  app.get('/accounts/:id', async (context) => context.json(await describeAccount(ledger, context.req.param('id'))));
  app.get('/accounts/:id/credits', async (context) =>
    context.json(await describeAccount(ledger, context.req.param('id'))),
  );
  app.post('/accounts/:id/credits', async (context) => {
    const customer = context.req.param('id');
    const body = await bodyOf(context, deps, creditSchema);
    const id = idempotent(context, `grant-${customer}-`) ?? newId(`grant-${customer}-`);
    const result = await ledger.ask({
      op: 'grant',
      id,
      customer,
      kind: body.kind,
      amount: parseUsd(body.amount_usd),
      expiresMs: timeOf(body.expires_at),
      actor: 'admin',
      reason: body.reason,
      atMs: clock.now(),
    });
    if (!result.ok && result.why.includes('id was used')) {
      throw new AppError('idempotency_mismatch', 'this Idempotency-Key was used for another grant');
    }
    if (!result.ok)
      throw new AppError(result.why.includes('no such account') ? 'not_found' : 'invalid_request', result.why);
    return context.json({ id, ...(await describeAccount(ledger, customer)) }, result.existed ? 200 : 201);
  });
  app.get('/accounts/:id/keys', async (context) => {
    const records = await ledger.ask({ op: 'keys' });
    const own = records.filter(({ customer }) => customer === context.req.param('id'));
    const data = own.map(({ id, hint, name: label, atMs, revokedMs, settings }) => ({
      id,
      hint,
      name: label,
      models: settings.models,
      spend_limit_usd: settings.spendLimit === null ? null : formatUsd(settings.spendLimit),
      rpm: settings.rpm,
      tpm: settings.tpm,
      concurrency: settings.concurrency,
      created_at: iso(atMs),
      expires_at: iso(settings.expiresMs),
      revoked_at: iso(revokedMs),
    }));
    return context.json({ data });
  });
  app.post('/accounts/:id/keys', async (context) => {
    const body = await bodyOf(context, deps, keySchema);
    const key = newKey(random);
    const id = newId('key-');
    const limit = body.spend_limit_usd;
    const settings = {
      models: body.models ?? null,
      spendLimit: limit === null || limit === undefined ? null : parseUsd(limit),
      expiresMs: timeOf(body.expires_at),
      rpm: body.rpm ?? null,
      tpm: body.tpm ?? null,
      concurrency: body.concurrency ?? null,
    };
    const customer = context.req.param('id');
    const record = { id, hash: hashKey(key), hint: hintOf(key), customer, name: body.name, settings };
    const result = await ledger.ask({ op: 'key', ...record, atMs: clock.now() });
    if (!result.ok) throw new AppError('not_found', result.why);
    await keys.refresh();
    return context.json({ id, key }, 201);
  });
  app.delete('/keys/:id', async (context) => {
    const result = await ledger.ask({ op: 'revoke', id: context.req.param('id'), atMs: clock.now() });
    if (!result.ok) throw new AppError('not_found', result.why);
    await keys.refresh();
    return context.body(null, 204);
  });
}

async function describeAccount(ledger: Ledger, id: string): Promise<Record<string, unknown>> {
  const records = await ledger.ask({ op: 'customers' });
  const record = records.find((customer) => customer.id === id);
  const balance = await ledger.ask({ op: 'balance', customer: id });
  if (!record || !balance) throw new AppError('not_found', `there is no account ${id.slice(0, 128)}`);
  return {
    id,
    name: record.name,
    created_at: iso(record.atMs),
    credits_usd: formatUsd(balance.credits),
    used_usd: formatUsd(balance.used),
    balance_usd: formatUsd(balance.posted),
    held_usd: formatUsd(balance.held),
  };
}

async function bodyOf<T>(context: Context<AppEnv>, deps: AppDeps, schema: z.ZodType<T>): Promise<T> {
  const share = new BodyShare(deps.bodyRoom);
  try {
    const { text } = await deps.transport(context as unknown as Context).readBody(BODY_MAX, share);
    return parseJsonBody(text, schema);
  } finally {
    share.give();
  }
}

function idempotent(context: Context<AppEnv>, prefix: string): string | null {
  const key = context.req.header('idempotency-key');
  if (key === undefined) return null;
  if (key.length === 0 || key.length > 255)
    throw new AppError('invalid_request', 'an Idempotency-Key has 1 to 255 characters');
  return `${prefix}${hashKey(key).slice(0, 32)}`;
}

function timeOf(value: string | number | null | undefined): number | null {
  if (value === null || value === undefined) return null;
  return typeof value === 'number' ? value * 1000 : Date.parse(value);
}

const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

function restOf(context: Context<AppEnv>, prefix: string): string {
  return decodePath(context.req.path.slice(prefix.length));
}
