import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { UsageError, type BenchContext, type BenchResult, type Benchmark } from '../benchmark.ts';
import {
  choosePlacement,
  pinSelf,
  pinSystem,
  readCpu,
  startChild,
  type Child,
  type CpuUse,
  type Placement,
} from '../child.ts';
import { describeNoise, watchNoise } from '../noise.ts';
import { chatBody, chatRequest, checkChat } from './chat.ts';
import { checkAccounting, readCommitWaitUs, startGateway, type Gateway } from './gateway.ts';
import { runLoad } from './load.ts';
import { ANSWER_BYTES, STREAM_EVENTS } from './mock-replies.ts';
import { formatReport, summarise, type Measure } from './summary.ts';

/** What a request costs more when it goes through the gateway, next to the least that a proxy on Node can cost. */
export const benchmark: Benchmark = {
  usage: `npm run bench -- overhead [--json FILE] [--seconds N] [--rounds N] [--systems LIST] [--quick]
  --seconds N     measured time of each round, 1 to 60 (4)
  --rounds N      rounds; of each figure the median is taken, 1 to 9 (3)
  --systems LIST  any of dispatch,underbid; direct is always among them (direct,dispatch,underbid)
  --quick         one round of one second: to see that it works, not to quote`,
  run,
};

const SYSTEMS = ['direct', 'dispatch', 'underbid'] as const;
type SystemName = (typeof SYSTEMS)[number];

const SCENARIOS = [
  { name: 'json-c1', stream: false, connections: 1 },
  { name: 'json-c32', stream: false, connections: 32 },
  { name: 'sse-c1', stream: true, connections: 1 },
  { name: 'sse-c32', stream: true, connections: 32 },
] as const;
type Scenario = (typeof SCENARIOS)[number];

interface Settings {
  readonly seconds: number;
  readonly rounds: number;
  readonly warmUpS: number;
  readonly systems: readonly SystemName[];
}

interface System {
  readonly name: SystemName;
  readonly port: number;
  readonly key: string;
  /** Whose CPU time counts; undefined for the model server itself. */
  readonly pid: number | undefined;
}

async function run(context: BenchContext): Promise<BenchResult> {
  const settings = parseSettings(context.argv);
  const placement = choosePlacement();
  if (placement !== undefined) pinSelf(placement);
  const children: Child[] = [];
  try {
    const { systems, mockPid, gateway } = await startSystems({ context, settings, placement, children });
    const problems = await checkAnswers(systems, context.signal);
    const readNoise = watchNoise([process.pid, ...children.map((child) => child.pid)]);
    const measures = await measureAll({ context, settings, placement, systems, mockPid });
    const noise = readNoise();
    const rows = summarise(measures.filter(({ round }) => round !== WARM_UP_ROUND));
    problems.push(...describeFailures(measures));
    let gatewaySettings = {};
    let commitWaitUs: number | undefined;
    if (gateway !== undefined) {
      const accounting = await checkAccounting(gateway, countAnswers(gateway, measures));
      problems.push(...accounting.problems);
      commitWaitUs = await readCommitWaitUs(gateway);
      gatewaySettings = { accounting, commit_wait_mean_us: commitWaitUs ?? null };
    }
    return {
      settings: { ...describeSettings(settings, placement), noise, ...gatewaySettings },
      rows,
      report: `${formatReport(rows, commitWaitUs)}\n\n${describeNoise(noise)}`,
      problems,
    };
  } finally {
    await Promise.all(children.map((child) => child.stop()));
  }
}

function parseSettings(argv: readonly string[]): Settings {
  const options = {
    seconds: { type: 'string' },
    rounds: { type: 'string' },
    systems: { type: 'string' },
    quick: { type: 'boolean' },
  } as const;
  let values;
  try {
    values = parseArgs({ args: [...argv], options, strict: true }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  const quick = values.quick === true;
  const asked = (values.systems ?? SYSTEMS.join(',')).split(',');
  const unknown = asked.find((name) => !SYSTEMS.some((system) => system === name));
  if (unknown !== undefined) throw new UsageError(`no system is called ${unknown}`);
  const seconds = parseNumber({ text: values.seconds ?? (quick ? '1' : '4'), least: 1, most: 60, name: '--seconds' });
  return {
    seconds,
    rounds: Math.round(
      parseNumber({ text: values.rounds ?? (quick ? '1' : '3'), least: 1, most: 9, name: '--rounds' }),
    ),
    warmUpS: Math.max(seconds / 4, 0.5),
    systems: SYSTEMS.filter((name) => name === 'direct' || asked.includes(name)),
  };
}

function parseNumber(option: { text: string; least: number; most: number; name: string }): number {
  const value = Number(option.text);
  if (value >= option.least && value <= option.most) return value;
  throw new UsageError(`${option.name} is a number from ${option.least} to ${option.most}`);
}

interface Stage {
  readonly context: BenchContext;
  readonly settings: Settings;
  readonly placement: Placement | undefined;
}

/** What is started goes to `children` at once, so that it is ended also when the next one does not start. */
async function startSystems(
  stage: Stage & { children: Child[] },
): Promise<{ systems: System[]; mockPid: number; gateway: Gateway | undefined }> {
  const { context, settings, placement, children } = stage;
  const { folder, signal } = context;
  const start = async (name: string, args: readonly string[], cores: string | undefined): Promise<Child> => {
    const file = fileURLToPath(new URL(`./${name}.ts`, import.meta.url));
    const child = await startChild({ file, args, folder, ready: /ready on http:/, cores, signal });
    children.push(child);
    return child;
  };
  const mock = await start('mock-server', [], placement?.rest);
  const mockPort = portOf(mock);
  const key = 'sk-ub-'.padEnd(49, '0');
  const systems: System[] = [{ name: 'direct', port: mockPort, key, pid: undefined }];
  if (settings.systems.includes('dispatch')) {
    const child = await start('dispatch-proxy', [`http://127.0.0.1:${mockPort}`], placement?.all);
    systems.push({ name: 'dispatch', port: portOf(child), key, pid: child.pid });
  }
  if (!settings.systems.includes('underbid')) return { systems, mockPid: mock.pid, gateway: undefined };
  const gateway = await startGateway({ folder, mockPort, cores: placement?.all, signal });
  children.push(gateway.child);
  systems.push({ name: 'underbid', port: gateway.port, key: gateway.key, pid: gateway.child.pid });
  return { systems, mockPid: mock.pid, gateway };
}

function portOf(child: Child): number {
  return Number(/:(\d+)\s*$/.exec(child.line)?.[1]);
}

const CHECKS_PER_SYSTEM = 2;

/** One closely read answer of each kind from each system, before anything is measured. */
async function checkAnswers(systems: readonly System[], signal: AbortSignal): Promise<string[]> {
  const problems: string[] = [];
  for (const { name, port, key } of systems) {
    for (const stream of [false, true]) {
      const problem = await checkChat({ port, key, stream, signal });
      if (problem !== undefined) problems.push(`${name}, ${stream ? 'streamed' : 'not streamed'}: ${problem}`);
    }
  }
  return problems;
}

/** Compiles what is hot in every process; counted for failures and charges, never for figures. */
const WARM_UP_ROUND = -1;

/** Rounds outermost and systems innermost, each round beginning with another system: the machine's moods are shared. */
async function measureAll(stage: Stage & { systems: readonly System[]; mockPid: number }): Promise<Measure[]> {
  const { context, settings, systems } = stage;
  const measures: Measure[] = [];
  for (let round = WARM_UP_ROUND; round < settings.rounds; round++) {
    const warm = round === WARM_UP_ROUND;
    context.say(warm ? 'warming up' : `round ${round + 1} of ${settings.rounds}`);
    for (const scenario of SCENARIOS.filter(({ connections }) => !warm || connections > 1)) {
      for (let turn = 0; turn < systems.length; turn++) {
        const system = systems[(turn + round + 1) % systems.length];
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
  const { name, port, key, pid } = system;
  if (pid !== undefined && placement !== undefined) pinSystem(pid, placement);
  const none: CpuUse = { processUs: 0, mainThreadUs: 0 };
  const edges: { system: CpuUse; clientUs: number }[] = [];
  const load = await runLoad({
    port,
    connections,
    stream,
    request: chatRequest({ port, key, stream }),
    eventsMin: STREAM_EVENTS,
    warmUpMs: settings.warmUpS * 1000,
    measureMs: settings.seconds * 1000,
    signal: context.signal,
    onWindow: () => {
      const clientUs = readCpu(process.pid).processUs + readCpu(job.mockPid).processUs;
      edges.push({ system: pid === undefined ? none : readCpu(pid), clientUs });
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
  };
}

function describeFailures(measures: readonly Measure[]): string[] {
  return measures.flatMap(({ system, scenario, round, failures, firstFailure, requests }) => {
    const where = `${system} ${scenario} ${round === WARM_UP_ROUND ? 'warm-up' : `round ${round + 1}`}`;
    if (failures > 0) return [`${where}: ${failures} failures, the first: ${firstFailure}`];
    return requests === 0 ? [`${where}: nothing was answered`] : [];
  });
}

function countAnswers(gateway: Gateway, measures: readonly Measure[]): number {
  return measures
    .filter((measure) => measure.system === 'underbid')
    .reduce((sum, measure) => sum + measure.answered, gateway.answered + CHECKS_PER_SYSTEM);
}

function describeSettings(settings: Settings, placement: Placement | undefined): Record<string, unknown> {
  return {
    seconds: settings.seconds,
    rounds: settings.rounds,
    warm_up_s: settings.warmUpS,
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
            system_other_threads: `cores ${placement.all}`,
            how: 'taskset on each thread, again before each round; dispatch and underbid alike',
          },
    cpu: 'user and system time of the system under test (utime + stime of /proc/PID/stat) over the measured time',
  };
}
