import { setImmediate as breathe } from 'node:timers/promises';
import { UsageError, type BenchContext, type Benchmark, type BenchResult, type BenchRow } from '../benchmark.ts';
import { halfOf, heldOutCases } from './held-out.ts';
import { report } from './report.ts';
import { madeUpCases, workOf, type Case } from './scenarios.ts';
import { boundUsd, ours, peakReplicas, rivals, simulate, simulateStatic } from './systems.ts';
import { readCases } from './trace-files.ts';

/**
 * Scaling policies beside each other in the simulation: the same load, market, model servers and seed for each of them, and
 * one number for what the best of them could have cost. Underbid's rows come from the functions that decide in production.
 */
export const benchmark: Benchmark = {
  usage:
    'npm run bench -- scheduler [--trace PATH]... [--seed N] [--scenario NAME] [--only ours|rivals] [--quick] [--json FILE]\n' +
    "PATH: a trace, a folder of ServeGen's clients, or a folder of both; without it the made-up loads are run, and what\n" +
    'the environment names as UNDERBID_TRACES. Second halves of traces and some made-up loads are held out.',
  run,
};

const SEEDS = [1, 2, 3, 4, 5];
/** What else ours may steer for, to have its cost where a rival keeps the limit less often. */
const LATE_SHARES = [0.04, 0.15];
const DAYS_MS = 3 * 86_400_000;

/** Where recorded traces are, when none is named. */
const TRACES = 'UNDERBID_TRACES';

function casesOf({ traces, quick }: Options, say: (line: string) => void): Case[] {
  const recorded = traces.flatMap(readCases);
  if (traces.length > 0) return [...recorded, ...recorded.map(halfOf)];
  const folder = process.env[TRACES] ?? '';
  const madeUp = [...madeUpCases(quick), ...heldOutCases(quick)];
  if (folder === '') {
    say(`no recorded traces: name them with --trace PATH or ${TRACES}=PATH; made-up loads are run`);
    return madeUp;
  }
  const known = readCases(folder);
  return [...known, ...known.map(halfOf), ...madeUp];
}

interface Options {
  readonly traces: readonly string[];
  readonly seeds: readonly number[];
  readonly scenario: string | null;
  /** Whose rows are made; null: all. Rivals do not change with our own functions, and take most of the time. */
  readonly only: 'ours' | 'rivals' | null;
  readonly quick: boolean;
}

async function run(context: BenchContext): Promise<BenchResult> {
  const { signal } = context;
  const options = parseOptions(context.argv);
  const { seeds, scenario } = options;
  const known = casesOf(options, (line) => context.say(line));
  const cases = known.filter((one) => scenario === null || one.scenario.name === scenario);
  if (cases.length === 0) {
    throw new UsageError(`no scenario ${scenario}, only ${known.map((one) => one.scenario.name).join(', ')}`);
  }
  const rows: BenchRow[] = [];
  for (const one of cases) {
    for (const seed of seeds) {
      context.say(`${one.scenario.name}, seed ${seed}`);
      for (const row of runCase(one, { seed, first: seed === seeds[0], only: options.only })) {
        rows.push(row);
        // Nothing here waits for anything, so nobody else would have a turn.
        await breathe();
        signal.throwIfAborted();
      }
    }
  }
  const settings = {
    ...options,
    scenarios: cases.map((one) => describe(one, seeds[0] ?? 1)),
    note: 'simulated; the service model and its rates are in src/scheduler/simulation/speeds.ts',
  };
  return { settings, rows, report: report(rows), problems: problemsOf(rows) };
}

function* runCase(
  { scenario, load: loadOf, heldOut = false }: Case,
  { seed, first, only }: { readonly seed: number; readonly first: boolean; readonly only: Options['only'] },
): Generator<BenchRow> {
  const load = loadOf(seed);
  const { name } = scenario;
  const bound = boundUsd(scenario, load);
  const row = (system: string, figures: object): BenchRow => ({
    ...{ system, scenario: name, seed, held_out: heldOut },
    ...figures,
  });
  if (only !== 'rivals') {
    const mine = simulate(scenario, load, ours(scenario), seed);
    yield row('underbid', { ...mine, cost_to_bound: mine.cost_usd / bound });
    // The long runs of other aims are made once.
    for (const lateShare of first || load.spanMs < DAYS_MS ? LATE_SHARES : []) {
      const figures = simulate(scenario, load, ours(scenario, lateShare), seed);
      yield row(`underbid-${100 * (1 - lateShare)}%`, { ...figures, cost_to_bound: figures.cost_usd / bound });
    }
  }
  if (only === 'ours') return;
  const peak = simulateStatic(scenario, load, peakReplicas(scenario, load, seed), seed);
  yield row('static-peak', { ...peak, cost_to_bound: peak.cost_usd / bound });
  for (const policy of rivals(scenario, load)) {
    const figures = simulate(scenario, load, policy, seed);
    yield row(policy.name, { ...figures, cost_to_bound: figures.cost_usd / bound });
  }
  yield row('bound', boundFigures(peak, bound));
}

/** The bound has a cost and nothing else: it is no run. */
function boundFigures(
  run: { usd_per_million_output_tokens: number; cost_usd: number; requests: number },
  usd: number,
): object {
  return {
    requests: run.requests,
    within_slo_share: 0.99,
    ttft_p50_s: null,
    ttft_p99_s: null,
    cost_usd: usd,
    usd_per_million_output_tokens: (run.usd_per_million_output_tokens * usd) / run.cost_usd,
    idle_share: null,
    leases: null,
    failed_requests: 0,
    cost_to_bound: 1,
  };
}

function describe({ scenario, load }: Case, seed: number): object {
  const { name, model, reference, spec, troubles } = scenario;
  const drawn = load(seed);
  const work = workOf(drawn, scenario);
  return {
    name,
    model: model.name,
    reference_gpu: reference.gpu,
    replicas_min: spec.replicasMin,
    replicas_max: spec.replicasMax,
    requests: drawn.atMs.length,
    hours: drawn.spanMs / 3_600_000,
    mean_replicas_of_work: work.meanReplicas,
    busiest_minute_replicas: work.peakReplicas,
    troubles,
  };
}

/** A run below the bound at 99 % would show that the bound is none. */
function problemsOf(rows: readonly BenchRow[]): string[] {
  return rows
    .filter((row) => Number(row['within_slo_share']) >= 0.99 && row['failed_requests'] === 0)
    .filter((row) => Number(row['cost_to_bound']) < 1 - 1e-5)
    .map((row) => `${row.system} in ${row.scenario} costs less than the bound`);
}

function parseOptions(argv: readonly string[]): Options {
  const traces: string[] = [];
  let seeds: readonly number[] = SEEDS;
  let scenario: string | null = null;
  let only: Options['only'] = null;
  let quick = false;
  for (let at = 0; at < argv.length; at += 1) {
    const [word = '', inline] = (argv[at] ?? '').split('=', 2);
    const value = (): string => {
      const given = inline ?? argv[(at += 1)] ?? '';
      if (given === '') throw new UsageError(`${word} needs a value`);
      return given;
    };
    if (word === '--trace') traces.push(value());
    else if (word === '--scenario') scenario = value();
    else if (word === '--seed') seeds = [wholeNumber(value())];
    else if (word === '--only') only = sideOf(value());
    else if (word === '--quick') quick = true;
    else throw new UsageError(`what is ${word}?`);
  }
  if (quick && seeds === SEEDS) seeds = [1];
  return { traces, seeds, scenario, only, quick };
}

function sideOf(text: string): 'ours' | 'rivals' {
  if (text === 'ours' || text === 'rivals') return text;
  throw new UsageError(`--only takes ours or rivals, not ${text}`);
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--seed takes a whole number, not ${text}`);
  return Number(text);
}
