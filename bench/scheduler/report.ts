import { formatTable, median, type BenchRow } from '../benchmark.ts';
import { SLO_SHARE } from './systems.ts';

const HEAD = [
  'scenario',
  'system',
  'in SLO %',
  'worst',
  'TTFT p50 s',
  'p99 s',
  'cold',
  'cold p99',
  'USD',
  'USD/Mtok',
  'to bound',
  'equal SLO',
  'idle %',
  'leases/h',
  'failed',
];

/** Means over the seeds, and the worst share within the limit; one block for each scenario. */
export function report(rows: readonly BenchRow[]): string {
  const scenarios = [...new Set(rows.map(({ scenario }) => scenario))];
  const lines = scenarios.flatMap((scenario) => {
    const own = rows.filter((row) => row.scenario === scenario);
    const systems = [...new Set(own.map(({ system }) => system))];
    return systems.map((system) => lineOf(scenario, system, own));
  });
  return (
    `${formatTable(HEAD, lines)}\n\n` +
    'Means over the seeds; "worst" is the least share of a seed. "equal SLO": cost over that of the cheapest aim of ours that\n' +
    `keeps the limit at least as often (above 1: we are cheaper), - where none does. The bound is for ${SLO_SHARE * 100} %.`
  );
}

function lineOf(scenario: string, system: string, rows: readonly BenchRow[]): string[] {
  const own = rows.filter((row) => row.system === system);
  const mean = (name: string, digits: number, factor = 1): string => {
    const values = own.map((row) => row[name]).filter((value) => typeof value === 'number');
    if (values.length === 0) return '-';
    return ((values.reduce((sum, value) => sum + value, 0) / values.length) * factor).toFixed(digits);
  };
  const worst = Math.min(...own.map((row) => Number(row['within_slo_share'])));
  const bound = system === 'bound';
  const set = own[0]?.['held_out'] === true ? ' (held out)' : '';
  return [
    scenario.replace('held-out-', '') + set,
    system,
    bound ? '-' : mean('within_slo_share', 2, 100),
    bound ? '-' : (worst * 100).toFixed(2),
    mean('ttft_p50_s', 2),
    mean('ttft_p99_s', 1),
    mean('cold_requests', 0),
    mean('cold_ttft_p99_s', 0),
    mean('cost_usd', 2),
    mean('usd_per_million_output_tokens', 3),
    mean('cost_to_bound', 2),
    bound ? '-' : equalSlo(own, rows),
    mean('idle_share', 0, 100),
    mean('leases_per_hour', 2),
    mean('failed_requests', 0),
  ];
}

/** Seed by seed against the cheapest run of ours that keeps the limit as often; the middle of these ratios. */
function equalSlo(own: readonly BenchRow[], rows: readonly BenchRow[]): string {
  const ratios = own.flatMap((row) => {
    const ours = rows
      .filter(({ system, seed }) => system.startsWith('underbid') && seed === row['seed'])
      .filter((one) => Number(one['within_slo_share']) >= Math.min(Number(row['within_slo_share']), ENOUGH))
      .map((one) => Number(one['cost_usd']));
    return ours.length === 0 ? [] : [Number(row['cost_usd']) / Math.min(...ours)];
  });
  return ratios.length === 0 ? '-' : median(ratios).toFixed(2);
}

/** Nobody asked for more. */
const ENOUGH = SLO_SHARE;
