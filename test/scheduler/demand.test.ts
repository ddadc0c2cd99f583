import assert from 'node:assert/strict';
import { test } from 'node:test';
import { measureDemand } from '../../src/scheduler/demand.ts';
import type { RouterStats } from '../../src/scheduler/pool/slot.ts';

test('each request at work or in line wants a slot', () => {
  assert.deepEqual(measureDemand(setup({ waiting: 3, inFlight: 2 }), 9000, 1000), { slots: 5, waiting: 3, idleMs: 0 });
});

test('a pool is idle from its last request on, and not while one waits', () => {
  assert.equal(measureDemand(setup({ lastUsedMs: 4000 }), 9000, 1000).idleMs, 5000);
  assert.equal(measureDemand(setup({ lastUsedMs: 4000, waiting: 1 }), 9000, 1000).idleMs, 0);
  assert.equal(measureDemand(setup({ lastUsedMs: 4000, inFlight: 1 }), 9000, 1000).idleMs, 0);
});

test('what was asked before this process began is not known, so a restart is no idle time', () => {
  assert.equal(measureDemand(setup({ lastUsedMs: 0 }), 9000, 7000).idleMs, 2000);
});

test('a clock that ran backwards makes nobody idle for a negative time', () => {
  assert.equal(measureDemand(setup({ lastUsedMs: 9000 }), 4000, 1000).idleMs, 0);
});

function setup(stats: Partial<RouterStats>): RouterStats {
  return { waiting: 0, inFlight: 0, ready: 0, arrivals: 0, lastUsedMs: 0, waitingSinceMs: null, ...stats };
}
