import { loadOf, type Load } from '../../src/scheduler/simulation/load.ts';
import type { SimulatedProvider, Trouble } from '../../src/scheduler/simulation/market.ts';
import type { Scenario } from '../../src/scheduler/simulation/scenario.ts';
import { seeded } from '../../src/scheduler/simulation/seeded.ts';
import { MODELS, rateOn, workMs, type ServedModel } from '../../src/scheduler/simulation/speeds.ts';
import { bursty, daily, drawLoad, steady, type RateAt } from '../../src/scheduler/simulation/synthetic.ts';
import { parsePool } from '../../src/spec.ts';

/** A scenario and the load it has with each seed. */
export interface Case {
  readonly scenario: Scenario;
  readonly load: (seed: number) => Load;
  /** Constants were chosen with an eye on what is not held out. */
  readonly heldOut?: boolean;
}

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
/** Prices "starting at" of Akash's list of 2026-09-20, for the cheapest of four; the others are a little dearer. */
const USD_PER_HOUR: Readonly<Record<string, number>> = { rtx4090: 0.39, a100: 1.71, h100: 2.71 };

export interface Setting {
  readonly name: string;
  readonly model: ServedModel;
  readonly gpus: readonly string[];
  readonly min: number;
  readonly max: number;
  readonly units?: number;
  readonly bandwidth?: number;
  readonly troubles?: readonly Trouble[];
  /** USD an hour: what a replica may cost at most, and all of the pool. */
  readonly ceiling?: string;
  readonly budget?: string;
}

export function scenarioOf(setting: Setting): Scenario {
  const { name, model, gpus, min, max, units = 8, bandwidth = 1, troubles = [] } = setting;
  const { ceiling = '7', budget } = setting;
  const spec = parsePool(
    'simulated',
    {
      engine: 'vllm',
      model: model.name,
      context: 131_072,
      price: { input: '0.02', output: '0.05' },
      replicas: { min, max },
      slots: model.slots,
      ceiling_usd_per_hour: ceiling,
      ...(budget === undefined ? {} : { budget: { usd_per_hour: budget } }),
      bid_window_s: 12,
      limits: { start_s: 1200 },
    },
    0,
  );
  const reference = rateOn(model, gpus[0] ?? '');
  return {
    name,
    model,
    reference,
    spec,
    providers: providersOf(gpus, units, bandwidth),
    troubles,
    patienceMs: 600_000,
  };
}

/** Four providers: what they ask, how fast they bid, and how fast they load. */
function providersOf(gpus: readonly string[], units: number, bandwidth: number): SimulatedProvider[] {
  const asks = [1, 1.05, 1.1, 1.15];
  const bytesPerS = [200e6, 160e6, 300e6, 130e6];
  return asks.map((ask, at) => {
    const gpu = gpus[at % gpus.length] ?? '';
    return {
      id: `provider-${at + 1}`,
      gpu,
      units: Math.floor(units / 4) + (at < units % 4 ? 1 : 0) + (units >= 8 ? 4 : 0),
      usdPerHour: ((USD_PER_HOUR[gpu] ?? 1) * ask).toFixed(4),
      bidMs: 15_000,
      bytesPerS: (bytesPerS[at] ?? 150e6) * bandwidth,
    };
  });
}

export const SMALL = { model: MODELS.small, gpus: ['rtx4090'] };
export const CHAT = { inputTokens: 1000, outputTokens: 220 };

/** The loads that are made up: the same shape with each seed, another draw. */
const LOADS = {
  steady: (hours: number) => (seed: number) => draw(seed, 'steady', hours, () => steady(6), 6),
  daily: (hours: number) => (seed: number) => draw(seed, 'daily', hours, () => daily(0.5, 6), 6),
  /** Up from one to six requests a second in the first half, and down again. */
  hill: (hours: number) => (seed: number) => {
    const rate: RateAt = (atMs) => 3.5 - 2.5 * Math.cos((2 * Math.PI * atMs) / (hours * HOUR_MS));
    return draw(seed, 'hill', hours, () => rate, 6);
  },
  /** Two minutes of ten times the base, on the mean every half hour. */
  bursty: (hours: number) => (seed: number) => {
    const burst = { perS: 8, lengthMs: 2 * MINUTE_MS, everyMs: 30 * MINUTE_MS };
    return draw(seed, 'bursty', hours, (spanMs) => bursty(0.8, burst, spanMs, seeded(seed, 'bursts')), 8);
  },
  /** Three times as much from one moment to the next. */
  step: (hours: number) => (seed: number) => {
    const rate: RateAt = (atMs) => (atMs > (hours / 4) * HOUR_MS && atMs < (hours / 2) * HOUR_MS ? 5 : 1.6);
    return draw(seed, 'step', hours, () => rate, 5);
  },
  /** A request every twenty minutes on the mean: more often asleep than not. */
  rare: (hours: number) => (seed: number) => draw(seed, 'rare', hours, () => steady(1 / 1200), 1 / 1200),
};

function draw(seed: number, name: string, hours: number, rate: (spanMs: number) => RateAt, mostPerS: number): Load {
  const spanMs = hours * HOUR_MS;
  return drawLoad({ spanMs, rate: rate(spanMs), mostPerS, ...CHAT }, seeded(seed, name));
}

/** @param quick shorter runs and fewer of them */
export function madeUpCases(quick: boolean): Case[] {
  const dayHours = quick ? 6 : 24;
  const first = { atMs: 40 * MINUTE_MS };
  const provider = 'provider-1';
  const rise = (quick ? 26 : 52) * MINUTE_MS;
  const onSteady = (name: string, trouble: Trouble): Case => {
    const scenario = scenarioOf({ ...SMALL, name, min: 4, max: 12, troubles: [trouble] });
    return { scenario, load: LOADS.steady(2) };
  };
  const onHill = (name: string, change: Partial<Setting>): Case => {
    return { scenario: scenarioOf({ ...SMALL, name, min: 1, max: 12, ...change }), load: LOADS.hill(quick ? 2 : 4) };
  };
  const cases: Case[] = [
    { scenario: scenarioOf({ ...SMALL, name: 'steady', min: 4, max: 12 }), load: LOADS.steady(quick ? 1 : 3) },
    { scenario: scenarioOf({ ...SMALL, name: 'daily', min: 1, max: 12 }), load: LOADS.daily(dayHours) },
    { scenario: scenarioOf({ ...SMALL, name: 'bursty', min: 0, max: 12 }), load: LOADS.bursty(dayHours) },
    { scenario: scenarioOf({ ...SMALL, name: 'rare', min: 0, max: 4 }), load: LOADS.rare(2 * dayHours) },
    onSteady('provider-dies', { kind: 'provider_dies', ...first, provider }),
    { scenario: scenarioOf({ ...SMALL, name: 'step', min: 1, max: 12 }), load: LOADS.step(quick ? 2 : 4) },
    onHill('hill', {}),
    // While the load rises and another replica is wanted.
    onHill('no-bids', { troubles: [{ kind: 'no_bids', atMs: rise, untilMs: rise + 10 * MINUTE_MS }] }),
  ];
  if (quick) return cases;
  return [
    ...cases,
    onSteady('replica-dies', { kind: 'replica_dies', ...first }),
    onSteady('provider-dark', { kind: 'provider_dark', ...first, provider }),
    onHill('prices-double', { troubles: [{ kind: 'prices_double', ...first }] }),
    onHill('slow-loads', { bandwidth: 0.3 }),
    onHill('supply-1', { units: 1 }),
    onHill('supply-3', { units: 3 }),
    onHill('supply-10', { units: 7, max: 10 }),
    onHill('mixed-gpus', { gpus: ['rtx4090', 'a100'] }),
    ...budgetCases(),
  ];
}

/** Three models that share 3.50 USD an hour: each pool has its part, which is less than it would like at its peak. */
function budgetCases(): Case[] {
  const large = { model: MODELS.large, gpus: ['a100'], ceiling: '2', budget: '2.00' };
  const hours = 4;
  const few = (seed: number): Load => draw(seed, 'budget-large', hours, () => steady(0.2), 0.2);
  return [
    { scenario: scenarioOf({ ...large, name: 'budget-large', min: 1, max: 4 }), load: few },
    {
      scenario: scenarioOf({ ...SMALL, name: 'budget-hill', min: 1, max: 8, ceiling: '0.50', budget: '1.00' }),
      load: LOADS.hill(hours),
    },
    {
      scenario: scenarioOf({ ...SMALL, name: 'budget-rare', min: 0, max: 4, ceiling: '0.50', budget: '0.50' }),
      load: LOADS.rare(hours),
    },
  ];
}

/** What the work of a load comes to, in replicas: its mean, and its busiest minute. */
export function workOf(load: Load, { model, reference }: Scenario): { meanReplicas: number; peakReplicas: number } {
  const minutes = new Float64Array(Math.ceil(load.spanMs / MINUTE_MS) + 1);
  let sum = 0;
  for (const [at, atMs] of load.atMs.entries()) {
    const work = workMs(reference, model.slots, load.inputTokens[at] ?? 1, load.outputTokens[at] ?? 1);
    const minute = Math.floor(atMs / MINUTE_MS);
    minutes[minute] = (minutes[minute] ?? 0) + work;
    sum += work;
  }
  return { meanReplicas: sum / load.spanMs, peakReplicas: Math.max(...minutes) / MINUTE_MS };
}

/** A scenario for a load of which nothing is known but itself. */
export function caseOfTrace(name: string, load: (seed: number) => Load): Case {
  const recorded = load(1);
  const count = recorded.atMs.length;
  const days = recorded.spanMs / (24 * HOUR_MS);
  const meanInput = recorded.inputTokens.reduce((sum, tokens) => sum + tokens, 0) / count;
  const [model, gpu] = days > 1 ? [MODELS.large, 'a100'] : [MODELS.small, meanInput > 4000 ? 'h100' : 'rtx4090'];
  const base = { name, model, gpus: [gpu] };
  const { peakReplicas } = workOf(recorded, scenarioOf({ ...base, min: 0, max: 1 }));
  // Bursts shorter than a minute want more; a load that wants hundreds gets them.
  const max = Math.max(4, Math.min(Math.ceil(4 * peakReplicas), Math.max(24, Math.ceil(1.5 * peakReplicas))));
  const scenario = scenarioOf({ ...base, min: Math.min(max, leastOf(recorded, base)), max, units: Math.max(24, max) });
  return { scenario, load };
}

/**
 * A pool's minimum as an operator would set it who knows the load of its first ten minutes and nothing else: none where
 * minutes pass without a request, one for a load of days.
 */
function leastOf(load: Load, base: Pick<Setting, 'name' | 'model' | 'gpus'>): number {
  if (load.spanMs > 24 * HOUR_MS) return 1;
  let longestMs = 0;
  for (let at = 1; at < load.atMs.length; at += 1) {
    longestMs = Math.max(longestMs, (load.atMs[at] ?? 0) - (load.atMs[at - 1] ?? 0));
  }
  if (longestMs > 100_000) return 0;
  const rows = Array.from(load.atMs, (atMs, at) => {
    return { atMs, inputTokens: load.inputTokens[at] ?? 1, outputTokens: load.outputTokens[at] ?? 1 };
  });
  const beginning = loadOf(
    rows.filter(({ atMs }) => atMs < 10 * MINUTE_MS),
    10 * MINUTE_MS,
  );
  const { meanReplicas } = workOf(beginning, scenarioOf({ ...base, min: 0, max: 1 }));
  return Math.ceil(1.15 * meanReplicas);
}
