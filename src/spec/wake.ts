import { z } from 'zod';
import { formatUsd, parseUsd, type Ms, type NanoUsd } from '../units.ts';
import { usdSchema } from './money.ts';

/**
 * Who pays for a cold start. Waking a machine costs more than many small calls bring in, so a pool may ask that those who
 * wait are worth it together (`value`), that one of them has a wake left that day (`allowance`), or pays a fee that it
 * accepts (`fee`). Any one that is named is enough; none named: everybody wakes the pool.
 */
export const WAKE_WAYS = ['value', 'allowance', 'fee'] as const;
export type WakeWay = (typeof WAKE_WAYS)[number];

export const wakeSchema = z
  .strictObject({
    needs: z
      .array(z.enum(WAKE_WAYS))
      .max(WAKE_WAYS.length)
      .default([])
      .describe('what wakes the pool, any one of them; default: nothing is needed'),
    allowance_per_day: z
      .number()
      .int()
      .min(0)
      .max(1_000_000)
      .optional()
      .describe(
        'wakes that an account has free in a day (UTC), where it has no number of its own; default: any number',
      ),
    fee_usd: usdSchema
      .optional()
      .describe('what a wake costs an account that accepts it; default: what the start-up is expected to cost'),
    wait_s: z
      .number()
      .min(0)
      .max(3600)
      .default(5)
      .describe('how long requests that cannot wake the pool wait for others before they are refused'),
  })
  .describe('who pays for a cold start');

export interface Wake {
  readonly needs: readonly WakeWay[];
  /** Null: any number. */
  readonly allowancePerDay: number | null;
  /** Null: what the start-up is expected to cost. */
  readonly feeNanoUsd: NanoUsd | null;
  readonly waitMs: Ms;
}

/** Of a pool that says nothing: everybody wakes it. */
export const ANYBODY_WAKES: Wake = { needs: [], allowancePerDay: null, feeNanoUsd: null, waitMs: 5000 };

export function parseWake(wake: z.output<typeof wakeSchema>): Wake {
  return {
    needs: [...new Set(wake.needs)],
    allowancePerDay: wake.allowance_per_day ?? null,
    feeNanoUsd: wake.fee_usd === undefined ? null : parseUsd(wake.fee_usd),
    waitMs: Math.round(wake.wait_s * 1000),
  };
}

/** In the file's shape. */
export function describeWake({ needs, allowancePerDay, feeNanoUsd, waitMs }: Wake): object {
  return {
    needs,
    ...(allowancePerDay === null ? {} : { allowance_per_day: allowancePerDay }),
    ...(feeNanoUsd === null ? {} : { fee_usd: formatUsd(feeNanoUsd) }),
    wait_s: waitMs / 1000,
  };
}
