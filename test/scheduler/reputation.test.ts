import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { quarantineMs, scoreProvider } from '../../src/scheduler/reputation.ts';

test('a newcomer is taken to fail once in twenty', () => {
  assert.deepEqual(scoreProvider({ leases: 0, failures: 0, disputes: 0 }), {
    failureChance: 0.05,
    startMs: null,
    speed: 1,
    reason: 'new here: 5 % risk',
  });
});

test('leases that went well lower the risk, failures raise it, a dispute weighs as three', () => {
  const chance = (leases: number, failures: number, disputes: number): number =>
    scoreProvider({ leases, failures, disputes }).failureChance;
  assert.equal(chance(80, 0, 0), 0.01);
  assert.equal(chance(80, 4, 0), 0.05);
  assert.equal(chance(80, 1, 1), 0.05);
  assert.ok(chance(80, 0, 1) > chance(80, 1, 0));
  const { reason } = scoreProvider({ leases: 80, failures: 4, disputes: 1 });
  assert.equal(reason, '80 leases, 4 failed, 1 disputed: 8 % risk');
});

test('the risk is a chance whatever the counts, grows with every failure and falls with every lease', () => {
  fc.assert(
    fc.property(fc.nat(500), fc.nat(500), fc.nat(500), (leases, failures, disputes) => {
      const risk = (change: { leases?: number; failures?: number }): number =>
        scoreProvider({ leases, failures, disputes, ...change }).failureChance;
      assert.ok(risk({}) > 0 && risk({}) <= 1);
      assert.ok(risk({ failures: failures + 1 }) >= risk({}));
      assert.ok(risk({ leases: leases + 1 }) <= risk({}));
    }),
  );
});

test('a provider that fails is passed over for 30 s, doubled each time, at most an hour', () => {
  assert.deepEqual(
    [0, 1, 2, 3, 7, 8, 1000].map(quarantineMs),
    [0, 30_000, 60_000, 120_000, 1_920_000, 3_600_000, 3_600_000],
  );
});
