import { minBig, type EpochMs, type NanoUsd } from '../units.ts';
import type { Key } from './api-keys.ts';
import type { Customer } from './customers.ts';
import type { HoldResult, LimitSource } from './operations.ts';
import type { Cap } from './spend.ts';

export const NO_CAPS: readonly Cap[] = [];

export interface HoldAsk {
  readonly customer: Customer;
  readonly key: Key | undefined;
  readonly amount: NanoUsd;
  /** Now, and when the request's first hold was made: its windows are those of that moment. */
  readonly atMs: EpochMs;
  readonly heldMs: EpochMs;
}

/** Null when the amount fits into the customer's credit and all limits of the key; nothing is changed. */
export function whyShort({ customer, key, amount, atMs, heldMs }: HoldAsk): HoldResult | null {
  let posted = 0n;
  let free = 0n;
  for (const { account, expiresMs } of customer.lots) {
    if (expiresMs !== null && expiresMs <= atMs) continue;
    posted += account.posted;
    free += account.posted - account.held;
  }
  let limitSource: LimitSource = 'account';
  let resetsMs = Infinity;
  for (const { source, limit, reset, spend } of key?.caps ?? NO_CAPS) {
    if (limit === null) continue;
    const { spent, held, endMs } = spend.bucket(reset, heldMs);
    if (limit - spent - held < free) {
      limitSource = source;
      free = limit - spent - held;
      resetsMs = endMs;
    }
    // Waiting helps only when all of them would let it through.
    posted = minBig(posted, limit - spent);
  }
  if (amount <= free && amount >= 0n) return null;
  const transient = amount <= posted;
  const resets = Number.isFinite(resetsMs) ? { resetsMs } : {};
  return { ok: false, why: 'insufficient', needed: amount, available: free, limitSource, transient, ...resets };
}
