import assert from 'node:assert/strict';
import { test } from 'node:test';
import { comparePairs, disagreements, outcomeOf, reportOf, type Outcome } from '../../bench/replay/comparison.ts';
import { imitate, SETTINGS, stepOf } from '../../bench/replay/simulated.ts';

test('a question that failed or was answered after the limit is late', () => {
  const answers = [{ ttftMs: 100 }, { ttftMs: 3000 }, { ttftMs: null }, { ttftMs: 200 }];
  const expected = { cost_usd: 2, within_share: 0.5, ttft_p50_s: 0.2, ttft_p99_s: 3, failed_requests: 1 };
  assert.deepEqual(outcomeOf(answers, 2, 1000), expected);
  assert.equal(outcomeOf([], 0, 1000).within_share, 0);
});

test('two settings in the same order on real servers and in the simulation agree, whatever the figures are', () => {
  const { real, simulated } = setup();
  const pairs = comparePairs(real, simulated);
  assert.equal(pairs.length, 6);
  assert.deepEqual(disagreements(pairs), []);
});

test('tells which pair is the other way round, and which is equal in one place only', () => {
  const { real, simulated } = setup();
  simulated.set('learned', outcome(1.2, 1));
  assert.deepEqual(disagreements(comparePairs(real, simulated)), [
    'rent of fixed beside learned is lower on real servers, is higher in the simulation',
    'share within the limit of static beside learned is higher on real servers, is the same in the simulation',
  ]);
});

test('a difference of a few hundredths of rent is none', () => {
  const pairs = comparePairs(
    new Map([
      ['one', outcome(1, 1)],
      ['other', outcome(1.04, 1)],
    ]),
    new Map([
      ['one', outcome(1, 1)],
      ['other', outcome(0.97, 1)],
    ]),
  );
  assert.deepEqual(disagreements(pairs), []);
});

test('a setting that was not simulated agrees with nothing', () => {
  const { real, simulated } = setup();
  simulated.delete('fixed');
  assert.equal(disagreements(comparePairs(real, simulated)).length, 4);
});

test('the report has a line for each setting and place', () => {
  const rows = [
    { system: 'static', scenario: 'real', ...outcome(0.000_5, 1) },
    { system: 'static', scenario: 'simulated', ...outcome(0.000_4, 0.5) },
  ];
  const report = reportOf(rows, 1500);
  assert.match(report, /within 1\.5 s %/);
  assert.match(report, /static {2,}real +500 +100\.0/);
  assert.match(report, /static {2,}simulated +400 +50\.0/);
});

test('the load tells the settings apart in the simulation, whatever a start-up takes, so that an order can be wrong', () => {
  for (const startMs of [2500, 3500, 4500, 6000]) {
    for (const stepMs of [10, 30]) {
      const { always, idle, learned } = simulated({ startMs, stepMs });
      assert.ok(always.cost_usd > 1.5 * idle.cost_usd && idle.cost_usd > 1.5 * learned.cost_usd);
      assert.equal(always.within_share, 1);
      assert.ok(learned.within_share < 0.9 && learned.within_share === idle.within_share);
    }
  }
});

test('a young pool, which has measured nothing, gives its machine up after as long as a start-up takes', () => {
  const { idle, learned } = simulated({ startMs: 1000, stepMs: 15 });
  assert.ok(learned.cost_usd < 0.4 * idle.cost_usd);
  assert.ok(learned.within_share < idle.within_share);
});

test('a step of one stream is what was measured, however much dearer noise made the others', () => {
  assert.deepEqual(stepOf(10, 14), { stepMs: 6, stepPerStreamMs: 4 });
  assert.deepEqual(stepOf(10, 90), { stepMs: 0.1, stepPerStreamMs: 10 });
  assert.deepEqual(stepOf(10, 8), { stepMs: 10, stepPerStreamMs: 0 });
});

interface Simulated {
  readonly always: Outcome;
  readonly idle: Outcome;
  readonly learned: Outcome;
}

function simulated({ startMs, stepMs }: { startMs: number; stepMs: number }): Simulated {
  const rate = { gpu: 'cpu', prefillTokensPerS: 5000 / stepMs, stepMs, stepPerStreamMs: stepMs / 3 };
  const [always, idle, learned] = SETTINGS.map((setting) => imitate(setting, { rate, startMs }, startMs / 2));
  assert.ok(always && idle && learned);
  return { always, idle, learned };
}

/** Three settings in the same order here and there, with other figures. */
function setup(): { real: Map<string, Outcome>; simulated: Map<string, Outcome> } {
  const real = new Map([
    ['static', outcome(4, 1)],
    ['fixed', outcome(1, 0)],
    ['learned', outcome(2, 0.8)],
  ]);
  const simulated = new Map([
    ['static', outcome(9, 1)],
    ['fixed', outcome(1.5, 0.2)],
    ['learned', outcome(3, 0.5)],
  ]);
  return { real, simulated };
}

function outcome(cost_usd: number, within_share: number): Outcome {
  return { cost_usd, within_share, ttft_p50_s: 1, ttft_p99_s: 2, failed_requests: 0 };
}
