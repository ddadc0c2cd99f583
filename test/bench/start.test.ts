import assert from 'node:assert/strict';
import { test } from 'node:test';
import { phasesOf, reportOf, totalOf, type LeaseSteps } from '../../bench/start/phases.ts';

test('the phases of a cold start add up to the first token', () => {
  const phases = phasesOf(setup(), { askedMs: 1000, firstTokenMs: 3500 });
  const expected = { order_ms: 100, bid_ms: 300, lease_ms: 200, load_ms: 900, probe_ms: 500, first_token_ms: 500 };
  assert.deepEqual(phases, expected);
  assert.equal(totalOf(phases), 2500);
});

test('a lease of before the question, or one that never answered, is not measured', () => {
  assert.throws(() => phasesOf(setup(), { askedMs: 2000, firstTokenMs: 4500 }), /order_ms makes no sense/);
  assert.throws(() => phasesOf(setup({ readyMs: null }), { askedMs: 1000, firstTokenMs: 3500 }), /probe_ms/);
});

test('the report has the median of each phase and of the whole', () => {
  const phases = phasesOf(setup(), { askedMs: 1000, firstTokenMs: 3500 });
  const report = reportOf([phases, phases, { ...phases, load_ms: 1900 }]);
  assert.match(report, /^load +900 +900 +1900$/m);
  assert.match(report, /^first token +500 +500 +500$/m);
  assert.match(report, /^all +2500 +2500 +3500$/m);
});

function setup({ readyMs = 3000 }: { readyMs?: number | null } = {}): LeaseSteps {
  const at = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  return {
    steps: [
      { step: 'offer', at: at(1100) },
      { step: 'order', at: at(1100) },
      { step: 'bids', at: at(1400) },
      { step: 'deposit and lease', at: at(1600) },
      { step: 'delivery', at: at(readyMs), running_at: at(2500), ready_at: at(readyMs) },
      { step: 'rent', at: at(9000) },
    ],
  };
}
