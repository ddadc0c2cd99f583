import { z } from 'zod';
import type { Ms } from '../units.ts';

/** How a pool finds out whether its machines run the weights that they claim. Left out: it does not. */
export const canarySchema = z
  .strictObject({
    per_hour: z
      .number()
      .min(0.1)
      .max(120)
      .default(6)
      .describe('questions an hour to each replica on the average, at random times'),
    tokens: z.number().int().min(2).max(32).default(8).describe('tokens of an answer that are compared, at most'),
    false_alarm: z
      .number()
      .min(1e-9)
      .max(0.05)
      .default(1e-4)
      .describe('the chance that an honest lease is ever accused, however long it lasts'),
    calibrate: z
      .enum(['trusted', 'first'])
      .default('trusted')
      .describe(
        'whose answers show how far honest ones differ on a GPU: machines that are audited, or the first providers ' +
          '(two or more, which must agree) whoever they are',
      ),
    distances: z
      .number()
      .int()
      .min(30)
      .max(2000)
      .default(150)
      .describe('honest answers that are gathered for a GPU and engine before anybody is judged'),
    reference: z
      .strictObject({
        url: z
          .string()
          .regex(/^https?:\/\/[^/?#\s]+$/, 'is an address without a path: http://10.0.0.5:8000')
          .describe('a model server that you trust, with the same weights, without /v1'),
        model: z.string().min(1).max(256).optional().describe("what it calls the model; default: the pool's `model`"),
        key: z
          .string()
          .regex(/^(env|file):.+$/, 'is env:NAME or file:PATH')
          .optional()
          .describe('its bearer key, as env:NAME or file:PATH'),
      })
      .optional()
      .describe('what answers are held against; default: a replica of the pool on an owned server'),
  })
  .describe(
    'questions that look like traffic, to find machines that do not run the weights they claim; left out: none',
  );

export interface CanarySpec {
  readonly everyMs: Ms;
  readonly tokens: number;
  readonly falseAlarm: number;
  readonly calibrate: 'trusted' | 'first';
  readonly distances: number;
  readonly reference: { readonly url: string; readonly model: string | null; readonly key: string | null } | null;
}

export function parseCanary(input: z.output<typeof canarySchema>): CanarySpec {
  const { per_hour: perHour, tokens, false_alarm: falseAlarm, calibrate, distances, reference } = input;
  return {
    everyMs: Math.round(3_600_000 / perHour),
    ...{ tokens, falseAlarm, calibrate, distances },
    reference:
      reference === undefined
        ? null
        : { url: reference.url, model: reference.model ?? null, key: reference.key ?? null },
  };
}

/** In the file's shape; a key by its name. */
export function describeCanary({ everyMs, tokens, falseAlarm, calibrate, distances, reference }: CanarySpec): object {
  return {
    per_hour: 3_600_000 / everyMs,
    ...{ tokens, false_alarm: falseAlarm, calibrate, distances },
    ...(reference === null
      ? {}
      : {
          reference: {
            url: reference.url,
            ...(reference.model === null ? {} : { model: reference.model }),
            ...(reference.key === null ? {} : { key: reference.key }),
          },
        }),
  };
}
