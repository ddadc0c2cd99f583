import { loadOf, type Load } from '../../src/scheduler/simulation/load.ts';
import { liveReplicas, moveTowards, type Policy } from '../../src/scheduler/simulation/policy.ts';
import type { Scenario } from '../../src/scheduler/simulation/scenario.ts';
import { simulate } from '../../src/scheduler/simulation/simulation.ts';
import type { ServerRate } from '../../src/scheduler/simulation/speeds.ts';
import { underbid } from '../../src/scheduler/simulation/underbid.ts';
import { parsePool } from '../../src/spec.ts';
import type { Outcome } from './comparison.ts';

/** How many machines there are, on the real gateway and in the simulation. */
export interface Setting {
  readonly system: string;
  readonly min: number;
  readonly max: number;
  /** null: replicas are kept by what a start-up costs. */
  readonly idleS: number | null;
}

/** Of another's rule: far longer than a start-up takes here, and shorter than the long pause. */
const IDLE_S = 15;
export const SETTINGS: readonly Setting[] = [
  { system: 'static', min: 2, max: 2, idleS: 3600 },
  { system: 'fixed-idle', min: 0, max: 2, idleS: IDLE_S },
  { system: 'learned', min: 0, max: 2, idleS: null },
];

export const SLOTS = 2;
/** A thirtieth of Akash's: rent is seen in a short run. */
export const BLOCK_MS = 200;
export const SPAN_MS = 84_000;
/** Words of a prompt and most tokens of an answer. */
export const SIZES = { input: 12, output: 8 };
const PROMPT_TOKENS = 46;
const FIRST_MS = 1000;
const LONG_PAUSE_MS = 42_000;
/** After the first, whose machine comes while it waits. */
const THEN_MS = [0, 4500, 6500, 8500, 10_500];
const ASKED_MS = [FIRST_MS, FIRST_MS + LONG_PAUSE_MS].flatMap((at) => THEN_MS.map((after) => at + after));
const SEED = 1;
const BID_MS = 350;
/** As often as the gateway decides. */
const TICK_MS = 500;

/** One question at a time, twice some with pauses shorter than a start-up, and between them one that is far longer. */
export function questionsAndPauses(): Load {
  const sizes = { inputTokens: PROMPT_TOKENS, outputTokens: SIZES.output };
  return loadOf(
    ASKED_MS.map((atMs) => ({ atMs, ...sizes })),
    SPAN_MS,
  );
}

/** What was measured on real servers: an answer's speed, and the time from an order to the first answered probe. */
export interface Measured {
  readonly rate: ServerRate;
  readonly startMs: number;
}

/**
 * A step by what a token took with one stream, and with all slots taken. One stream alone is what the load has most: that is
 * kept where noise makes the others dearer than that allows.
 */
export function stepOf(aloneMs: number, togetherMs: number): Pick<ServerRate, 'stepMs' | 'stepPerStreamMs'> {
  const stepPerStreamMs = Math.min(aloneMs, Math.max(0, togetherMs - aloneMs) / (SLOTS - 1));
  return { stepMs: Math.max(0.1, aloneMs - stepPerStreamMs), stepPerStreamMs };
}

/** One setting in the simulation: the embedded market's block, two providers like the two that win there. */
export function imitate({ min, max, idleS }: Setting, { rate, startMs }: Measured, limitMs: number): Outcome {
  const spec = parsePool(
    'replay',
    {
      ...{ engine: 'llama.cpp', model: 'replay', context: 256, price: { input: '0.02', output: '0.05' } },
      ...{ replicas: { min, max }, slots: SLOTS, ceiling_usd_per_hour: '0.10', limits: { start_s: 60 } },
    },
    0,
  );
  const model = {
    ...{ name: 'replay', slots: SLOTS, imageBytes: 0, weightBytes: 0, rates: [rate] },
    warmUpMs: Math.max(0, startMs - BID_MS - BLOCK_MS),
  };
  const provider = { gpu: rate.gpu, units: 2, bidMs: BID_MS, bytesPerS: 1e9 };
  const scenario: Scenario = {
    ...{ name: 'replay', model, reference: rate, troubles: [], patienceMs: 60_000, ttftMs: limitMs },
    spec: { ...spec, bidWindowMs: 0 },
    // With the take fee of 20 %.
    providers: [
      { ...provider, id: 'campus', usdPerHour: '0.0235' },
      { ...provider, id: 'datahall', usdPerHour: '0.0280' },
    ],
    terms: {
      ...{ blockMs: BLOCK_MS, takeFeeBp: 0, makeFeeBp: 0, depositMinNanoUsd: 0n, settlement: 'usdc' },
      endsWithProcess: true,
    },
  };
  // A pool as young as this has no measured speeds to plan with: it counts requests.
  const ours = { ...underbid(null), tickMs: TICK_MS };
  const figures = simulate(scenario, questionsAndPauses(), idleS === null ? ours : fixedIdle(idleS * 1000, ours), SEED);
  const { cost_usd, within_slo_share, ttft_p50_s, ttft_p99_s, failed_requests } = figures;
  return { cost_usd, within_share: within_slo_share, ttft_p50_s, ttft_p99_s, failed_requests };
}

/** The gateway's rule for a pool with an idle time of its own. */
function fixedIdle(idleMs: number, ours: Policy): Policy {
  return {
    ...{ name: 'fixed-idle', traits: ours.traits, tickMs: TICK_MS, wakes: true },
    choose: (offers, view) => ours.choose(offers, view),
    decide: (view) => {
      const live = liveReplicas(view);
      const needed = Math.ceil((view.waiting + view.inFlight) / view.spec.slots);
      const kept = live.filter((replica) => replica.state !== 'ready' || replica.idleMs < idleMs).length;
      return moveTowards(view, needed > live.length ? needed : Math.max(needed, kept), 'idlest');
    },
  };
}
