import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  formatPricePerMillion,
  formatPricePerToken,
  formatUsd,
  maxBig,
  minBig,
  nanoFromPicoUp,
  parsePricePerMillion,
  PRICE_MAX,
  parseUsd,
  perBlockFromPerHour,
  perHourFromPerBlock,
  shareUp,
  usdNumber,
} from '../src/units.ts';

const INT64_MAX = 2n ** 63n - 1n;
const stored = fc.bigInt({ min: 0n, max: INT64_MAX });

test('an amount in USD is the same after it was shown and read again', () => {
  fc.assert(fc.property(stored, (amount) => parseUsd(formatUsd(amount)) === amount));
});

test('a price is the same after it was shown and read again', () => {
  const price = fc.bigInt({ min: 0n, max: PRICE_MAX });
  fc.assert(fc.property(price, (one) => parsePricePerMillion(formatPricePerMillion(one)) === one));
});

test('an amount is shown exactly, with at least two decimals', () => {
  const cases: [bigint, string][] = [
    [0n, '0.00'],
    [1n, '0.000000001'],
    [5_000_000_000n, '5.00'],
    [1_100_000_000n, '1.10'],
    [-1_500_000_001n, '-1.500000001'],
    [INT64_MAX, '9223372036.854775807'],
  ];
  for (const [amount, text] of cases) assert.equal(formatUsd(amount), text);
});

test('amounts are read in every plain way of writing them', () => {
  const cases: [string, bigint][] = [
    ['5', 5_000_000_000n],
    ['5.00', 5_000_000_000n],
    [' 0.5 ', 500_000_000n],
    ['0.000000001', 1n],
    ['1.1000000000000', 1_100_000_000n],
    ['007', 7_000_000_000n],
    ['9223372036.854775807', INT64_MAX],
  ];
  for (const [text, amount] of cases) assert.equal(parseUsd(text), amount, text);
});

const NOT_PLAIN = [
  '',
  ' ',
  '.5',
  '5.',
  '+5',
  '-5',
  '1e3',
  '1E-3',
  '0x10',
  '1,5',
  '1_000',
  'NaN',
  'Infinity',
  '5 USD',
  '٣',
];

test('signs, exponents and anything that is no plain decimal are refused', () => {
  for (const text of NOT_PLAIN) {
    assert.throws(() => parseUsd(text), RangeError, text);
    assert.throws(() => parsePricePerMillion(text), RangeError, text);
  }
});

test('steps finer than the unit are refused instead of rounded away', () => {
  assert.throws(() => parseUsd('0.0000000001'), /more than 9 decimals/);
  assert.throws(() => parseUsd('1.0000000005'), /more than 9 decimals/);
  assert.throws(() => parsePricePerMillion('0.0000001'), /more than 6 decimals/);
  assert.equal(parsePricePerMillion('0.000001'), 1n);
});

test('what does not fit into 64 bits is refused', () => {
  assert.throws(() => parseUsd('9223372036.854775808'), /too large/);
  assert.throws(() => parseUsd('1000000000000'), RangeError);
  assert.throws(() => parsePricePerMillion('9999999999999'), RangeError);
});

test('a price is limited so that the exact cost of any request fits into 64 bits', () => {
  assert.equal(parsePricePerMillion('4000'), PRICE_MAX);
  for (const text of ['4000.000001', '10000', '999999999999']) {
    assert.throws(() => parsePricePerMillion(text), /a price in USD per million tokens is at most 4000/);
  }
  const tokensMax = 1_000_000_000n;
  assert.ok(2n * tokensMax * PRICE_MAX < 2n ** 63n);
});

test('a price per million tokens is a whole number of pico-USD per token', () => {
  assert.equal(parsePricePerMillion('0.02'), 20_000n);
  assert.equal(formatPricePerMillion(20_000n), '0.02');
  assert.equal(formatPricePerToken(20_000n), '0.00000002');
  assert.equal(formatPricePerToken(0n), '0');
  assert.equal(formatPricePerToken(1_000_000_000_000n), '1');
});

test('pico-USD become nano-USD by rounding up, by less than one nano-USD', () => {
  assert.deepEqual([0n, 1n, 999n, 1000n, 1001n].map(nanoFromPicoUp), [0n, 1n, 1n, 1n, 2n]);
  fc.assert(
    fc.property(stored, (pico) => {
      const up = nanoFromPicoUp(pico) * 1000n - pico;
      return up >= 0n && up < 1000n;
    }),
  );
});

test('a share is rounded up to the next nano-USD', () => {
  assert.equal(shareUp(10_000n, 2000), 2000n);
  assert.equal(shareUp(1n, 1), 1n);
  assert.equal(shareUp(0n, 2000), 0n);
  assert.equal(shareUp(12_345n, 0), 0n);
  fc.assert(
    fc.property(stored, fc.integer({ min: 0, max: 10_000 }), (amount, basisPoints) => {
      const over = shareUp(amount, basisPoints) * 10_000n - amount * BigInt(basisPoints);
      return over >= 0n && over < 10_000n;
    }),
  );
});

test('a ceiling per hour becomes at most as much per block, and a cost per block at least as much per hour', () => {
  assert.equal(perBlockFromPerHour(3_600_000n, 6000), 6000n);
  assert.equal(perBlockFromPerHour(599n, 6000), 0n);
  assert.equal(perHourFromPerBlock(1n, 7000), 515n);
  fc.assert(
    fc.property(stored, fc.integer({ min: 1, max: 3_600_000 }), (perHour, blockMs) => {
      const perBlock = perBlockFromPerHour(perHour, blockMs);
      assert.ok(perBlock * 3_600_000n <= perHour * BigInt(blockMs));
      assert.ok(perHourFromPerBlock(perBlock, blockMs) <= perHour);
      assert.ok(perHourFromPerBlock(perBlock, blockMs) * BigInt(blockMs) >= perBlock * 3_600_000n);
    }),
  );
});

test('the number for shapes that want one is the amount in USD', () => {
  assert.equal(usdNumber(1_500_000_000n), 1.5);
  assert.equal(usdNumber(0n), 0);
});

test('the smaller and the larger of two amounts are exact beyond 2^53', () => {
  const [small, large] = [2n ** 60n, 2n ** 60n + 1n];
  assert.equal(minBig(large, small), small);
  assert.equal(maxBig(small, large), large);
});
