import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { MarketTerms } from '../../src/leases/market.ts';
import { ceilingPerBlock, costPerHour, depositFor, missingRunway } from '../../src/scheduler/place.ts';
import { parseUsd } from '../../src/units.ts';
import { testLease } from '../fakes/market-samples.ts';

const CAP = parseUsd('0.60');
const TERMS: MarketTerms = {
  blockMs: 6000,
  takeFeeBp: 2000,
  makeFeeBp: 0,
  depositMinNanoUsd: 1n,
  settlement: 'USDC',
  endsWithProcess: true,
};

test('the ceiling of a bid leaves room for the take fee', () => {
  assert.equal(ceilingPerBlock(CAP, TERMS), 833_333n);
  assert.equal(ceilingPerBlock(CAP, { ...TERMS, takeFeeBp: 0 }), 1_000_000n);
});

test('price and fee are never above the ceiling, and a nano more would be', () => {
  const hourly = fc.bigInt({ min: 0n, max: 10n ** 13n });
  fc.assert(
    fc.property(hourly, fc.nat(10_000), fc.integer({ min: 1, max: 60_000 }), (ceiling, takeFeeBp, blockMs) => {
      const terms = { ...TERMS, takeFeeBp, blockMs };
      const price = ceilingPerBlock(ceiling, terms);
      assert.ok(price >= 0n);
      assert.ok(costPerHour(price, terms) <= ceiling);
      assert.ok(costPerHour(price + 1n, terms) > ceiling, 'no bid that fits is shut out');
    }),
  );
});

test('a deposit pays for the runway in whole blocks with fee, and is never below the least', () => {
  assert.equal(depositFor(1001n, 60_000, TERMS), 10n * (1001n + 201n));
  assert.equal(depositFor(1001n, 60_001, TERMS), 11n * 1202n);
  assert.equal(depositFor(1001n, 0, TERMS), 1202n);
  assert.equal(depositFor(1001n, 60_000, { ...TERMS, depositMinNanoUsd: 5_000_000n }), 5_000_000n);
});

test('an escrow is filled up when less than half of the runway is left, counting what is not drawn yet', () => {
  const bid = { id: 'o/desk', orderId: 'o', provider: 'desk', priceNanoUsdPerBlock: 1000n };
  const lease = testLease({ bid, depositNanoUsd: 12_000n, block: 100 });
  const missing = (block: number): bigint => missingRunway(lease, 60_000, { terms: TERMS, block });
  assert.equal(missing(100), 0n);
  assert.equal(missing(105), 0n, 'exactly half is left');
  assert.equal(missing(106), 7200n, 'filled up to the whole runway');
  assert.equal(missing(90), 0n, 'a clock behind the chain owes nothing');
  const drawn = { ...lease, settledBlock: 106, rentNanoUsd: 6000n, takeFeeNanoUsd: 1200n };
  assert.equal(missingRunway(drawn, 60_000, { terms: TERMS, block: 106 }), 7200n);
});

test('a lease without escrow or without a price is never filled up', () => {
  const bid = { id: 'o/desk', orderId: 'o', provider: 'desk', priceNanoUsdPerBlock: 1000n };
  assert.equal(missingRunway(testLease({ bid, depositNanoUsd: 0n }), 60_000, { terms: TERMS, block: 99 }), 0n);
  const free = testLease({ bid: { ...bid, priceNanoUsdPerBlock: 0n }, depositNanoUsd: 5n });
  assert.equal(missingRunway(free, 60_000, { terms: TERMS, block: 99 }), 0n);
});
