import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { Lease, LeaseStatus, Market } from '../leases/market.ts';
import type { ReplicaRecord, SchedulerRecords } from '../scheduler/records.ts';
import { MARKET_NAMES, type MarketName } from '../spec.ts';
import { formatUsd, type EpochMs } from '../units.ts';
import { iso, moneyOf, usdOrNull, viewBids, viewOffer } from './views.ts';

export function found<T>(value: T | null | undefined, message: string): T {
  if (value === null || value === undefined) throw new AppError('not_found', message.slice(0, 300));
  return value;
}

export function marketOf(replica: ReplicaRecord, markets: ReadonlyMap<MarketName, Market>): Market | undefined {
  const name = MARKET_NAMES.find((known) => known === replica.market);
  return name && markets.get(name);
}

export async function statusOf(
  replica: ReplicaRecord,
  markets: ReadonlyMap<MarketName, Market>,
): Promise<LeaseStatus | null> {
  return replica.leaseId === null ? null : ((await marketOf(replica, markets)?.status(replica.leaseId)) ?? null);
}

export async function leaseLine(
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
    ...(lease?.reclaimMs ? { reclaimed_at: iso(lease.reclaimMs) } : {}),
    ...(lease ? moneyOf(lease) : {}),
    reason: replica.reason,
  };
}

export interface LeaseViewDeps {
  readonly clock: Clock;
  readonly records: SchedulerRecords;
  readonly markets: ReadonlyMap<MarketName, Market>;
}

/** A lease with the six steps of its life, each with its time, block and amounts. */
export async function viewLease(deps: LeaseViewDeps, id: string): Promise<Record<string, unknown>> {
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
  return {
    ...(await leaseLine(replica, markets)),
    dispute: lease?.dispute ? viewDispute(lease.dispute) : null,
    steps,
  };
}

function viewDispute({ id, kind, state, reason, atMs, local }: NonNullable<Lease['dispute']>): Record<string, unknown> {
  const note = local ? { note: 'on our own record of the provider only: its market has no say in disputes' } : {};
  return { id, kind, state, reason, at: iso(atMs), ...note };
}
