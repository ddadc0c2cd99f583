import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { blockPrice, drawRent, perBlockTotal, rentOfBlocks } from '../../src/leases/rent.ts';

const PRICE = fc.record({
  price: fc.bigInt({ min: 0n, max: 10n ** 12n }),
  takeFeeBp: fc.integer({ min: 0, max: 10_000 }),
  makeFeeBp: fc.integer({ min: 0, max: 10_000 }),
});

test('the tenant pays the take fee on top of the rent, the provider the make fee out of it, both rounded up', () => {
  assert.deepEqual(blockPrice(1001n, 2000, 400), { rent: 1001n, takeFee: 201n, makeFee: 41n });
  assert.deepEqual(blockPrice(1001n, 0, 0), { rent: 1001n, takeFee: 0n, makeFee: 0n });
  assert.equal(perBlockTotal(blockPrice(1001n, 2000, 400)), 1202n);
});

test('a draw takes whole blocks only, and as many as the balance pays', () => {
  const price = blockPrice(100n, 2000, 0);
  assert.deepEqual(drawRent(price, 3, 400n), { blocks: 3, rent: 300n, takeFee: 60n, makeFee: 0n, overdrawn: false });
  assert.deepEqual(drawRent(price, 4, 400n), { blocks: 3, rent: 300n, takeFee: 60n, makeFee: 0n, overdrawn: true });
  assert.deepEqual(drawRent(price, 1, 119n), { blocks: 0, rent: 0n, takeFee: 0n, makeFee: 0n, overdrawn: true });
});

test('nothing is drawn when no block is due, the clock ran backwards, or the balance is gone', () => {
  const price = blockPrice(100n, 2000, 0);
  const nothing = { blocks: 0, rent: 0n, takeFee: 0n, makeFee: 0n };
  assert.deepEqual(drawRent(price, 0, 0n), { ...nothing, overdrawn: false });
  assert.deepEqual(drawRent(price, -5, 1000n), { ...nothing, overdrawn: false });
  assert.deepEqual(drawRent(price, 2, -1n), { ...nothing, overdrawn: true });
});

test('a lease for nothing is never overdrawn', () => {
  const draw = drawRent(blockPrice(0n, 2000, 400), 1_000_000, 0n);
  assert.deepEqual(draw, { blocks: 1_000_000, rent: 0n, takeFee: 0n, makeFee: 0n, overdrawn: false });
});

test('deposit = rent + take fee + refund, whatever the sequence of blocks and fundings', () => {
  const steps = fc.array(fc.oneof(fc.integer({ min: 0, max: 50 }), fc.bigInt({ min: 1n, max: 10n ** 13n })), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(
      PRICE,
      fc.bigInt({ min: 0n, max: 10n ** 13n }),
      steps,
      ({ price, takeFeeBp, makeFeeBp }, first, many) => {
        const each = blockPrice(price, takeFeeBp, makeFeeBp);
        let [deposit, rent, fee, make, blocks] = [first, 0n, 0n, 0n, 0];
        for (const step of many) {
          if (typeof step === 'bigint') {
            deposit += step;
            continue;
          }
          const draw = drawRent(each, step, deposit - rent - fee);
          assert.ok(Number.isInteger(draw.blocks) && draw.blocks <= step, 'whole blocks, never more than are due');
          assert.equal(draw.overdrawn, draw.blocks < step);
          rent += draw.rent;
          fee += draw.takeFee;
          make += draw.makeFee;
          blocks += draw.blocks;
        }
        const refund = deposit - rent - fee;
        assert.ok(refund >= 0n, 'never more than was paid in');
        assert.equal(rent, each.rent * BigInt(blocks));
        assert.equal(fee, each.takeFee * BigInt(blocks));
        assert.ok(make <= rent, 'the make fee comes out of the rent');
        assert.equal(rent + fee + refund, deposit);
      },
    ),
  );
});

test('what is drawn in parts is what is drawn at once', () => {
  fc.assert(
    fc.property(PRICE, fc.nat(200), fc.nat(200), ({ price, takeFeeBp, makeFeeBp }, a, b) => {
      const each = blockPrice(price, takeFeeBp, makeFeeBp);
      const [first, second, both] = [rentOfBlocks(each, a), rentOfBlocks(each, b), rentOfBlocks(each, a + b)];
      for (const part of ['rent', 'takeFee', 'makeFee'] as const) assert.equal(first[part] + second[part], both[part]);
    }),
  );
});
