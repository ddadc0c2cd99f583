import type { SimulatedFleet } from './fleet.ts';
import type { Requests } from './requests.ts';

/** What a run came to. Shares are of 1; times are to the first token, counted over requests that got one. */
export interface Figures {
  readonly requests: number;
  readonly within_slo_share: number;
  readonly ttft_p50_s: number;
  readonly ttft_p99_s: number;
  /** Requests that found no replica ready, and the slowest hundredth of them. */
  readonly cold_requests: number;
  readonly cold_ttft_p99_s: number | null;
  /** The slowest hundredth of those that found one. */
  readonly warm_ttft_p99_s: number | null;
  readonly cost_usd: number;
  readonly usd_per_million_output_tokens: number;
  /** Of the time that was paid: without a request, starting up included. */
  readonly idle_share: number;
  readonly start_share: number;
  readonly leases: number;
  readonly leases_per_hour: number;
  readonly replicas_max: number;
  readonly failed_requests: number;
}

export function summarise(requests: Requests, fleet: SimulatedFleet): Figures {
  const { load, ttftMs, cold, failures, late, outputTokens } = requests;
  const count = load.atMs.length;
  const within = count - late - failuresOnTime(requests);
  const warmTimes = sortedTimes(ttftMs, (at) => cold[at] === 0);
  const coldTimes = sortedTimes(ttftMs, (at) => cold[at] === 1);
  const times = sortedTimes(ttftMs, () => true);
  const costUsd = Number(fleet.costNanoUsd) / 1e9;
  return {
    requests: count,
    within_slo_share: count === 0 ? 1 : within / count,
    ttft_p50_s: quantile(times, 0.5) ?? 0,
    ttft_p99_s: quantile(times, 0.99) ?? 0,
    cold_requests: cold.reduce((sum, one) => sum + one, 0),
    cold_ttft_p99_s: quantile(coldTimes, 0.99),
    warm_ttft_p99_s: quantile(warmTimes, 0.99),
    cost_usd: costUsd,
    usd_per_million_output_tokens: outputTokens === 0 ? 0 : (costUsd * 1e6) / outputTokens,
    idle_share: fleet.paidMs === 0 ? 0 : 1 - fleet.busyMs / fleet.paidMs,
    start_share: fleet.paidMs === 0 ? 0 : fleet.startingMs / fleet.paidMs,
    leases: fleet.leases,
    leases_per_hour: fleet.leases / (load.spanMs / 3_600_000),
    replicas_max: fleet.peak,
    failed_requests: failures,
  };
}

/** Failures that are not among the late: they had no first token, or had it in time and were cut. */
function failuresOnTime(requests: Requests): number {
  let count = 0;
  for (const [at, failed] of requests.failed.entries()) {
    if (failed === 1 && !((requests.ttftMs[at] ?? Number.NaN) > requests.limitOf(at))) count += 1;
  }
  return count;
}

function sortedTimes(ttftMs: Float64Array, keep: (at: number) => boolean): Float64Array {
  return ttftMs.filter((ms, at) => !Number.isNaN(ms) && keep(at)).sort();
}

/** In seconds; null of nothing. */
function quantile(sortedMs: Float64Array, share: number): number | null {
  const ms = sortedMs[Math.min(sortedMs.length - 1, Math.floor(sortedMs.length * share))];
  return ms === undefined ? null : Math.round(ms) / 1000;
}
