import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { newHistory } from '../../src/scheduler/demand.ts';
import { planMove, type Candidate, type Movable, type MoveInput } from '../../src/scheduler/moving.ts';
import type { Action } from '../../src/scheduler/plan.ts';
import { planWhole } from '../../src/scheduler/pool-plan.ts';
import { PoolRouter } from '../../src/scheduler/pool/router.ts';
import type { ReplicaRecord, ReplicaState } from '../../src/scheduler/records.ts';
import { parseUsd } from '../../src/units.ts';
import { FakeClock } from '../fakes/clock.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { testReplica } from '../fakes/replica-samples.ts';

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;

test('a replica moves where the saving over its expected life is more than moving costs, and the figures are told', () => {
  const move = planMove(input({ candidates: [candidate('near', '0.30'), candidate('far', '0.35')] }));
  assert.equal(move?.replica, 'rep-1');
  assert.equal(
    move.reason,
    'rep-1 at desk costs 0.50 USD/h, near asks 0.30: 0.800 USD saved in the 4.0 h expected, 0.0136 to move',
  );
  assert.equal(move.mostNanoUsdPerHour, parseUsd('0.425'), 'an order that asks for a saving of 15 % at least');
  assert.equal(move.detail['saved_usd'], '0.800');
});

test('a replica that stays only for a while longer does not move', () => {
  const of = (lifeMs: number): boolean => planMove(input({ candidates: [candidate('near', '0.30')], lifeMs })) !== null;
  assert.deepEqual([of(4 * MINUTE_MS), of(20 * MINUTE_MS)], [false, true]);
});

test('a long start-up, or one that often fails, must be saved first', () => {
  const of = (change: Partial<Candidate>): boolean =>
    planMove(input({ candidates: [candidate('near', '0.40', change)], lifeMs: HOUR_MS })) !== null;
  assert.deepEqual([of({}), of({ startMs: 15 * MINUTE_MS }), of({ startMs: 8 * MINUTE_MS })], [true, false, true]);
  assert.equal(of({ startMs: 8 * MINUTE_MS, failureChance: 0.9 }), false);
});

test('it stays for twice as long as its start-up took, and five minutes at least', () => {
  const of = (ageMs: number, startMs: number): boolean => {
    const replicas = [replica('rep-1', '0.50', { readyMs: 0, startMs })];
    return planMove(input({ replicas, candidates: [candidate('near', '0.30')], nowMs: ageMs })) !== null;
  };
  assert.deepEqual([of(5 * MINUTE_MS - 1, 1000), of(5 * MINUTE_MS, 1000)], [false, true]);
  assert.deepEqual([of(20 * MINUTE_MS - 1, 10 * MINUTE_MS), of(20 * MINUTE_MS, 10 * MINUTE_MS)], [false, true]);
});

test('of several the one that saves most moves, and no provider gets more than its half', () => {
  const replicas = [replica('a', '0.50'), replica('b', '0.60', { provider: 'other' })];
  assert.equal(planMove(input({ replicas, candidates: [candidate('near', '0.30')] }))?.replica, 'b');
  const one = [replica('a', '0.50'), replica('b', '0.30', { provider: 'near' })];
  assert.equal(planMove(input({ replicas: one, candidates: [candidate('near', '0.30')] })), null);
});

test('at prices that stand still, replicas move a few times at most and never come back to a dearer one', () => {
  const price = fc.integer({ min: 10, max: 1000 });
  const prices = fc.array(price, { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(fc.array(price, { minLength: 1, maxLength: 4 }), prices, (had, asked) => {
      let replicas = had.map((cents, n) => replica(`r${n}`, cost(cents), { provider: `old-${n}` }));
      const candidates = asked.map((cents, n) => candidate(`p${n}`, cost(cents)));
      const most = replicas.length * Math.ceil(Math.log(100) / Math.log(1 / 0.85));
      for (let moves = 0; ; moves += 1) {
        assert.ok(moves <= most, `${moves} moves`);
        const move = planMove(input({ replicas, candidates }));
        if (!move) break;
        const from = replicas.find(({ id }) => id === move.replica);
        const to = candidates.find(({ provider }) => provider === move.detail['to']);
        assert.ok(from && to && to.costNanoUsdPerHour <= move.mostNanoUsdPerHour);
        assert.ok(to.costNanoUsdPerHour * 100n <= from.costNanoUsdPerHour * 85n, 'each time cheaper by a margin');
        replicas = replicas.map((one) =>
          one === from ? { ...one, provider: to.provider, costNanoUsdPerHour: to.costNanoUsdPerHour } : one,
        );
      }
    }),
  );
});

test('one replica at a time: nothing moves while another one of the pool comes or goes, or while the pool changes', () => {
  const two = testSpec({ replicas: { min: 2, max: 4 } });
  const settled = [record('a'), record('b')];
  const order = plan(settled, two)[0];
  assert.deepEqual(order?.type === 'order' && order.beside, { replaces: 'a', why: 'cheaper' });
  assert.equal(order?.type === 'order' && order.mostNanoUsdPerHour, 7n);
  for (const state of ['ordering', 'accepting', 'starting'] as const) {
    assert.deepEqual(plan([...settled, record('c', state, { beside: { replaces: 'a', why: 'cheaper' } })], two), []);
    assert.ok(!plan([record('a'), record('b', state)], two).some(isMove), state);
  }
  const shrinking = plan(settled, testSpec({ replicas: { min: 0, max: 1 } }));
  assert.deepEqual(
    shrinking.map(({ type }) => type),
    ['drain'],
  );
  const paused = plan([record('a')], testSpec({ replicas: { min: 0, max: 0 } }));
  assert.ok(!paused.some(isMove));
  const growing = plan([record('a')], two);
  assert.deepEqual(growing.map(isMove), [false]);
  const changed = record('a', 'ready', { runs: { version: 'old', engine: 'llama.cpp', model: 'm', kind: 'chat' } });
  const rollout = plan([changed, record('b')], two)[0];
  assert.equal(rollout?.type === 'order' && rollout.beside?.why, 'changed');
});

test('the old one drains when the new one is ready, unless the load wants both by then', () => {
  const pair = [record('a'), record('b', 'ready', { beside: { replaces: 'a', why: 'cheaper' } })];
  assert.deepEqual(plan(pair, testSpec({ replicas: { min: 1, max: 2 } })), [
    { type: 'drain', replica: 'a', reason: 'b has taken its place: it costs less' },
  ]);
  assert.deepEqual(plan(pair, testSpec({ replicas: { min: 2, max: 2 } })), []);
});

test('whatever comes and goes, for its price no replica drains below what is wanted', () => {
  const states = fc.constantFrom<ReplicaState>('ordering', 'accepting', 'starting', 'ready', 'draining');
  fc.assert(
    fc.property(fc.array(states, { maxLength: 4 }), states, fc.nat(4), (others, next, min) => {
      const records = [
        record('a'),
        record('n', next, { beside: { replaces: 'a', why: 'cheaper' } }),
        ...others.map((state, n) => record(`o${n}`, state)),
      ];
      const actions = plan(records, testSpec({ replicas: { min, max: 6 } }));
      const ready = records.filter(({ state }) => state === 'ready').length;
      const drained = actions.filter((action) => action.type === 'drain' && /it costs less/.test(action.reason)).length;
      assert.ok(drained === 0 || (next === 'ready' && ready - drained >= Math.min(min, ready - 1)));
      const live = records.filter(({ state }) => state !== 'draining').length;
      if (drained > 0) assert.ok(live - drained >= min, `${live} live, ${min} wanted`);
    }),
  );
});

const cost = (cents: number): string => (cents / 100).toFixed(2);
const isMove = (action: Action): boolean => action.type === 'order' && action.beside?.why === 'cheaper';

function replica(id: string, usd: string, change: Partial<Movable> = {}): Movable {
  return { id, provider: 'desk', costNanoUsdPerHour: parseUsd(usd), readyMs: 0, startMs: MINUTE_MS, ...change };
}

function candidate(provider: string, usd: string, change: Partial<Candidate> = {}): Candidate {
  const told = { market: 'local' as const, failureChance: 0.05, startMs: null, source: 'published' as const };
  return { provider, costNanoUsdPerHour: parseUsd(usd), ...told, ...change };
}

function input(change: Partial<MoveInput> = {}): MoveInput {
  const spec = testSpec({ limits: { drain_s: 60 } });
  const replicas = [replica('rep-1', '0.50')];
  return { spec, replicas, candidates: [], lifeMs: 4 * HOUR_MS, startMs: MINUTE_MS, nowMs: HOUR_MS, ...change };
}

const record = (id: string, state: ReplicaState = 'ready', change: Partial<ReplicaRecord> = {}): ReplicaRecord =>
  testReplica({ id, state, ...(state === 'ready' || state === 'draining' ? {} : { readyMs: null }), ...change });

/** What a pool would do if moving its replica "a" paid. */
function plan(records: readonly ReplicaRecord[], spec: ReturnType<typeof testSpec>): Action[] {
  const router = new PoolRouter(spec, new FakeClock(0), () => undefined);
  const move = { replica: 'a', mostNanoUsdPerHour: 7n, reason: 'cheaper', detail: {} };
  const actions = planWhole({
    ...{ router, records, move, budget: { spentTodayNanoUsd: 0n }, nowMs: 0, sinceMs: 0 },
    learned: { nowMs: 0, history: newHistory(0), startMs: MINUTE_MS, lossesPerHour: 0 },
    ...{ backoffUntilMs: 0, specialBackoffUntilMs: 0, rolloutPaused: false },
  });
  return actions.filter(({ type }) => type !== 'close');
}
