import type { Bid, Lease, OrderRequest } from '../../src/leases/market.ts';
import { parsePool, type PoolInput, type PoolSpec } from '../../src/spec.ts';

/** A pool as an operator would write it: small numbers, so that tests can count. */
export function testSpec(input: Partial<PoolInput> = {}, id = 'tiny'): PoolSpec {
  const base: PoolInput = {
    engine: 'llama.cpp',
    model: 'tiny-model',
    context: 1024,
    price: { input: '0.02', output: '0.05' },
    replicas: { min: 0, max: 3 },
    slots: 2,
    ceiling_usd_per_hour: '0.60',
    idle_s: 60,
    runway_s: 600,
    bid_window_s: 1,
  };
  return parsePool(id, { ...base, ...input }, 0);
}

export function testOrder(id: string, change: Partial<OrderRequest> = {}): OrderRequest {
  const { hardware, trust, kind, engine, model, image, slots, contextTokens } = testSpec();
  return {
    id,
    pool: 'tiny',
    hardware,
    trust,
    ceilingNanoUsdPerBlock: 1_000_000n,
    workload: { pool: 'tiny', kind, engine, model, image, slots, contextTokens },
    ...change,
  };
}

/** A lease as it is right after its deposit. */
export function testLease(from: {
  readonly bid: Pick<Bid, 'id' | 'orderId' | 'provider' | 'priceNanoUsdPerBlock'>;
  readonly pool?: string;
  readonly depositNanoUsd: bigint;
  readonly openedAtMs?: number;
  readonly block?: number;
}): Lease {
  const { bid, pool = 'tiny', depositNanoUsd, openedAtMs = 0, block = 0 } = from;
  return {
    id: `lease-${bid.orderId}`,
    orderId: bid.orderId,
    bidId: bid.id,
    pool,
    provider: bid.provider,
    priceNanoUsdPerBlock: bid.priceNanoUsdPerBlock,
    state: 'active',
    openedAtMs,
    openedBlock: block,
    settledBlock: block,
    closedAtMs: null,
    closedBlock: null,
    closeReason: null,
    depositNanoUsd,
    rentNanoUsd: 0n,
    takeFeeNanoUsd: 0n,
    makeFeeNanoUsd: 0n,
    refundNanoUsd: 0n,
    dispute: null,
  };
}
