import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { FleetOperations } from '../gateway/deps.ts';
import type { Ledger } from '../ledger/operations.ts';
import type { DisputeRecords } from '../leases/dispute-records.ts';
import type { Market } from '../leases/market.ts';
import type { CreditRows } from '../scheduler/sla/credit-rows.ts';
import { viewAdvice } from '../scheduler/advising.ts';
import type { Scheduler } from '../scheduler/loop.ts';
import type { Pool, Pools } from '../scheduler/pool/pools.ts';
import type { SchedulerRecords } from '../scheduler/records.ts';
import { modelIdSchema, parsePool, poolSchema, type MarketName, type PoolSpec } from '../spec.ts';
import { breachOf } from '../spec/dispute.ts';
import { disputeOperations } from './dispute-operations.ts';
import { found, leaseLine, marketOf, viewLease } from './lease-view.ts';
import { marginOperation } from './margin-view.ts';
import { moneyOperations } from './money-operations.ts';
import { payingOperations } from './paying-operations.ts';
import { viewProviders } from './provider-view.ts';
import { iso, viewMarket, viewOrder, viewPool, viewReplica } from './views.ts';

export interface OperationsDeps {
  readonly clock: Clock;
  readonly pools: Pools;
  readonly records: SchedulerRecords;
  readonly scheduler: Scheduler;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly ledger: Ledger;
  readonly dataDir: string;
  readonly disputes: DisputeRecords;
  readonly creditRows: CreditRows;
}

/** What the admin routes and the command line show and do, over scheduler, markets and records. */
export function createOperations(deps: OperationsDeps): FleetOperations {
  const { clock, pools, records, scheduler, markets } = deps;
  return {
    ...moneyOperations(deps),
    ...payingOperations(deps),
    margin: marginOperation(deps),
    pools: () => pools.list().map((pool) => viewPool(pool, scheduler)),
    pool: (id) => viewPool(found(pools.get(id), `there is no pool ${id}`), scheduler),
    advice: (id) => {
      const asked = id === null ? pools.list() : [found(pools.get(id), `there is no pool ${id}`)];
      return asked.map((pool) => viewAdvice(scheduler.advising.advice(pool)));
    },
    putPool: (id, input) => putPool(deps, id, input),
    deletePool: async (id) => {
      const pool = found(pools.get(id), `there is no pool ${id}`);
      refuseFilePool(pool, id);
      await records.deletePool(id);
      await scheduler.pauses.off(id);
      pools.remove(id);
    },
    replicas: () =>
      scheduler
        .replicas()
        .map((replica) => viewReplica(replica, pools.find(replica.pool)?.router.load(replica.id) ?? null)),
    orders: async ({ limit }) => (await records.listOrders(limit)).map((order) => viewOrder(order, markets)),
    leases: async () => {
      const leased = (await records.listReplicas()).filter(({ leaseId }) => leaseId !== null);
      const views = await Promise.all(leased.map((replica) => leaseLine(replica, markets)));
      return views;
    },
    lease: (id) => viewLease(deps, id),
    leaseLogs: async (id, request, signal) => {
      const replica = found(await records.findByLease(id), `there is no lease ${id}`);
      const market = marketOf(replica, markets);
      return found(market?.logs?.(id, request, signal), `the market ${replica.market} has no logs of its leases`);
    },
    closeLease: async (id) => {
      const replica = found(await records.findByLease(id), `there is no lease ${id}`);
      const closing = await scheduler.closeLease(id);
      return leaseLine(closing ?? replica, markets);
    },
    disputeLease: async (id, reason) => {
      const replica = found(await records.findByLease(id), `there is no lease ${id}`);
      const nowMs = clock.now();
      const breach = breachOf({ kind: 'other', reason, fromMs: replica.leasedMs ?? nowMs, toMs: nowMs });
      const outcome = await marketOf(replica, markets)?.dispute(id, breach);
      if (outcome?.kind !== 'done') throw new AppError('conflict', outcome?.reason ?? 'its market is not configured');
      const detail = { lease: id, dispute: outcome.value.id };
      await records.decide({ atMs: nowMs, pool: replica.pool, kind: 'lease.disputed', reason, detail });
      // Nobody pays for what is in dispute.
      const closing = await scheduler.closeLease(id);
      return { ...(await leaseLine(closing ?? replica, markets)), dispute: outcome.value.id };
    },
    ...disputeOperations(deps),
    markets: () => [...markets.values()].map(viewMarket),
    providers: () => viewProviders({ clock, markets, book: scheduler.book, replicas: scheduler.replicas() }),
    decisions: async (options) => {
      const rows = await records.listDecisions(options);
      return rows.map(({ seq, atMs, pool, kind, reason, detail }) => ({
        seq,
        at: iso(atMs),
        pool,
        kind,
        reason,
        ...detail,
      }));
    },
  };
}

function refuseFilePool(pool: Pool, id: string): void {
  if (pool.source === 'file') {
    throw new AppError('pool_read_only', `the pool ${id} is in the configuration file: change it there`);
  }
}

async function putPool(deps: OperationsDeps, id: string, input: unknown): Promise<{ created: boolean; pool: unknown }> {
  const { clock, pools, records, ledger, markets } = deps;
  const idCheck = modelIdSchema.safeParse(id);
  if (!idCheck.success) throw new AppError('invalid_request', `${JSON.stringify(id.slice(0, 128))} is not a model id`);
  const known = pools.get(id);
  if (known) refuseFilePool(known, id);
  const checked = poolSchema.safeParse(input);
  if (!checked.success) {
    const lines = checked.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    const param = checked.error.issues[0]?.path.join('.');
    throw new AppError('invalid_request', lines.join('; ').slice(0, 2000), { param });
  }
  const missing = checked.data.markets?.find((name) => !markets.has(name));
  if (missing)
    throw new AppError('invalid_request', `markets: the market ${missing} is not configured`, { param: 'markets' });
  const spec = parsePool(id, input, clock.now());
  refuseChange(deps, known, spec);
  const priceVersion = await ledger.ask({ op: 'price', model: id, price: spec.price, atMs: clock.now() });
  await records.savePool(id, input, clock.now());
  const pool = pools.put(spec, priceVersion, 'api');
  deps.scheduler.wake();
  return { created: !known, pool: viewPool(pool, deps.scheduler) };
}

/** What cannot be brought about while a pool runs, or from afar. */
function refuseChange({ scheduler }: OperationsDeps, known: Pool | undefined, spec: PoolSpec): void {
  // Whoever may change pools could otherwise have any file of this machine sent to a provider.
  if (spec.weights?.secret || spec.registry || spec.canary?.reference?.key) {
    const message =
      'a pool with secrets (weights.secret, registry, canary.reference.key) belongs in the configuration file';
    throw new AppError('invalid_request', message, { param: spec.registry ? 'registry' : 'weights.secret' });
  }
  if (!known || known.router.spec.kind === spec.kind) return;
  if (!scheduler.replicas().some(({ pool }) => pool === spec.id)) return;
  const before = known.router.spec.kind;
  const message = `${spec.id} has replicas that make ${before}: set replicas.max to 0 and wait, or name the new pool otherwise`;
  throw new AppError('conflict', message, { param: 'kind' });
}
