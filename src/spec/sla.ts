import { z } from 'zod';
import { formatUsd, parseUsd, type Ms, type NanoUsd } from '../units.ts';

/** What a pool promises its customers of answers, and what they get when a machine breaks it. */
export const slaSchema = z
  .strictObject({
    first_token_ms: z
      .number()
      .int()
      .min(1)
      .max(3_600_000)
      .optional()
      .describe('the first token comes within so long, besides the wait for a machine'),
    between_tokens_ms: z
      .number()
      .int()
      .min(1)
      .max(3_600_000)
      .optional()
      .describe('so long between two tokens at most, on the average of an answer'),
    credit_percent: z
      .number()
      .min(1)
      .max(1000)
      .default(100)
      .describe('of the charges of requests that a breach failed or slowed'),
    credit_max_usd_per_month: z
      .string()
      .refine((text) => {
        try {
          return parseUsd(text) >= 0n;
        } catch {
          return false;
        }
      }, 'is an amount in USD, as a string such as "10"')
      .default('10')
      .describe('the most that one account gets in a calendar month (UTC), of all pools with a promise'),
    credit: z.enum(['promo', 'paid']).default('promo').describe('the kind of credit'),
    expires_days: z.number().int().min(1).max(3650).default(365).describe('how long promo credit lasts'),
  })
  .describe('published in /v1/models; credit when a machine broke it, see disputes; left out: none');

export interface SlaSpec {
  readonly firstTokenMs: Ms | null;
  readonly betweenTokensMs: Ms | null;
  readonly creditBp: number;
  readonly monthNanoUsd: NanoUsd;
  readonly credit: 'promo' | 'paid';
  readonly expiresMs: Ms;
}

export function parseSla(input: z.output<typeof slaSchema>): SlaSpec {
  return {
    firstTokenMs: input.first_token_ms ?? null,
    betweenTokensMs: input.between_tokens_ms ?? null,
    creditBp: Math.round(input.credit_percent * 100),
    monthNanoUsd: parseUsd(input.credit_max_usd_per_month),
    credit: input.credit,
    expiresMs: input.expires_days * 86_400_000,
  };
}

/** In the file's shape, as it is published. */
export function describeSla({ firstTokenMs, betweenTokensMs, creditBp, monthNanoUsd, credit, expiresMs }: SlaSpec) {
  return {
    ...(firstTokenMs === null ? {} : { first_token_ms: firstTokenMs }),
    ...(betweenTokensMs === null ? {} : { between_tokens_ms: betweenTokensMs }),
    credit_percent: creditBp / 100,
    credit_max_usd_per_month: formatUsd(monthNanoUsd),
    credit,
    expires_days: expiresMs / 86_400_000,
  };
}
