import type { Clock } from './clock.ts';
import { describePool } from './config/describe.ts';
import { AppError } from './errors.ts';
import type { FleetOperations } from './gateway/admin.ts';
import type { Ledger } from './ledger/operations.ts';
import type { Lease, LeaseStatus, Market } from './leases/market.ts';
import { costPerHour } from './scheduler/place.ts';
import { scoreProvider } from './scheduler/reputation.ts';
import type { Scheduler } from './scheduler/loop.ts';
import type { Pool, Pools } from './scheduler/pool/pools.ts';
import type { OrderRecord, ReplicaRecord, SchedulerRecords } from './scheduler/records.ts';
import { MARKET_NAMES, modelIdSchema, parsePool, poolSchema, type MarketName } from './spec.ts';
import { formatUsd, perHourFromPerBlock, type EpochMs, type NanoUsd } from './units.ts';

export interface OperationsDeps {
  readonly clock: Clock;
  readonly pools: Pools;
  readonly records: SchedulerRecords;
  readonly scheduler: Scheduler;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly ledger: Ledger;
}

const iso = (ms: EpochMs | null): string | null => (ms === null ? null : new Date(ms).toISOString());
const usdOrNull = (amount: NanoUsd | null): string | null => (amount === null ? null : formatUsd(amount));

/** What the admin routes and the command line show and do, over scheduler, markets and records. */
export function createOperations(deps: OperationsDeps): FleetOperations {
  const { clock, pools, records, scheduler, markets } = deps;
  return {
    pools: () => pools.list().map(viewPool),
    pool: (id) => viewPool(found(pools.get(id), `there is no pool ${id}`)),
    putPool: (id, input) => putPool(deps, id, input),
    deletePool: async (id) => {
      const pool = found(pools.get(id), `there is no pool ${id}`);
      refuseFilePool(pool, id);
      await records.deletePool(id);
      pools.remove(id);
    },
    replicas: () => scheduler.replicas().map(viewReplica),
    orders: async () => (await records.listOrders()).map((order) => viewOrder(order, markets)),
    leases: async () => {
      const leased = (await records.listReplicas()).filter(({ leaseId }) => leaseId !== null);
      const views = await Promise.all(leased.map((replica) => leaseLine(replica, markets)));
      return views;
    },
    lease: (id) => viewLease(deps, id),
    closeLease: async (id) => {
      const replica = found(await records.findByLease(id), `there is no lease ${id}`);
      const closing = await scheduler.closeLease(id);
      return leaseLine(closing ?? replica, markets);
    },
    disputeLease: async (id, reason) => {
      const replica = found(await records.findByLease(id), `there is no lease ${id}`);
      const outcome = await marketOf(replica, markets)?.dispute(id, reason);
      if (outcome?.kind !== 'done') throw new AppError('conflict', outcome?.reason ?? 'its market is not configured');
      await records.decide({
        atMs: clock.now(),
        pool: replica.pool,
        kind: 'lease.disputed',
        reason,
        detail: { lease: id },
      });
      return leaseLine(replica, markets);
    },
    providers: async () => {
      const all = await Promise.all([...markets.values()].map((market) => market.providers()));
      return all.flat().map(({ hardware, ...provider }) => {
        const { failureChance, reason } = scoreProvider(provider);
        const { cpu, memoryBytes, gpus } = hardware;
        return {
          ...provider,
          hardware: { cpu, memory_bytes: memoryBytes, gpus },
          failure_chance: failureChance,
          why: reason,
        };
      });
    },
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

function found<T>(value: T | null | undefined, message: string): T {
  if (value === null || value === undefined) throw new AppError('not_found', message.slice(0, 300));
  return value;
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
  const priceVersion = await ledger.ask({ op: 'price', model: id, price: spec.price, atMs: clock.now() });
  await records.savePool(id, input, clock.now());
  const pool = pools.put(spec, priceVersion, 'api');
  deps.scheduler.wake();
  return { created: !known, pool: viewPool(pool) };
}

function viewPool(pool: Pool): Record<string, unknown> {
  const { router, source, priceVersion } = pool;
  const { spec, stats, phase, expectedStartMs } = router;
  return {
    id: spec.id,
    source,
    price_version: priceVersion,
    spec: describePool(spec),
    state: {
      phase,
      ready: stats.ready,
      waiting: stats.waiting,
      in_flight: stats.inFlight,
      requests: stats.arrivals,
      last_used_at: stats.lastUsedMs === 0 ? null : iso(stats.lastUsedMs),
      expected_start_ms: expectedStartMs,
    },
  };
}

function viewReplica(replica: ReplicaRecord): Record<string, unknown> {
  const { id, pool, state, orderId, market, leaseId, provider, costNanoUsdPerHour, reason, failed } = replica;
  return {
    id,
    pool,
    state,
    market,
    provider,
    order: orderId,
    lease: leaseId,
    usd_per_hour: usdOrNull(costNanoUsdPerHour),
    ordered_at: iso(replica.orderedMs),
    leased_at: iso(replica.leasedMs),
    ready_at: iso(replica.readyMs),
    failed,
    reason,
  };
}

function viewOrder(order: OrderRecord, markets: ReadonlyMap<MarketName, Market>): Record<string, unknown> {
  const { id, pool, replica, state, reason, orderedMs, closedMs, offer, choice, declined } = order;
  return {
    id,
    pool,
    replica,
    state,
    reason,
    ordered_at: iso(orderedMs),
    closed_at: iso(closedMs),
    offer: viewOffer(offer),
    markets: order.markets.map(({ name, ceilingNanoUsdPerBlock, block, refusal }) => {
      return { name, block, ceiling_usd_per_block: formatUsd(ceilingNanoUsdPerBlock), refusal };
    }),
    bids: viewBids(order, markets),
    declined,
    choice: choice && { bid: choice.bidId, reason: choice.reason, table: viewTable(choice.table) },
  };
}

function viewOffer({ cpu, memoryBytes, gpus, ceilingUsdPerHour }: OrderRecord['offer']): Record<string, unknown> {
  return { cpu, memory_bytes: memoryBytes, gpus, ceiling_usd_per_hour: ceilingUsdPerHour };
}

function viewTable(table: NonNullable<OrderRecord['choice']>['table']): unknown[] {
  return table.map(({ bidId, market, provider, usdPerHour, score, note }) => {
    return { bid: bidId, market, provider, usd_per_hour: usdPerHour, score, note };
  });
}

function viewBids(order: OrderRecord, markets: ReadonlyMap<MarketName, Market>): unknown[] {
  return order.bids.map(({ id, market, provider, priceNanoUsdPerBlock, atMs, block, note }) => {
    const terms = markets.get(market)?.terms();
    return {
      id,
      market,
      provider,
      at: iso(atMs),
      block,
      usd_per_block: formatUsd(priceNanoUsdPerBlock),
      usd_per_hour: terms ? formatUsd(perHourFromPerBlock(priceNanoUsdPerBlock, terms.blockMs)) : null,
      usd_per_hour_with_fees: terms ? formatUsd(costPerHour(priceNanoUsdPerBlock, terms)) : null,
      note,
    };
  });
}

function marketOf(replica: ReplicaRecord, markets: ReadonlyMap<MarketName, Market>): Market | undefined {
  const name = MARKET_NAMES.find((known) => known === replica.market);
  return name && markets.get(name);
}

async function statusOf(replica: ReplicaRecord, markets: ReadonlyMap<MarketName, Market>): Promise<LeaseStatus | null> {
  return replica.leaseId === null ? null : ((await marketOf(replica, markets)?.status(replica.leaseId)) ?? null);
}

async function leaseLine(
  replica: ReplicaRecord,
  markets: ReadonlyMap<MarketName, Market>,
): Promise<Record<string, unknown>> {
  const status = await statusOf(replica, markets);
  const lease = status?.lease;
  return {
    id: replica.leaseId,
    pool: replica.pool,
    market: replica.market,
    provider: replica.provider,
    state: lease?.state ?? 'closed',
    replica_state: replica.state,
    usd_per_hour: usdOrNull(replica.costNanoUsdPerHour),
    opened_at: iso(lease?.openedAtMs ?? replica.leasedMs),
    closed_at: iso(lease?.closedAtMs ?? replica.closedMs),
    close_reason: lease?.closeReason ?? null,
    ...(lease ? moneyOf(lease) : {}),
    reason: replica.reason,
  };
}

function moneyOf(lease: Lease): Record<string, string> {
  const { depositNanoUsd, rentNanoUsd, takeFeeNanoUsd, makeFeeNanoUsd, refundNanoUsd } = lease;
  return {
    deposit_usd: formatUsd(depositNanoUsd),
    rent_usd: formatUsd(rentNanoUsd),
    take_fee_usd: formatUsd(takeFeeNanoUsd),
    make_fee_usd: formatUsd(makeFeeNanoUsd),
    refund_usd: formatUsd(refundNanoUsd),
    escrow_usd: formatUsd(depositNanoUsd - rentNanoUsd - takeFeeNanoUsd - refundNanoUsd),
  };
}

/** A lease with the six steps of its life, each with its time, block and amounts. */
async function viewLease(deps: OperationsDeps, id: string): Promise<Record<string, unknown>> {
  const { records, markets } = deps;
  const replica = found(await records.findByLease(id), `there is no lease ${id}`);
  const order = await records.findOrder(replica.orderId);
  const status = await statusOf(replica, markets);
  const terms = marketOf(replica, markets)?.terms();
  const lease = status?.lease ?? null;
  const posted = order?.markets.find(({ name }) => name === replica.market);
  const won = order?.bids.find(({ id: bid }) => bid === replica.bidId);
  const step = (name: string, atMs: EpochMs | null, block: number | null, facts: Record<string, unknown>): unknown => {
    return { step: name, at: iso(atMs), block, ...facts };
  };
  const steps = [
    step('offer', order?.orderedMs ?? null, posted?.block ?? null, {
      ...(order ? viewOffer(order.offer) : {}),
      reason: order?.reason,
    }),
    step('order', order?.orderedMs ?? null, posted?.block ?? null, {
      order: replica.orderId,
      ceiling_usd_per_block: posted ? formatUsd(posted.ceilingNanoUsdPerBlock) : null,
    }),
    step('bids', won?.atMs ?? null, won?.block ?? null, {
      bids: order ? viewBids(order, markets) : [],
      declined: order?.declined ?? [],
      choice: order?.choice?.reason ?? null,
    }),
    step('deposit and lease', lease?.openedAtMs ?? replica.leasedMs, lease?.openedBlock ?? null, {
      deposit_usd: lease ? formatUsd(lease.depositNanoUsd) : null,
      provider: replica.provider,
      usd_per_block: usdOrNull(replica.priceNanoUsdPerBlock),
    }),
    step('delivery', replica.readyMs ?? replica.runningMs, null, {
      state: status?.delivery.state ?? 'none',
      detail: status?.delivery.detail ?? '',
      running_at: iso(replica.runningMs),
      ready_at: iso(replica.readyMs),
      start_ms: replica.readyMs === null ? null : replica.readyMs - replica.orderedMs,
    }),
    step('rent', lease?.closedAtMs ?? deps.clock.now(), lease?.settledBlock ?? null, {
      blocks: lease ? lease.settledBlock - lease.openedBlock : null,
      ...(lease ? moneyOf(lease) : {}),
      settlement: terms?.settlement ?? null,
      close_reason: lease?.closeReason ?? null,
    }),
  ];
  return { ...(await leaseLine(replica, markets)), dispute: lease?.dispute ?? null, steps };
}
