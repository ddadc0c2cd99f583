import { parseNumber, parseSystems, parseWords, type BenchContext } from '../benchmark.ts';
import { pinSystem, readCpu, type Child, type CpuUse, type Placement } from '../child.ts';
import { processTree, readCpuOf, readRssMib } from '../process-tree.ts';
import { chatBody, chatRequest, checkChat, type Headers } from './chat.ts';
import { runLoad } from './load.ts';
import { ANSWER_BYTES, STREAM_EVENTS } from './mock-replies.ts';
import type { Measure } from './summary.ts';

/** Several systems before one model server, measured by turns under the same load. */

export const SCENARIOS = [
  { name: 'json-c1', stream: false, connections: 1 },
  { name: 'json-c32', stream: false, connections: 32 },
  { name: 'sse-c1', stream: true, connections: 1 },
  { name: 'sse-c32', stream: true, connections: 32 },
] as const;
type Scenario = (typeof SCENARIOS)[number];

export interface Settings {
  readonly seconds: number;
  readonly rounds: number;
  readonly warmUpS: number;
  /** Of the rounds before the first one, each load that it has. */
  readonly warmRoundS: number;
  readonly systems: readonly string[];
}

export interface System {
  readonly name: string;
  readonly port: number;
  readonly key: string;
  /** What its requests need besides. */
  readonly headers?: Headers;
  /** Whose CPU time counts, and that of what it started; undefined for the model server itself. */
  readonly pid: number | undefined;
  /** All of its threads serve: none is more its own than the others. */
  readonly threaded?: boolean;
}

export interface Stage {
  readonly context: BenchContext;
  readonly settings: Settings;
  readonly placement: Placement | undefined;
}

export const SETTINGS_USAGE = `  --seconds N     measured time of each round, 1 to 60 (4)
  --rounds N      rounds; of each figure the median is taken, 1 to 9 (3)`;

/** `direct` is always among the systems: what is added is added to it. */
export function parseSettings(argv: readonly string[], names: readonly string[]): Settings {
  const options = {
    seconds: { type: 'string' },
    rounds: { type: 'string' },
    systems: { type: 'string' },
    quick: { type: 'boolean' },
  } as const;
  const values = parseWords(argv, options);
  const quick = values.quick === true;
  const seconds = parseNumber({ text: values.seconds ?? (quick ? '1' : '4'), least: 1, most: 60, name: '--seconds' });
  return {
    seconds,
    rounds: Math.round(
      parseNumber({ text: values.rounds ?? (quick ? '1' : '3'), least: 1, most: 9, name: '--rounds' }),
    ),
    warmUpS: Math.max(seconds / 4, 0.5),
    warmRoundS: quick ? 1 : WARM_ROUND_S,
    systems: parseSystems(values.systems, names),
  };
}

/** Of a child whose ready line ends with its address. */
export function portOf(child: Child): number {
  return Number(/:(\d+)\s*$/.exec(child.line)?.[1]);
}

export const CHECKS_PER_SYSTEM = 2;

/** One closely read answer of each kind from each system, before anything is measured. */
export async function checkAnswers(systems: readonly System[], signal: AbortSignal): Promise<string[]> {
  const problems: string[] = [];
  for (const { name, ...chat } of systems) {
    for (const stream of [false, true]) {
      const problem = await checkChat({ ...chat, stream, signal });
      if (problem !== undefined) problems.push(`${name}, ${stream ? 'streamed' : 'not streamed'}: ${problem}`);
    }
  }
  return problems;
}

/**
 * Rounds below zero compile what is hot in every process; counted for failures and charges, never for figures. A program of
 * many functions is compiled for longer than a small one, and its servers run for weeks: figures of the first seconds were a
 * tenth below those of the first minute.
 */
const WARM_ROUNDS = 2;
const WARM_ROUND_S = 6;
export const isWarmUp = (round: number): boolean => round < 0;

/** Rounds outermost and systems innermost, each round beginning with another system: the machine's moods are shared. */
export async function measureAll(stage: Stage & { systems: readonly System[]; mockPid: number }): Promise<Measure[]> {
  const { context, settings, systems } = stage;
  const measures: Measure[] = [];
  for (let round = -WARM_ROUNDS; round < settings.rounds; round++) {
    const warm = isWarmUp(round);
    context.say(warm ? 'warming up' : `round ${round + 1} of ${settings.rounds}`);
    for (const scenario of SCENARIOS.filter(({ connections }) => !warm || connections > 1)) {
      for (let turn = 0; turn < systems.length; turn++) {
        const system = systems[(turn + round + WARM_ROUNDS) % systems.length];
        if (system !== undefined) measures.push(await measureOne({ ...stage, system, scenario, round }));
      }
    }
  }
  return measures;
}

async function measureOne(
  job: Stage & {
    readonly system: System;
    readonly mockPid: number;
    readonly scenario: Scenario;
    readonly round: number;
  },
): Promise<Measure> {
  const { context, settings, placement, system, scenario } = job;
  const { stream, connections } = scenario;
  const { name, pid, ...chat } = system;
  const pids = pid === undefined ? [] : processTree(pid);
  if (pid !== undefined && placement !== undefined)
    pinSystem(pid, placement, system.threaded === true ? 'all' : 'rest');
  const edges: { system: CpuUse; clientUs: number }[] = [];
  const load = await runLoad({
    port: chat.port,
    connections,
    stream,
    request: chatRequest({ ...chat, stream }),
    eventsMin: STREAM_EVENTS,
    warmUpMs: settings.warmUpS * 1000,
    measureMs: (isWarmUp(job.round) ? settings.warmRoundS : settings.seconds) * 1000,
    signal: context.signal,
    onWindow: () => {
      const clientUs = readCpu(process.pid).processUs + readCpu(job.mockPid).processUs;
      edges.push({ system: readCpuOf(pids), clientUs });
    },
  });
  const [before, after] = edges;
  if (before === undefined || after === undefined) throw new Error('a load without a measured time');
  return {
    system: name,
    scenario: scenario.name,
    round: job.round,
    ...load,
    cpuUs: after.system.processUs - before.system.processUs,
    mainThreadCpuUs: after.system.mainThreadUs - before.system.mainThreadUs,
    clientCpuUs: after.clientUs - before.clientUs,
    rssMib: readRssMib(pids),
  };
}

export function describeFailures(measures: readonly Measure[]): string[] {
  return measures.flatMap(({ system, scenario, round, failures, firstFailure, requests }) => {
    const where = `${system} ${scenario} ${isWarmUp(round) ? 'warm-up' : `round ${round + 1}`}`;
    if (failures > 0) return [`${where}: ${failures} failures, the first: ${firstFailure}`];
    return requests === 0 ? [`${where}: nothing was answered`] : [];
  });
}

export function describeSettings(settings: Settings, placement: Placement | undefined): Record<string, unknown> {
  return {
    seconds: settings.seconds,
    rounds: settings.rounds,
    warm_up_s: settings.warmUpS,
    warm_up_rounds: `${WARM_ROUNDS} of ${settings.warmRoundS} s`,
    figures: 'each the median of its rounds; added_* against direct of the same round',
    systems: settings.systems,
    request_bytes: Buffer.byteLength(chatBody(false)),
    stream_request_bytes: Buffer.byteLength(chatBody(true)),
    answer_bytes: ANSWER_BYTES,
    stream_writes: STREAM_EVENTS,
    placement:
      placement === undefined
        ? 'none: no taskset, or one core only'
        : {
            client_and_mock: `core ${placement.rest}`,
            system_main_thread: `core ${placement.system}`,
            system_other_threads: `core ${placement.rest}; of programs whose threads all serve, cores ${placement.all}`,
            how: 'taskset on each thread, again before each round; all systems alike',
          },
    cpu: 'user and system time of the system under test (utime + stime of /proc/PID/stat) over the measured time',
  };
}
