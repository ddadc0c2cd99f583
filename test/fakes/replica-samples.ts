import type { ReplicaRecord } from '../../src/scheduler/records.ts';

/** A replica that works, as its row has it. */
export function testReplica(change: Partial<ReplicaRecord> = {}): ReplicaRecord {
  return {
    id: 'rep-1',
    pool: 'tiny',
    state: 'ready',
    orderId: 'ord-1',
    market: 'akash',
    bidId: 'ord-1/desk',
    leaseId: 'lease-ord-1',
    provider: 'desk',
    priceNanoUsdPerBlock: 1n,
    costNanoUsdPerHour: 1n,
    orderedMs: 0,
    leasedMs: 0,
    runningMs: 0,
    readyMs: 0,
    drainMs: null,
    closedMs: null,
    failed: false,
    reason: 'answered its probe',
    fundings: 0,
    ...change,
  };
}
