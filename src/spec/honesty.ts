import type { z } from 'zod';
import { canarySchema, parseCanary, type CanarySpec } from './canary.ts';
import { parseSla, slaSchema, type SlaSpec } from './sla.ts';

/** What a pool promises, and how it looks after what its machines promise. */
export const honestyFields = { sla: slaSchema.optional(), canary: canarySchema.optional() };

export interface Honesty {
  readonly sla?: SlaSpec | null;
  readonly canary?: CanarySpec | null;
}

export function parseHonesty(pool: {
  readonly sla?: z.output<typeof slaSchema> | undefined;
  readonly canary?: z.output<typeof canarySchema> | undefined;
}): Honesty {
  const { sla, canary } = pool;
  return { sla: sla === undefined ? null : parseSla(sla), canary: canary === undefined ? null : parseCanary(canary) };
}
