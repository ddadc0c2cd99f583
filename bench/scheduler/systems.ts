import { boundUsd } from '../../src/scheduler/simulation/bound.ts';
import type { Figures } from '../../src/scheduler/simulation/figures.ts';
import type { Load } from '../../src/scheduler/simulation/load.ts';
import type { Policy } from '../../src/scheduler/simulation/policy.ts';
import { dstack } from '../../src/scheduler/simulation/rivals/dstack.ts';
import { keda } from '../../src/scheduler/simulation/rivals/keda.ts';
import { kpa } from '../../src/scheduler/simulation/rivals/kpa.ts';
import { ray } from '../../src/scheduler/simulation/rivals/ray.ts';
import { runpod } from '../../src/scheduler/simulation/rivals/runpod.ts';
import { skyServe } from '../../src/scheduler/simulation/rivals/skyserve.ts';
import { staticPeak } from '../../src/scheduler/simulation/rivals/static-peak.ts';
import type { Scenario } from '../../src/scheduler/simulation/scenario.ts';
import { tokenMs } from '../../src/scheduler/simulation/speeds.ts';
import { simulate } from '../../src/scheduler/simulation/simulation.ts';
import { underbid } from '../../src/scheduler/simulation/underbid.ts';
import { workOf } from './scenarios.ts';

export const SLO_SHARE = 0.99;
/** Of a replica's best, what an operator of the rivals lets each have: their targets are set by a load test, not guessed. */
const TARGET_SHARE = 0.8;

/** The rivals' one number, from what a replica of this pool really does: requests a second, or requests at a time. */
export function rivals(scenario: Scenario, load: Load): Policy[] {
  const { slots } = scenario.model;
  const perS = load.atMs.length / (load.spanMs / 1000);
  const qps = (TARGET_SHARE * perS) / workOf(load, scenario).meanReplicas;
  const minute = 60_000;
  return [
    kpa(slots),
    keda(slots),
    skyServe({ name: 'skyserve', qpsPerReplica: qps, upMs: 5 * minute, downMs: 20 * minute, overprovision: 0 }),
    skyServe({ name: 'skyserve-tuned', qpsPerReplica: qps, upMs: 40_000, downMs: 5 * minute, overprovision: 1 }),
    ray(TARGET_SHARE * slots),
    dstack(qps),
    runpod(),
  ];
}

/** @param lateShare what it steers for: more may be late, and it costs less */
export function ours({ model, reference }: Scenario, lateShare?: number): Policy {
  const { prefillTokensPerS } = reference;
  return underbid({ prefillTokensPerS, outputTokensPerS: 1000 / tokenMs(reference, model.slots) }, lateShare);
}

/** The least constant number of replicas that keeps 99 % within the limit while nothing fails, found by halving. */
export function peakReplicas(scenario: Scenario, load: Load, seed: number): number {
  const calm = { ...scenario, troubles: [] };
  let [low, high] = [Math.max(1, Math.ceil(workOf(load, scenario).meanReplicas)), scenario.spec.replicasMax];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (simulateStatic(calm, load, middle, seed).within_slo_share >= SLO_SHARE) high = middle;
    else low = middle + 1;
  }
  return Math.min(low, scenario.spec.replicasMax);
}

/** They are there from the beginning. */
export function simulateStatic(scenario: Scenario, load: Load, replicas: number, seed: number): Figures {
  const spec = { ...scenario.spec, replicasMin: replicas, replicasMax: replicas };
  return simulate({ ...scenario, spec }, load, staticPeak(replicas), seed);
}

export { boundUsd, simulate };
