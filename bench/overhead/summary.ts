import { formatTable, median } from '../benchmark.ts';
import type { LoadResult } from './load.ts';

/** One system in one scenario in one round. */
export interface Measure extends LoadResult {
  readonly system: string;
  readonly scenario: string;
  readonly round: number;
  readonly cpuUs: number;
  readonly mainThreadCpuUs: number;
  /** Of the client and the mock together. */
  readonly clientCpuUs: number;
  /** The system's memory right after the load; 0 where nothing is between client and mock. */
  readonly rssMib: number;
}

/** A type and not an interface, so that it is a `BenchRow` too. */
export type Row = {
  readonly system: string;
  readonly scenario: string;
  readonly requests_per_s: number;
  readonly added_p50_us: number;
  readonly added_p99_us: number;
  readonly cpu_us_per_request: number;
  readonly main_thread_cpu_us_per_request: number;
  /** Above 0.9 the system's own main thread set the requests/s, not the client. */
  readonly main_thread_busy_share: number;
  readonly client_core_busy_share: number;
  readonly rss_mib: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly requests: number;
  readonly failures: number;
  /** The rounds one by one, in their order. */
  readonly rounds: readonly Figures[];
};

interface Figures {
  readonly requests_per_s: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly added_p50_us: number;
  readonly added_p99_us: number;
  readonly cpu_us_per_request: number;
  readonly main_thread_cpu_us_per_request: number;
  readonly main_thread_busy_share: number;
  readonly client_core_busy_share: number;
  readonly rss_mib: number;
  readonly requests: number;
  readonly failures: number;
}

const SYSTEM_ORDER = ['direct', 'dispatch', 'underbid'];

/** Scenarios in the order in which they first come; failures and requests are summed, the rest are medians. */
export function summarise(measures: readonly Measure[], order: readonly string[] = SYSTEM_ORDER): Row[] {
  const groups = Map.groupBy(measures, ({ scenario, system }) => `${scenario} ${system}`);
  const scenarios = [...new Set(measures.map((measure) => measure.scenario))];
  return [...groups.values()]
    .flatMap((group) => (group[0] === undefined ? [] : [summariseOne(group[0], group, measures)]))
    .toSorted((a, b) => order.indexOf(a.system) - order.indexOf(b.system))
    .toSorted((a, b) => scenarios.indexOf(a.scenario) - scenarios.indexOf(b.scenario));
}

function summariseOne(first: Measure, group: readonly Measure[], all: readonly Measure[]): Row {
  const rounds = group.map((measure) => figuresOf(measure, all));
  const middle = (key: keyof Figures): number => round(median(rounds.map((figures) => figures[key])), 2);
  const sum = (key: keyof Figures): number => rounds.reduce((total, figures) => total + figures[key], 0);
  return {
    system: first.system,
    scenario: first.scenario,
    requests_per_s: middle('requests_per_s'),
    added_p50_us: middle('added_p50_us'),
    added_p99_us: middle('added_p99_us'),
    cpu_us_per_request: middle('cpu_us_per_request'),
    main_thread_cpu_us_per_request: middle('main_thread_cpu_us_per_request'),
    main_thread_busy_share: middle('main_thread_busy_share'),
    client_core_busy_share: middle('client_core_busy_share'),
    rss_mib: middle('rss_mib'),
    p50_us: middle('p50_us'),
    p99_us: middle('p99_us'),
    requests: sum('requests'),
    failures: sum('failures'),
    rounds,
  };
}

function figuresOf(measure: Measure, all: readonly Measure[]): Figures {
  const direct = all.find(
    ({ system, scenario, round }) => system === 'direct' && scenario === measure.scenario && round === measure.round,
  );
  return {
    requests_per_s: round(measure.requestsPerS),
    p50_us: round(measure.p50Us),
    p99_us: round(measure.p99Us),
    added_p50_us: round(measure.p50Us - (direct?.p50Us ?? Number.NaN)),
    added_p99_us: round(measure.p99Us - (direct?.p99Us ?? Number.NaN)),
    cpu_us_per_request: round(measure.cpuUs / measure.requests),
    main_thread_cpu_us_per_request: round(measure.mainThreadCpuUs / measure.requests),
    main_thread_busy_share: round(measure.mainThreadCpuUs / measure.seconds / 1e6, 3),
    client_core_busy_share: round(measure.clientCpuUs / measure.seconds / 1e6, 3),
    rss_mib: round(measure.rssMib),
    requests: measure.requests,
    failures: measure.failures,
  };
}

function round(value: number, digits = 1): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

const HEAD = ['scenario', 'system', 'requests/s', 'p50 us', 'added p50', 'added p99', 'CPU us', 'main thread'];

export function formatReport(rows: readonly Row[], commitWaitUs: number | undefined): string {
  const cells = rows.map((row) => [
    row.scenario,
    row.system,
    row.requests_per_s.toFixed(0),
    row.p50_us.toFixed(0),
    row.added_p50_us.toFixed(0),
    row.added_p99_us.toFixed(0),
    row.cpu_us_per_request.toFixed(1),
    row.main_thread_cpu_us_per_request.toFixed(1),
    percent(row.main_thread_busy_share),
    percent(row.client_core_busy_share),
    String(row.failures),
  ]);
  const parts = [formatTable([...HEAD, 'busy', 'client busy', 'failed'], cells), ...formatRatios(rows)];
  if (commitWaitUs !== undefined) parts.push(`wait for a commit, mean: ${commitWaitUs.toFixed(0)} us`);
  return parts.join('\n\n');
}

function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`;
}

/** Underbid against dispatch, the floor: above 1 is more requests, or more CPU. */
function formatRatios(rows: readonly Row[]): string[] {
  const ours = rows.filter((row) => row.system === 'underbid');
  const cells = ours.flatMap((row) => {
    const floor = rows.find(({ system, scenario }) => system === 'dispatch' && scenario === row.scenario);
    if (floor === undefined) return [];
    const times = (key: (row: Row) => number): string => `${(key(row) / key(floor)).toFixed(2)}x`;
    return [
      [
        row.scenario,
        'underbid / dispatch',
        times((row) => row.requests_per_s),
        times((row) => row.cpu_us_per_request),
        times((row) => row.main_thread_cpu_us_per_request),
      ],
    ];
  });
  if (cells.length === 0) return [];
  return [formatTable(['scenario', '', 'requests/s', 'CPU', 'main thread'], cells)];
}
