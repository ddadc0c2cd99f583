import { z } from 'zod';

export const sizeSchema = z
  .string()
  .regex(/^\d{1,9}(\.\d{1,9})?(Ki|Mi|Gi|Ti)$/, 'must be a size such as 512Mi or 24Gi')
  .refine((text) => parseSize(text) > 0, 'must be above zero')
  .describe('bytes with a binary unit: 512Mi, 24Gi');

const UNITS: Record<string, number> = { Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 };

/** "24Gi" in bytes. */
export function parseSize(text: string): number {
  const unit = text.slice(-2);
  return Math.round(Number(text.slice(0, -2)) * (UNITS[unit] ?? Number.NaN));
}
