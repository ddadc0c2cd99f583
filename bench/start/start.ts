import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError, type BenchContext, type Benchmark, type BenchResult } from '../benchmark.ts';
import { get } from '../gateway-process.ts';
import { ask, startReal, type RealRun } from '../replay/real.ts';
import { phasesOf, reportOf, totalOf, type LeaseSteps, type Phases } from './phases.ts';

/** From a question to a pool without a machine to its first token, on the embedded market with real model servers. */
export const benchmark: Benchmark = {
  usage:
    'npm run bench -- start [--json FILE]\nAbout a minute; the embedded model server is fetched if it is not there',
  run,
};

const STARTS = 5;
/** Of one start, and of the time until its machine is given back. */
const START_MS = 30_000;
const IDLE_S = 1;

async function run(context: BenchContext): Promise<BenchResult> {
  if (context.argv.length > 0) throw new UsageError(`what is ${context.argv[0]}?`);
  context.say('the gateway starts');
  const setting = { system: 'start', min: 0, max: 1, idleS: IDLE_S };
  const running = await startReal(setting, `${context.folder}/gateway`, context.signal);
  const starts: Phases[] = [];
  const problems: string[] = [];
  try {
    for (let count = 1; count <= STARTS; count += 1) {
      const start = await startOnce(running, context.signal);
      context.say(`start ${count} of ${STARTS}: first token after ${(totalOf(start) / 1000).toFixed(2)} s`);
      starts.push(start);
    }
  } catch (error) {
    context.signal.throwIfAborted();
    problems.push(`${starts.length} of ${STARTS} starts: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    await running.gateway.child.stop();
  }
  const rows = starts.map((phases) => ({ system: 'underbid', scenario: 'cold', ...phases, all_ms: totalOf(phases) }));
  const report = starts.length === 0 ? 'no start was measured' : reportOf(starts);
  return { settings: { starts: STARTS, idle_s: IDLE_S }, rows, report, problems };
}

async function startOnce(running: RealRun, stop: AbortSignal): Promise<Phases> {
  const signal = AbortSignal.any([stop, AbortSignal.timeout(START_MS)]);
  const before = new Set((await leases(running)).map(({ id }) => id));
  const askedMs = Date.now();
  const { ttftMs, problem } = await ask(running, { input: 12, output: 4 }, signal);
  if (ttftMs === null) throw new Error(`no answer: ${problem}`);
  const made = (await leases(running)).filter(({ id }) => !before.has(id));
  const [lease] = made;
  if (!lease || made.length > 1) throw new Error(`${made.length} leases were made for one question`);
  const { port, adminKey } = running.gateway;
  const steps = (await get(port, `/admin/leases/${encodeURIComponent(lease.id)}`, adminKey)) as LeaseSteps;
  const phases = phasesOf(steps, { askedMs, firstTokenMs: askedMs + ttftMs });
  while ((await leases(running)).some(({ state }) => state !== 'closed')) await sleep(200, undefined, { signal });
  return phases;
}

async function leases({ gateway }: RealRun): Promise<readonly { id: string; state: string }[]> {
  const { data } = (await get(gateway.port, '/admin/leases', gateway.adminKey)) as {
    data: { id: string; state: string }[];
  };
  return data;
}
