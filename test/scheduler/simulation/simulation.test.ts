import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { boundUsd } from '../../../src/scheduler/simulation/bound.ts';
import { loadOf, type Load } from '../../../src/scheduler/simulation/load.ts';
import type { Policy, PolicyView } from '../../../src/scheduler/simulation/policy.ts';
import { dstack } from '../../../src/scheduler/simulation/rivals/dstack.ts';
import { keda } from '../../../src/scheduler/simulation/rivals/keda.ts';
import { kpa } from '../../../src/scheduler/simulation/rivals/kpa.ts';
import { ray } from '../../../src/scheduler/simulation/rivals/ray.ts';
import { runpod } from '../../../src/scheduler/simulation/rivals/runpod.ts';
import { skyServe } from '../../../src/scheduler/simulation/rivals/skyserve.ts';
import { staticPeak } from '../../../src/scheduler/simulation/rivals/static-peak.ts';
import type { Scenario } from '../../../src/scheduler/simulation/scenario.ts';
import { simulate } from '../../../src/scheduler/simulation/simulation.ts';
import { parseUsd } from '../../../src/units.ts';
import { chatLoad, HOUR_MS, MINUTE_MS, ours, testScenario } from './samples.ts';

const POLICIES: Readonly<Record<string, () => Policy>> = {
  underbid: ours,
  'static-peak': () => staticPeak(4),
  kpa: () => kpa(16),
  keda: () => keda(16),
  skyserve: () =>
    skyServe({ name: 'skyserve', qpsPerReplica: 1.5, upMs: 300_000, downMs: 1_200_000, overprovision: 0 }),
  ray: () => ray(12),
  dstack: () => dstack(1.5),
  runpod,
};

test('the same seed gives the same run, whatever ran before, and another seed another one', () => {
  const load = chatLoad(0.5);
  const scenario = testScenario({ min: 1 });
  for (const make of Object.values(POLICIES)) {
    assert.deepEqual(simulate(scenario, load, make(), 3), simulate(scenario, load, make(), 3));
  }
  assert.notDeepEqual(simulate(scenario, load, ours(), 3), simulate(scenario, load, ours(), 4));
});

test('every request is served, refused or failed, and what was paid covers the time that was worked', () => {
  const load = chatLoad(0.5);
  for (const [name, make] of Object.entries(POLICIES)) {
    const figures = simulate(testScenario({ min: 1 }), load, make(), 1);
    assert.equal(figures.requests, load.atMs.length, name);
    assert.ok(figures.idle_share >= 0 && figures.idle_share < 1, `${name}: ${figures.idle_share}`);
    assert.ok(figures.cost_usd > 0 && figures.within_slo_share <= 1, name);
  }
});

test('no policy that keeps 99 % within the limit and fails nobody costs less than the bound', () => {
  const scenarios: [Scenario, Load][] = [
    [testScenario({ min: 2 }), chatLoad(1, () => 2)],
    [testScenario({ min: 3 }), chatLoad(1, () => 4)],
    [testScenario(), chatLoad(2, (atMs) => (atMs % (20 * MINUTE_MS) < MINUTE_MS ? 6 : 0.1))],
    [testScenario(), chatLoad(6, () => 1 / 600)],
  ];
  let compared = 0;
  for (const [scenario, load] of scenarios) {
    const bound = boundUsd(scenario, load);
    assert.ok(bound > 0);
    const { replicasMax } = scenario.spec;
    const makes = [...Object.values(POLICIES), ...[1, 2, 3, 4, 6].map((count) => () => staticPeak(count))];
    for (const make of makes) {
      const policy = make();
      const { within_slo_share: within, failed_requests: failed, cost_usd: usd } = simulate(scenario, load, policy, 1);
      if (within < 0.99 || failed > 0) continue;
      compared += 1;
      assert.ok(usd >= bound, `${policy.name}: ${usd} below ${bound} (at most ${replicasMax})`);
    }
  }
  assert.ok(compared >= 8, `only ${compared} runs kept the limit`);
});

test('no constant number of replicas, and none of the rules, is cheaper than the bound on any load', () => {
  const shape = fc.record({
    base: fc.double({ min: 0.05, max: 3, noNaN: true }),
    burst: fc.double({ min: 0, max: 9, noNaN: true }),
    everyMin: fc.integer({ min: 4, max: 40 }),
    min: fc.integer({ min: 0, max: 3 }),
    seed: fc.nat(1000),
  });
  let compared = 0;
  fc.assert(
    fc.property(shape, ({ base, burst, everyMin, min, seed }) => {
      const load = chatLoad(1.5, (atMs) => (atMs % (everyMin * MINUTE_MS) < 2 * MINUTE_MS ? burst : base), seed);
      const scenario = testScenario({ min });
      const bound = boundUsd(scenario, load);
      const makes = [...Object.values(POLICIES), ...[1, 2, 3, 5, 8].map((count) => () => staticPeak(count))];
      for (const make of makes) {
        const policy = make();
        const {
          within_slo_share: within,
          failed_requests: failed,
          cost_usd: usd,
        } = simulate(scenario, load, policy, seed);
        if (within < 0.99 || failed > 0) continue;
        compared += 1;
        // A price per block is a whole number of nano-USD.
        assert.ok(usd >= bound * (1 - 1e-5), `${policy.name}: ${usd} below ${bound}`);
      }
    }),
    { numRuns: 12 },
  );
  assert.ok(compared >= 20, `only ${compared} runs kept the limit`);
});

test('more work has a higher bound', () => {
  const usd = [1, 2, 4, 8].map((perS) =>
    boundUsd(
      testScenario(),
      chatLoad(1, () => perS),
    ),
  );
  assert.deepEqual(
    usd,
    usd.toSorted((a, b) => a - b),
  );
  assert.ok((usd[3] ?? 0) > 4 * (usd[0] ?? Infinity));
});

test('a request after an hour at zero is served, and nothing is rented while nobody asks', () => {
  const at = [0, HOUR_MS, 2 * HOUR_MS + 30 * MINUTE_MS];
  const load = loadOf(
    at.map((atMs) => ({ atMs, inputTokens: 500, outputTokens: 100 })),
    4 * HOUR_MS,
  );
  const figures = simulate(testScenario(), load, ours(), 1);
  assert.deepEqual([figures.failed_requests, figures.cold_requests, figures.leases], [0, 3, 3]);
  assert.equal(figures.within_slo_share, 1, 'within what a cold start may take');
  assert.ok(figures.cost_usd < 0.15, `${figures.cost_usd} USD, less than a replica for twenty minutes`);
});

test('when one provider of four dies no request fails, and the pool is whole again within minutes', () => {
  const load = chatLoad(1.5);
  const troubles = [{ kind: 'provider_dies', atMs: 30 * MINUTE_MS, provider: 'a' }] as const;
  const figures = simulate(testScenario({ min: 3, troubles }), load, ours(), 1);
  assert.equal(figures.failed_requests, 0);
  assert.ok(figures.within_slo_share > 0.97, `${figures.within_slo_share}`);
  const others = simulate(testScenario({ min: 3, troubles }), load, keda(16), 1);
  assert.ok(others.failed_requests > 0, 'a gateway that does not resume loses what was at work');
});

test('of a load that is more than its machines can do, as many as can be are in time', () => {
  // From one moment to the next a third more than three replicas can do, and no fourth.
  const load = chatLoad(1, (atMs) => (atMs > 20 * MINUTE_MS && atMs < 26 * MINUTE_MS ? 6.2 : 3));
  const scenario = testScenario({ min: 3, max: 3 });
  const plain = { ...ours(), traits: { ...ours().traits, lateYields: false } };
  const [first, inTime] = [plain, ours()].map((policy) => simulate(scenario, load, policy, 1));
  assert.deepEqual([first?.failed_requests, inTime?.failed_requests], [0, 0]);
  const [before = 0, after = 0] = [first?.within_slo_share, inTime?.within_slo_share];
  assert.ok(before < 0.9 && after > 0.95, `${after} in time, ${before} if the first to come were always served first`);
});

test('long prompts are in time more often where they wait for whichever replica has read first', () => {
  const load = chatLoad(1, () => 2);
  const long = { ...load, inputTokens: load.inputTokens.map((tokens) => 6 * tokens) };
  const scenario = testScenario({ min: 4, max: 4 });
  const early = { ...ours(), traits: { ...ours().traits, prefillTokensPerS: null } };
  const [first = 0, waits = 1] = [early, ours()].map((one) => 1 - simulate(scenario, long, one, 1).within_slo_share);
  assert.ok(first > 0.01 && waits < 0.001, `${waits} late, ${first} where they are handed over at once`);
});

test('a dark provider is left in less than a minute, and its requests are answered by others', () => {
  const troubles = [{ kind: 'provider_dark', atMs: 30 * MINUTE_MS, provider: 'a' }] as const;
  const seen: { atMs: number; provider: string | null }[] = [];
  const policy = watched(ours(), (view) => {
    for (const { provider, state } of view.replicas)
      if (state !== 'ordering') seen.push({ atMs: view.nowMs, provider });
  });
  const figures = simulate(testScenario({ min: 3, troubles }), chatLoad(1), policy, 1);
  assert.equal(figures.failed_requests, 0);
  const last = Math.max(...seen.filter(({ provider }) => provider === 'a').map(({ atMs }) => atMs));
  assert.ok(last > 29 * MINUTE_MS && last <= 31 * MINUTE_MS, `paid until minute ${last / MINUTE_MS}`);
});

test('while nobody bids the pool keeps asking, and has what it needs soon after', () => {
  const troubles = [{ kind: 'no_bids', atMs: 0, untilMs: 10 * MINUTE_MS }] as const;
  const load = chatLoad(1, () => 1);
  const figures = simulate(testScenario({ troubles }), load, ours(), 1);
  // Those that waited longer than ten minutes went away, nobody else.
  assert.ok(figures.failed_requests < 300, `${figures.failed_requests} failed`);
  assert.ok(figures.leases >= 1 && figures.leases <= 6);
});

test('scaling down under load cuts no answer', () => {
  const load = chatLoad(2, (atMs) => (atMs < HOUR_MS ? 6 : 1));
  const most = { now: 0, after: Infinity };
  const policy = watched(ours(), ({ nowMs, replicas }) => {
    const ready = replicas.filter(({ state }) => state === 'ready').length;
    if (nowMs < HOUR_MS) most.now = Math.max(most.now, ready);
    else most.after = Math.min(most.after, ready);
  });
  const figures = simulate(testScenario({ min: 1 }), load, policy, 1);
  assert.equal(figures.failed_requests, 0);
  assert.ok(most.after < most.now, 'it did scale down');
});

test("never above the pool's maximum or its budget for the hour, and never many leases an hour", () => {
  const shape = fc.record({
    base: fc.double({ min: 0, max: 4, noNaN: true }),
    burst: fc.double({ min: 0, max: 10, noNaN: true }),
    everyMin: fc.integer({ min: 3, max: 40 }),
    max: fc.integer({ min: 1, max: 6 }),
    seed: fc.nat(1000),
  });
  fc.assert(
    fc.property(shape, ({ base, burst, everyMin, max, seed }) => {
      const load = chatLoad(2, (atMs) => (atMs % (everyMin * MINUTE_MS) < 2 * MINUTE_MS ? burst : base), seed);
      const scenario = testScenario({ max });
      const budget = { hourNanoUsd: parseUsd('2.50'), dayNanoUsd: null };
      let most = 0;
      let dearest = 0n;
      const policy = watched(ours(), ({ replicas }) => {
        const paid = replicas.filter(({ leasedMs }) => leasedMs !== null);
        most = Math.max(most, replicas.filter(({ state }) => state !== 'draining').length);
        const cost = paid.reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n);
        if (cost > dearest) dearest = cost;
      });
      const figures = simulate({ ...scenario, spec: { ...scenario.spec, budget } }, load, policy, seed);
      assert.ok(most <= max, `${most} of ${max}`);
      assert.ok(dearest <= budget.hourNanoUsd, `${dearest}`);
      assert.ok(figures.leases_per_hour <= 6 * max, `${figures.leases_per_hour} leases an hour`);
    }),
    { numRuns: 15 },
  );
});

test("the day's budget ends what the pool rents until midnight", () => {
  const scenario = testScenario({ min: 0 });
  const spec = { ...scenario.spec, budget: { hourNanoUsd: null, dayNanoUsd: parseUsd('1') } };
  const figures = simulate(
    { ...scenario, spec },
    chatLoad(6, () => 2),
    ours(),
    1,
  );
  assert.ok(figures.cost_usd > 0.9 && figures.cost_usd < 1.1, `${figures.cost_usd} USD`);
});

/** A policy that is looked at when it decides. */
function watched(policy: Policy, look: (view: PolicyView) => void): Policy {
  return {
    ...policy,
    decide: (view) => {
      look(view);
      return policy.decide(view);
    },
  };
}
