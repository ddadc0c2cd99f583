import {
  parseNumber,
  parseSystems,
  parseWords,
  type BenchContext,
  type BenchResult,
  type Benchmark,
} from '../benchmark.ts';
import { choosePlacement, pinSelf, type Placement } from '../child.ts';
import { describeNoise, type Noise } from '../noise.ts';
import { measure, readStreamsMax, SYSTEMS, type Measure, type SystemName } from './measure.ts';
import { formatReport, summarise } from './summary.ts';

/** What an open stream costs in memory and each of its chunks in time, next to the least that a proxy on Node can cost. */
export const benchmark: Benchmark = {
  usage: `npm run bench -- streams [--json FILE] [--streams LIST] [--seconds N] [--interval-ms N] [--rounds N] [--systems LIST]
  --streams LIST   streams that are open at once, each number a scenario (1000,9000)
  --seconds N      measured time with all of them open, 1 to 300 (10)
  --interval-ms N  a stream gets a chunk every so many milliseconds, 50 to 10000 (2000)
  --rounds N       rounds; of each figure the median is taken, 1 to 9 (1)
  --systems LIST   any of dispatch,underbid; direct is always among them (direct,dispatch,underbid)`,
  run,
};

interface Settings {
  readonly streams: readonly number[];
  readonly seconds: number;
  readonly intervalMs: number;
  readonly rounds: number;
  readonly systems: readonly SystemName[];
}

async function run(context: BenchContext): Promise<BenchResult> {
  const settings = parseSettings(context.argv);
  const placement = choosePlacement();
  if (placement !== undefined) pinSelf(placement);
  const measures: Measure[] = [];
  for (let round = 0; round < settings.rounds; round++) {
    for (const streams of settings.streams) {
      for (let turn = 0; turn < settings.systems.length; turn++) {
        // Each round begins with another system: the machine's moods are shared.
        const system = settings.systems[(turn + round) % settings.systems.length] ?? 'direct';
        context.say(`round ${round + 1} of ${settings.rounds}: ${system} with ${streams} streams`);
        measures.push(await measure({ ...context, ...settings, system, streams, round, placement }));
      }
    }
  }
  const rows = summarise(measures);
  const books = measures.flatMap(({ books, scenario, round }) => (books ? [{ scenario, round, ...books }] : []));
  const noise = worstNoise(measures);
  return {
    settings: { ...describeSettings(settings, placement), noise, books },
    rows,
    report: `${formatReport(rows)}\n\n${describeNoise(noise)}\n${describeBooks(books.length, measures)}`,
    problems: measures.flatMap((measure) => problemsOf(measure, settings.intervalMs)),
  };
}

/** Above this the system's own queue is what the latencies show. */
const BUSY_MAX = 0.9;
/** Fewer of the chunks that were due, and they queue somewhere. */
const DUE_LEAST = 0.95;

function problemsOf(measure: Measure, intervalMs: number): string[] {
  const { system, scenario, round, problems, mainThreadCpuUs, clientCpuUs, window } = measure;
  const where = `${system} ${scenario} round ${round + 1}`;
  const busy = (name: string, us: number): string[] => {
    const share = us / window.seconds / 1e6;
    return share > BUSY_MAX
      ? [`${name} was busy ${(share * 100).toFixed(0)} % of the time: take a longer interval`]
      : [];
  };
  const saturated = [...busy('its main thread', mainThreadCpuUs), ...busy('the core of client and mock', clientCpuUs)];
  const due = (measure.streams * window.seconds * 1000) / intervalMs;
  if (window.chunks < DUE_LEAST * due) {
    saturated.push(`kept up with ${((window.chunks / due) * 100).toFixed(0)} % of the chunks: take a longer interval`);
  }
  return [...problems, ...saturated].map((problem) => `${where}: ${problem}`);
}

function worstNoise(measures: readonly Measure[]): Noise {
  const most = (key: keyof Noise): number => Math.max(...measures.map(({ noise }) => noise[key]));
  return {
    cpu_stolen_share: most('cpu_stolen_share'),
    cpu_of_other_programs_share: most('cpu_of_other_programs_share'),
  };
}

function describeBooks(count: number, measures: readonly Measure[]): string {
  if (count === 0) return 'no gateway was measured';
  const good = measures.filter(({ books, problems }) => books !== undefined && problems.length === 0).length;
  return `afterwards every stream charged exactly, the ledger's check passed, no hold, slot or upstream stream left: ${good} of ${count} runs`;
}

function parseSettings(argv: readonly string[]): Settings {
  const options = {
    streams: { type: 'string' },
    seconds: { type: 'string' },
    'interval-ms': { type: 'string' },
    rounds: { type: 'string' },
    systems: { type: 'string' },
  } as const;
  const values = parseWords(argv, options);
  const most = readStreamsMax();
  return {
    streams: (values.streams ?? '1000,9000')
      .split(',')
      .map((text) => Math.round(parseNumber({ text, least: 1, most, name: '--streams' }))),
    seconds: parseNumber({ text: values.seconds ?? '10', least: 1, most: 300, name: '--seconds' }),
    intervalMs: Math.round(
      parseNumber({ text: values['interval-ms'] ?? '2000', least: 50, most: 10_000, name: '--interval-ms' }),
    ),
    rounds: Math.round(parseNumber({ text: values.rounds ?? '1', least: 1, most: 9, name: '--rounds' })),
    systems: parseSystems(values.systems, SYSTEMS),
  };
}

function describeSettings(settings: Settings, placement: Placement | undefined): Record<string, unknown> {
  const { seconds, intervalMs, rounds, streams, systems } = settings;
  return {
    streams,
    seconds,
    chunk_interval_ms: intervalMs,
    rounds,
    systems,
    figures: 'each the median of its rounds; added_* against direct of the same round; every process fresh in each run',
    latency:
      "from just before a chunk is written by the model server to its event's being read by the client, one clock",
    rss: 'VmRSS with all streams open at the end of the measured time, less VmRSS before they were opened, after a warm-up',
    pace: 'chunks of all streams are spread evenly over the interval',
    placement:
      placement === undefined
        ? 'none: no taskset, or one core only'
        : {
            client_and_mock: `core ${placement.rest}`,
            system_main_thread: `core ${placement.system}`,
            system_other_threads: `core ${placement.rest}`,
            how: 'taskset on each thread; dispatch and underbid alike',
          },
  };
}
