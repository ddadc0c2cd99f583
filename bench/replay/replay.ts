import { setTimeout as sleep } from 'node:timers/promises';
import { loadOf, type Load } from '../../src/scheduler/simulation/load.ts';
import { cheapest, liveReplicas, moveTowards, type Policy } from '../../src/scheduler/simulation/policy.ts';
import type { Scenario } from '../../src/scheduler/simulation/scenario.ts';
import { drawBetween, seeded } from '../../src/scheduler/simulation/seeded.ts';
import { simulate } from '../../src/scheduler/simulation/simulation.ts';
import { tokenMs, type ServerRate } from '../../src/scheduler/simulation/speeds.ts';
import { underbid } from '../../src/scheduler/simulation/underbid.ts';
import { parsePool } from '../../src/spec.ts';
import { formatTable, median, UsageError, type BenchContext, type Benchmark, type BenchResult } from '../benchmark.ts';
import { ask, BLOCK_MS, paidUsd, SLOTS, startReal, startUps, type Answer, type RealRun } from './real.ts';

/**
 * The same small load on the real gateway with real model servers, once with machines that are always there, once with a
 * fixed idle time, once with what is learned; and in the simulation with the speeds that were measured. What is asked is
 * whether both put the three in the same order.
 */
export const benchmark: Benchmark = {
  usage:
    'npm run bench -- replay [--json FILE]\nAbout five minutes; the embedded model server is fetched if it is not there',
  run,
};

const SIZES = { input: 12, output: 12 };
const SPAN_MS = 60_000;
/** A first token after this is late, cold or not. */
const LIMIT_MS = 3000;
const IDLE_S = 12;
const SEED = 1;
const SETTINGS = [
  { system: 'static', min: 2, max: 2, idleS: 3600 },
  { system: 'fixed-idle', min: 0, max: 2, idleS: IDLE_S },
  { system: 'learned', min: 0, max: 2, idleS: null },
] as const;
type Setting = (typeof SETTINGS)[number];

interface Outcome {
  readonly cost_usd: number;
  readonly within_share: number;
  readonly ttft_p50_s: number;
  readonly ttft_p99_s: number;
  readonly failed_requests: number;
}

async function run(context: BenchContext): Promise<BenchResult> {
  if (context.argv.length > 0) throw new UsageError(`what is ${context.argv[0]}?`);
  const load = burstsAndPauses();
  const real = new Map<string, Outcome>();
  let rate: ServerRate | null = null;
  const starts: number[] = [];
  for (const setting of SETTINGS) {
    context.say(`${setting.system}: ${SPAN_MS / 1000} s on real model servers`);
    const { system, min, max, idleS } = setting;
    const folder = `${context.folder}/${system}`;
    const running = await startReal({ folder, signal: context.signal, min, max, idleS });
    try {
      if (min > 0) rate = await measure(running);
      real.set(system, await play(running, load, context.signal));
      if (min === 0) starts.push(...(await startUps(running)));
    } finally {
      await running.gateway.child.stop();
    }
  }
  if (!rate) throw new Error('no server was measured');
  const startMs = median(starts);
  const simulated = new Map(SETTINGS.map((setting) => [setting.system, imitate(setting, load, { rate, startMs })]));
  return resultOf(real, simulated, { rate, startMs });
}

interface Measured {
  readonly rate: ServerRate;
  readonly startMs: number;
}

/** Bursts of a few requests; the pauses between them are some short, some long. */
function burstsAndPauses(): Load {
  const random = seeded(SEED, 'replay');
  const rows: { atMs: number; inputTokens: number; outputTokens: number }[] = [];
  for (const startS of [1, 8, 34, 41]) {
    for (let count = 0; count < 3; count += 1) {
      const atMs = startS * 1000 + drawBetween(random, 0, 3000);
      rows.push({ atMs, inputTokens: SIZES.input * 1.4, outputTokens: SIZES.output });
    }
  }
  return loadOf(rows, SPAN_MS);
}

/** Waits for the machines, then asks one at a time and as many as there are slots. */
async function measure(running: RealRun): Promise<ServerRate> {
  for (let tries = 0; tries < 3; tries += 1) await Promise.all([ask(running, SIZES), ask(running, SIZES)]);
  const short = await medianOf(3, () => ask(running, { input: 20, output: 8 }));
  const long = await medianOf(3, () => ask(running, { input: 120, output: 8 }));
  const both = await Promise.all(Array.from({ length: 2 * SLOTS }, () => ask(running, { input: 20, output: 16 })));
  const step = (answer: Answer): number => (answer.tookMs - (answer.ttftMs ?? 0)) / Math.max(1, answer.tokens - 1);
  const [alone, together] = [step(short), median(both.map(step))];
  const prefillTokensPerS = (100 * 1.4 * 1000) / Math.max(20, (long.ttftMs ?? 0) - (short.ttftMs ?? 0));
  const stepPerStreamMs = Math.max(0, together - alone) / (SLOTS - 1);
  return { gpu: 'cpu', prefillTokensPerS, stepMs: Math.max(0.1, alone - stepPerStreamMs), stepPerStreamMs };
}

async function medianOf(times: number, one: () => Promise<Answer>): Promise<Answer> {
  const all: Answer[] = [];
  for (let count = 0; count < times; count += 1) all.push(await one());
  const middle = all.toSorted((a, b) => a.tookMs - b.tookMs)[Math.floor(times / 2)];
  if (!middle) throw new RangeError('nothing was asked');
  return middle;
}

async function play(running: RealRun, load: Load, signal: AbortSignal): Promise<Outcome> {
  const before = await paidUsd(running);
  const began = performance.now();
  const asked = Array.from(load.atMs, async (atMs) => {
    await sleep(Math.max(0, atMs - (performance.now() - began)), undefined, { signal });
    return ask(running, SIZES);
  });
  const answers = await Promise.all(asked);
  await sleep(Math.max(0, SPAN_MS - (performance.now() - began)), undefined, { signal });
  const cost_usd = (await paidUsd(running)) - before;
  const times = answers.flatMap(({ ttftMs }) => ttftMs ?? []).toSorted((a, b) => a - b);
  const at = (share: number): number =>
    (times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0) / 1000;
  return {
    cost_usd,
    within_share: times.filter((ms) => ms <= LIMIT_MS).length / answers.length,
    ttft_p50_s: at(0.5),
    ttft_p99_s: at(0.99),
    failed_requests: answers.length - times.length,
  };
}

/** The same in the simulation: the embedded market's block, two providers like the two that win there. */
function imitate({ min, max, idleS }: Setting, load: Load, { rate, startMs }: Measured): Outcome {
  const spec = parsePool(
    'replay',
    {
      ...{ engine: 'llama.cpp', model: 'replay', context: 2048, price: { input: '0.02', output: '0.05' } },
      ...{ replicas: { min, max }, slots: SLOTS, ceiling_usd_per_hour: '0.10', limits: { start_s: 60 } },
    },
    0,
  );
  const orderMs = 3 * BLOCK_MS + 350;
  const model = {
    ...{ name: 'replay', slots: SLOTS, imageBytes: 0, weightBytes: 0, rates: [rate] },
    warmUpMs: Math.max(0, startMs - orderMs),
  };
  const provider = { gpu: 'cpu', units: 2, bidMs: 350, bytesPerS: 1e9 };
  const scenario: Scenario = {
    ...{ name: 'replay', model, reference: rate, troubles: [], patienceMs: 120_000, ttftMs: LIMIT_MS },
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
  const rates = { prefillTokensPerS: rate.prefillTokensPerS, outputTokensPerS: 1000 / tokenMs(rate, SLOTS) };
  const ours = { ...underbid(rates), tickMs: 250 };
  const figures = simulate(scenario, load, idleS === null ? ours : fixedIdle(idleS * 1000, ours), SEED);
  const { cost_usd, within_slo_share: within_share, ttft_p50_s, ttft_p99_s, failed_requests } = figures;
  return { cost_usd, within_share, ttft_p50_s, ttft_p99_s, failed_requests };
}

/** The gateway's rule for a pool with an idle time of its own. */
function fixedIdle(idleMs: number, ours: Policy): Policy {
  return {
    ...{ name: 'fixed-idle', traits: ours.traits, tickMs: 250, wakes: true, choose: cheapest },
    decide: (view) => {
      const live = liveReplicas(view);
      const needed = Math.ceil((view.waiting + view.inFlight) / view.spec.slots);
      const kept = live.filter((replica) => replica.state !== 'ready' || replica.idleMs < idleMs).length;
      return moveTowards(view, needed > live.length ? needed : Math.max(needed, kept), 'idlest');
    },
  };
}

function resultOf(real: Map<string, Outcome>, simulated: Map<string, Outcome>, measured: Measured): BenchResult {
  const rows = SETTINGS.flatMap(({ system }) =>
    [real, simulated].map((outcomes, at) => ({
      system,
      scenario: at === 0 ? 'real' : 'simulated',
      ...outcomes.get(system),
    })),
  );
  const orders = (['cost_usd', 'within_share'] as const).map((name) => {
    const agree = pairs().filter(([a, b]) => {
      const sign = (outcomes: Map<string, Outcome>): number => {
        const [one, other] = [outcomes.get(a)?.[name] ?? 0, outcomes.get(b)?.[name] ?? 0];
        return Math.abs(one - other) < 0.02 * Math.max(one, other) ? 0 : Math.sign(one - other);
      };
      return sign(real) === sign(simulated);
    });
    return { name, agree: agree.length, of: pairs().length };
  });
  const lines = rows.map(({ system, scenario, ...row }) => [
    system,
    scenario,
    ((row.cost_usd ?? 0) * 1e6).toFixed(0),
    ((row.within_share ?? 0) * 100).toFixed(1),
    (row.ttft_p50_s ?? 0).toFixed(2),
    (row.ttft_p99_s ?? 0).toFixed(2),
    String(row.failed_requests ?? 0),
  ]);
  const head = ['setting', 'where', 'rent, millionths of a USD', `within ${LIMIT_MS} ms %`, 'p50 s', 'p99 s', 'failed'];
  const told = orders.map(({ name, agree, of }) => `${name}: ${agree} of ${of} pairs in the same order`).join('; ');
  const problems = orders.filter(({ agree, of }) => agree < of).map(({ name }) => `${name} is in another order`);
  return {
    settings: { ...measured, limit_ms: LIMIT_MS, orders },
    rows,
    report: `${formatTable(head, lines)}\n${told}`,
    problems,
  };
}

const pairs = (): [string, string][] =>
  SETTINGS.flatMap(({ system: a }, at) => SETTINGS.slice(at + 1).map(({ system: b }): [string, string] => [a, b]));
