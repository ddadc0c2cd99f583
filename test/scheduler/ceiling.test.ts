import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { ceilingOf, nextStep, roundUp, type PriceSeen } from '../../src/scheduler/ceiling.ts';

const CAP = 10_000n;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW = 100 * DAY_MS;

test('where nothing was seen, and where prices are posted, an order asks up to the cap', () => {
  assert.equal(ceiling([]), CAP);
  assert.equal(ceilingOf('owned', CAP, { seen: [bid(10n)], nowMs: NOW }).nanoUsdPerBlock, CAP);
  assert.equal(ceilingOf('api', CAP, { seen: [bid(10n)], nowMs: NOW }).nanoUsdPerBlock, CAP);
});

test('it starts a tenth above three quarters of the bids of the last fortnight, coarsely rounded', () => {
  const seen = [1000n, 1000n, 2000n, 8000n].map((price) => bid(price));
  assert.equal(ceiling(seen), 2240n, '2,200 on the grid');
  assert.equal(ceiling([bid(9500n)]), CAP, 'the cap binds');
  assert.equal(ceiling([...seen, bid(9000n, { closedMs: NOW - 15 * DAY_MS })]), 2240n, 'older ones are forgotten');
});

test('it rises by a quarter each time nobody bids, up to the cap, and starts anew when somebody has', () => {
  let seen = [bid(1000n, { closedMs: NOW - 2 * HOUR_MS })];
  const asked: bigint[] = [];
  for (let step = 0; step < 12; step += 1) {
    const next = ceiling(seen);
    asked.push(next);
    seen = [...seen, none(next, { closedMs: NOW - 1000 + step })];
  }
  assert.deepEqual(asked, [1120n, 1400n, 1800n, 2240n, 2800n, 3550n, 4500n, 5600n, 7100n, 9000n, CAP, CAP]);
  assert.equal(ceiling([...seen, bid(4000n, { closedMs: NOW - 10 })]), 4500n, 'a tenth above what was to be had');
});

test('several orders that fell together are one step; one that fell long ago, or was not waited for, is none', () => {
  const had = bid(1000n, { closedMs: NOW - 2 * HOUR_MS });
  assert.equal(ceiling([had, none(1120n), none(1120n), none(1120n)]), 1400n);
  assert.equal(ceiling([had, none(1120n, { closedMs: NOW - HOUR_MS })]), 1120n);
  assert.equal(ceiling([had, none(1120n, { answered: false })]), 1120n);
});

test('whatever was seen, a ceiling is never above the cap, and no order that nobody took lowers it', () => {
  const price = fc.bigInt({ min: 0n, max: 20_000n });
  const one = fc.record({
    price,
    // Before the order that is added: of two in one millisecond none is the later one.
    ago: fc.integer({ min: 1, max: 20 * DAY_MS }),
    bids: fc.boolean(),
    answered: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(one, { maxLength: 20 }), fc.bigInt({ min: 0n, max: 15_000n }), (made, cap) => {
      const seen = made.map(({ price: asked, ago, bids, answered }) =>
        bids ? bid(asked, { closedMs: NOW - ago }) : none(asked, { closedMs: NOW - ago, answered }),
      );
      const of = (rows: readonly PriceSeen[]): bigint =>
        ceilingOf('akash', cap, { seen: rows, nowMs: NOW }).nanoUsdPerBlock;
      const before = of(seen);
      assert.ok(before >= 0n && before <= cap);
      const after = of([...seen, none(before, { closedMs: NOW })]);
      assert.ok(after <= cap && after >= before);
      assert.ok(after > before || before === cap || before === 0n, 'a step is a step');
    }),
  );
});

test('a step is a quarter and what the grid adds; the grid is at most a seventh above', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 1n, max: 10n ** 15n }), (price) => {
      const rounded = roundUp(price);
      assert.ok(rounded >= price && rounded * 100n <= price * 115n);
      assert.equal(roundUp(rounded), rounded);
      const next = nextStep(price, 10n ** 16n);
      assert.ok(next > price && next * 100n <= (price + 1n) * 142n);
    }),
  );
});

const ceiling = (seen: readonly PriceSeen[]): bigint => ceilingOf('akash', CAP, { seen, nowMs: NOW }).nanoUsdPerBlock;

let count = 0;

function none(ceilingNanoUsdPerBlock: bigint, change: Partial<PriceSeen> = {}): PriceSeen {
  const order = `o${(count += 1)}`;
  const told = { order, pool: 'tiny', asks: '', market: 'akash' as const, closedMs: NOW - 1000, answered: true };
  return { ...told, ceilingNanoUsdPerBlock, bids: [], ...change };
}

const bid = (priceNanoUsdPerBlock: bigint, change: Partial<PriceSeen> = {}): PriceSeen =>
  none(CAP, { closedMs: NOW - 2 * DAY_MS, bids: [{ provider: 'p', priceNanoUsdPerBlock }], ...change });
