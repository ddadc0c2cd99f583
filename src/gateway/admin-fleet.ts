import type { Context, Hono } from 'hono';
import { z } from 'zod';
import { AppError } from '../errors.ts';
import { addAction } from './admin-action.ts';
import { bodyOf, bodyOrNothing, countOf, noAccount } from './admin-body.ts';
import { addLogs } from './admin-logs.ts';
import type { AppDeps, AppEnv, FleetOperations } from './deps.ts';
import { decodePath } from './models.ts';

const pauseSchema = z.strictObject({ reason: z.string().min(1).max(300).default('an operator paused it') });
const allowanceSchema = z.strictObject({ per_day: z.number().int().min(0).max(1_000_000).nullable() });
const disputeSchema = z.strictObject({ reason: z.string().min(1).max(1000) });

/** Of the newest, where nobody says how many; and at most. */
const LISTED = { orders: 500, decisions: 200 } as const;
const LISTED_MAX = 1000;

/** Pools, and what runs for them. */
export function addFleet(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  addPools(app, deps, fleet);
  addSwitches(app, deps, fleet);
  addLogs(app, deps, fleet);
  addLeases(app, deps, fleet);
  addDisputes(app, deps, fleet);
  app.get('/replicas', (context) => context.json({ data: fleet.replicas() }));
  app.get('/orders', async (context) => {
    const limit = countOf(context, 'limit', LISTED_MAX) ?? LISTED.orders;
    return context.json({ data: await fleet.orders({ limit }) });
  });
  const { leader } = deps;
  if (leader) app.get('/leader', (context) => context.json(leader()));
  app.get('/markets', (context) => context.json({ data: fleet.markets() }));
  app.get('/providers', async (context) => context.json({ data: await fleet.providers() }));
  app.get('/decisions', async (context) => {
    const limit = countOf(context, 'limit', LISTED_MAX) ?? LISTED.decisions;
    return context.json({ data: await fleet.decisions({ pool: context.req.query('pool'), limit }) });
  });
}

function addPools(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  app.get('/pools', (context) => context.json({ data: fleet.pools() }));
  app.get('/advice', (context) => context.json({ data: fleet.advice(null) }));
  app.get('/pools/*', (context) => {
    const id = restOf(context, '/admin/pools/');
    const model = /^(.+)\/advice$/.exec(id)?.[1];
    // Model ids have slashes: a pool of just that name comes first.
    const asked = model === undefined || deps.pools.get(id) ? null : model;
    return context.json(asked === null ? fleet.pool(id) : fleet.advice(asked)[0]);
  });
  addAction(app, deps, {
    method: 'put',
    path: '/pools/*',
    action: 'pool.set',
    run: async (context, action) => {
      const id = restOf(context, '/admin/pools/');
      action.about(id);
      const { created, pool } = await fleet.putPool(id, await bodyOf(context, deps, z.looseObject({})));
      action.about(id, { created });
      return context.json(pool, created ? 201 : 200);
    },
  });
  addAction(app, deps, {
    method: 'delete',
    path: '/pools/*',
    action: 'pool.deleted',
    run: async (context, action) => {
      const id = restOf(context, '/admin/pools/');
      action.about(id);
      await fleet.deletePool(id);
      return context.body(null, 204);
    },
  });
}

/** Both are named at the end of a path whose middle is the model's id, slashes and all. */
const SWITCHED = /^(.+)\/(pause|resume)$/;

function addSwitches(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  addAction(app, deps, {
    method: 'post',
    path: '/pools/*',
    action: 'pool.switched',
    run: async (context, action) => {
      const [, id, what] = SWITCHED.exec(restOf(context, '/admin/pools/')) ?? [];
      if (id === undefined) throw new AppError('not_found', 'a pool can be paused and resumed: POST …/pause, …/resume');
      if (what === 'resume') {
        action.about(id, { paused: false });
        return context.json((await fleet.resumePool(id)) as object);
      }
      const { reason } = await bodyOrNothing(context, deps, pauseSchema);
      action.about(id, { paused: true, reason });
      return context.json((await fleet.pausePool(id, reason)) as object);
    },
  });
  app.get('/accounts/:id/wake-allowance', async (context) => {
    const account = context.req.param('id');
    if (!(await deps.ledger.ask({ op: 'balance', customer: account }))) throw noAccount(account);
    return context.json(fleet.wakeAllowance(account) as object);
  });
  addAction(app, deps, {
    method: 'put',
    path: '/accounts/:id/wake-allowance',
    action: 'account.wake_allowance',
    run: async (context, action) => {
      const account = context.req.param('id') ?? '';
      const { per_day: perDay } = await bodyOf(context, deps, allowanceSchema);
      action.about(account, { per_day: perDay });
      if (!(await deps.ledger.ask({ op: 'balance', customer: account }))) throw noAccount(account);
      return context.json((await fleet.setWakeAllowance(account, perDay)) as object);
    },
  });
}

function addLeases(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  app.get('/leases', async (context) => context.json({ data: await fleet.leases() }));
  app.get('/leases/:id', async (context) => context.json((await fleet.lease(context.req.param('id'))) as object));
  addAction(app, deps, {
    method: 'post',
    path: '/leases/:id/close',
    action: 'lease.closed',
    run: async (context) => context.json((await fleet.closeLease(context.req.param('id') ?? '')) as object),
  });
  addAction(app, deps, {
    method: 'post',
    path: '/leases/:id/dispute',
    action: 'lease.disputed',
    run: async (context, action) => {
      const id = context.req.param('id') ?? '';
      const { reason } = await bodyOf(context, deps, disputeSchema);
      action.about(id, { reason });
      return context.json((await fleet.disputeLease(id, reason)) as object);
    },
  });
}

function addDisputes(app: Hono<AppEnv>, deps: AppDeps, fleet: FleetOperations): void {
  app.get('/disputes', async (context) => context.json({ data: await fleet.disputes() }));
  app.get('/disputes/:id', async (context) => context.json((await fleet.dispute(context.req.param('id'))) as object));
  for (const [verb, upheld] of [
    ['uphold', true],
    ['reject', false],
  ] as const) {
    addAction(app, deps, {
      method: 'post',
      path: `/disputes/:id/${verb}`,
      action: upheld ? 'dispute.upheld' : 'dispute.rejected',
      run: async (context, action) => {
        const id = context.req.param('id') ?? '';
        const { reason } = await bodyOf(context, deps, disputeSchema);
        action.about(id, { reason });
        return context.json((await fleet.judgeDispute(id, { upheld, reason })) as object);
      },
    });
  }
}

function restOf(context: Context<AppEnv>, prefix: string): string {
  return decodePath(context.req.path.slice(prefix.length));
}
