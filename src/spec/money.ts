import { z } from 'zod';
import { parsePricePerMillion, parseUsd } from '../units.ts';

/** Money as people write it: decimal strings, nothing rounded away. */
export const usdSchema = z.string().superRefine((text, context) => attempt(context, () => parseUsd(text)));
export const pricePerMillionSchema = z
  .string()
  .superRefine((text, context) => attempt(context, () => parsePricePerMillion(text)));

function attempt(context: { addIssue(message: string): void }, parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    context.addIssue(error instanceof Error ? error.message : String(error));
  }
}
