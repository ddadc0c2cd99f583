import { AppError } from '../errors.ts';
import type { KeySettings } from '../ledger/access.ts';
import type { PoolRouter } from '../scheduler/pool/router.ts';
import type { Needs } from '../spec/trust.ts';
import { ANYBODY_WAKES } from '../spec/wake.ts';
import { parseUsd, usdNumber, type NanoUsd } from '../units.ts';

const HEADER = 'x-underbid-wake-fee-max';

/** What a wake of this pool costs who accepts it; null: it wakes for no fee. */
export function wakeFeeOf({ spec, wakeCostNanoUsd }: PoolRouter): NanoUsd | null {
  const { needs, feeNanoUsd } = spec.wake ?? ANYBODY_WAKES;
  return needs.includes('fee') ? (feeNanoUsd ?? wakeCostNanoUsd) : null;
}

export interface FeeAsking {
  readonly header: (name: string) => string | undefined;
  readonly settings: Pick<KeySettings, 'wakeFeeMax'>;
  readonly router: PoolRouter;
  readonly needs: Needs | undefined;
}

/**
 * What this request pays to have its pool woken: the pool's fee where the pool is asleep and request or key accept so much,
 * else nothing. The request's own word counts before the key's.
 * @throws AppError `invalid_request` for a header that is no amount
 */
export function offeredFee({ header, settings, router, needs }: FeeAsking): NanoUsd {
  const text = header(HEADER);
  const most = text === undefined ? (settings.wakeFeeMax ?? 0n) : amountOf(text);
  const fee = wakeFeeOf(router);
  return fee !== null && fee <= most && router.targetFor(needs) === null ? fee : 0n;
}

function amountOf(text: string): NanoUsd {
  try {
    return parseUsd(text);
  } catch {
    throw new AppError('invalid_request', `${HEADER} is an amount in USD such as 0.05`, { param: HEADER });
  }
}

/** Beside the cost of an answer that a wake was paid for. */
export function costDetails(cost: NanoUsd, wakeFee: NanoUsd): Record<string, unknown> {
  if (wakeFee === 0n) return {};
  return { cost_details: { tokens: usdNumber(cost - wakeFee), wake_fee: usdNumber(wakeFee) } };
}
