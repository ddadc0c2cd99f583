import { z } from 'zod';
import { parseUsd } from '../units.ts';

/**
 * What a provider that joins from another machine and the market say to each other: JSON over HTTP, always asked by the
 * provider, so that it may sit behind a router. Requests are strict; what the market replies is read leniently.
 */

/** Strings in the messages stay short: they end up in logs, tables and records. */
const text = (most: number) =>
  z
    .string()
    .max(most)
    .refine((value) => !/\p{Cc}/u.test(value), 'has control characters');
const word = text(64).min(1);
const idText = text(300).min(1);
/** One process of the provider: a second one with the same key takes the place of the first. */
const session = z.string().regex(/^[A-Za-z0-9]{16,64}$/, 'is 16 to 64 letters and digits');

const usdPerHour = z.string().refine((value) => {
  try {
    return parseUsd(value) > 0n;
  } catch {
    return false;
  }
}, 'is an amount in USD above zero, as a string such as "0.25"');

/** PUT /provider/v1/offer: what one machine of the provider has, and how many leases it serves at a time. */
export const offerSchema = z.strictObject({
  session,
  slots: z.number().int().min(1).max(64),
  cpu: z.number().min(0.1).max(384),
  memory_bytes: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
  gpus: z.array(word).max(24),
  /** How it makes its price, in a word: shown to operators. */
  policy: word,
  /** What it asks for a lease beside none of its others, beside one, and so on, fees not included; left out: it does not say. */
  asks_usd_per_hour: z.array(usdPerHour).max(64).optional(),
});
export type OfferMessage = z.output<typeof offerSchema>;

export const offerReplySchema = z.object({
  id: z.string(),
  block_ms: z.number().int().min(1),
  /** A provider silent for so long has lost its leases. */
  silence_ms: z.number().int().min(1),
  /** The longest that a question for tasks may wait. */
  wait_s: z.number().int().min(0),
  /** The address that its requests come from; null when a proxy stands in between. */
  seen_as: z.string().nullable(),
});
export type OfferReply = z.output<typeof offerReplySchema>;

export const workloadMessage = z.object({
  pool: z.string(),
  kind: z.enum(['chat', 'embeddings']),
  engine: z.enum(['vllm', 'sglang', 'llama.cpp', 'openai']),
  /** The name that the model server must answer to. */
  model: z.string(),
  image: z.string().nullable(),
  slots: z.number().int().min(1),
  context_tokens: z.number().int().min(1),
});
export type WorkloadMessage = z.output<typeof workloadMessage>;

export const orderMessage = z.object({
  id: z.string(),
  pool: z.string(),
  hardware: z.object({
    gpus: z.number(),
    gpu: z.array(
      z.object({
        vendor: z.string(),
        model: z.string(),
        ram_bytes: z.number().nullable(),
        interface: z.string().nullable(),
      }),
    ),
    cpu: z.number(),
    memory_bytes: z.number(),
    storage_bytes: z.number(),
  }),
  trust: z.enum(['any', 'audited', 'tee']),
  region: z.string().nullable(),
  /** The most that a provider may ask, fees not included. */
  ceiling_usd_per_hour: z.string(),
  workload: workloadMessage,
});
export type OrderMessage = z.output<typeof orderMessage>;

/** Numbered from 1 within a session; asked for with `after=N`, all up to N are done and not sent again. */
const taskSchema = z.discriminatedUnion('kind', [
  z.object({ n: z.number(), kind: z.literal('bid'), order: orderMessage }),
  z.object({
    n: z.number(),
    kind: z.literal('start'),
    lease: z.string(),
    workload: workloadMessage,
    /** The bearer key that the model server must ask for. */
    api_key: z.string(),
  }),
  z.object({ n: z.number(), kind: z.literal('stop'), lease: z.string() }),
]);
export type TaskMessage = z.output<typeof taskSchema>;

const measurementMessage = z.object({
  what: z.string(),
  value: z.union([z.string(), z.number()]),
  promised: z.union([z.string(), z.number()]).optional(),
  at_ms: z.number(),
});

/** A dispute with this provider, as it stands: what it is accused of, and until when it may answer. */
export const disputeMessage = z.object({
  id: z.string(),
  lease: z.string(),
  kind: z.string(),
  state: z.enum(['open', 'answered', 'upheld', 'rejected']),
  reason: z.string(),
  /** The bad interval. */
  from_ms: z.number(),
  to_ms: z.number(),
  measured: z.array(measurementMessage),
  /** Rent less make fee that waits for the decision. */
  withheld_usd: z.string(),
  answer_by_ms: z.number().nullable(),
  /** Why it was decided so. */
  verdict: z.string().nullable(),
});
export type DisputeMessage = z.output<typeof disputeMessage>;

/** POST /provider/v1/disputes/{id}: owns up (`accept`), or contests. The same again changes nothing. */
export const disputeAnswerSchema = z.strictObject({
  accept: z.boolean(),
  text: text(1000).min(1),
  measured: z
    .array(
      z.strictObject({
        what: text(200).min(1),
        value: z.union([text(200), z.number()]),
        at_ms: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
      }),
    )
    .max(20)
    .default([]),
});
export type DisputeAnswerMessage = z.output<typeof disputeAnswerSchema>;

/** GET /provider/v1/tasks?session=S&after=N&wait_s=20 */
export const tasksReplySchema = z.object({
  tasks: z.array(taskSchema),
  /** Disputes that are open, and what lately became of others. A market of before disputes tells none. */
  disputes: z.array(disputeMessage).default([]),
  /** Leases whose model server is still wanted: whatever else runs is to be stopped. */
  leases: z.array(z.string()),
});
export type TasksReply = z.output<typeof tasksReplySchema>;

export const tasksQuery = z.strictObject({
  session,
  after: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
  wait_s: z.coerce.number().int().min(0).max(20),
});
export type TasksQuery = z.output<typeof tasksQuery>;

/** POST /provider/v1/bids: a price, or why there is none. */
export const bidSchema = z
  .strictObject({
    session,
    order: idText,
    usd_per_hour: usdPerHour.optional(),
    decline: text(200).min(1).optional(),
    note: text(200).default(''),
    /** The provider's own guess from lease to running. */
    start_ms: z.number().int().min(0).max(86_400_000).nullable().default(null),
  })
  .refine((bid) => (bid.usd_per_hour === undefined) !== (bid.decline === undefined), {
    path: ['usd_per_hour'],
    message: 'either it or decline is given',
  });
export type BidMessage = z.output<typeof bidSchema>;

/** POST /provider/v1/leases/{id}: what became of a model server. */
export const reportSchema = z
  .strictObject({
    session,
    state: z.enum(['running', 'failed']),
    /** Where it answers, without a path. */
    url: z.string().min(1).max(512).optional(),
    detail: text(1000).default(''),
  })
  .refine((report) => (report.state === 'running') === (report.url !== undefined), {
    path: ['url'],
    message: 'is given when it runs, and only then',
  });
export type ReportMessage = z.output<typeof reportSchema>;
