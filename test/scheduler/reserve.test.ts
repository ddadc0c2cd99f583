import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PlannedReplica } from '../../src/scheduler/plan.ts';
import {
  expectedTokens,
  hasOutgrown,
  planReserve,
  tokenCostPerHour,
  type ReserveInput,
} from '../../src/scheduler/reserve.ts';
import { testSpec } from '../fakes/market-samples.ts';

const spec = testSpec({ budget: { usd_per_day: '1.00' } });
const price = { inputPico: 100_000n, cachedInputPico: 50_000n, outputPico: 400_000n };

function plan(change: Omit<Partial<ReserveInput>, 'demand'> & { waiting?: number; slots?: number }): string[] {
  const { waiting = 0, slots = waiting, ...rest } = change;
  const input: ReserveInput = {
    spec,
    offered: true,
    demand: { slots, waiting, idleMs: 0 },
    waitedMs: 0,
    replicas: [],
    reserves: [],
    spentTodayNanoUsd: 0n,
    backoffUntilMs: 0,
    nowMs: 1_000_000,
    ...rest,
  };
  return planReserve(input).map((action) => [action.type, 'replica' in action ? action.replica : ''].join(' ').trim());
}

function replica(state: PlannedReplica['state'], change: Partial<PlannedReplica> = {}): PlannedReplica {
  return { id: state, state, inFlight: 0, idleMs: 0, drainSinceMs: null, costNanoUsdPerHour: 1n, ...change };
}

test('a reserve comes at once while a machine starts, and only where requests wait', () => {
  assert.deepEqual(plan({ waiting: 1, replicas: [replica('starting')] }), ['reserve']);
  assert.deepEqual(plan({ waiting: 1, replicas: [replica('accepting')] }), ['reserve']);
  assert.deepEqual(plan({ waiting: 0, replicas: [replica('starting')] }), []);
  assert.deepEqual(plan({ waiting: 1, replicas: [replica('starting')], offered: false }), []);
});

test('while bids are gathered or a machine is at work, a reserve comes only after some waiting', () => {
  for (const state of ['ordering', 'ready'] as const) {
    assert.deepEqual(plan({ waiting: 3, slots: 5, waitedMs: 1999, replicas: [replica(state)] }), [], state);
    assert.deepEqual(plan({ waiting: 3, slots: 5, waitedMs: 2000, replicas: [replica(state)] }), ['reserve'], state);
  }
  assert.deepEqual(plan({ waiting: 3, waitedMs: 2000 }), ['reserve'], 'nobody bid');
  const ready = replica('ready');
  const starting = replica('starting');
  assert.deepEqual(plan({ waiting: 1, slots: 3, replicas: [ready, starting] }), [], 'another machine is on its way');
});

test('one reserve after another, and no more than four', () => {
  const waiting = { waiting: 9, slots: 90, waitedMs: 60_000 };
  assert.deepEqual(plan({ ...waiting, reserves: [replica('ordering')] }), [], 'it is there in a moment');
  assert.deepEqual(plan({ ...waiting, reserves: [replica('ready')] }), ['reserve']);
  assert.deepEqual(plan({ ...waiting, waitedMs: 0, reserves: [replica('ready')] }), []);
  assert.deepEqual(plan({ ...waiting, reserves: Array.from({ length: 4 }, () => replica('ready')) }), []);
  assert.deepEqual(plan({ ...waiting, reserves: [replica('draining')] }), ['reserve'], 'one that leaves is none');
});

test('a reserve that failed is not fetched again before its pause is over', () => {
  assert.deepEqual(plan({ waiting: 1, waitedMs: 5000, backoffUntilMs: 1_000_001 }), []);
  assert.deepEqual(plan({ waiting: 1, waitedMs: 5000, backoffUntilMs: 1_000_000 }), ['reserve']);
});

test('a reserve goes when ready machines have a slot for everybody, and not before', () => {
  const reserves = [replica('ready', { id: 'api' })];
  assert.deepEqual(plan({ slots: 3, reserves, replicas: [replica('ready')] }), [], 'two slots for three requests');
  assert.deepEqual(plan({ slots: 2, reserves, replicas: [replica('ready')] }), ['drain api']);
  assert.deepEqual(plan({ slots: 0, reserves, replicas: [replica('starting')] }), [], 'no machine is ready');
  const order = [replica('ordering', { id: 'api' })];
  assert.deepEqual(plan({ slots: 1, reserves: order, replicas: [replica('ready')] }), ['withdraw api']);
});

test('a reserve that nobody uses goes after the idle time', () => {
  assert.deepEqual(plan({ reserves: [replica('ready', { id: 'api', idleMs: 59_999 })] }), []);
  assert.deepEqual(plan({ reserves: [replica('ready', { id: 'api', idleMs: 60_000 })] }), ['drain api']);
});

test('a budget that is used up fetches none and ends those that are there', () => {
  const spentTodayNanoUsd = 1_000_000_000n;
  assert.deepEqual(plan({ waiting: 1, waitedMs: 9000, spentTodayNanoUsd }), []);
  assert.deepEqual(plan({ waiting: 1, spentTodayNanoUsd, reserves: [replica('ready', { id: 'api' })] }), ['drain api']);
});

test('what is expected is the last hour, and at least what is there now', () => {
  assert.deepEqual(expectedTokens({ input: 9000, output: 900 }, { input: 100, output: 10 }, 5), {
    input: 9000,
    output: 900,
  });
  assert.deepEqual(expectedTokens({ input: 9000, output: 900 }, { input: 1000, output: 10 }, 50), {
    input: 50_000,
    output: 900,
  });
  assert.deepEqual(expectedTokens({ input: 0, output: 0 }, null, 2), { input: 600, output: 400 });
});

test('the token price is outgrown when an hour of it is a quarter dearer than a machine', () => {
  const rate = { input: 1_000_000, output: 1_000_000 };
  assert.equal(tokenCostPerHour(price, rate), 500_000_000n);
  assert.equal(hasOutgrown(spec, price, { rate, rivalNanoUsdPerHour: 400_000_000n }), false);
  assert.equal(hasOutgrown(spec, price, { rate, rivalNanoUsdPerHour: 399_999_999n }), true);
  // Nobody bid beside it: the operator's ceiling, $0.60.
  assert.equal(hasOutgrown(spec, price, { rate, rivalNanoUsdPerHour: null }), false);
  const more = { input: 2_000_000, output: 2_000_000 };
  assert.equal(hasOutgrown(spec, price, { rate: more, rivalNanoUsdPerHour: null }), true);
});
