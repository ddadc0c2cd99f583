import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Policy, PolicyView, SeenReplica } from '../../../src/scheduler/simulation/policy.ts';
import { dstack } from '../../../src/scheduler/simulation/rivals/dstack.ts';
import { keda } from '../../../src/scheduler/simulation/rivals/keda.ts';
import { kpa } from '../../../src/scheduler/simulation/rivals/kpa.ts';
import { ray } from '../../../src/scheduler/simulation/rivals/ray.ts';
import { runpod } from '../../../src/scheduler/simulation/rivals/runpod.ts';
import { skyServe } from '../../../src/scheduler/simulation/rivals/skyserve.ts';
import { staticPeak } from '../../../src/scheduler/simulation/rivals/static-peak.ts';
import { testSpec } from '../../fakes/market-samples.ts';

/** Each rule against the numbers its project documents; machines come and go at once here, so that only the rule is seen. */

const MINUTE_MS = 60_000;

test('KPA wants the mean of a minute at 70 % of what a container takes, and never less than half of what is ready', () => {
  // 28 at work: 28 / (16 * 0.7) = 2.5.
  assert.equal(play(kpa(16), { until: 3 * MINUTE_MS, start: 3, inFlight: () => 28 }).last, 3);
  // 6 at work want one; from eight it goes by halves.
  const down = play(kpa(16), { until: 4 * MINUTE_MS, start: 8, inFlight: () => 6 });
  assert.ok(down.counts.includes(4) && down.counts.includes(2) && down.last === 1, down.counts.join(' '));
});

test('KPA panics at twice what is ready: up by the mean of six seconds, and not down for a minute', () => {
  const burst = (atMs: number): number => (atMs >= 2 * MINUTE_MS && atMs < 2 * MINUTE_MS + 20_000 ? 100 : 5);
  const { at } = play(kpa(16), { until: 5 * MINUTE_MS, start: 1, inFlight: burst });
  assert.ok(at(2 * MINUTE_MS + 12_000) >= 9, `${at(2 * MINUTE_MS + 12_000)} after 12 s of a hundred`);
  assert.ok(at(2 * MINUTE_MS + 50_000) >= 9, 'held');
  assert.ok(at(4 * MINUTE_MS) < 9, 'and left after a minute below the threshold');
});

test('KPA keeps the last one for thirty seconds after a minute without a request', () => {
  const { at } = play(kpa(16), { until: 5 * MINUTE_MS, start: 1, inFlight: (ms) => (ms < MINUTE_MS ? 5 : 0) });
  assert.deepEqual([at(2 * MINUTE_MS + 20_000), at(2 * MINUTE_MS + 45_000)], [1, 0]);
});

test('KEDA leaves a tenth either way alone, follows up at the next sync, and down after five minutes', () => {
  const within = play(keda(10), { until: 10 * MINUTE_MS, start: 2, inFlight: () => 21.9 });
  assert.equal(within.last, 2);
  const up = play(keda(10), { until: 2 * MINUTE_MS, start: 2, inFlight: (ms) => (ms < MINUTE_MS ? 20 : 35) });
  assert.equal(up.at(MINUTE_MS + 20_000), 4);
  const down = play(keda(10), { until: 12 * MINUTE_MS, start: 4, inFlight: (ms) => (ms < MINUTE_MS ? 40 : 10) });
  assert.deepEqual([down.at(5.5 * MINUTE_MS), down.at(7 * MINUTE_MS)], [4, 1]);
});

test('KEDA goes to zero five minutes after the last request', () => {
  const { at } = play(keda(10), { until: 8 * MINUTE_MS, start: 1, inFlight: (ms) => (ms < MINUTE_MS ? 5 : 0) });
  assert.deepEqual([at(5.5 * MINUTE_MS), at(6.5 * MINUTE_MS)], [1, 0]);
});

test('SkyServe goes up after five minutes of agreeing votes, down after twenty, and from zero at once', () => {
  const sky = (): Policy =>
    skyServe({ name: 'skyserve', qpsPerReplica: 1, upMs: 300_000, downMs: 1_200_000, overprovision: 0 });
  const up = play(sky(), { until: 10 * MINUTE_MS, start: 1, min: 1, perS: (ms) => (ms < MINUTE_MS ? 0.9 : 2.9) });
  assert.deepEqual([up.at(5.5 * MINUTE_MS), up.at(7.5 * MINUTE_MS)], [1, 3]);
  const down = play(sky(), {
    until: 40 * MINUTE_MS,
    start: 3,
    min: 1,
    perS: (ms) => (ms < 10 * MINUTE_MS ? 2.9 : 0.5),
  });
  assert.deepEqual([down.at(29 * MINUTE_MS), down.last], [3, 1]);
  const zero = play(sky(), { until: 3 * MINUTE_MS, start: 0, perS: (ms) => (ms < MINUTE_MS ? 0 : 2.5) });
  assert.ok(zero.at(MINUTE_MS + 30_000) >= 1);
});

test('Ray goes up after half a minute above its target and down after ten below', () => {
  const up = play(ray(2), { until: 4 * MINUTE_MS, start: 1, min: 1, inFlight: (ms) => (ms < MINUTE_MS ? 2 : 8) });
  assert.deepEqual([up.at(MINUTE_MS + 20_000), up.last], [1, 4]);
  const down = play(ray(2), { until: 16 * MINUTE_MS, start: 4, min: 1, inFlight: (ms) => (ms < MINUTE_MS ? 8 : 2) });
  assert.deepEqual([down.at(10 * MINUTE_MS), down.last], [4, 1]);
});

test('dstack waits five minutes up and ten down, counted from its last change', () => {
  const perS = (ms: number): number => (ms < MINUTE_MS ? 0.9 : ms < 3 * MINUTE_MS ? 1.9 : 2.9);
  const up = play(dstack(1), { until: 12 * MINUTE_MS, start: 1, min: 1, perS });
  assert.deepEqual([up.at(3 * MINUTE_MS), up.at(5 * MINUTE_MS), up.at(9 * MINUTE_MS)], [2, 2, 3]);
  const fall = (ms: number): number => (ms < 2 * MINUTE_MS ? 3.9 : 0.5);
  const down = play(dstack(1), { until: 20 * MINUTE_MS, start: 1, min: 1, perS: fall });
  // Nothing was changed before, so the first change is made at once.
  assert.deepEqual([down.at(MINUTE_MS), down.at(9.5 * MINUTE_MS), down.last], [4, 4, 1]);
});

test('RunPod adds a worker when somebody waited four seconds, and takes it away after five idle ones', () => {
  const wait = (ms: number): number => (ms >= MINUTE_MS && ms < MINUTE_MS + 4_000 ? 3 : 0);
  const { at, last } = play(runpod(), { until: 2 * MINUTE_MS, start: 1, min: 1, inFlight: () => 1, waiting: wait });
  assert.deepEqual([at(MINUTE_MS + 2_000), at(MINUTE_MS + 5_000)], [1, 2]);
  assert.equal(last, 1);
});

test('static peak is always as many', () => {
  assert.equal(play(staticPeak(3), { until: MINUTE_MS, start: 0, inFlight: () => 50 }).last, 3);
});

interface Play {
  readonly until: number;
  readonly start: number;
  readonly min?: number;
  readonly inFlight?: (atMs: number) => number;
  readonly waiting?: (atMs: number) => number;
  readonly perS?: (atMs: number) => number;
}

/** How many there are over time when what is ordered works at once. Idle are those that the requests at work leave over. */
function play(policy: Policy, given: Play): { counts: number[]; last: number; at: (ms: number) => number } {
  const { until, start, min = 0, inFlight = () => 0, waiting = () => 0, perS = () => 0 } = given;
  const spec = { ...testSpec({ replicas: { min, max: 20 }, slots: 16 }), replicasMin: min, replicasMax: 20 };
  let replicas: SeenReplica[] = Array.from({ length: start }, (_, n) => replica(`r${n}`, 0));
  let [made, arrivals, requestMs, waitedMs] = [start, 0, 0, 0];
  const counts: number[] = [];
  const times: number[] = [];
  for (let nowMs = 0; nowMs <= until; nowMs += policy.tickMs) {
    const [busy, line] = [inFlight(nowMs), waiting(nowMs)];
    arrivals += (perS(nowMs) * policy.tickMs) / 1000;
    requestMs += (busy + line) * policy.tickMs;
    waitedMs = line > 0 ? waitedMs + policy.tickMs : 0;
    replicas = replicas.map((one, at) => ({
      ...one,
      inFlight: at < busy ? 1 : 0,
      idleMs: at < busy ? 0 : one.idleMs + policy.tickMs,
    }));
    const view: PolicyView = {
      ...{ nowMs, spec, replicas, waiting: line, inFlight: busy, arrivals, requestMs, oldestWaitMs: waitedMs },
      ...{ askedTokens: 0, inputTokens: 0, outputTokens: 0, ended: 0, late: 0, begun: 0, spentTodayNanoUsd: 0n },
    };
    for (const action of policy.decide(view)) {
      if (action.type === 'order') replicas = [...replicas, replica(`r${(made += 1)}`, nowMs)];
      else if ('replica' in action) replicas = replicas.filter(({ id }) => id !== action.replica);
    }
    counts.push(replicas.length);
    times.push(nowMs);
  }
  const at = (ms: number): number => counts[times.findLastIndex((time) => time <= ms)] ?? -1;
  return { counts, last: counts.at(-1) ?? -1, at };
}

function replica(id: string, nowMs: number): SeenReplica {
  return {
    ...{ id, state: 'ready', inFlight: 0, idleMs: 0, drainSinceMs: null, costNanoUsdPerHour: 0n },
    ...{ provider: 'a', orderedMs: nowMs, leasedMs: nowMs, readyMs: nowMs },
  };
}
