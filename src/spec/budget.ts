import { z } from 'zod';
import { parseUsd, type NanoUsd } from '../units.ts';
import { usdSchema } from './money.ts';

export const budgetSchema = z.strictObject({ usd_per_hour: usdSchema.optional(), usd_per_day: usdSchema.optional() });

/** Null: no limit. */
export interface SpendingBudget {
  readonly hourNanoUsd: NanoUsd | null;
  readonly dayNanoUsd: NanoUsd | null;
}

export function parseBudget({ usd_per_hour: hour, usd_per_day: day }: z.output<typeof budgetSchema>): SpendingBudget {
  const amount = (text: string | undefined): NanoUsd | null => (text === undefined ? null : parseUsd(text));
  return { hourNanoUsd: amount(hour), dayNanoUsd: amount(day) };
}
