import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { MintTerms } from '../../../src/leases/akash/chain-types.ts';
import { planMint, stockRange, type MintNeed, type MintRules } from '../../../src/leases/akash/mint-plan.ts';

const ONE = 1_000_000n;
const RULES: MintRules = {
  on: true,
  hoursMin: 24,
  hoursMax: 72,
  leastPerHour: ONE / 2n,
  stockMax: 500n * ONE,
  spreadMaxBp: 100,
  reserveUakt: 5n * ONE,
};
const TERMS: MintTerms = {
  least: 10n * ONE,
  spreadBp: 25,
  allowed: true,
  status: 'healthy',
  price: 500_000_000_000_000_000n,
};
const NEED: MintNeed = {
  stock: 0n,
  uakt: 1000n * ONE,
  hourly: 0n,
  allowance: null,
  terms: TERMS,
  cancelled: 0,
  cancelledMs: 0,
  nowMs: 1_000_000,
};

test('a stock below the hours that are wanted is filled to the upper mark, the spread on top', () => {
  const plan = planMint(RULES, NEED);
  assert.ok(plan.kind === 'mint');
  assert.equal(plan.worth, 36_090_226n, '36 ACT after 25 bp');
  assert.equal(plan.burnUakt, 72_180_452n);
  assert.equal(planMint(RULES, { ...NEED, stock: 12n * ONE }).kind, 'rest');
  assert.deepEqual(stockRange(RULES, 2n * ONE), { low: 48n * ONE, high: 144n * ONE });
  assert.deepEqual(stockRange(RULES, 100n * ONE), { low: 500n * ONE, high: 500n * ONE }, 'capped');
});

test('what is missing may be less than the network mints: then it is that much, and a little more', () => {
  const plan = planMint({ ...RULES, hoursMax: 24 }, { ...NEED, stock: 11_900_000n });
  assert.ok(plan.kind === 'mint');
  assert.equal(plan.worth, 10_200_000n);
});

for (const [what, need, alarm] of [
  ['the network halts mints', { terms: { ...TERMS, allowed: false, status: 'halt_cr' } }, 'mint.halted'],
  ['there is no healthy price', { terms: { ...TERMS, price: null } }, 'mint.no_price'],
  ['the spread is above what is taken', { terms: { ...TERMS, spreadBp: 101 } }, 'mint.spread'],
  ['the AKT would not leave the reserve', { uakt: 25n * ONE }, 'treasury.akt_short'],
  ["today's limit is used up", { allowance: 10n * ONE }, 'mint.limit'],
] as const) {
  test(`nothing is minted while ${what}, and it is told`, () => {
    const plan = planMint(RULES, { ...NEED, ...need });
    assert.ok(plan.kind === 'blocked', plan.kind);
    assert.equal(plan.alarm, alarm);
  });
}

test('after a cancelled mint the next one waits, longer each time', () => {
  const cancelled = { ...NEED, cancelled: 3, cancelledMs: NEED.nowMs };
  assert.equal(planMint(RULES, { ...cancelled, nowMs: NEED.nowMs + 239_999 }).kind, 'rest');
  assert.equal(planMint(RULES, { ...cancelled, nowMs: NEED.nowMs + 240_000 }).kind, 'mint');
});

test('off, it only tells', () => {
  const plan = planMint({ ...RULES, on: false }, NEED);
  assert.ok(plan.kind === 'blocked');
  assert.deepEqual([plan.alarm, plan.why], ['treasury.low', '0.00 ACT are below 12.00 ACT, and minting is off']);
});

test('a mint is never below the least, above the limits, out of the reserve, or more than the stock may be', () => {
  const micro = (most: bigint) => fc.bigInt(0n, most * ONE);
  const needs = fc.record({
    stock: micro(600n),
    uakt: micro(5000n),
    hourly: micro(20n),
    allowance: fc.option(micro(300n)),
    cancelled: fc.nat(4),
    cancelledMs: fc.nat(2_000_000),
    nowMs: fc.constant(1_000_000),
    terms: fc.record({
      least: micro(50n),
      spreadBp: fc.nat(300),
      allowed: fc.boolean(),
      status: fc.constant('healthy'),
      price: fc.option(fc.bigInt(1n, 100n * 10n ** 18n)),
    }),
  });
  let mints = 0;
  fc.assert(
    fc.property(needs, (need) => {
      const plan = planMint(RULES, need);
      if (plan.kind !== 'mint') return;
      mints += 1;
      const { low, high } = stockRange(RULES, need.hourly);
      const { least, price, spreadBp, allowed } = need.terms;
      assert.ok(need.stock < low && allowed && price !== null && spreadBp <= RULES.spreadMaxBp);
      assert.ok(plan.worth >= least && plan.worth <= (need.allowance ?? plan.worth));
      assert.ok(plan.burnUakt <= need.uakt - RULES.reserveUakt);
      const gross = (plan.burnUakt * price) / 10n ** 18n;
      assert.ok(gross >= least, 'what the network will compute is enough, too');
      const after = need.stock + (gross * BigInt(10_000 - spreadBp)) / 10_000n;
      // A burn is in whole units of AKT, each worth so much.
      const coarse = price / 10n ** 18n + 2n;
      const most = need.stock + (least * 102n) / 100n;
      assert.ok(after <= (high > most ? high : most) + coarse, `${after} of ${high}`);
    }),
    { numRuns: 2000 },
  );
  assert.ok(mints > 20, `${mints} mints`);
});
