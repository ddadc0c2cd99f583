import type { PoolSpec } from '../spec.ts';
import type { EpochMs, Ms, NanoUsd } from '../units.ts';

/** Pure: how long bids are waited for. */

/** An order that nobody bid for is given up after so long. */
export const NO_BID_MS = 30_000;
/** Blocks after the first bid, while requests wait. */
const BLOCKS_WAITED = 2;
/** After the first bid, while nobody waits for the machine. */
const AHEAD_MS: Ms = 60_000;

export interface Window {
  readonly orderedMs: EpochMs;
  readonly bids: readonly { readonly atMs: EpochMs; readonly costNanoUsdPerHour: NanoUsd }[];
  readonly nowMs: EpochMs;
  /** Every provider that was asked has answered. */
  readonly complete: boolean;
  /** Requests wait for a machine. */
  readonly waiting: boolean;
  /** Of the slowest market that may still bring a bid. */
  readonly blockMs: Ms;
  /** What was bid for the same lately, for an hour. */
  readonly seenNanoUsdPerHour: readonly NanoUsd[];
  /** How long the machine is expected to stay. */
  readonly lifeMs: Ms;
}

/**
 * Whether bids have been gathered for long enough. Where everybody has answered, there is nothing to wait for. Requests in
 * line end the pool's window early; with nobody in line it goes on for as long as a better bid is worth it.
 */
export function bidWindow(window: Window, { bidWindowMs }: PoolSpec): 'wait' | 'choose' | 'give_up' {
  const { orderedMs, bids, nowMs, complete, waiting, blockMs } = window;
  if (bids.length === 0) return complete || nowMs - orderedMs >= NO_BID_MS ? 'give_up' : 'wait';
  if (complete) return 'choose';
  const heldMs = nowMs - Math.min(...bids.map(({ atMs }) => atMs));
  if (waiting) return heldMs >= Math.min(bidWindowMs, BLOCKS_WAITED * blockMs) ? 'choose' : 'wait';
  if (heldMs < bidWindowMs) return 'wait';
  // A pool that takes the first bid says so.
  if (bidWindowMs === 0 || heldMs >= Math.max(AHEAD_MS, bidWindowMs)) return 'choose';
  return isWorthWaiting(window) ? 'wait' : 'choose';
}

/**
 * Optimal stopping: one block more is worth it while the drop in price that it may bring, over the machine's life, is more than
 * a machine costs in that block, which is what it is worth at least to whoever ordered it. Bids are expected to come as fast
 * as they did so far, and to be like those seen lately.
 */
export function isWorthWaiting({ bids, nowMs, orderedMs, blockMs, seenNanoUsdPerHour, lifeMs }: Window): boolean {
  const costs = bids.map(({ costNanoUsdPerHour }) => Number(costNanoUsdPerHour));
  const best = Math.min(...costs);
  const all = [...seenNanoUsdPerHour.map(Number), ...costs];
  const drop = all.reduce((sum, cost) => sum + Math.max(0, best - cost), 0) / all.length;
  const perBlock = bids.length / ((nowMs - orderedMs) / blockMs + 1);
  return perBlock * drop * lifeMs > best * blockMs;
}
