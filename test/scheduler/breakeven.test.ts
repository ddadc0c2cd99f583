import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { adviseOn, capacityOf, turnOf, type AdviceInput } from '../../src/scheduler/breakeven.ts';
import type { PoolRates } from '../../src/scheduler/pool-record.ts';
import { parseUsd } from '../../src/units.ts';
import { testSpec } from '../fakes/market-samples.ts';

const NOTHING: PoolRates = { prefillTokensPerS: null, streamTokensPerS: null, batches: [] };

test('a replica breaks even where what it sells in an hour is what an hour of it costs', () => {
  // 100 tokens a second of answers at 1 USD a million: 0.36 USD in a full hour.
  const { earnsUsdPerHour, breakEvenUtilisation, usdPerMillionOutput, verdict } = advise();
  near(earnsUsdPerHour.full, 0.36);
  near(breakEvenUtilisation, 0.5);
  near(usdPerMillionOutput.full, 0.5);
  assert.deepEqual([verdict, earnsUsdPerHour.today], ['idle', null]);
});

test("today's load says what a million tokens really cost, and at which ceiling and price it would be carried", () => {
  const quarter = { rate: { input: 0, output: 180_000 }, average: { input: 0, output: 200 } };
  const { utilisation, usdPerMillionOutput, earnsUsdPerHour, ceilingUsdPerHour, price, verdict, reason } = advise({
    load: quarter,
    replicas: 2,
  });
  near(utilisation, 0.25);
  near(earnsUsdPerHour.today, 0.09);
  near(usdPerMillionOutput.today, 2);
  near(ceilingUsdPerHour, 0.081);
  near(price.output, 1 / (0.081 / 0.18));
  assert.equal(verdict, 'loses');
  assert.equal(
    reason,
    "an hour of a replica costs 0.18 USD (of 1 leased now), brings in 0.09 at today's load, breaks even at 50 % in use; at 25 % in use, prices 2.22 times as high would carry it",
  );
});

test('prompts take their time and bring in their price', () => {
  const load = { rate: { input: 0, output: 0 }, average: { input: 1000, output: 100 } };
  const capacity = { inputTokensPerS: 1000, outputTokensPerS: 100, source: '' };
  // A second of prompt and a second of answer each: 1,800 requests an hour.
  const { earnsUsdPerHour, usdPerMillion } = advise({ load, capacity });
  near(earnsUsdPerHour.full, 1800 * (1000 * 0.1e-6 + 100 * 1e-6));
  near(usdPerMillion.full, 0.18 / (1800 * 1100 * 1e-6));
});

test('a ceiling above what machines were seen for is not advised', () => {
  const { ceilingUsdPerHour } = advise({ seenNanoUsdPerHour: parseUsd('0.05') });
  near(ceilingUsdPerHour, 0.05 * 1.1 * 1.25 * 1.25);
  const nothing = advise({ capacity: { inputTokensPerS: null, outputTokensPerS: 0, source: '' } });
  assert.equal(nothing.ceilingUsdPerHour, null, 'no advice where nothing is known to come in');
});

test('what a replica does is measured, else by its GPU, else as the pool promises, and it is said which', () => {
  const spec = testSpec({ slots: 16 });
  const promised = capacityOf(spec, NOTHING);
  assert.deepEqual([promised.outputTokensPerS, promised.inputTokensPerS], [320, null]);
  assert.match(promised.source, /promise \(slo\): 16 streams of 20\/s, not measured/);
  const gpu = testSpec({
    slots: 16,
    hardware: { gpus: 1, gpu: [{ model: 'rtx4090' }] },
    shape: { parameters_b: 8, weight_bits: 16 },
  });
  const table = capacityOf(gpu, NOTHING);
  assert.match(table.source, /data sheet/);
  assert.ok(table.outputTokensPerS > 300 && table.outputTokensPerS < 700, `${table.outputTokensPerS}`);
  const batches = [
    { streams: 4, tokensPerS: 150, measuredMs: 60_000 },
    { streams: 16, tokensPerS: 500, measuredMs: 60_000 },
    { streams: 8, tokensPerS: 900, measuredMs: 1000 },
  ];
  const measured = capacityOf(gpu, { prefillTokensPerS: 5000, streamTokensPerS: 40, batches });
  assert.deepEqual([measured.outputTokensPerS, measured.inputTokensPerS], [500, 5000], 'a second of it says little');
  assert.match(measured.source, /measured on its replicas, 16 or more at work of 16/);
});

test('that a pool loses money is said once, and again only after it earned', () => {
  const at = (today: number | null) => ({
    ...advise(),
    costUsdPerHour: 1,
    earnsUsdPerHour: { full: 2, today },
  });
  let said: 'earns' | 'loses' | null = null;
  const told: (string | null)[] = [];
  for (const today of [1.2, 0.97, 0.9, 0.5, 0.99, 1.04, 1.06, 2, 0.96, 0.94, null]) {
    const turn = turnOf(said, at(today));
    said = turn ?? said;
    told.push(turn);
  }
  assert.deepEqual(told, [null, null, 'loses', null, null, null, 'earns', null, null, 'loses', null]);
});

test('whatever a pool does, the advised price carries the machine and the advised ceiling is carried by the price', () => {
  const rate = fc.record({ input: fc.nat(10_000_000), output: fc.nat(1_000_000) });
  const rates = fc.record({
    inputTokensPerS: fc.option(fc.integer({ min: 1, max: 50_000 })),
    outputTokensPerS: fc.integer({ min: 1, max: 20_000 }),
  });
  fc.assert(
    fc.property(
      rate,
      rates,
      fc.integer({ min: 0, max: 5 }),
      fc.bigInt({ min: 1n, max: 10n ** 11n }),
      (load, does, replicas, cost) => {
        const advice = advise({
          load: { rate: load, average: null },
          capacity: { ...does, source: '' },
          replicas,
          costNanoUsdPerHour: cost,
        });
        const asked = Math.min(1, advice.utilisation || 0.5);
        const carried = advice.earnsUsdPerHour.full * asked;
        const { ceilingUsdPerHour } = advice;
        assert.equal(ceilingUsdPerHour === null, carried === 0);
        assert.ok((ceilingUsdPerHour ?? 0) <= carried);
        assert.ok(carried * advice.price.output >= advice.costUsdPerHour * 0.999, 'at a price of 1 before');
        for (const value of [ceilingUsdPerHour ?? 0, advice.price.input])
          assert.ok(Number.isFinite(value) && value >= 0);
      },
    ),
  );
});

function near(value: number | null | undefined, wanted: number): void {
  assert.ok(
    typeof value === 'number' && Math.abs(value - wanted) < 1e-9 * Math.max(1, wanted),
    `${value}, not ${wanted}`,
  );
}

function advise(change: Partial<AdviceInput> = {}): ReturnType<typeof adviseOn> {
  return adviseOn({
    spec: testSpec({ price: { input: '0.10', output: '1.00' } }),
    capacity: { inputTokensPerS: null, outputTokensPerS: 100, source: '' },
    load: { rate: { input: 0, output: 0 }, average: { input: 0, output: 200 } },
    ...{ replicas: 0, costNanoUsdPerHour: parseUsd('0.18'), costFrom: 'of 1 leased now', seenNanoUsdPerHour: null },
    ...change,
  });
}
