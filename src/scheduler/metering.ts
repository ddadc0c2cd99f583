import type { NanoUsd } from '../units.ts';
import { marketOf, type Parts } from './parts.ts';
import type { ReplicaRecord } from './records.ts';

const HOUR_MS = 3_600_000;
/** Below it, the first requests would look like a spending that never was. */
const LEAST_MS = 600_000;

/**
 * Takes over what requests on a replica that is paid by the token have cost, for its lease and for budgets: its cost of an
 * hour is the average so far, exact once it has ended.
 * @param over whether this is the last look
 */
export async function meterReplica(parts: Parts, record: ReplicaRecord, over: boolean): Promise<ReplicaRecord> {
  const paid: NanoUsd | null = parts.pools.find(record.pool)?.router.load(record.id)?.paidNanoUsd ?? null;
  const market = marketOf(parts, record);
  if (paid === null || !market?.metered || record.leaseId === null || record.leasedMs === null) return record;
  market.metered(record.leaseId, paid);
  const elapsedMs = Math.max(1, parts.clock.now() - record.leasedMs);
  const cost = (paid * BigInt(HOUR_MS)) / BigInt(over ? elapsedMs : Math.max(LEAST_MS, elapsedMs));
  const before = record.costNanoUsdPerHour ?? 0n;
  const changed = cost > before ? cost - before : before - cost;
  // Not a row at each look for what nobody could tell apart.
  if (!over && changed * 20n <= before) return record;
  return cost === before ? record : parts.fleet.save({ ...record, costNanoUsdPerHour: cost });
}
