import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Observations } from '../../src/scheduler/observation.ts';
import { bucketOf, newPoolRecord, withPoolStart, withPrefill, withSpeeds } from '../../src/scheduler/pool-record.ts';
import { PoolRouter } from '../../src/scheduler/pool/router.ts';
import { ratesOf, sampleWork } from '../../src/scheduler/work-sample.ts';
import type { Target } from '../../src/scheduler/pool/slot.ts';
import { FakeClock } from '../fakes/clock.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { startAt } from './track-samples.ts';

const RATES = { prefillTokensPerS: 1000, outputTokensPerS: 100 };
const CAME = { askedTokens: null, arrived: 2, waiting: 3, slots: 4, ttftMs: 5000, ended: 50 };

test('work is what came, in time of one replica: prompts and answers by what it was measured to do', () => {
  const mean = { input: 500, output: 20 };
  const { workMs, promptMs, lineMs, slackMs } = sampleWork({ ...CAME, mean }, RATES);
  assert.deepEqual([workMs, promptMs, lineMs], [1400, 1000, 2100]);
  assert.equal(slackMs, 5000 + 0.4 * 4 * 200);
  assert.equal(sampleWork({ ...CAME, mean, askedTokens: 3000 }, RATES).promptMs, 3000, 'prompts whose length is known');
});

test('before answers were seen their length is guessed, and a line is not worked out', () => {
  const { workMs, lineMs } = sampleWork({ ...CAME, ended: 0, mean: { input: 0, output: 0 } }, RATES);
  assert.deepEqual([workMs, lineMs], [4000, 0]);
});

test('what a full replica does is known when it was measured with half of its slots taken for some time', () => {
  const measured = (streams: number, seconds: number) => {
    const samples = Array.from({ length: seconds }, () => ({ replica: 'r', streams, tokensPerS: 30, ms: 1000 }));
    return withPrefill(withSpeeds(newPoolRecord('tiny', 0), samples, 0), 900, 0).rates;
  };
  assert.equal(ratesOf(measured(1, 100), 16), null, 'one stream says little of sixteen');
  assert.equal(ratesOf(measured(8, 10), 16), null, 'too short');
  assert.deepEqual(ratesOf(measured(8, 30), 16), { prefillTokensPerS: 900, outputTokensPerS: 240 });
  assert.deepEqual(ratesOf(measured(1, 30), 1), { prefillTokensPerS: 900, outputTokensPerS: 30 });
  assert.equal(ratesOf(newPoolRecord('tiny', 0).rates, 1), null, 'nothing was measured');
});

test('speeds are means of the last minutes, for each size of a batch, whatever comes', () => {
  const sample = fc.record({
    replica: fc.constant('r'),
    streams: fc.double({ min: 1, max: 4096, noNaN: true }),
    tokensPerS: fc.double({ min: 0.1, max: 1000, noNaN: true }),
    ms: fc.integer({ min: 200, max: 100_000 }),
  });
  fc.assert(
    fc.property(fc.array(sample, { maxLength: 40 }), (samples) => {
      const { batches } = withSpeeds(newPoolRecord('tiny', 0), samples, 0).rates;
      assert.ok(batches.length <= 13);
      for (const { streams, tokensPerS } of batches) {
        const all = samples
          .filter((one) => bucketOf(one.streams) === streams)
          .map((one) => one.tokensPerS * one.streams);
        assert.ok(tokensPerS >= Math.min(...all) - 1e-6 && tokensPerS <= Math.max(...all) + 1e-6);
      }
    }),
  );
});

test('a pool that was measured is scaled by the work that comes, not by how many requests there are', async () => {
  const clock = new FakeClock(0);
  const samples = Array.from({ length: 60 }, () => ({ replica: 'r', streams: 2, tokensPerS: 50, ms: 1000 }));
  const measured = withPrefill(withSpeeds(newPoolRecord('tiny', 0), samples, 0), 1000, 0);
  const needed = async (record: typeof measured, perSecond: number, tokens: number): Promise<number> => {
    const observations = new Observations();
    const router = new PoolRouter(testSpec({ slots: 2, replicas: { min: 0, max: 8 } }), clock, () => undefined);
    router.add(TARGET, 1000);
    let history = observations.learn(router, router.spec, { record, nowMs: clock.now() }).history;
    for (let second = 0; second < 240; second += 1) {
      for (let n = 0; n < perSecond; n += 1) {
        const slot = router.tryTake();
        slot?.used(100, tokens, 0n);
        slot?.release('served');
      }
      await clock.advance(1000);
      ({ history } = observations.learn(router, router.spec, { record, nowMs: clock.now() }));
    }
    return history.needed;
  };
  // Two a second of 100 tokens in and 50 out are 1.2 s of work a second; of 150 out 3.2 s.
  const [light, heavy] = [await needed(measured, 2, 50), await needed(measured, 2, 150)];
  assert.ok(light >= 2 && heavy > light, `${light} and ${heavy}`);
  assert.equal(await needed(newPoolRecord('tiny', 0), 2, 150), 0, 'not measured, and nobody is at work or in line');
});

test('a start-up that an earlier run saw is expected, and losses are counted by the hours served', () => {
  const router = new PoolRouter(testSpec(), new FakeClock(0), () => undefined);
  const record = withPoolStart(newPoolRecord('tiny', 0), { ...startAt(0), provider: 'x' });
  const learned = new Observations().learn(router, router.spec, {
    record: { ...record, hours: 100, losses: 3 },
    nowMs: 0,
  });
  assert.deepEqual([learned.startMs, learned.lossesPerHour], [33_000, 0.01]);
});

const TARGET: Target = {
  id: 'r',
  url: 'http://r.test',
  apiKey: null,
  engine: 'llama.cpp',
  slots: 2,
  market: 'local',
  provider: 'x',
  leaseId: 'l',
};
