import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiMarket, type ApiEndpoint } from '../../src/leases/api/market.ts';
import type { OrderRequest } from '../../src/leases/market.ts';
import { FakeClock } from '../fakes/clock.ts';
import { runFor, runUntil } from '../fakes/clock-timeline.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { marketConformance } from './market-conformance.ts';

marketConformance('api', () => {
  const { market, clock } = setup([{ id: 'one' }, { id: 'two', trust: 'audited' }]);
  return Promise.resolve({
    market,
    order: (id, change) => testOrder(id, { expected: { input: 1_000_000, output: 1_000_000 }, ...change }),
    escrow: false,
    disputes: false,
    until: async (what, check) => void (await runUntil(clock, what, check)),
    passBlocks: (count) => runFor(clock, count * 6000, 6000),
  });
});

test('an API bids what an hour would cost by the token at the load that is expected', async () => {
  const { tender } = setup([{ id: 'one' }]);
  // 6,000,000 x $0.10 + 3,000,000 x $0.40 a million = $1.80 an hour = 3,000,000 nano-USD in six seconds.
  const [bid] = await tender({ expected: { input: 6_000_000, output: 3_000_000 } });
  assert.equal(bid, 3_000_000n);
  const [idle] = await tender({ expected: { input: 0, output: 0 } });
  assert.equal(idle, 0n);
});

test('an API stays out where its price, its trust or its place does not do', async () => {
  const { tender } = setup([{ id: 'one' }]);
  const expected = { input: 6_000_000, output: 3_000_000 };
  assert.deepEqual(await tender({ expected, ceilingNanoUsdPerBlock: 2_999_999n }), [
    'its token price at the expected load is above the ceiling',
  ]);
  assert.deepEqual(await tender({ trust: 'audited' }), ['is not audited']);
  assert.deepEqual(await tender({ region: 'eu' }), ['stands in no region that is known, not in eu']);
  const trusted = setup([{ id: 'one', trust: 'audited', region: 'us' }]);
  assert.deepEqual(await trusted.tender({ trust: 'audited', expected }), [3_000_000n]);
  assert.deepEqual(await trusted.tender({ trust: 'tee' }), ['is not on trusted hardware (tee)']);
});

test('its lease has its own model name, dialect, slots and price, and shows what was used', async () => {
  const { market } = setup([{ id: 'one' }]);
  await market.tender(testOrder('o1'));
  await market.accept('o1', 'o1/one');
  const status = await market.status('lease-o1');
  const { model, engine, slots, tokenPrice, apiKey } = status?.delivery ?? {};
  assert.deepEqual([model, engine, slots, apiKey], ['vendor/tiny', 'openai', 16, 'api-key']);
  assert.equal(tokenPrice?.outputPico, 400_000n);
  market.metered('lease-o1', 1234n);
  const closed = await market.close('lease-o1', 'tenant');
  assert.ok(closed.kind === 'done');
  const { depositNanoUsd, rentNanoUsd, refundNanoUsd } = closed.value;
  assert.deepEqual([depositNanoUsd, rentNanoUsd, refundNanoUsd], [1234n, 1234n, 0n]);
  market.metered('lease-o1', 9999n);
  assert.equal((await market.status('lease-o1'))?.lease.rentNanoUsd, 1234n, 'a closed lease stays as it is');
});

function setup(endpoints: readonly Partial<ApiEndpoint>[]) {
  const clock = new FakeClock();
  const market = new ApiMarket(
    endpoints.map((endpoint) => ({
      id: 'api',
      url: 'http://127.0.0.1:9',
      apiKey: 'api-key',
      pool: 'tiny',
      model: 'vendor/tiny',
      slots: 16,
      trust: 'any',
      region: null,
      price: { inputPico: 100_000n, cachedInputPico: 50_000n, outputPico: 400_000n },
      ...endpoint,
    })),
    clock,
  );
  let count = 0;
  /** Prices of the bids, or why there were none. */
  const tender = async (change: Partial<OrderRequest>): Promise<(bigint | string)[]> => {
    const outcome = await market.tender(
      testOrder(`order-${(count += 1)}`, { ceilingNanoUsdPerBlock: 10n ** 9n, ...change }),
    );
    assert.ok(outcome.kind === 'done');
    const { bids, declined } = outcome.value;
    return [...bids.map(({ priceNanoUsdPerBlock }) => priceNanoUsdPerBlock), ...declined.map(({ reason }) => reason)];
  };
  return { market, clock, tender };
}
