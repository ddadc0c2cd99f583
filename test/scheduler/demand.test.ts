import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  foldDemand,
  measureDemand,
  newHistory,
  type DemandHistory,
  type DemandSample,
} from '../../src/scheduler/demand.ts';
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
  const none = { waiting: 0, inFlight: 0, ready: 0, arrivals: 0, lastUsedMs: 0, waitingSinceMs: null };
  return { ...none, begun: 0, late: 0, ...stats };
}

const RULES = { replicasMax: 10, ttftMs: 5000, slackMs: 5000, startMs: 180_000, lateShare: 0.01 };

test('without measured rates, requests at work and in line say how many replicas are needed', () => {
  const rows = [0, 1, 4, 5, 400].map((slots) => foldDemand(newHistory(0), sample(5000, { slots }), RULES).needed);
  assert.deepEqual(rows, [0, 1, 1, 2, 10]);
});

test('with measured rates, as many replicas are needed as the work that comes keeps busy, and some room', () => {
  const needed = [0, 0.5, 1.5, 2.5].map((replicas) => play(constant(replicas)).needed);
  assert.deepEqual(needed, [0, 1, 2, 3]);
});

test('a burst is seen within seconds: how many replicas would have kept the line short', () => {
  const calm = play(constant(0.5), 60);
  let burst = calm;
  const needed = Array.from({ length: 6 }, () => {
    burst = foldDemand(burst, sample(burst.atMs + 5000, { slots: 40, workMs: 20_000, begun: 20 }), RULES);
    return burst.needed;
  });
  assert.ok(
    calm.needed === 1 && (needed[2] ?? 0) >= 3 && (needed[5] ?? 9) <= 4,
    `${calm.needed}, then ${needed.join()}`,
  );
});

test('a few that are late in one clump are no reason for a replica, which would cost more than it spares; as many each minute are', () => {
  const clumps = (everyMs: number): number => {
    let history = play(constant(0.8), 240);
    for (let count = 0; count < 120; count += 1) {
      const atMs = history.atMs + 5000;
      // Five seconds of work more than may wait.
      const workMs = count % (everyMs / 5000) === 1 ? 20_000 : 3000;
      history = foldDemand(history, sample(atMs, { slots: 3, workMs, begun: 10, ready: 1 }), RULES);
      if (history.needed > 1) return count;
    }
    return Infinity;
  };
  const [once, often] = [clumps(600_000), clumps(30_000)];
  assert.ok(once === Infinity && often < 100, `${once}, ${often}`);
});

test('one late answer in a thousand is no reason for another replica', () => {
  // Every ten minutes a prompt of 60 s: few are late, and one replica more would change little.
  let history = newHistory(0);
  for (let count = 0; count < 2000; count += 1) {
    const workMs = count % 120 === 0 ? 11_000 : 1000;
    history = foldDemand(history, sample(history.atMs + 5000, { slots: 3, workMs, begun: 50 }), RULES);
  }
  assert.equal(history.needed, 1);
});

test('a line that grows while machines start does not order more and more', () => {
  // Ten minutes of work for two and a half replicas, with nothing there to do it.
  const needed: number[] = [];
  let history = newHistory(0);
  for (let atMs = 5000; atMs <= 600_000; atMs += 5000) {
    const lineMs = Math.min(180_000, atMs) * 2.5;
    history = foldDemand(history, sample(atMs, { slots: 50, workMs: 12_500, lineMs, ready: 0 }), RULES);
    needed.push(history.needed);
  }
  assert.ok(Math.max(...needed) <= 6, `${Math.max(...needed)} replicas for the work of two and a half`);
});

test('when replicas are gone, more than those are ordered at once: the line that grows meanwhile has to be done too', () => {
  const calm = play(constant(3.5), 400);
  const gone = sample(calm.atMs + 5000, { slots: 60, workMs: 17_500, lineMs: 20_000, ready: 2, begun: 10 });
  const { needed } = foldDemand(calm, gone, RULES);
  assert.ok(needed > calm.needed && needed <= calm.needed + 2, `${needed} after ${calm.needed}`);
});

test('a line that those who are there will have done by then orders nobody', () => {
  const calm = play(constant(1.5), 400);
  const clump = sample(calm.atMs + 5000, { slots: 60, workMs: 7500, lineMs: 60_000, ready: 2, begun: 10 });
  assert.equal(foldDemand(calm, clump, RULES).needed, calm.needed);
});

test('a line that nobody is to be left in has one more; one that is done soon has none, though who is late is late', () => {
  const calm = play(constant(2.6), 400);
  const line = (lineMs: number): number => {
    return foldDemand(calm, sample(calm.atMs + 5000, { slots: 60, workMs: 13_000, lineMs, ready: 3, begun: 10 }), RULES)
      .needed;
  };
  // Three have less than half a replica to spare: that is two minutes of work in five.
  assert.deepEqual([line(0), line(60_000), line(600_000)], [calm.needed, calm.needed, calm.needed + 1]);
});

test('in a burst that is a little more than its replicas do, no one more is ordered, which would come too late', () => {
  let history = play(constant(1.2), 240);
  const needed: number[] = [];
  for (let count = 0; count < 23; count += 1) {
    const lineMs = 1000 * count;
    const atMs = history.atMs + 5000;
    history = foldDemand(history, sample(atMs, { slots: 60, workMs: 21_500, lineMs, ready: 4, begun: 30 }), RULES);
    needed.push(history.needed);
  }
  assert.ok(Math.max(...needed) <= 4, needed.join());
});

test('work that grows is planned for as it will be when a replica that is ordered now works', () => {
  const rising = (atMs: number): number => (atMs / 3_600_000) * 6;
  const flat = (atMs: number): number => Math.min(rising(atMs), 2.6);
  const minutes = (rate: (atMs: number) => number): number => {
    for (let history = newHistory(0); ;) {
      history = play(rate, 1, history);
      if (history.needed >= 3) return history.atMs / 60_000;
      if (history.atMs > 7_200_000) return Infinity;
    }
  };
  // Two replicas are full at minute 20, and a start-up takes three.
  assert.ok(minutes(rising) < 20, `third one at minute ${minutes(rising)}`);
  assert.ok(minutes(flat) <= 26, `third one at minute ${minutes(flat)}`);
});

test('the beginning of a load is no trend', () => {
  const needed = [20, 40, 60, 120, 240].map((samples) => play(constant(2.7), samples).needed);
  assert.deepEqual(needed, [3, 3, 3, 3, 3]);
});

test('late answers raise what one fewer is worth, without end they do not; it comes down when they end', () => {
  const calm = play(constant(1), 100);
  let late = calm;
  for (let count = 0; count < 400; count += 1) {
    late = foldDemand(late, sample(late.atMs + 5000, { slots: 4, workMs: 5000, begun: 10, late: 3 }), RULES);
  }
  assert.ok(late.worth > 2 * calm.worth && late.worth <= 5, `${calm.worth}, then ${late.worth}`);
  const { worth } = play(constant(1), 20_000, late);
  assert.ok(worth < late.worth / 4, `${worth} a day after ${late.worth}`);
});

test('the pauses of each replica are kept, the last ones only', () => {
  let history = newHistory(0);
  for (let round = 0; round < 50; round += 1) {
    history = foldDemand(history, sample(round * 100_000, { slots: 8 }), RULES);
    history = foldDemand(history, sample(round * 100_000 + 5000, { slots: 8 }), RULES);
  }
  assert.deepEqual(
    history.levels.map(({ pausesMs }) => [pausesMs.length, pausesMs.at(-1)]),
    [
      [32, 95_000],
      [32, 95_000],
    ],
  );
});

test('more demand never needs fewer replicas, never more than the pool may have, and a clock that stands harms nothing', () => {
  const steps = fc.array(fc.record({ tookMs: fc.nat(20_000), slots: fc.nat(60), work: fc.nat(100_000) }), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 3 }), (given, times) => {
      let [less, more] = [newHistory(0), newHistory(0)];
      for (const { tookMs, slots, work } of given) {
        const atMs = less.atMs + tookMs;
        less = foldDemand(less, sample(atMs, { slots, workMs: work }), RULES);
        more = foldDemand(more, sample(atMs, { slots: slots * times, workMs: work * times }), RULES);
        // The trend is a share of the work: twice the work has the same one.
        assert.ok(more.needed >= less.needed, `${more.needed} < ${less.needed}`);
        assert.ok(more.needed <= RULES.replicasMax && more.levels.length <= RULES.replicasMax);
        assert.ok(Number.isFinite(more.worth) && more.lateness.lines.length <= RULES.replicasMax);
      }
    }),
  );
});

function sample(atMs: number, change: Partial<DemandSample> = {}): DemandSample {
  return { atMs, slots: 0, slotsPerReplica: 4, workMs: null, lineMs: 0, begun: 0, late: 0, ...change };
}

const constant = (replicas: number) => (): number => replicas;

/** Samples every five seconds of work for so many replicas. */
function play(rate: (atMs: number) => number, samples = 400, from: DemandHistory = newHistory(0)): DemandHistory {
  let history = from;
  for (let count = 0; count < samples; count += 1) {
    const atMs = history.atMs + 5000;
    const workMs = rate(atMs) * 5000;
    history = foldDemand(history, sample(atMs, { slots: workMs > 0 ? 3 : 0, workMs, begun: 10 }), RULES);
  }
  return history;
}
