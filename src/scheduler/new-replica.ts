import type { PoolSpec } from '../spec.ts';
import { versionOf } from '../spec/version.ts';
import type { ReplicaRecord, RunsAs } from './records.ts';

export function runsAs(spec: PoolSpec): RunsAs {
  const { engine, model, kind } = spec;
  return { version: versionOf(spec), engine, model, kind };
}

type Given = 'id' | 'pool' | 'orderId' | 'orderedMs' | 'reason' | 'runs' | 'beside';

/** A replica that is one order so far. */
export function newReplica(given: Pick<ReplicaRecord, Given>): ReplicaRecord {
  return {
    ...given,
    state: 'ordering',
    market: null,
    bidId: null,
    leaseId: null,
    provider: null,
    priceNanoUsdPerBlock: null,
    costNanoUsdPerHour: null,
    leasedMs: null,
    runningMs: null,
    readyMs: null,
    drainMs: null,
    closedMs: null,
    failed: false,
    fundings: 0,
  };
}
