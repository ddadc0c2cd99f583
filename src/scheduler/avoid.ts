import type { MarketName } from '../spec.ts';
import type { EpochMs, Ms } from '../units.ts';
import type { ReplicaRecord } from './records.ts';

/** Pure: why a provider's bid is taken only when nobody else bids. */

/** A bid window and a start-up later it may well fail in the same way. */
const LATELY_MS: Ms = 10 * 60_000;

export interface Bidder {
  readonly market: MarketName;
  readonly provider: string;
  /** When a machine of its failed last; null: none did. */
  readonly failedMs: EpochMs | null;
}

/** @param replicas those that are not over; a machine that its provider takes back is among them until it is gone */
export function whyAvoid(
  { market, provider, failedMs }: Bidder,
  replicas: readonly Pick<ReplicaRecord, 'market' | 'provider' | 'endsMs'>[],
  nowMs: EpochMs,
): string | null {
  const takenBack = replicas.some((one) => {
    return one.market === market && one.provider === provider && (one.endsMs ?? null) !== null;
  });
  if (takenBack) return 'it takes a machine back';
  return failedMs !== null && nowMs - failedMs < LATELY_MS ? 'it failed lately' : null;
}
