import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { distance, type Position } from '../../../src/scheduler/canary/distance.ts';
import { calibrationOf } from '../../../src/scheduler/canary/honest.ts';
import { drawFrom, makeQuestion } from '../../../src/scheduler/canary/questions.ts';
import {
  breachAt,
  calibrate,
  isBreach,
  NO_EVIDENCE,
  shareBound,
  weigh,
  type Calibration,
} from '../../../src/scheduler/canary/sequential-test.ts';
import { seeded, type Seeded } from '../../../src/scheduler/simulation/seeded.ts';

/** As measured on real model servers: mostly nothing, now and then what another batch rounds differently. */
const honest = (draw: Seeded): number => (draw() < 0.7 ? draw() * 0.001 : Math.exp(-4 + 1.2 * normal(draw)));
/** The same model with coarser weights: most of its answers are further away than honest ones ever are. */
const cheat = (draw: Seeded): number => Math.exp(0.5 + 0.5 * normal(draw));
/** A cheat that is hard to tell: one answer in three is far away. */
const sly = (draw: Seeded): number => (draw() < 0.35 ? cheat(draw) : honest(draw));

test('honest leases are accused no more often than the stated rate, each with a calibration of its own', (t) => {
  const [alpha, leases, canaries] = [0.02, 2000, 400];
  let alarms = 0;
  for (let lease = 0; lease < leases; lease += 1) {
    const draw = seeded(lease, 'honest');
    if (firstAlarm(calibrated(draw, alpha, 100), alpha, canaries, () => honest(draw)) !== null) alarms += 1;
  }
  t.diagnostic(`false alarms: ${alarms} of ${leases} leases of ${canaries} canaries each, alpha ${alpha}`);
  assert.ok(alarms <= alpha * leases, `${alarms} of ${leases}`);
});

test('a lease of other weights is found within a dozen canaries at one false alarm in ten thousand', (t) => {
  const alpha = 1e-4;
  const delays = (make: (draw: Seeded) => number, honestFirst = 0): number[] =>
    Array.from({ length: 300 }, (_, lease) => {
      const draw = seeded(lease, 'cheat');
      let asked = 0;
      const next = (): number => ((asked += 1) <= honestFirst ? honest(draw) : make(draw));
      const found = firstAlarm(calibrated(draw, alpha, 150), alpha, 600, next);
      assert.notEqual(found, null, `lease ${lease} was not found`);
      return (found ?? 0) - honestFirst;
    }).toSorted((a, b) => a - b);
  const [blunt, careful, late] = [delays(cheat), delays(sly), delays(cheat, 100)];
  for (const [name, all] of [
    ['other weights', blunt],
    ['one answer in three', careful],
    ['other weights after 100 honest answers', late],
  ] as const)
    t.diagnostic(`${name}: found after ${all[150]} canaries (median), ${all[297]} (99 %)`);
  assert.ok((blunt[297] ?? 99) <= 12, `${blunt[297]}`);
  assert.ok((careful[297] ?? 999) <= 120, `${careful[297]}`);
  assert.ok((late[297] ?? 99) <= 16, `${late[297]}`);
});

test('the e-value is a supermartingale where hits come no more often than calibrated', () => {
  const calibration: Calibration = { threshold: 1, hitShare: 0.1, count: 100 };
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 60 }), (past) => {
      const before = past.reduce((evidence, hit) => weigh(evidence, hit ? 2 : 0, calibration), NO_EVIDENCE);
      const expected = 0.1 * weigh(before, 2, calibration).eValue + 0.9 * weigh(before, 0, calibration).eValue;
      assert.ok(expected <= before.eValue * (1 + 1e-9), `${expected} of ${before.eValue}`);
    }),
  );
});

test('no answer alone is a breach, and what was once is', () => {
  const calibration: Calibration = { threshold: 1, hitShare: 0.05, count: 200 };
  let evidence = weigh(NO_EVIDENCE, 9, calibration);
  assert.equal(isBreach(evidence, 0.01), false);
  for (let n = 0; n < 10; n += 1) evidence = weigh(evidence, 9, calibration);
  assert.ok(isBreach(evidence, 0.01) && evidence.peak >= breachAt(0.01));
  for (let n = 0; n < 200; n += 1) evidence = weigh(evidence, 0, calibration);
  assert.equal(isBreach(evidence, 0.01), true);
});

test('too few honest distances calibrate nothing, and the bound on their share is exact', () => {
  assert.equal(calibrate([], 1e-4), null);
  assert.equal(
    calibrate(
      Array.from({ length: 30 }, () => 0),
      1e-4,
    ),
    null,
  );
  // All of n draws below a threshold with a chance of delta: (1 - p)^n = delta.
  assert.ok(Math.abs(shareBound(100, 0, 1e-3) - (1 - 1e-3 ** (1 / 100))) < 1e-9);
  const rising = [0.05, 0.1, 0.2].map((share) => shareBound(200, Math.floor(200 * share), 1e-4));
  assert.deepEqual(rising.toSorted(), rising);
});

test('strangers calibrate only two or more together, and only if they agree', () => {
  const rules = { calibrate: 'first' as const, distances: 120, falseAlarm: 1e-3 };
  const from = (provider: string, count: number, value: number) =>
    Array.from({ length: count }, () => ({ provider, distance: value }));
  assert.equal(calibrationOf(from('a', 500, 0.01), rules), 'too few');
  assert.equal(typeof calibrationOf([...from('a', 60, 0.01), ...from('b', 60, 0.02)], rules), 'object');
  assert.equal(calibrationOf([...from('a', 60, 0.01), ...from('b', 60, 1.5)], rules), 'they disagree');
  assert.equal(typeof calibrationOf(from('a', 120, 0.01), { ...rules, calibrate: 'trusted' }), 'object');
});

test('answers are compared as far as they say the same, and a choice that is not the likeliest counts', () => {
  const at = (token: string, gap = 0): Position => ({
    token,
    top: [
      { token: 'a', logprob: -0.5 - gap },
      { token: 'b', logprob: -2 + gap },
    ],
  });
  assert.equal(distance([at('a'), at('a')], [at('a'), at('a')]), 0);
  assert.equal(distance([at('a', 0.25)], [at('a')]), 0.25);
  assert.equal(distance([], [at('a')]), null);
  // Not temperature 0: its lists are right, what it chose is not. What comes after is about other texts.
  assert.equal(distance([at('b'), at('a', 3)], [at('a'), at('a')]), 1.5);
  // A list with nothing likely in it makes no other choice better than none.
  const hopeless: Position = { token: 'b', top: [{ token: 'a', logprob: -11 }] };
  assert.equal(distance([{ token: 'a', top: [{ token: 'a', logprob: 0 }] }], [hopeless]), 3);
  fc.assert(
    fc.property(fc.array(positions, { maxLength: 5 }), fc.array(positions, { maxLength: 5 }), (mine, theirs) => {
      const found = distance(mine, theirs);
      assert.ok(found === null || (found >= 0 && found <= 6));
      assert.ok(distance(mine, mine) === null || distance(mine, mine) === 0 || mine.some(unlikely));
    }),
  );
});

test('questions differ, are bounded, and look like what people ask', () => {
  const made = Array.from({ length: 500 }, (_, n) => {
    const draw = seeded(n, 'questions');
    return makeQuestion(drawFrom(Uint8Array.from({ length: 512 }, () => Math.floor(draw() * 256))), 8);
  });
  const texts = new Set(made.map(({ messages }) => JSON.stringify(messages)));
  assert.ok(texts.size > 450, `${texts.size} different ones`);
  for (const { messages, maxTokens } of made) {
    assert.ok(maxTokens >= 2 && maxTokens <= 8);
    assert.ok(JSON.stringify(messages).length < 1500);
  }
  assert.ok(made.some(({ stream }) => stream) && made.some(({ stream }) => !stream));
});

const positions: fc.Arbitrary<Position> = fc.record({
  token: fc.constantFrom('a', 'b', 'c'),
  top: fc.array(
    fc.record({ token: fc.constantFrom('a', 'b', 'c'), logprob: fc.double({ min: -20, max: 0, noNaN: true }) }),
  ),
});
const unlikely = ({ token, top }: Position): boolean => {
  const best = Math.max(...top.map(({ logprob }) => logprob));
  return (
    top.find((one) => one.token === token)?.logprob !== best || new Set(top.map((one) => one.token)).size < top.length
  );
};

function calibrated(draw: Seeded, alpha: number, count: number): Calibration {
  const calibration = calibrate(
    Array.from({ length: count }, () => honest(draw)),
    alpha,
  );
  assert.ok(calibration);
  return calibration;
}

function firstAlarm(calibration: Calibration, alpha: number, most: number, next: () => number): number | null {
  let evidence = NO_EVIDENCE;
  for (let asked = 1; asked <= most; asked += 1) {
    evidence = weigh(evidence, next(), calibration);
    if (isBreach(evidence, alpha)) return asked;
  }
  return null;
}

function normal(draw: Seeded): number {
  return Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
}
