import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { EMPTY_FLEET, fleetOf, quarantineMs, quarantineOf } from '../../src/scheduler/reputation.ts';
import {
  failuresInRow,
  HALF_LIFE_MS,
  LOSS_CAUSES,
  newRecord,
  START_CAUSES,
  withService,
  withSpeed,
  withStart,
  type TrackRecord,
} from '../../src/scheduler/track-record.ts';
import { DAY, fail, HOUR, recordWith, scoreOf, startAt } from './track-samples.ts';

const CAUSES = [...START_CAUSES, ...LOSS_CAUSES];

test('a newcomer is taken for what its market is like: at first, one lease in twenty fails within an hour', () => {
  const first = scoreOf(null);
  assert.ok(Math.abs(first.failureChance - 0.0496) < 0.0001, String(first.failureChance));
  assert.equal(first.reason, 'new here: 5 % risk');
  assert.deepEqual([first.startMs, first.speed], [null, 1]);
  const bad = fleetOf([recordWith({ started: 10, failed: 30, hours: 20, lost: 10 })], 0);
  assert.ok(scoreOf(null, { fleet: bad }).failureChance > 0.4, 'of a market where most fail');
  const good = fleetOf([recordWith({ started: 500, hours: 5000 })], 0);
  assert.ok(scoreOf(null, { fleet: good }).failureChance < 0.005, 'of one where none does');
});

test('a failed lease is held against its provider, fades by half in a week, and is forgotten', () => {
  const record = fail(newRecord('akash', 'someone', 0), 'delivery_failed', 0);
  const own = (nowMs: number): number => scoreOf(record, { nowMs }).terms[0]?.ownBad ?? Number.NaN;
  assert.equal(own(0), 1);
  assert.ok(Math.abs(own(HALF_LIFE_MS) - 0.5) < 1e-9);
  const risks = [0, 7, 14, 28, 56].map((days) => scoreOf(record, { nowMs: days * DAY }).failureChance);
  assert.deepEqual(
    risks,
    risks.toSorted((a, b) => b - a),
  );
  assert.equal(risks.at(-1), scoreOf(null).failureChance, 'after eight weeks it is as one that was never seen');
  assert.ok((risks[0] ?? 0) > scoreOf(null).failureChance);
});

test('what a replica is lost by weighs by the hours that it served', () => {
  const risk = (hours: number): number => scoreOf(recordWith({ started: 5, hours, lost: 1 })).failureChance;
  assert.ok(risk(1) > risk(100) && risk(100) > risk(2000));
});

test('a dispute that was upheld weighs as three failures', () => {
  const disputed = fail(newRecord('akash', 'someone', 0), 'dispute_upheld', 0);
  const lost = [1, 2, 3].reduce((record) => fail(record, 'silent', 0), newRecord('akash', 'someone', 0));
  assert.equal(scoreOf(disputed).failureChance, scoreOf(lost).failureChance);
});

test('a longer life has more chances to fail', () => {
  const record = recordWith({ started: 3, hours: 10, lost: 1 });
  const risks = [0, 1, 6, 24].map((lifeHours) => scoreOf(record, { lifeHours }).failureChance);
  assert.deepEqual(
    risks,
    risks.toSorted((a, b) => a - b),
  );
  assert.equal(new Set(risks).size, 4);
});

test("a start-up is expected as the provider's own were for this pool, and as the pool's while few were seen", () => {
  const slow = [1, 2, 3, 4].reduce((record) => withStart(record, startAt(0, 100_000)), newRecord('akash', 'x', 0));
  const other = withStart(slow, startAt(0, 1000, 'another pool'));
  assert.equal(scoreOf(other, { poolStartMs: null }).startMs, 100_000);
  assert.equal(scoreOf(other, { poolStartMs: 40_000 }).startMs, 80_000, 'four of its own, two of the pool');
  assert.equal(scoreOf(null, { poolStartMs: 40_000 }).startMs, 40_000);
});

test('speed is held against what was promised, pulled towards the market while little was measured', () => {
  const sample = {
    pool: 'tiny',
    gpu: 'rtx4090',
    atMs: 0,
    prefillTokensPerS: 1000,
    tokensPerS: 20,
    promisedTokensPerS: 40,
  };
  let record = newRecord('akash', 'x', 0);
  const speeds = Array.from({ length: 30 }, () => {
    record = withSpeed(record, sample);
    return scoreOf(record).speed;
  });
  assert.deepEqual(
    speeds,
    speeds.toSorted((a, b) => b - a),
  );
  assert.ok(Math.abs((speeds[0] ?? 0) - 0.875) < 1e-9, 'one measure against three of the prior');
  assert.ok((speeds.at(-1) ?? 0) < 0.57);
  const unknown = withSpeed(newRecord('akash', 'x', 0), { ...sample, promisedTokensPerS: null });
  assert.equal(scoreOf(unknown).speed, 1, 'with nothing to hold it against, it is as promised');
});

test('the risk is a chance whatever was seen, grows with each failure of any cause, and falls with each lease that went well', () => {
  const counts = fc.record({ started: fc.nat(40), failed: fc.nat(40), hours: fc.nat(500), lost: fc.nat(40) });
  fc.assert(
    fc.property(counts, fc.constantFrom(...CAUSES), fc.nat(60 * DAY), (of, cause, laterMs) => {
      const record = recordWith(of);
      const risk = (one: TrackRecord): number => scoreOf(one, { nowMs: laterMs }).failureChance;
      const now = risk(record);
      assert.ok(now > 0 && now <= 1);
      assert.ok(risk(fail(record, cause, laterMs, HOUR)) > now);
      assert.ok(risk(withStart(record, startAt(laterMs))) <= now);
      assert.ok(risk(withService(record, HOUR, laterMs)) <= now);
    }),
  );
});

test('a newcomer stands between those who always failed and those who never did, in whatever market', () => {
  const counts = fc.record({ started: fc.nat(40), failed: fc.nat(40), hours: fc.nat(500), lost: fc.nat(40) });
  fc.assert(
    fc.property(fc.array(counts, { maxLength: 6 }), fc.integer({ min: 1, max: 50 }), (many, count) => {
      const fleet = fleetOf(many.map(recordWith), 0);
      const newcomer = scoreOf(null, { fleet }).failureChance;
      const best = scoreOf(recordWith({ started: count, hours: count }), { fleet }).failureChance;
      const worst = scoreOf(recordWith({ failed: count, lost: count }), { fleet }).failureChance;
      assert.ok(best < newcomer && newcomer < worst);
    }),
  );
});

test('whatever was seen comes ever closer to a newcomer with time', () => {
  const counts = fc.record({ started: fc.nat(9), failed: fc.nat(9), hours: fc.nat(50), lost: fc.nat(9) });
  fc.assert(
    fc.property(counts, (of) => {
      const record = recordWith(of);
      const newcomer = scoreOf(null).failureChance;
      const at = (days: number): number => Math.abs(scoreOf(record, { nowMs: days * DAY }).failureChance - newcomer);
      assert.ok(at(400) <= 1e-12);
      // A weight that is forgotten before another one may move it a little.
      assert.ok(at(30) <= at(0) + 0.01);
    }),
  );
});

test('a provider that fails is passed over for 30 s, doubled each time, at most an hour', () => {
  assert.deepEqual(
    [0, 1, 2, 3, 7, 8, 1000].map((inRow) => quarantineMs(inRow)),
    [0, 30_000, 60_000, 120_000, 1_920_000, 3_600_000, 3_600_000],
  );
  assert.deepEqual(
    [1, 2, 5, 1000].map((inRow) => quarantineMs(inRow, 'slow') / HOUR),
    [1, 2, 16, 24],
    'for longer when its machine was not what was ordered',
  );
});

test('quarantine grows with failures in a row; six hours, or a replica that served well, make good for one or all', () => {
  let record = newRecord('akash', 'x', 0);
  const lasted: number[] = [];
  for (let n = 0; n < 4; n += 1) {
    const atMs = n * HOUR;
    record = fail(record, 'not_ready', atMs);
    lasted.push((quarantineOf(record, atMs)?.untilMs ?? 0) - atMs);
  }
  assert.deepEqual(lasted, [30_000, 60_000, 120_000, 240_000]);
  assert.match(quarantineOf(record, 3 * HOUR)?.reason ?? '', /^not_ready: a test$/);
  assert.equal(quarantineOf(record, 4 * HOUR), null, 'it is over');
  assert.equal(failuresInRow(record, 3 * HOUR + 13 * HOUR), 2, 'two are forgiven after twice six hours');
  const later = fail(record, 'silent', 16 * HOUR);
  assert.equal(quarantineOf(later, 16 * HOUR)?.untilMs, 16 * HOUR + 120_000);
  const served = fail(record, 'silent', 4 * HOUR, 700_000);
  assert.equal(quarantineOf(served, 4 * HOUR)?.untilMs, 4 * HOUR + 30_000, 'it had served for ten minutes');
});

test('leases that fail together are one quarantine, not the shortest of them', () => {
  const three = [0, 1, 2].reduce((record) => fail(record, 'silent', 0, HOUR), newRecord('akash', 'x', 0));
  assert.equal(quarantineOf(three, 0)?.untilMs, 30_000);
  const short = fail(fail(fail(newRecord('akash', 'x', 0), 'silent', 0), 'silent', 0), 'silent', 1000, HOUR);
  assert.equal(quarantineOf(short, 1000)?.untilMs, 60_000);
});

test('each term of a score is told with what was seen, the prior and its weight', () => {
  const { terms, failureChance } = scoreOf(recordWith({ started: 8, failed: 2, hours: 50, lost: 1 }), {
    fleet: EMPTY_FLEET,
  });
  assert.deepEqual(
    terms.map(({ name, ownWeight, ownBad, priorWeight }) => ({ name, ownWeight, ownBad, priorWeight })),
    [
      { name: 'start_failure', ownWeight: 10, ownBad: 2, priorWeight: 10 },
      { name: 'loss_per_hour', ownWeight: 51, ownBad: 1, priorWeight: 100 },
      { name: 'start_ms', ownWeight: 8, ownBad: null, priorWeight: 0 },
      { name: 'speed', ownWeight: 0, ownBad: null, priorWeight: 3 },
    ],
  );
  const [start, loss] = terms;
  assert.ok(Math.abs(failureChance - (1 - (1 - (start?.value ?? 0)) * (1 - (loss?.value ?? 0)))) < 1e-12);
});
