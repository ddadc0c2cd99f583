import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describePool } from '../../src/config/describe.ts';
import { parsePool } from '../../src/spec.ts';
import { testSpec } from '../fakes/market-samples.ts';

test('who pays for a wake, times and a pause can be read back from what is shown of a pool', () => {
  const wake = { needs: ['value' as const, 'fee' as const], allowance_per_day: 2, fee_usd: '0.05', wait_s: 7 };
  const windows = [{ days: ['mon' as const], from: '08:30', to: '24:00', min: 1, max: 2 }];
  const schedule = { time_zone: 'Europe/Berlin', windows };
  const spec = testSpec({ wake, schedule, paused: true });
  assert.deepEqual(parsePool('tiny', describePool(spec), 0), spec);
  assert.deepEqual(parsePool('tiny', describePool(testSpec()), 0), testSpec(), 'and that nothing is said of them');
});
