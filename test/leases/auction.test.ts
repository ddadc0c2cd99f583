import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { askingPrice, decideBid } from '../../src/leases/local/auction.ts';
import type { LocalProvider, PricePolicy } from '../../src/spec.ts';
import { parseUsd, perBlockFromPerHour } from '../../src/units.ts';
import { testOrder } from '../fakes/market-samples.ts';

const BLOCK_MS = 6000;
const HOUR = parseUsd('0.60');
const PER_BLOCK = HOUR / 600n;

test('a fixed price is the same however busy the provider is', () => {
  const provider = setup({ kind: 'fixed', priceNanoUsdPerHour: parseUsd('1.20') });
  for (const usedBp of [0, 5000, 10_000]) assert.equal(askingPrice(provider, usedBp, BLOCK_MS).price, 2_000_000n);
});

test('cost plus asks its margin on top of the cost and says so', () => {
  const provider = setup({ kind: 'cost_plus', marginBp: 1500 });
  assert.deepEqual(askingPrice(provider, 5000, BLOCK_MS), {
    price: (PER_BLOCK * 115n) / 100n,
    note: 'cost plus 15 %',
  });
});

test('an idle provider gives its whole discount, a busy one none, a nearly full one marks up', () => {
  const provider = setup({ kind: 'idle_discount', marginBp: 5000, discountMaxBp: 3000, peakMarkupBp: 2000 });
  const list = (PER_BLOCK * 3n) / 2n;
  assert.equal(askingPrice(provider, 0, BLOCK_MS).price, (list * 7n) / 10n);
  assert.equal(askingPrice(provider, 10_000, BLOCK_MS).price, (list * 12n) / 10n);
  // At 90 %: a tenth of the discount is left, half of the mark-up is due.
  assert.equal(askingPrice(provider, 9000, BLOCK_MS).price, (list * 107n) / 100n);
  assert.equal(askingPrice(provider, 0, BLOCK_MS).note, 'cost plus 50 %, 0 % in use: -30 %');
});

test('the discount grows as utilisation falls, and no price that moves falls below the cost', () => {
  const policy = fc.record({
    kind: fc.constant('idle_discount' as const),
    marginBp: fc.nat(20_000),
    discountMaxBp: fc.nat(10_000),
    peakMarkupBp: fc.nat(10_000),
  });
  const cost = fc.bigInt({ min: 1n, max: 10n ** 12n });
  fc.assert(
    fc.property(policy, cost, fc.nat(10_000), fc.nat(10_000), (given, costNanoUsdPerHour, a, b) => {
      const provider = { ...setup(given), costNanoUsdPerHour };
      const [idle, busy] = [Math.min(a, b), Math.max(a, b)];
      const price = (usedBp: number): bigint => askingPrice(provider, usedBp, BLOCK_MS).price;
      assert.ok(price(idle) <= price(busy));
      assert.ok(price(idle) >= perBlockFromPerHour(costNanoUsdPerHour, BLOCK_MS));
      assert.ok(price(idle) >= 1n);
    }),
  );
});

test('a provider that fits bids at its price', () => {
  const provider = setup({ kind: 'cost_plus', marginBp: 0 });
  assert.deepEqual(decideBid(provider, 1, testOrder('o', { ceilingNanoUsdPerBlock: PER_BLOCK }), BLOCK_MS), {
    bid: true,
    priceNanoUsdPerBlock: PER_BLOCK,
    note: 'cost plus 0 %',
  });
});

test('a provider says why it does not bid', () => {
  const provider = setup({ kind: 'cost_plus', marginBp: 0 });
  const { hardware } = testOrder('o');
  const gpu = { vendor: 'nvidia', model: 'h100', ramBytes: null };
  const cases: [string, Parameters<typeof testOrder>[1], Partial<LocalProvider>, number][] = [
    ['no free capacity', {}, {}, 2],
    ['no free capacity', {}, { slots: 0 }, 0],
    ['has 4 cores', { hardware: { ...hardware, cpu: 8 } }, {}, 0],
    ['has too little memory', { hardware: { ...hardware, memoryBytes: 2 ** 40 } }, {}, 0],
    ['does not have the GPUs', { hardware: { ...hardware, gpus: 2, gpu: [gpu] } }, { gpus: ['h100', 'a100'] }, 0],
    ['has no trusted execution environment', { trust: 'tee' }, { audited: true }, 0],
    ['is not audited', { trust: 'audited' }, {}, 0],
    ['its price is above the ceiling', { ceilingNanoUsdPerBlock: PER_BLOCK - 1n }, {}, 0],
  ];
  for (const [reason, order, change, leases] of cases) {
    const change2 = { ceilingNanoUsdPerBlock: PER_BLOCK, ...order };
    const decision = decideBid({ ...provider, ...change }, leases, testOrder('o', change2), BLOCK_MS);
    assert.deepEqual(decision, { bid: false, reason });
  }
});

test('any of the GPUs that an order names will do, and an order that names none takes every kind', () => {
  const provider = { ...setup({ kind: 'cost_plus', marginBp: 0 }), gpus: ['a100', 'h100'] };
  const { hardware } = testOrder('o');
  const gpu = ['h100', 'a100'].map((model) => ({ vendor: 'nvidia', model, ramBytes: null }));
  for (const named of [gpu, []]) {
    const order = testOrder('o', { ceilingNanoUsdPerBlock: PER_BLOCK, hardware: { ...hardware, gpus: 2, gpu: named } });
    assert.equal(decideBid(provider, 0, order, BLOCK_MS).bid, true);
  }
});

test('use is counted in leases: a provider of two slots with one lease is half in use', () => {
  const provider = setup({ kind: 'idle_discount', marginBp: 5000, discountMaxBp: 2000, peakMarkupBp: 0 });
  const decision = decideBid(provider, 1, testOrder('o', { ceilingNanoUsdPerBlock: 10n ** 9n }), BLOCK_MS);
  assert.ok(decision.bid);
  assert.equal(decision.note, 'cost plus 50 %, 50 % in use: -10 %');
});

function setup(policy: PricePolicy): LocalProvider {
  return {
    id: 'desk',
    slots: 2,
    cpu: 4,
    memoryBytes: 2 ** 33,
    gpus: [],
    audited: false,
    costNanoUsdPerHour: HOUR,
    policy,
    replyMs: 100,
  };
}
