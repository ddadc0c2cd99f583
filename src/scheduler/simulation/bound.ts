import type { Load } from './load.ts';
import type { Scenario } from './scenario.ts';
import { START_SHARE_LEAST } from './market.ts';
import { coldAllowanceMs, prefillMs, rateOn, startMs, TTFT_MS, tokenMs, workMs, type ServerRate } from './speeds.ts';

/**
 * A cost that no policy can go below while 99 % of its requests are within the limit and none fails: the optimum with the
 * whole load known beforehand, of a problem that is easier than the real one in every respect.
 *
 * - Work is a fluid that any replica takes, at the speed of a full batch; replicas start the moment they are wanted, and pay
 *   the shortest start-up of all providers. All have the least price and, of the kinds of GPU on offer, each buys as much
 *   work for its money as the best. Supply has no end and nothing fails.
 * - Only prompts have to be read in time; answers have to be written at some time. Both need their time of a replica.
 * - A request may be read from the beginning of the step in which it comes, until its own limit. While there is no replica,
 *   and for as long as a cold start may take after that, everybody's limit is a cold one.
 * - The pool's minimum is there all the time, unless machines fail.
 * - Of one request in a hundred, the longest prompts, reading in time is not asked. It is left out at a price; every price
 *   gives a bound (Lagrange), and so does every share of the rent that is counted as paid by the work done.
 */
export function boundUsd(scenario: Scenario, load: Load, lateShare = 0.01): number {
  const problem = relax(scenario, load, lateShare);
  // Late or not, all of it has to be done by somebody, and somebody has to start.
  const started = scenario.spec.replicasMin === 0 ? problem.startSteps : 0;
  let best = Math.max(problem.totalSteps + started, problem.unitsMin * problem.work.length);
  for (const workShare of WORK_SHARES) {
    for (const dropPrice of DROP_PRICES) {
      const bound = optimum(problem, dropPrice, 1 - workShare) + workShare * problem.totalSteps;
      best = Math.max(best, bound - dropPrice * problem.droppable);
    }
  }
  return (best * problem.unitUsdPerHour * problem.stepMs) / 3_600_000;
}

/** In steps of one unit's rent, for each step of work that is left out. */
const DROP_PRICES: readonly number[] = [1, 4, 16];
const WORK_SHARES: readonly number[] = [0, 0.6, 0.95];
/** Steps in a run, about, and the quanta of work in one. */
const STEPS = 1500;
const STEP_LEAST_MS = 5_000;
const QUANTA = 2;

interface Problem {
  readonly stepMs: number;
  readonly unitUsdPerHour: number;
  /** Prompts that come in each step, in quanta of a unit's step. */
  readonly work: Int32Array;
  /** What of them may be left at a step's end, while warm and while cold. */
  readonly warm: Int32Array;
  readonly cold: Int32Array;
  readonly coldSteps: number;
  readonly startSteps: number;
  /** Reading that need not be in time, in steps. */
  readonly droppable: number;
  readonly totalSteps: number;
  /** The pool's minimum is there from the beginning and stays; 0 where machines fail, since then it may be missing. */
  readonly unitsMin: number;
  readonly unitsFirst: number;
  readonly unitsMax: number;
}

function relax(scenario: Scenario, load: Load, lateShare: number): Problem {
  const { model, providers, reference } = scenario;
  const { weak, unitUsdPerHour } = cheapestUnit(scenario);
  const stepMs = Math.max(STEP_LEAST_MS, Math.ceil(load.spanMs / STEPS / 1000) * 1000);
  const count = Math.ceil(load.spanMs / stepMs);
  const arrived = new Float64Array(count + 1);
  const [warm, cold] = [new Float64Array(count + 1), new Float64Array(count + 1)];
  const reads = new Float64Array(load.atMs.length);
  const coldMs = coldAllowanceMs(model);
  let totalSteps = 0;
  let longestMs = 0;
  for (const [at, atMs] of load.atMs.entries()) {
    const [input, output] = [load.inputTokens[at] ?? 1, load.outputTokens[at] ?? 1];
    const read = prefillMs(weak, input) / stepMs;
    const limitMs = TTFT_MS + prefillMs(reference, input);
    const step = Math.floor(atMs / stepMs);
    arrived[step] = (arrived[step] ?? 0) + read;
    mayWait(warm, read, step, (atMs + limitMs) / stepMs);
    mayWait(cold, read, step, (atMs + limitMs + coldMs) / stepMs);
    reads[at] = read;
    totalSteps += workMs(weak, model.slots, input, output) / stepMs;
    longestMs = Math.max(longestMs, limitMs);
  }
  const unitsMin = scenario.troubles.length === 0 ? scenario.spec.replicasMin : 0;
  const dropped = reads.sort().subarray(reads.length - Math.ceil(reads.length * lateShare));
  return {
    stepMs,
    unitUsdPerHour,
    work: quanta(arrived.subarray(0, count)),
    warm: runningSums(warm, count),
    cold: runningSums(cold, count),
    coldSteps: Math.ceil((coldMs + longestMs) / stepMs) + 1,
    startSteps: Math.min(...providers.map(({ bytesPerS }) => startMs(model, bytesPerS) * START_SHARE_LEAST)) / stepMs,
    droppable: dropped.reduce((sum, read) => sum + read, 0),
    totalSteps,
    unitsMin,
    unitsFirst: scenario.spec.replicasMin,
    unitsMax: Math.max(2, scenario.spec.replicasMin, Math.ceil(Math.max(...arrived)) + 1),
  };
}

/** One unit is the weakest GPU; a stronger one is as many whole units as it is stronger, at the best price of a unit. */
function cheapestUnit({ model, providers }: Scenario): { weak: ServerRate; unitUsdPerHour: number } {
  const rates = providers.map(({ gpu }) => rateOn(model, gpu));
  const weak = rates.reduce((a, b) => (a.prefillTokensPerS <= b.prefillTokensPerS ? a : b));
  const units = (rate: ServerRate): number => {
    const reading = rate.prefillTokensPerS / weak.prefillTokensPerS;
    return Math.ceil(Math.max(reading, tokenMs(weak, model.slots) / tokenMs(rate, model.slots)) - 1e-9);
  };
  const prices = providers.map(({ gpu, usdPerHour }) => Number(usdPerHour) / units(rateOn(model, gpu)));
  return { weak, unitUsdPerHour: Math.min(...prices) };
}

/** Until its limit it may be unread at a step's end; the sums are made afterwards. */
function mayWait(changes: Float64Array, read: number, step: number, limitStep: number): void {
  // At the end of step s the time is s + 1.
  const until = Math.min(changes.length - 1, Math.ceil(limitStep) - 1);
  if (until <= step) return;
  changes[step] = (changes[step] ?? 0) + read;
  changes[until] = (changes[until] ?? 0) - read;
}

/** In quanta, rounded up, and one more for the rounding of what came. */
function runningSums(changes: Float64Array, count: number): Int32Array {
  let sum = 0;
  return Int32Array.from(changes.subarray(0, count), (change) => {
    sum += change;
    return Math.ceil(sum * QUANTA) + 1;
  });
}

/** Whole quanta whose running sum never runs ahead of the work's, and never a quantum behind. */
function quanta(arrived: Float64Array): Int32Array {
  let sum = 0;
  let given = 0;
  return Int32Array.from(arrived, (work) => {
    sum += work * QUANTA;
    const whole = Math.floor(sum + 1e-9) - given;
    given += whole;
    return whole;
  });
}

/**
 * The least cost in steps of one unit's rent. Its states: how many units, what waits, and whether what waits came before the
 * last start from zero (then it may wait longer, for so many steps after that start; counted in `timer`).
 */
function optimum(problem: Problem, dropPrice: number, rent: number): number {
  const { work, warm, cold, coldSteps, startSteps, unitsMin, unitsMax } = problem;
  const width = Math.max(...cold) + 1;
  const timers = Math.min(coldSteps, TIMERS) + 1;
  const stepsPerTimer = Math.ceil(coldSteps / TIMERS);
  const size = timers * (unitsMax + 1) * width;
  const dropCost = dropPrice / QUANTA;
  let now = new Float64Array(size).fill(Infinity);
  let next = new Float64Array(size).fill(Infinity);
  const index = (timer: number, units: number): number => (timer * (unitsMax + 1) + units) * width;
  now[index(0, problem.unitsFirst)] = 0;
  const from = new Float64Array(size);
  for (let step = 0; step < work.length; step += 1) {
    const came = work[step] ?? 0;
    from.set(now);
    changeUnits(from, { index, timers, unitsMax, width, startSteps });
    next.fill(Infinity);
    const expires = (step + 1) % stepsPerTimer === 0;
    for (let timer = 0; timer < timers; timer += 1) {
      const later = expires && timer > 0 ? timer - 1 : timer;
      for (let units = unitsMin; units <= unitsMax; units += 1) {
        const base = index(timer, units);
        const allowed = units === 0 || timer > 0 ? (cold[step] ?? 0) : (warm[step] ?? 0);
        const limit = Math.min(width - 1, allowed);
        for (let waits = 0; waits < width; waits += 1) {
          const cost = from[base + waits] ?? Infinity;
          if (cost === Infinity) continue;
          const left = Math.max(0, waits + came - units * QUANTA);
          const kept = Math.min(left, limit);
          const paid = cost + units * rent + (left > kept ? (left - kept) * dropCost : 0);
          // With a short line it is warm again at once: nothing is lost by saying so.
          const to = index(units === 0 ? 0 : later, units) + kept;
          if (paid < (next[to] ?? Infinity)) next[to] = paid;
        }
      }
    }
    [now, next] = [next, now];
  }
  return Math.min(...minima(now));
}

const TIMERS = 4;

interface Grid {
  readonly index: (timer: number, units: number) => number;
  readonly timers: number;
  readonly unitsMax: number;
  readonly width: number;
  readonly startSteps: number;
}

/** One more unit costs a start-up, one fewer nothing; from zero on, what waits may do so for all timers. */
function changeUnits(costs: Float64Array, { index, timers, unitsMax, width, startSteps }: Grid): void {
  for (let waits = 0; waits < width; waits += 1) {
    for (let timer = 0; timer < timers; timer += 1) {
      for (let units = unitsMax; units > 0; units -= 1) {
        const to = index(units > 1 ? timer : 0, units - 1) + waits;
        costs[to] = Math.min(costs[to] ?? Infinity, costs[index(timer, units) + waits] ?? Infinity);
      }
    }
    const asleep = (costs[index(0, 0) + waits] ?? Infinity) + startSteps;
    const woken = index(timers - 1, 1) + waits;
    costs[woken] = Math.min(costs[woken] ?? Infinity, asleep);
    for (let timer = 0; timer < timers; timer += 1) {
      for (let units = 1; units < unitsMax; units += 1) {
        const to = index(timer, units + 1) + waits;
        costs[to] = Math.min(costs[to] ?? Infinity, (costs[index(timer, units) + waits] ?? Infinity) + startSteps);
      }
    }
  }
}

function* minima(costs: Float64Array): Generator<number> {
  let least = Infinity;
  for (const cost of costs) least = Math.min(least, cost);
  yield least;
}
