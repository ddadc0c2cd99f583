import { formatTable, median } from '../benchmark.ts';
import { SYSTEMS, type Measure } from './measure.ts';

/** A type and not an interface, so that it is a `BenchRow` too. */
export type Row = {
  readonly system: string;
  readonly scenario: string;
  readonly streams: number;
  /** What resident memory grew by with all streams open, a stream; of `direct` the model server's own. */
  readonly rss_per_stream_kib: number;
  readonly rss_base_mib: number;
  readonly rss_open_mib: number;
  readonly added_chunk_p50_us: number;
  readonly added_chunk_p99_us: number;
  readonly chunk_p50_us: number;
  readonly chunk_p99_us: number;
  readonly chunks_per_s: number;
  readonly opened_in_s: number;
  readonly cpu_us_per_chunk: number;
  readonly main_thread_busy_share: number;
  readonly client_core_busy_share: number;
  readonly cpu_of_other_programs_share: number;
  readonly failed: number;
  /** The rounds one by one, in their order. */
  readonly rounds: readonly Figures[];
};

type Figures = Readonly<Record<Exclude<keyof Row, 'system' | 'scenario' | 'streams' | 'rounds'>, number>>;

/** Scenarios in the order in which they first come; failures are summed, the rest are medians over the rounds. */
export function summarise(measures: readonly Measure[]): Row[] {
  const scenarios = [...new Set(measures.map(({ scenario }) => scenario))];
  return scenarios.flatMap((scenario) =>
    SYSTEMS.flatMap((system) => {
      const group = measures.filter((measure) => measure.scenario === scenario && measure.system === system);
      return group[0] === undefined ? [] : [summariseOne(group[0], group, measures)];
    }),
  );
}

function summariseOne({ system, scenario, streams }: Measure, group: readonly Measure[], all: readonly Measure[]): Row {
  const rounds = group.map((measure) => figuresOf(measure, all));
  const middle = (key: keyof Figures): number => round(median(rounds.map((figures) => figures[key])), 3);
  return {
    system,
    scenario,
    streams,
    rss_per_stream_kib: middle('rss_per_stream_kib'),
    rss_base_mib: middle('rss_base_mib'),
    rss_open_mib: middle('rss_open_mib'),
    added_chunk_p50_us: middle('added_chunk_p50_us'),
    added_chunk_p99_us: middle('added_chunk_p99_us'),
    chunk_p50_us: middle('chunk_p50_us'),
    chunk_p99_us: middle('chunk_p99_us'),
    chunks_per_s: middle('chunks_per_s'),
    opened_in_s: middle('opened_in_s'),
    cpu_us_per_chunk: middle('cpu_us_per_chunk'),
    main_thread_busy_share: middle('main_thread_busy_share'),
    client_core_busy_share: middle('client_core_busy_share'),
    cpu_of_other_programs_share: middle('cpu_of_other_programs_share'),
    failed: rounds.reduce((sum, { failed }) => sum + failed, 0),
    rounds,
  };
}

function figuresOf(measure: Measure, all: readonly Measure[]): Figures {
  const { window, opened, streams, rssBaseKib, rssOpenKib, noise } = measure;
  const direct = all.find(
    ({ system, scenario, round }) => system === 'direct' && scenario === measure.scenario && round === measure.round,
  );
  return {
    rss_per_stream_kib: round((rssOpenKib - rssBaseKib) / streams),
    rss_base_mib: round(rssBaseKib / 1024),
    rss_open_mib: round(rssOpenKib / 1024),
    added_chunk_p50_us: round(window.p50Us - (direct?.window.p50Us ?? Number.NaN)),
    added_chunk_p99_us: round(window.p99Us - (direct?.window.p99Us ?? Number.NaN)),
    chunk_p50_us: round(window.p50Us),
    chunk_p99_us: round(window.p99Us),
    chunks_per_s: round(window.chunks / window.seconds),
    opened_in_s: round(opened.seconds, 2),
    cpu_us_per_chunk: round(measure.cpuUs / window.chunks),
    main_thread_busy_share: round(measure.mainThreadCpuUs / window.seconds / 1e6, 3),
    client_core_busy_share: round(measure.clientCpuUs / window.seconds / 1e6, 3),
    cpu_of_other_programs_share: noise.cpu_of_other_programs_share + noise.cpu_stolen_share,
    failed: measure.failed,
  };
}

function round(value: number, digits = 1): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

const HEAD = ['scenario', 'system', 'KiB a stream', 'RSS MiB', 'chunk p50 us', 'added p50', 'added p99', 'chunks/s'];

export function formatReport(rows: readonly Row[]): string {
  const percent = (share: number): string => `${(share * 100).toFixed(0)} %`;
  const cells = rows.map((row) => [
    row.scenario,
    row.system,
    row.rss_per_stream_kib.toFixed(1),
    row.rss_open_mib.toFixed(0),
    row.chunk_p50_us.toFixed(0),
    row.added_chunk_p50_us.toFixed(0),
    row.added_chunk_p99_us.toFixed(0),
    row.chunks_per_s.toFixed(0),
    row.opened_in_s.toFixed(1),
    row.cpu_us_per_chunk.toFixed(1),
    percent(row.main_thread_busy_share),
    percent(row.client_core_busy_share),
    percent(row.cpu_of_other_programs_share),
    String(row.failed),
  ]);
  const head = [...HEAD, 'opened in s', 'CPU us a chunk', 'busy', 'client busy', 'others', 'failed'];
  return formatTable(head, cells);
}
