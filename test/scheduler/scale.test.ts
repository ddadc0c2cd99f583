import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { newHistory, type Demand, type Level } from '../../src/scheduler/demand.ts';
import { holdMs, wantedReplicas } from '../../src/scheduler/scale.ts';
import type { PoolSpec } from '../../src/spec.ts';
import { testSpec } from '../fakes/market-samples.ts';

/** Two slots a replica, at most three replicas, idle after a minute. */
const SPEC = testSpec();
const MINUTE = 60_000;

test('a pool that nobody asks for wants no replica', () => {
  assert.deepEqual(wantedReplicas(SPEC, asked(0), []), { wanted: 0, reason: 'nothing is asked' });
});

test('replicas are wanted at once for everything that waits or is at work', () => {
  const rows = [1, 2, 3, 4, 5].map((slots) => wantedReplicas(SPEC, asked(slots), []).wanted);
  assert.deepEqual(rows, [1, 1, 2, 2, 3]);
  assert.equal(wantedReplicas(SPEC, asked(3), []).reason, '3 requests for 2 slots a replica');
});

test('no more than the pool may have, and the reason says so', () => {
  assert.deepEqual(wantedReplicas(SPEC, asked(100), [0, 0, 0]), {
    wanted: 3,
    reason: '100 requests, at most 3 replicas',
  });
});

test('the least number stays warm though nothing is asked', () => {
  const spec = testSpec({ replicas: { min: 1, max: 3 } });
  assert.deepEqual(wantedReplicas(spec, asked(0), []), { wanted: 1, reason: 'at least 1 replica' });
  assert.equal(wantedReplicas(spec, asked(0), [10 * MINUTE]).wanted, 1);
  assert.equal(wantedReplicas(spec, asked(0), [10 * MINUTE, 10 * MINUTE]).wanted, 1);
});

test('a replica is kept until it has been idle for the idle time', () => {
  const wanted = [0, 30_000, MINUTE - 1, MINUTE, MINUTE + 1].map(
    (idle) => wantedReplicas(SPEC, asked(0), [idle]).wanted,
  );
  assert.deepEqual(wanted, [1, 1, 1, 0, 0]);
  assert.equal(wantedReplicas(SPEC, asked(0), [30_000]).reason, 'in use within the idle time');
  assert.equal(wantedReplicas(SPEC, asked(0), [MINUTE]).reason, 'idle for 60 s');
});

test('of three replicas those that are idle go, and those within the idle time stay', () => {
  assert.equal(wantedReplicas(SPEC, asked(1), [0, MINUTE, 2 * MINUTE]).wanted, 1);
  assert.equal(wantedReplicas(SPEC, asked(1), [0, 1000, 2 * MINUTE]).wanted, 2);
  assert.equal(wantedReplicas(SPEC, asked(5), [MINUTE, MINUTE, MINUTE]).wanted, 3, 'needed, however idle they were');
});

test('a burst of a minute: up at once, held through pauses, down when the pauses last', () => {
  // Second by second: requests, then the replicas that a perfect market would give, each idle since its last request.
  const load = [0, 5, 5, 1, 1, ...Array.from({ length: 130 }, () => 0)];
  const idle: number[] = [];
  const seen = load.map((slots) => {
    const busy = Math.ceil(slots / 2);
    for (let n = 0; n < idle.length; n += 1) idle[n] = n < busy ? 0 : (idle[n] ?? 0) + 1000;
    const { wanted } = wantedReplicas(SPEC, asked(slots), idle);
    while (idle.length < wanted) idle.push(0);
    while (idle.length > wanted) idle.splice(idle.indexOf(Math.max(...idle)), 1);
    return wanted;
  });
  assert.deepEqual(seen.slice(0, 5), [0, 3, 3, 3, 3]);
  assert.equal(seen[60], 3, 'the two that were last used at second 2 are held');
  assert.equal(seen[63], 1, 'a minute later they are given back, the other one stays');
  assert.equal(seen.at(-1), 0);
  const changes = seen.filter((wanted, at) => at > 0 && wanted !== seen[at - 1]).length;
  assert.equal(changes, 3, 'up once, down twice: no flapping');
});

test('an order that nobody waits for any more is not wanted', () => {
  assert.equal(wantedReplicas(SPEC, asked(0), [Infinity]).wanted, 0);
  assert.equal(wantedReplicas(SPEC, asked(1), [0]).wanted, 1);
});

test('a pool whose limits were lowered gives back the surplus, busy or not', () => {
  const deleted = { ...SPEC, replicasMin: 0, replicasMax: 0 };
  assert.deepEqual(wantedReplicas(deleted, asked(5), [0, 0]), { wanted: 0, reason: 'at most 0 replicas' });
});

test('what is wanted lies within the limits, covers the demand, and never grows without demand', () => {
  const idles = fc.array(fc.integer({ min: 0, max: 3 * MINUTE }), { maxLength: 12 });
  fc.assert(
    fc.property(fc.nat(40), fc.nat(5), fc.nat(10), idles, (slots, min, extra, idle) => {
      const spec = { ...SPEC, replicasMin: min, replicasMax: min + extra };
      const { wanted, reason } = wantedReplicas(spec, asked(slots), idle);
      assert.ok(wanted >= min && wanted <= min + extra);
      assert.ok(wanted >= Math.min(spec.replicasMax, Math.ceil(slots / 2)));
      if (slots === 0) assert.ok(wanted <= Math.max(min, idle.length));
      assert.ok(reason.length > 0);
    }),
  );
});

/** Kept by what a start-up costs: three minutes here. */
const LEARNS = { ...testSpec({ replicas: { min: 0, max: 6 } }), idleMs: null };
const START_MS = 3 * MINUTE;

test('a pool without an idle time keeps a replica for one start-up, while no pauses were seen', () => {
  const at = (sinceMs: number): number => learnedWanted({ levels: [level(0)], nowMs: sinceMs });
  assert.deepEqual([at(START_MS - 1000), at(START_MS)], [1, 0]);
});

test('a further replica, whose absence makes answers late, is kept longer', () => {
  const at = (sinceMs: number): number => learnedWanted({ levels: [level(0), level(0)], nowMs: sinceMs });
  assert.deepEqual([at(1.4 * START_MS), at(1.5 * START_MS)], [2, 0]);
});

test('pauses shorter than the break-even are waited out, pauses that are longer are not', () => {
  const short = level(0, [MINUTE, MINUTE, 2 * MINUTE, MINUTE]);
  assert.ok(holdMs(short, { startMs: START_MS, lateWeight: 0, least: 0.25 }) >= 2 * MINUTE);
  const long = level(0, [HOUR, 2 * HOUR, HOUR, HOUR]);
  const held = holdMs(long, { startMs: START_MS, lateWeight: 0, least: 0.25 });
  assert.ok(held > 0 && held < START_MS, `${held} ms: some, since what was paid for is used`);
});

test('a further replica is never given up before its start-up has been used, however short its need was before', () => {
  const pausesMs = [HOUR, HOUR, 2 * HOUR, HOUR];
  const at = (levels: readonly Level[], sinceMs: number): number => learnedWanted({ levels, nowMs: sinceMs });
  const both = [level(0, pausesMs), level(0, pausesMs)];
  assert.deepEqual([at(both, START_MS - 1000), at(both, START_MS)], [2, 0]);
  assert.equal(at([level(0, pausesMs)], START_MS / 2), 0, 'the first one waits for nobody whom it would make late');
});

test('holding never costs more than twice what foresight would, on the pauses that were seen', () => {
  const pauses = fc.array(fc.integer({ min: 30_000, max: 4 * HOUR }), { minLength: 3, maxLength: 32 });
  fc.assert(
    fc.property(pauses, fc.double({ min: 0, max: 20, noNaN: true }), (pausesMs, lateWeight) => {
      const giveUp = START_MS * (1 + lateWeight);
      const hold = holdMs(level(0, pausesMs), { startMs: START_MS, lateWeight, least: 0.25 });
      const paid = pausesMs.reduce((sum, pause) => sum + (pause <= hold ? pause : hold + giveUp), 0);
      const best = pausesMs.reduce((sum, pause) => sum + Math.min(pause, giveUp), 0);
      assert.ok(paid <= 2 * best + 1, `${paid} for ${best}`);
    }),
  );
});

test('a replica more is kept against loss where losses would make too many answers late', () => {
  const wanted = (lossesPerHour: number): number => learnedWanted({ needed: 3, lossesPerHour });
  assert.deepEqual([wanted(0), wanted(0.01), wanted(0.2)], [3, 3, 4]);
});

test('an order is not wanted any more when nobody has asked for a while, a start-up still is', () => {
  const state = { levels: [level(0)], nowMs: 30_000, demand: { slots: 0, waiting: 0, idleMs: 30_000 } };
  assert.equal(learnedWanted({ ...state, idleMs: [Infinity] }), 0);
  assert.equal(learnedWanted({ ...state, idleMs: [0] }), 1);
});

test('what is learned stays within the limits of the pool, and its own idle time counts more', () => {
  assert.equal(learnedWanted({ needed: 40 }), 6);
  assert.equal(learnedWanted({ needed: 0, spec: { ...LEARNS, replicasMin: 2 } }), 2);
  const own = { ...LEARNS, idleMs: MINUTE };
  const idleMs = [2 * MINUTE, 2 * MINUTE];
  assert.equal(learnedWanted({ needed: 5, spec: own, idleMs }), 0, 'nothing is asked, and all were idle for longer');
});

const HOUR = 60 * MINUTE;
const level = (neededMs: number, pausesMs: readonly number[] = []): Level => ({ neededMs, pausesMs });

interface State {
  readonly spec: PoolSpec;
  readonly needed: number;
  readonly levels: readonly Level[];
  readonly nowMs: number;
  readonly lossesPerHour: number;
  readonly demand: Demand;
  readonly idleMs: readonly number[];
}

function learnedWanted(state: Partial<State>): number {
  const { spec = LEARNS, needed = 0, levels = [], nowMs = 0, lossesPerHour = 0 } = state;
  const history = { ...newHistory(0), needed, levels };
  const learned = { nowMs, history, startMs: START_MS, lossesPerHour };
  return wantedReplicas(spec, state.demand ?? asked(0), state.idleMs ?? [0, 0, 0, 0, 0, 0], learned).wanted;
}

function asked(slots: number): { slots: number; waiting: number; idleMs: number } {
  return { slots, waiting: slots, idleMs: 0 };
}
