import { runMargin } from '../ledger/client.ts';
import type { Clock } from '../clock.ts';
import type { FleetOperations } from '../gateway/deps.ts';
import { leasesOf, marginOf, marginOfRow, type MarginGroup, type MarginRow } from '../scheduler/margin.ts';
import type { Pools } from '../scheduler/pool/pools.ts';
import type { SchedulerRecords } from '../scheduler/records.ts';
import { formatUsd } from '../units.ts';
import { iso } from './views.ts';

export interface MarginDeps {
  readonly clock: Clock;
  readonly pools: Pools;
  readonly records: SchedulerRecords;
  /** Where the ledger's file is. */
  readonly dataDir: string;
}

/** What came in and went out between two times: the journal's sums, split by the scheduler's records. */
export function marginOperation({ clock, pools, records, dataDir }: MarginDeps): FleetOperations['margin'] {
  return async ({ fromMs, toMs, groupBy }) => {
    const sums = await runMargin(dataDir, fromMs, toMs);
    const replicas = await records.ofLeases([...leasesOf(sums)]);
    const pooled = new Map(replicas.map(({ id, pool }) => [id, pool]));
    const busyOf = (id: string): number | null => pools.find(pooled.get(id) ?? '')?.router.load(id)?.busyMs ?? null;
    const { rows, total, other } = marginOf({ sums, replicas, busyOf, fromMs, toMs, nowMs: clock.now() });
    return {
      from: iso(fromMs),
      to: iso(toMs),
      group_by: groupBy,
      truncated: sums.truncated,
      data: rows[groupBy].map((row) => viewRow(row, groupBy)),
      total: viewRow(total, 'total'),
      other: other.map(({ account, asset, amount }) => ({ account, asset, amount: formatUsd(amount) })),
    };
  };
}

function viewRow(row: MarginRow, group: MarginGroup | 'total'): Record<string, string> {
  return {
    [group]: row.key,
    revenue_usd: formatUsd(row.tokens + row.wakeFees),
    tokens_usd: formatUsd(row.tokens),
    wake_fees_usd: formatUsd(row.wakeFees),
    rent_usd: formatUsd(row.rent),
    market_fees_usd: formatUsd(row.marketFees),
    api_usd: formatUsd(row.api),
    sla_credits_usd: formatUsd(row.slaCredits),
    start_up_usd: formatUsd(row.startUp),
    busy_usd: formatUsd(row.busy),
    idle_usd: formatUsd(row.idle),
    wakes_usd: formatUsd(row.wakes),
    margin_usd: formatUsd(marginOfRow(row, group)),
  };
}
