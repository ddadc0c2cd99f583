import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OrderView } from '../../src/leases/market.ts';
import { until } from '../fakes/clock.ts';
import { openHouse, PATIENCE_MS } from './house.ts';

/** (e) When the demand drops, what was only ordered or leased for it is cancelled. */

const POOL = { replicas: { min: 0, max: 2 }, slots: 1, idle_s: 2, bid_window_s: 60 };

test('(e) an order is withdrawn when whoever it was for has left, and no lease is ever made of it', async (t) => {
  const { gateway, market, scheduler, records } = await openHouse(t, { pool: POOL });
  // Nobody has bid so far, and somebody may.
  market.order = (id) => Promise.resolve(withoutBids(market.world.orders.get(id)));
  const leave = new AbortController();
  const asked = gateway.chat({ stream: true }, { signal: leave.signal }).catch(() => null);
  await until('an order is out', () => market.world.orders.size === 1, PATIENCE_MS);
  const [order] = market.world.orders.keys();
  leave.abort();
  await asked;
  await until('it is withdrawn', () => market.world.orders.get(order ?? '')?.state === 'closed', PATIENCE_MS);
  await until('no replica is left', () => scheduler.replicas().length === 0, PATIENCE_MS);
  assert.equal(market.count('accept'), 0);
  assert.equal(market.world.orders.size, 1, 'and none is placed again');
  const decisions = await records.listDecisions({ limit: 100 });
  assert.ok(!decisions.some(({ kind }) => kind === 'order.fell'), 'nobody waited for its end');
});

test('(e) a machine that still loads is given back after the idle time when whoever it was for has left, its deposit too', async (t) => {
  const providers = [{ id: 'slow', price: 1000n, delivers: 'never' as const }];
  const pool = { ...POOL, bid_window_s: 0 };
  const { gateway, market, scheduler } = await openHouse(t, { pool, providers });
  const leave = new AbortController();
  const asked = [1, 2].map(() => gateway.chat({ stream: true }, { signal: leave.signal }).catch(() => null));
  await until('two machines load', () => market.servers.size === 2, PATIENCE_MS);
  leave.abort();
  await Promise.all(asked);
  await until('both are given back', () => market.open().length === 0, PATIENCE_MS);
  for (const {
    closeReason,
    depositNanoUsd,
    rentNanoUsd,
    takeFeeNanoUsd,
    refundNanoUsd,
  } of market.world.leases.values()) {
    assert.equal(closeReason, 'tenant');
    assert.equal(refundNanoUsd, depositNanoUsd - rentNanoUsd - takeFeeNanoUsd);
    assert.ok(refundNanoUsd > 0n);
  }
  await until('no replica is left', () => scheduler.replicas().length === 0, PATIENCE_MS);
});

function withoutBids(view: OrderView | undefined): OrderView | null {
  return view ? { ...view, bids: [], complete: false } : null;
}
