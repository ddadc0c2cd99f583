import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { affordableOutput, chargeFor, costPico, holdFor, soundCounts } from '../../src/ledger/pricing.ts';
import { PRICE, tokens } from './fixtures/books.ts';

const price = fc.record({
  inputPico: fc.bigInt({ min: 0n, max: 10n ** 7n }),
  cachedInputPico: fc.bigInt({ min: 0n, max: 10n ** 7n }),
  outputPico: fc.bigInt({ min: 0n, max: 10n ** 7n }),
});
const count = fc.integer({ min: 0, max: 1_000_000 });

test('a cost is the sum over its meters, cached input not counted twice', () => {
  assert.equal(costPico(PRICE, tokens(10, 3, 4)), 6n * 1000n + 4n * 500n + 3n * 2000n);
});

test('a charge is rounded up once, not per meter', () => {
  const cheap = { inputPico: 1n, cachedInputPico: 1n, outputPico: 1n };
  assert.equal(chargeFor(cheap, tokens(2, 1, 1)), 1n);
  assert.equal(chargeFor(cheap, tokens(1000)), 1n);
  assert.equal(chargeFor(cheap, tokens(1000, 1)), 2n);
  assert.equal(chargeFor(cheap, tokens(0)), 0n);
});

test('a hold covers every charge within its bounds, whatever is cached and whichever price is dearer', () => {
  fc.assert(
    fc.property(price, count, count, count, count, (of, inputMax, outputMax, input, cached) => {
      const used = tokens(Math.min(input, inputMax), outputMax, Math.min(cached, input, inputMax));
      assert.ok(chargeFor(of, used) <= holdFor(of, inputMax, outputMax));
    }),
  );
});

test('the output that an amount affords fits into it, and one token more does not', () => {
  fc.assert(
    fc.property(price, fc.bigInt({ min: -1000n, max: 10n ** 12n }), count, (of, available, input) => {
      const output = affordableOutput(of, available, input);
      if (available < holdFor(of, input, 0)) assert.equal(output, 0);
      else if (of.outputPico === 0n) assert.equal(output, Number.MAX_SAFE_INTEGER);
      else {
        assert.ok(holdFor(of, input, output) <= available);
        assert.ok(holdFor(of, input, output + 1) > available);
      }
    }),
  );
});

test('a count that is none counts as zero, and cached input is at most the input', () => {
  assert.deepEqual(soundCounts(tokens(5, 6, 4)), tokens(5, 6, 4));
  assert.deepEqual(soundCounts(tokens(5, 6, 9)), tokens(5, 6, 5));
  assert.deepEqual(soundCounts(tokens(2.9, 3.2, 1.5)), tokens(2, 3, 1));
  for (const wrong of [-1, NaN, Infinity, 1e15]) assert.deepEqual(soundCounts(tokens(wrong, wrong, wrong)), tokens(0));
});
