import { describePool } from '../config/describe.ts';
import type { Lease, Market } from '../leases/market.ts';
import { costPerHour } from '../scheduler/place.ts';
import type { Pool } from '../scheduler/pool/pools.ts';
import type { ReplicaLoad } from '../scheduler/pool/slot.ts';
import type { OrderRecord, ReplicaRecord } from '../scheduler/records.ts';
import type { Scheduler } from '../scheduler/loop.ts';
import type { MarketName } from '../spec.ts';
import { formatUsd, perHourFromPerBlock, type EpochMs, type NanoUsd } from '../units.ts';

/** Records as the admin API shows them: decimal strings, ISO times, no secrets. */

export const iso = (ms: EpochMs | null): string | null => (ms === null ? null : new Date(ms).toISOString());
export const usdOrNull = (amount: NanoUsd | null): string | null => (amount === null ? null : formatUsd(amount));

export function viewPool(pool: Pool, { pauses }: Pick<Scheduler, 'pauses'>): Record<string, unknown> {
  const { router, source, priceVersion } = pool;
  const { spec, stats, phase, expectedStartMs, wakeCostNanoUsd } = router;
  const pause = pauses.of(spec.id);
  return {
    id: spec.id,
    source,
    price_version: priceVersion,
    spec: describePool(spec),
    state: {
      phase,
      paused: pause !== null || spec.paused === true,
      ...(pause && { pause_reason: pause.reason, paused_at: iso(pause.sinceMs) }),
      ready: stats.ready,
      waiting: stats.waiting,
      in_flight: stats.inFlight,
      requests: stats.arrivals,
      last_used_at: stats.lastUsedMs === 0 ? null : iso(stats.lastUsedMs),
      expected_start_ms: expectedStartMs,
      expected_wake_usd: formatUsd(wakeCostNanoUsd),
    },
  };
}

export function viewMarket(market: Market): Record<string, unknown> {
  const { problem, detail } = market.health?.() ?? { problem: null, detail: {} };
  const { settlement, blockMs } = market.terms();
  const state = problem === null ? 'open' : 'degraded';
  return { name: market.name, state, problem, settlement, block: market.block(), block_ms: blockMs, ...detail };
}

export function viewReplica(replica: ReplicaRecord, load: ReplicaLoad | null): Record<string, unknown> {
  const { id, pool, state, orderId, market, leaseId, provider, costNanoUsdPerHour, reason, failed } = replica;
  return {
    id,
    pool,
    state,
    market,
    provider,
    trust: replica.trust ?? null,
    region: replica.region ?? null,
    order: orderId,
    lease: leaseId,
    usd_per_hour: usdOrNull(costNanoUsdPerHour),
    ordered_at: iso(replica.orderedMs),
    leased_at: iso(replica.leasedMs),
    ready_at: iso(replica.readyMs),
    in_flight: load?.inFlight ?? 0,
    requests_served: load?.served ?? 0,
    requests_failed: load?.failed ?? 0,
    suspect_since: iso(load?.suspectMs ?? null),
    overclaimed_tokens: load?.overclaimed ?? 0,
    failed,
    reason,
  };
}

export function viewOrder(order: OrderRecord, markets: ReadonlyMap<MarketName, Market>): Record<string, unknown> {
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
    markets: order.markets.map(({ name, ceilingNanoUsdPerBlock, block, refusal, why = null }) => {
      return { name, block, ceiling_usd_per_block: formatUsd(ceilingNanoUsdPerBlock), ceiling_from: why, refusal };
    }),
    bids: viewBids(order, markets),
    declined,
    choice: choice && { bid: choice.bidId, reason: choice.reason, table: viewTable(choice.table) },
  };
}

export function viewOffer({
  cpu,
  memoryBytes,
  gpus,
  ceilingUsdPerHour,
}: OrderRecord['offer']): Record<string, unknown> {
  return { cpu, memory_bytes: memoryBytes, gpus, ceiling_usd_per_hour: ceilingUsdPerHour };
}

export function viewTable(table: NonNullable<OrderRecord['choice']>['table']): unknown[] {
  return table.map(({ bidId, market, provider, usdPerHour, score, note }) => {
    return { bid: bidId, market, provider, usd_per_hour: usdPerHour, score, note };
  });
}

export function viewBids(order: OrderRecord, markets: ReadonlyMap<MarketName, Market>): unknown[] {
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

export function moneyOf(lease: Lease): Record<string, string> {
  const { depositNanoUsd, rentNanoUsd, takeFeeNanoUsd, makeFeeNanoUsd, refundNanoUsd, withheldNanoUsd = 0n } = lease;
  const escrow = depositNanoUsd - rentNanoUsd - takeFeeNanoUsd - refundNanoUsd - withheldNanoUsd;
  return {
    deposit_usd: formatUsd(depositNanoUsd),
    rent_usd: formatUsd(rentNanoUsd),
    take_fee_usd: formatUsd(takeFeeNanoUsd),
    make_fee_usd: formatUsd(makeFeeNanoUsd),
    refund_usd: formatUsd(refundNanoUsd),
    ...(withheldNanoUsd > 0n ? { withheld_usd: formatUsd(withheldNanoUsd) } : {}),
    escrow_usd: formatUsd(escrow),
  };
}
