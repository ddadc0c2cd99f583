import { describeError } from '../errors.ts';
import type { Breach } from '../spec/dispute.ts';
import { marketOf, type Parts } from './parts.ts';
import type { ReplicaRecord } from './records.ts';

/**
 * Files a dispute of a replica's lease, on the provider's lasting record: our own memory of it ends with this process. One
 * that cannot be filed keeps nobody from closing the lease; what a gateway that stops no longer hears is no breach.
 */
export async function fileDispute(parts: Parts, record: ReplicaRecord, breach: Breach): Promise<void> {
  if (record.leaseId === null || parts.signal.aborted) return;
  try {
    await marketOf(parts, record)?.dispute(record.leaseId, breach);
  } catch (error) {
    parts.log(`lease ${record.leaseId} could not be disputed: ${describeError(error)}`);
  }
}
