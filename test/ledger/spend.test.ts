import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { SPEND_RESETS } from '../../src/ledger/access.ts';
import { Spend, windowOf } from '../../src/ledger/spend.ts';
import { DAY_MS, dayOf, sameWindow } from './fixtures/calendar.ts';

const at = (text: string): number => Date.parse(text);

const WINDOWS = [
  ['day', '2026-11-23T00:00:00.000Z', '2026-11-23', '2026-11-24'],
  ['day', '2026-11-23T23:59:59.999Z', '2026-11-23', '2026-11-24'],
  ['day', '2024-02-29T12:00:00.000Z', '2024-02-29', '2024-03-01'],
  // Summer time begins and ends in many places: not in UTC.
  ['day', '2026-03-29T02:30:00.000Z', '2026-03-29', '2026-03-30'],
  ['week', '2026-11-23T00:00:00.000Z', '2026-11-23', '2026-11-30'],
  ['week', '2026-11-22T23:59:59.999Z', '2026-11-16', '2026-11-23'],
  ['week', '2027-01-01T00:00:00.000Z', '2026-12-28', '2027-01-04'],
  ['week', '1970-01-01T00:00:00.000Z', '1969-12-29', '1970-01-05'],
  ['month', '2026-11-30T23:59:59.999Z', '2026-11-01', '2026-12-01'],
  ['month', '2026-12-01T00:00:00.000Z', '2026-12-01', '2027-01-01'],
  ['month', '2024-02-29T23:59:59.999Z', '2024-02-01', '2024-03-01'],
  ['month', '2100-02-28T23:59:59.999Z', '2100-02-01', '2100-03-01'],
] as const;

for (const [reset, moment, start, end] of WINDOWS) {
  test(`the ${reset} of ${moment} is from ${start} to ${end}`, () => {
    assert.deepEqual(windowOf(reset, at(moment)), { startMs: at(start), endMs: at(end) });
  });
}

test('a limit for ever has one window', () => {
  assert.deepEqual(windowOf('none', 5), { startMs: -Infinity, endMs: Infinity });
});

/** Until the year 2200, whole days and their edges more often than others. */
const moment = fc
  .tuple(fc.nat(83_000), fc.constantFrom(0, 1, DAY_MS - 1), fc.nat(DAY_MS - 1), fc.boolean())
  .map(([day, edge, within, edgy]) => day * DAY_MS + (edgy ? edge : within));

test('windows are those of the calendar, in any year', () => {
  fc.assert(
    fc.property(fc.constantFrom(...SPEND_RESETS), moment, moment, (reset, a, b) => {
      const { startMs, endMs } = windowOf(reset, a);
      assert.ok(a >= startMs && a < endMs);
      assert.equal(b >= startMs && b < endMs, sameWindow(reset, a, b));
      if (reset === 'none') return;
      assert.equal(sameWindow(reset, a, endMs - 1), true);
      assert.equal(sameWindow(reset, a, endMs), false);
      assert.equal(dayOf(endMs).startMs, endMs);
    }),
    { numRuns: 2000 },
  );
});

test('a request that ends in a later window counts into the one it was made in', () => {
  const [late, next] = [at('2026-11-22T23:59:59.999Z'), at('2026-11-23T00:00:00.000Z')];
  const spend = new Spend(late);
  spend.open(late, 10n);
  assert.deepEqual(pick(spend.bucket('day', next)), [0n, 0n]);
  spend.open(next, 7n);
  spend.extend(late, 5n);
  spend.close(late, 15n, 9n);
  assert.deepEqual(pick(spend.bucket('day', late)), [9n, 0n]);
  assert.deepEqual(pick(spend.bucket('day', next)), [0n, 7n]);
  assert.deepEqual(pick(spend.bucket('month', next)), [9n, 7n]);
  spend.close(next, 7n, 7n);
  assert.deepEqual(pick(spend.bucket('none', next)), [16n, 0n]);
});

test('a clock that is set back over midnight finds the day before as it was', () => {
  const midnight = at('2026-12-01T00:00:00.000Z');
  const spend = new Spend(midnight - 10);
  spend.open(midnight - 5, 10n);
  spend.close(midnight - 5, 10n, 8n);
  assert.equal(spend.bucket('day', midnight).spent, 0n);
  for (const reset of ['day', 'week', 'month', 'none'] as const) {
    assert.equal(spend.bucket(reset, midnight - 1).spent, 8n, reset);
  }
});

test('requests of many windows in flight at once are each counted where they belong', () => {
  const spend = new Spend(0);
  const times = Array.from({ length: 40 }, (_, day) => day * DAY_MS);
  for (const [day, time] of times.entries()) spend.open(time, BigInt(day + 1));
  for (const [day, time] of times.entries()) assert.deepEqual(pick(spend.bucket('day', time)), [0n, BigInt(day + 1)]);
  for (const [day, time] of times.entries()) spend.close(time, BigInt(day + 1), 1n);
  assert.deepEqual(pick(spend.bucket('none', 0)), [40n, 0n]);
  assert.deepEqual(pick(spend.bucket('day', times.at(-1) ?? 0)), [1n, 0n]);
});

function pick({ spent, held }: { readonly spent: bigint; readonly held: bigint }): [bigint, bigint] {
  return [spent, held];
}
