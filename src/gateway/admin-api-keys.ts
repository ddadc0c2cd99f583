import type { Context, Hono } from 'hono';
import { z } from 'zod';
import { endOf, type KeyRecord, type KeySettings } from '../ledger/access.ts';
import type { Ledger } from '../ledger/operations.ts';
import { TRUST_LEVELS } from '../spec/trust.ts';
import { formatUsd, type EpochMs } from '../units.ts';
import { addAction, type Action } from './admin-action.ts';
import {
  amountOf,
  bodyOf,
  bodyOrNothing,
  endTimeOf,
  expiry,
  idempotent,
  iso,
  name,
  noAccount,
  project,
  refused,
  reset,
  usd,
  usdOrNull,
} from './admin-body.ts';
import { hashKey, hintOf, newKey } from './auth.ts';
import type { AppDeps, AppEnv } from './deps.ts';

/** As markets name them: no blanks, so that they are what a header can say, too. */
const placeNames = z
  .array(z.string().regex(/^[\x21-\x2b\x2d-\x7e]{1,128}$/, 'is a name without blanks and commas'))
  .min(1)
  .max(16);

const keySchema = z
  .strictObject({
    name,
    models: z.array(z.string().min(1).max(128)).min(1).max(100).nullish(),
    project: project.nullish(),
    spend_limit_usd: usd.nullish(),
    limit_reset: reset.nullish(),
    rpm: z.number().int().min(1).nullish(),
    tpm: z.number().int().min(1).nullish(),
    concurrency: z.number().int().min(1).nullish(),
    trust: z.enum(TRUST_LEVELS).nullish(),
    regions: placeNames.nullish(),
    providers: placeNames.nullish(),
    wake_fee_max_usd: usd.nullish(),
    expires_at: expiry.nullish(),
  })
  .refine((body) => (body.limit_reset ?? 'none') === 'none' || typeof body.spend_limit_usd === 'string', {
    path: ['limit_reset'],
    message: 'needs a spend_limit_usd',
  });

const OVERLAP_S = 86_400;
const OVERLAP_MAX_S = 30 * 86_400;
const rotateSchema = z.strictObject({ overlap_s: z.number().int().min(0).max(OVERLAP_MAX_S).default(OVERLAP_S) });

/** Keys of apps: made, listed by hint, rotated, revoked. */
export function addApiKeys(app: Hono<AppEnv>, deps: AppDeps): void {
  const { ledger, clock, keys } = deps;
  app.get('/accounts/:id/keys', async (context) => {
    const account = context.req.param('id');
    if (!(await ledger.ask({ op: 'balance', customer: account }))) throw noAccount(account);
    const records = await ledger.ask({ op: 'keys' });
    const own = records.filter(({ customer }) => customer === account);
    const data = await Promise.all(own.map((record) => describeKey(ledger, record, clock.now())));
    return context.json({ data });
  });
  addAction(app, deps, {
    method: 'post',
    path: '/accounts/:id/keys',
    action: 'key.created',
    run: (context, action) => createKey(context, action, deps),
  });
  addAction(app, deps, {
    method: 'post',
    path: '/keys/:id/rotate',
    action: 'key.rotated',
    run: (context, action) => rotateKey(context, action, deps),
  });
  addAction(app, deps, {
    method: 'delete',
    path: '/keys/:id',
    action: 'key.revoked',
    run: async (context, action) => {
      const result = await action.ask({ op: 'revoke', id: context.req.param('id') ?? '', atMs: clock.now() });
      if (!result.ok) throw refused(result);
      await keys.refresh();
      return context.body(null, 204);
    },
  });
}

async function createKey(context: Context<AppEnv>, action: Action, deps: AppDeps): Promise<Response> {
  const { clock, newId, random, keys } = deps;
  const body = await bodyOf(context, deps, keySchema);
  const key = newKey(random);
  const customer = context.req.param('id') ?? '';
  const id = idempotent(context, 'key-', customer) ?? newId('key-');
  const settings: KeySettings = {
    models: body.models ?? null,
    project: body.project ?? null,
    spendLimit: amountOf(body.spend_limit_usd),
    limitReset: body.limit_reset ?? 'none',
    expiresMs: endTimeOf(body.expires_at, clock.now()),
    rpm: body.rpm ?? null,
    tpm: body.tpm ?? null,
    concurrency: body.concurrency ?? null,
    trust: body.trust ?? null,
    regions: body.regions ?? null,
    providers: body.providers ?? null,
    wakeFeeMax: amountOf(body.wake_fee_max_usd),
  };
  action.about(id, { account: customer, hint: hintOf(key), ...body });
  const record = { id, hash: hashKey(key), hint: hintOf(key), customer, name: body.name, settings };
  const result = await action.ask({ op: 'key', ...record, atMs: clock.now() });
  if (!result.ok) throw refused(result, { id });
  await keys.refresh();
  return context.json({ id, key }, 201);
}

/** The new key goes on with the limits and the spending of the old one, which works until the overlap is over. */
async function rotateKey(context: Context<AppEnv>, action: Action, deps: AppDeps): Promise<Response> {
  const { clock, newId, random, keys } = deps;
  const { overlap_s: overlapS } = await bodyOrNothing(context, deps, rotateSchema);
  const old = context.req.param('id') ?? '';
  const key = newKey(random);
  const id = newId('key-');
  action.about(old, { new: id, hint: hintOf(key), overlap_s: overlapS });
  const successor = { id, hash: hashKey(key), hint: hintOf(key) };
  const atMs = clock.now();
  const result = await action.ask({ op: 'rotate', id: old, successor, overlapMs: overlapS * 1000, atMs });
  if (!result.ok) throw refused(result);
  await keys.refresh();
  return context.json({ id, key, replaces: old, overlap_ends_at: iso(atMs + overlapS * 1000) }, 201);
}

async function describeKey(ledger: Ledger, record: KeyRecord, nowMs: EpochMs): Promise<Record<string, unknown>> {
  const { id, hint, name: label, atMs, revokedMs, settings, replacedBy } = record;
  const spending = await ledger.ask({ op: 'spending', key: id, atMs: nowMs });
  return {
    id,
    hint,
    name: label,
    project: settings.project,
    models: settings.models,
    spend_limit_usd: usdOrNull(settings.spendLimit),
    limit_reset: settings.limitReset,
    spent_usd: formatUsd(spending?.cap.spent ?? 0n),
    rpm: settings.rpm,
    tpm: settings.tpm,
    concurrency: settings.concurrency,
    trust: settings.trust ?? null,
    regions: settings.regions ?? null,
    providers: settings.providers ?? null,
    wake_fee_max_usd: usdOrNull(settings.wakeFeeMax ?? null),
    created_at: iso(atMs),
    expires_at: iso(endOf(record)),
    replaced_by: replacedBy,
    revoked_at: iso(revokedMs),
  };
}
