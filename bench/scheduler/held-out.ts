import { sliceLoad, type Load } from '../../src/scheduler/simulation/load.ts';
import { seeded } from '../../src/scheduler/simulation/seeded.ts';
import { bursty, drawLoad, steady, type RateAt } from '../../src/scheduler/simulation/synthetic.ts';
import { CHAT, HOUR_MS, MINUTE_MS, scenarioOf, SMALL, caseOfTrace, type Case, type Setting } from './scenarios.ts';

/**
 * Loads that no constant of the decisions was chosen by: other rates, shapes, sizes and seeds than the made-up ones, and the
 * halves of a recorded trace as pools of their own. They are told apart in the report.
 */
export function heldOutCases(quick: boolean): Case[] {
  const made: [string, Partial<Setting>, number, (seed: number, spanMs: number) => RateAt][] = [
    ['steady', { min: 3 }, 2, () => steady(4.3)],
    // Twice as much from one minute to the next, for an hour.
    ['step', { min: 1 }, 3, () => (atMs) => (atMs > 0.7 * HOUR_MS && atMs < 1.7 * HOUR_MS ? 4.4 : 2.1)],
    ['two-peaks', { min: 1 }, quick ? 12 : 48, () => twoPeaks],
    [
      'bursts',
      { min: 1 },
      quick ? 6 : 24,
      (seed, spanMs) => bursty(1.3, BURST, spanMs, seeded(seed, 'held-out bursts')),
    ],
    ['drift', { min: 2 }, 5, () => (atMs) => 1.5 + (atMs / HOUR_MS) * 0.9],
    ['provider-dies', { min: 3, troubles: [DEATH] }, 2, () => steady(4.3)],
  ];
  return made.map(([name, setting, hours, rate]) => {
    const spanMs = hours * HOUR_MS;
    const scenario = scenarioOf({ ...SMALL, min: 1, max: 12, ...setting, name: `held-out-${name}` });
    const load = (seed: number): Load => {
      const shape = { ...CHAT, ...SIZES, spanMs, mostPerS: 8, rate: rate(seed + OTHER_SEEDS, spanMs) };
      return drawLoad(shape, seeded(seed + OTHER_SEEDS, `held-out ${name}`));
    };
    return { scenario, load, heldOut: true };
  });
}

/** The second half of each trace, as a pool that knows nothing of the first. */
export function halfOf({ scenario, load }: Case): Case {
  const halved = (seed: number): Load => {
    const whole = load(seed + OTHER_SEEDS);
    return sliceLoad(whole, whole.spanMs / 2, whole.spanMs);
  };
  return { ...caseOfTrace(`${scenario.name}-second-half`, halved), heldOut: true };
}

const OTHER_SEEDS = 1000;
const SIZES = { inputTokens: 700, outputTokens: 300 };
const BURST = { perS: 6, lengthMs: 3 * MINUTE_MS, everyMs: 20 * MINUTE_MS };
const DEATH = { kind: 'provider_dies', atMs: 25 * MINUTE_MS, provider: 'provider-2' } as const;

/** Mornings and evenings, with a quiet night. */
const twoPeaks: RateAt = (atMs) => {
  const hour = (atMs / HOUR_MS) % 24;
  const hump = (middle: number, width: number): number => Math.exp(-(((hour - middle) / width) ** 2));
  return 0.4 + 3.4 * hump(10, 2) + 4.5 * hump(20, 1.5);
};
