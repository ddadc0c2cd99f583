import { formatTable } from '../benchmark.ts';
import type { Row } from '../overhead/summary.ts';

/** What is known of a system besides its figures. */
export interface Described {
  readonly name: string;
  readonly version: string;
  readonly checks: string;
  readonly accounts: string;
}

export interface Absent {
  readonly name: string;
  readonly version: string;
  readonly why: string;
}

export function formatRivals(rows: readonly Row[], present: readonly Described[], absent: readonly Absent[]): string {
  const figures = rows.map((row) => [
    row.scenario,
    row.system,
    row.requests_per_s.toFixed(0),
    row.added_p50_us.toFixed(0),
    row.added_p99_us.toFixed(0),
    row.cpu_us_per_request.toFixed(1),
    row.rss_mib.toFixed(0),
    String(row.failures),
  ]);
  const parts = [
    formatTable(
      ['scenario', 'system', 'requests/s', 'added p50 us', 'added p99 us', 'CPU us', 'RSS MiB', 'failed'],
      figures,
    ),
    ...formatRatios(rows),
    ['what a request is checked for, and what is known of it afterwards:', ...present.map(describe)].join('\n'),
    ...absent.map(({ name, version, why }) => `left out: ${name} ${version}: ${why}`),
  ];
  return parts.join('\n\n');
}

function describe({ name, version, checks, accounts }: Described): string {
  const who = version === '' ? name : `${name} ${version}`;
  return `  ${who}: checks ${checks}; accounts for ${accounts}`;
}

export type Ratio = {
  readonly scenario: string;
  readonly system: string;
  readonly requests_per_s: number;
  readonly added_p50: number;
  readonly added_p99: number;
  readonly cpu: number;
  readonly rss: number;
};

/** Each system's figures as multiples of ours in the same scenario; none without ours. */
export function ratiosToOurs(rows: readonly Row[]): Ratio[] {
  return rows.flatMap((row) => {
    const ours = rows.find(({ system, scenario }) => system === 'underbid' && scenario === row.scenario);
    if (ours === undefined || row.system === 'underbid' || row.system === 'direct') return [];
    return [
      {
        scenario: row.scenario,
        system: row.system,
        requests_per_s: row.requests_per_s / ours.requests_per_s,
        added_p50: row.added_p50_us / ours.added_p50_us,
        added_p99: row.added_p99_us / ours.added_p99_us,
        cpu: row.cpu_us_per_request / ours.cpu_us_per_request,
        rss: row.rss_mib / ours.rss_mib,
      },
    ];
  });
}

function formatRatios(rows: readonly Row[]): string[] {
  const cells = ratiosToOurs(rows).map(({ scenario, system, ...ratios }) => [
    scenario,
    `${system} / underbid`,
    ...Object.values(ratios).map(times),
  ]);
  return cells.length === 0
    ? []
    : [formatTable(['scenario', '', 'requests/s', 'added p50', 'added p99', 'CPU', 'RSS'], cells)];
}

/** An added latency may be below zero on a noisy machine, and a multiple of that says nothing. */
function times(ratio: number): string {
  return Number.isFinite(ratio) && ratio > 0 ? `${ratio < 10 ? ratio.toFixed(2) : ratio.toFixed(0)}x` : '-';
}
