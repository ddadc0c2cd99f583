import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { withCharge, worthOf, Worths, type Spending } from '../../../src/scheduler/pool/worth.ts';

const DAY = 86_400_000;

test('a newcomer is worth a quarter of what is held, others what they usually come to', () => {
  assert.equal(worthOf(null, 1000n, 0), 250n);
  const honest = spent(hundred(1000n, 900n));
  const boaster = spent(hundred(1000n, 10n));
  assert.ok(worthOf(honest, 1000n, 0) > 880n);
  assert.ok(worthOf(boaster, 1000n, 0) < 20n);
});

test('many small honest requests lend no weight to one that is held for more than all of them', () => {
  const small = spent(hundred(10n, 10n));
  const worth = worthOf(small, 1_000_000n, 0);
  assert.ok(worth < 252_000n, `${worth}`);
});

test('what an account asked in vain is half forgotten in a day, and not by asking more often', () => {
  const lied = spent([[1_000_000n, 0n]]);
  const washed = spent([[1_000_000n, 0n], ...hundred(10n, 10n)]);
  assert.ok(worthOf(washed, 1_000_000n, 0) < 127_000n);
  assert.ok(worthOf(lied, 1_000_000n, DAY) > worthOf(lied, 1_000_000n, 0));
  assert.ok(worthOf(lied, 1_000_000n, 30 * DAY) > 249_000n);
});

test('a request is never worth more than is held for it, nor less than nothing', () => {
  const charge = fc.tuple(fc.bigInt(0n, 10n ** 12n), fc.bigInt(0n, 10n ** 12n));
  fc.assert(
    fc.property(fc.array(charge), fc.bigInt(0n, 10n ** 13n), fc.integer(), (charges, hold, nowMs) => {
      const worth = worthOf(spent(charges), hold, nowMs);
      assert.ok(worth >= 0n && worth <= hold, `${worth} of ${hold}`);
    }),
  );
});

test('each account has its own record, and of very many the last ones are remembered', () => {
  const worths = new Worths();
  const charge = { holdNanoUsd: 1000n, chargedNanoUsd: 1000n };
  worths.note('ann', charge, 0);
  assert.deepEqual([worths.of('ann', 1000n, 0), worths.of('bob', 1000n, 0)], [625n, 250n]);
  for (let n = 0; n < 10_000; n += 1) worths.note(`account-${n}`, charge, 0);
  assert.deepEqual([worths.of('ann', 1000n, 0), worths.of('account-0', 1000n, 0)], [250n, 625n]);
});

type Charge = readonly [held: bigint, charged: bigint];

const hundred = (held: bigint, charged: bigint): Charge[] => Array.from({ length: 100 }, () => [held, charged]);

function spent(charges: readonly Charge[]): Spending | null {
  return charges.reduce<Spending | null>(
    (before, [holdNanoUsd, chargedNanoUsd]) => withCharge(before, { holdNanoUsd, chargedNanoUsd }, 0),
    null,
  );
}
