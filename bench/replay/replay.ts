import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerRate } from '../../src/scheduler/simulation/speeds.ts';
import { median, UsageError, type BenchContext, type Benchmark, type BenchResult } from '../benchmark.ts';
import { comparePairs, disagreements, outcomeOf, reportOf, type Outcome } from './comparison.ts';
import { ask, decisions, paidUsd, startReal, type Answer, type RealRun } from './real.ts';
import { imitate, questionsAndPauses, SETTINGS, SIZES, SLOTS, SPAN_MS, stepOf, type Setting } from './simulated.ts';

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

/** All of a setting, once its gateway is there. */
const SETTING_MS = 140_000;

/** By so many words one prompt is longer than the other: the difference is reading. */
const MORE_WORDS = 80;

/** What one setting showed on real servers. */
interface Played {
  readonly answers: readonly Answer[];
  readonly costUsd: number;
  readonly startsMs: readonly number[];
  /** Measured where the machines are there from the beginning. */
  readonly rate: ServerRate | null;
}

async function run(context: BenchContext): Promise<BenchResult> {
  if (context.argv.length > 0) throw new UsageError(`what is ${context.argv[0]}?`);
  const played = new Map<string, Played>();
  const problems: string[] = [];
  for (const setting of SETTINGS) {
    try {
      played.set(setting.system, await playSetting(setting, context));
    } catch (error) {
      context.signal.throwIfAborted();
      problems.push(`${setting.system}: ${error instanceof Error ? error.message : String(error)}`);
      context.say(problems.at(-1) ?? '');
    }
  }
  const rate = [...played.values()].find((one) => one.rate !== null)?.rate;
  const startMs = median([...played.values()].flatMap(({ startsMs }) => startsMs));
  if (!rate || Number.isNaN(startMs)) {
    problems.push('no speeds were measured, so nothing was simulated');
    return { settings: {}, rows: [], report: 'nothing to compare', problems };
  }
  // Whoever waited for a start-up is late, on a machine of any speed; whoever found a machine should not be.
  const limitMs = startMs / 2;
  const real = new Map<string, Outcome>();
  for (const [system, { answers, costUsd }] of played) real.set(system, outcomeOf(answers, costUsd, limitMs));
  const measured = { rate, startMs };
  const simulated = new Map(SETTINGS.map((setting) => [setting.system, imitate(setting, measured, limitMs)]));
  const rows = [...real].flatMap(([system, outcome]) => {
    const imitated = simulated.get(system);
    const row = { system, scenario: 'real', ...outcome };
    return imitated ? [row, { ...imitated, system, scenario: 'simulated' }] : [row];
  });
  const pairs = comparePairs(real, simulated);
  const differ = disagreements(pairs);
  const agree = `real and simulated agree in ${pairs.length - differ.length} of ${pairs.length} orders of two settings`;
  return {
    settings: { ...measured, limit_ms: limitMs, pairs },
    rows,
    report: `${reportOf(rows, limitMs)}\n${agree}`,
    problems: [...problems, ...differ],
  };
}

async function playSetting(setting: Setting, context: BenchContext): Promise<Played> {
  const say = (line: string): void => context.say(`${setting.system}: ${line}`);
  say('the gateway starts');
  const running = await startReal(setting, `${context.folder}/${setting.system}`, context.signal);
  const late = AbortSignal.timeout(SETTING_MS);
  const signal = AbortSignal.any([context.signal, late]);
  try {
    let rate: ServerRate | null = null;
    if (setting.min > 0) {
      rate = await measureRate(running, signal);
      say(
        `${(rate.stepMs + rate.stepPerStreamMs).toFixed(0)} ms a token, ${rate.prefillTokensPerS.toFixed(0)} tokens of a prompt a second`,
      );
    }
    const { answers, costUsd } = await play(running, { signal, say });
    if (answers.every(({ ttftMs }) => ttftMs === null)) {
      throw new Error(`no question was answered; the last one: ${answers.at(-1)?.problem}`);
    }
    const decided = await decisions(running);
    for (const { reason } of decided.filter(({ kind }) => kind === 'replica.draining')) say(`given up: ${reason}`);
    // A minimum is started together: its machines share the cores.
    const startsMs = setting.min > 0 ? [] : decided.flatMap(({ start_ms }) => start_ms ?? []);
    if (setting.min === 0 && startsMs.length === 0) throw new Error('its decisions tell of no start-up');
    return { answers, costUsd, startsMs, rate };
  } catch (error) {
    if (!late.aborted || context.signal.aborted) throw error;
    throw new Error(`not done within ${SETTING_MS / 1000} s`, { cause: error });
  } finally {
    await running.gateway.child.stop();
  }
}

/** Waits for the machines, then asks one at a time and as many as there are slots. */
async function measureRate(running: RealRun, signal: AbortSignal): Promise<ServerRate> {
  const answered = async (sizes: { input: number; output: number }): Promise<Answer> => {
    const answer = await ask(running, sizes, signal);
    if (answer.ttftMs === null) throw new Error(`the gateway does not answer: ${answer.problem}`);
    return answer;
  };
  const atOnce = (count: number): Promise<Answer[]> =>
    Promise.all(Array.from({ length: count }, () => answered({ input: 20, output: 8 })));
  const inTurn = async (input: number): Promise<Answer[]> => {
    const all: Answer[] = [];
    for (let count = 0; count < 3; count += 1) all.push(await answered({ input, output: 8 }));
    return all;
  };
  await atOnce(2);
  const [short, long, both] = [await inTurn(20), await inTurn(20 + MORE_WORDS), await atOnce(2 * SLOTS)];
  const step = ({ tookMs, ttftMs, tokens }: Answer): number => (tookMs - (ttftMs ?? 0)) / Math.max(1, tokens - 1);
  const firstMs = (answers: readonly Answer[]): number => median(answers.map(({ ttftMs }) => ttftMs ?? 0));
  const [alone, together] = [median(short.map(step)), median(both.map(step))];
  // 1.4 tokens a word.
  const prefillTokensPerS = (MORE_WORDS * 1.4 * 1000) / Math.max(20, firstMs(long) - firstMs(short));
  return { gpu: 'cpu', prefillTokensPerS, ...stepOf(alone, together) };
}

interface Play {
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

async function play(running: RealRun, { signal, say }: Play): Promise<{ answers: Answer[]; costUsd: number }> {
  const load = questionsAndPauses();
  const before = await paidUsd(running);
  const began = performance.now();
  const until = (atMs: number): Promise<void> =>
    sleep(Math.max(0, atMs - (performance.now() - began)), undefined, { signal });
  const answers = await Promise.all(
    Array.from(load.atMs, async (atMs, at) => {
      await until(atMs);
      const answer = await ask(running, SIZES, signal);
      const told = answer.ttftMs === null ? answer.problem : `first token after ${(answer.ttftMs / 1000).toFixed(2)} s`;
      say(`question ${at + 1} of ${load.atMs.length}: ${told}`);
      return answer;
    }),
  );
  await until(SPAN_MS);
  return { answers, costUsd: (await paidUsd(running)) - before };
}
