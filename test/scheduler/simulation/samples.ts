import { drawLoad, steady, type RateAt } from '../../../src/scheduler/simulation/synthetic.ts';
import type { Load } from '../../../src/scheduler/simulation/load.ts';
import type { SimulatedProvider } from '../../../src/scheduler/simulation/market.ts';
import type { Policy } from '../../../src/scheduler/simulation/policy.ts';
import type { Scenario } from '../../../src/scheduler/simulation/scenario.ts';
import { seeded } from '../../../src/scheduler/simulation/seeded.ts';
import { MODELS, rateOn, tokenMs } from '../../../src/scheduler/simulation/speeds.ts';
import { underbid } from '../../../src/scheduler/simulation/underbid.ts';
import { testSpec } from '../../fakes/market-samples.ts';

export const MINUTE_MS = 60_000;
export const HOUR_MS = 3_600_000;
export const RATE = rateOn(MODELS.small, 'rtx4090');

const PROVIDERS: readonly SimulatedProvider[] = ['a', 'b', 'c', 'd'].map((id, at) => {
  return { id, gpu: 'rtx4090', units: 4, usdPerHour: (0.4 + at * 0.02).toFixed(2), bidMs: 10_000, bytesPerS: 2e8 };
});

/** Four providers of one kind of GPU; replicas are kept by what a start-up costs. */
export function testScenario(
  change: Partial<Scenario> & { readonly min?: number; readonly max?: number } = {},
): Scenario {
  const { min = 0, max = 8, ...rest } = change;
  const spec = testSpec({ replicas: { min, max }, slots: 16, bid_window_s: 12, limits: { start_s: 900 } });
  return {
    name: 'test',
    model: MODELS.small,
    reference: RATE,
    spec: { ...spec, idleMs: null },
    providers: PROVIDERS,
    troubles: [],
    patienceMs: 600_000,
    ...rest,
  };
}

export function chatLoad(hours: number, rate: RateAt = steady(3), seed = 1): Load {
  const shape = { spanMs: hours * HOUR_MS, rate, mostPerS: 10, inputTokens: 1000, outputTokens: 220 };
  return drawLoad(shape, seeded(seed, 'test'));
}

export function ours(): Policy {
  return underbid({ prefillTokensPerS: RATE.prefillTokensPerS, outputTokensPerS: 1000 / tokenMs(RATE, 16) });
}
