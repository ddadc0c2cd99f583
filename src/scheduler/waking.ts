import { AppError } from '../errors.ts';
import { ANYBODY_WAKES } from '../spec/wake.ts';
import { formatUsd } from '../units.ts';
import type { PoolRouter } from './pool/router.ts';
import type { Waiter } from './pool/slot.ts';
import type { WakeOffer } from './pool/wake-offer.ts';
import type { Cause } from './wake.ts';

/** The request that pays for a wake; null: it has left meanwhile, and nobody pays any more. */
export function payerOf(router: PoolRouter, { fee }: Cause): WakeOffer | null {
  const found = router.waiters.find(({ wake }) => wake !== undefined && wake.request === fee?.request);
  return found?.wake ?? null;
}

/** Tells those in line that no machine will come for them, and what would bring one. */
export function refuseWake(
  router: PoolRouter,
  { who, reason }: { readonly who: readonly Waiter[]; readonly reason: string },
): void {
  const { needs, feeNanoUsd } = router.spec.wake ?? ANYBODY_WAKES;
  const fee = formatUsd(feeNanoUsd ?? router.wakeCostNanoUsd);
  const metadata = {
    reason: 'wake_not_paid',
    wakes_for: needs,
    ...(needs.includes('fee') ? { wake_fee_usd: fee, header: 'x-underbid-wake-fee-max' } : {}),
  };
  const how = needs.includes('fee') ? `; send x-underbid-wake-fee-max: ${fee} to pay for it` : '';
  const retry = { retryAfterS: Math.ceil((router.expectedStartMs ?? 10_000) / 1000), shouldRetry: false };
  for (const waiter of who)
    waiter.refuse(new AppError('no_capacity', `no machine is woken for this: ${reason}${how}`, { metadata, ...retry }));
}
