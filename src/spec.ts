import { z } from 'zod';
import {
  parsePricePerMillion,
  parseUsd,
  type EpochMs,
  type Ms,
  type NanoUsd,
  type PicoUsd,
  type Tokens,
} from './units.ts';
import { containerSchema, parseContainer, type Container } from './spec/container.ts';
import { parseShape, shapeSchema, type ModelShape } from './spec/fit.ts';
import { honestyFields, parseHonesty, type Honesty } from './spec/honesty.ts';
import { hardwareSchema, parseHardware, type Hardware } from './spec/hardware.ts';
import { budgetSchema, parseBudget, type SpendingBudget } from './spec/budget.ts';
import { pricePerMillionSchema, usdSchema } from './spec/money.ts';
import { parseSchedule, scheduleSchema, type Schedule } from './spec/schedule.ts';
import { TRUST_LEVELS, type Trust } from './spec/trust.ts';
import { parseWake, wakeSchema, type Wake } from './spec/wake.ts';
import {
  parseRegistry,
  parseWeights,
  registrySchema,
  weightsSchema,
  type Registry,
  type Weights,
} from './spec/weights.ts';
import { wordSchema } from './spec/word.ts';

export { parseSize } from './spec/size.ts';
export type { LocalProvider, PricePolicy } from './spec/local-provider.ts';

/**
 * A pool: one public model, how its replicas are rented and what it costs. This is the one description that operators
 * write (in `underbid.yaml` or over the admin API) and that every part reads. The zod schema takes the file's shape
 * (snake_case, money as strings); `parsePool` gives the parsed one (units and bigints).
 */

const usd = usdSchema;
const pricePerMillion = pricePerMillionSchema;
const count = (least: number, most: number) => z.number().int().min(least).max(most);

export const MARKET_NAMES = ['local', 'owned', 'akash', 'api'] as const;
export type MarketName = (typeof MARKET_NAMES)[number];

/** Slashes are allowed ("meta-llama/…"); control characters and blanks are not. */
export const modelIdSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$/, 'is not a model id');

export const poolSchema = z
  .strictObject({
    engine: z.enum(['vllm', 'sglang', 'llama.cpp', 'openai']).describe('whose dialect the model server speaks'),
    model: z.string().min(1).max(256).describe('what the model server calls it'),
    kind: z.enum(['chat', 'embeddings']).default('chat').describe('what its model makes'),
    context: count(64, 10_000_000).describe('tokens one request may have, prompt and answer together'),
    quantization: z.string().max(32).default('unknown'),
    price: z
      .strictObject({
        input: pricePerMillion,
        cached_input: pricePerMillion.optional().describe('default: the price of input'),
        output: pricePerMillion,
      })
      .describe('USD per million tokens, at most 4000, at most six decimals'),
    markets: z.array(z.enum(MARKET_NAMES)).min(1).optional().describe('who may bid; default: every configured market'),
    replicas: z
      .strictObject({ min: count(0, 1000).default(0), max: count(0, 1000).default(1) })
      .default({ min: 0, max: 1 })
      .refine((value) => value.min <= value.max, 'min is above max'),
    schedule: scheduleSchema.optional(),
    paused: z.boolean().default(false).describe('no machine is ordered, those there are given back, requests refused'),
    wake: wakeSchema.optional(),
    slots: count(1, 4096).default(4).describe('requests one replica works on at a time'),
    ceiling_usd_per_hour: usd.describe("the most a replica may cost in an hour, the market's fees included"),
    budget: budgetSchema.default({}).describe('the most the whole pool may cost'),
    hardware: hardwareSchema.default(() => hardwareSchema.parse({})),
    image: z.string().max(512).optional().describe('container image, by digest; markets without containers ignore it'),
    container: containerSchema.optional(),
    weights: weightsSchema.optional(),
    registry: registrySchema.optional(),
    shape: shapeSchema.optional(),
    attributes: z
      .record(wordSchema.min(1).max(128), wordSchema.max(512))
      .optional()
      .describe('what providers must say of themselves, and with trust: audited their auditor too'),
    reclamation_s: count(3600, 2_592_000)
      .optional()
      .describe('only from providers that give notice of so long before they take a machine back'),
    region: wordSchema
      .min(1)
      .optional()
      .describe('where the machine must stand, as its market names it; default: anywhere'),
    trust: z.enum(TRUST_LEVELS).default('any').describe('who may have its prompts and weights, at least'),
    idle_s: count(1, 86_400)
      .optional()
      .describe('a replica unused for so long is returned; default: by what a start-up costs and the pauses seen'),
    runway_s: count(30, 86_400).default(600).describe('rent kept in escrow ahead of now: what a dead gateway can burn'),
    bid_window_s: z
      .number()
      .min(0)
      .max(300)
      .default(1)
      .describe(
        'how long bids are gathered after the first one: at most, while requests wait; at least, while none do',
      ),
    slo: z
      .strictObject({
        ttft_ms: count(1, 3_600_000).default(5000),
        tokens_per_second: z.number().positive().default(20),
      })
      .default({ ttft_ms: 5000, tokens_per_second: 20 }),
    limits: z
      .strictObject({
        max_wait_s: z.number().min(0).max(3600).default(300),
        connect_s: z.number().min(0.001).max(600).default(5),
        first_token_s: z.number().min(0.001).max(3600).default(60),
        between_tokens_s: z.number().min(0.001).max(3600).default(30),
        total_s: z.number().min(0.001).max(86_400).default(900),
        start_s: z.number().min(0.001).max(7200).default(300).describe('a lease not ready after so long is given up'),
        drain_s: z.number().min(0).max(3600).default(60).describe('how long a closing replica may finish its answers'),
        waiting_max: count(0, 100_000).default(1000).describe('requests that may wait for a slot'),
      })
      .default({
        max_wait_s: 300,
        connect_s: 5,
        first_token_s: 60,
        between_tokens_s: 30,
        total_s: 900,
        start_s: 300,
        drain_s: 60,
        waiting_max: 1000,
      }),
    n_max: count(1, 128).default(8).describe('the largest `n` a request may ask for'),
    slice_tokens: count(16, 1_000_000)
      .default(2048)
      .describe('output tokens reserved at a time when the request sets no maximum'),
    template_tokens: count(0, 100_000)
      .default(256)
      .describe('most tokens the chat template adds besides what the request holds'),
    resume: z.enum(['auto', 'prefill', 'continue_final_message', 'off']).default('auto'),
    image_tokens_max: count(0, 100_000).default(0).describe('most tokens an image becomes; 0: text only'),
    ...honestyFields,
    show_prices: z.boolean().default(false).describe("whether customers may see what the pool's leases cost"),
  })
  .refine((pool) => pool.hardware.gpus === 0 || pool.hardware.gpu.length > 0, {
    path: ['hardware', 'gpu'],
    message: 'name at least one GPU model when gpus is above 0',
  })
  .refine((pool) => pool.hardware.gpus > 0 || pool.hardware.gpu.length === 0, {
    path: ['hardware', 'gpus'],
    message: 'must be above 0 when GPU models are named',
  })
  .superRefine(({ trust, weights, registry }, context) => {
    const message =
      'would be shown to whoever runs the machine: say trust: audited, or here visible_to (any, if you mean it)';
    if (trust !== 'any') return;
    if (weights?.secret && !weights.visible_to)
      context.addIssue({ code: 'custom', path: ['weights', 'secret'], message });
    if (registry && !registry.visible_to) context.addIssue({ code: 'custom', path: ['registry', 'password'], message });
  });

export const poolsSchema = z.record(modelIdSchema, poolSchema);

/** What operators write. */
export type PoolInput = z.input<typeof poolSchema>;
export type PoolKind = z.output<typeof poolSchema>['kind'];
export type Engine = z.output<typeof poolSchema>['engine'];
export type { Trust } from './spec/trust.ts';
export type Resume = z.output<typeof poolSchema>['resume'];

export interface Price {
  readonly inputPico: PicoUsd;
  readonly cachedInputPico: PicoUsd;
  readonly outputPico: PicoUsd;
}

export interface PoolLimits {
  readonly maxWaitMs: Ms;
  readonly connectMs: Ms;
  readonly firstTokenMs: Ms;
  readonly betweenTokensMs: Ms;
  readonly totalMs: Ms;
  readonly startMs: Ms;
  readonly drainMs: Ms;
  readonly waitingMax: number;
}

export interface PoolSpec extends Honesty {
  /** The public model id. */
  readonly id: string;
  readonly engine: Engine;
  /** What the model server calls the model. */
  readonly model: string;
  readonly kind: PoolKind;
  readonly contextTokens: Tokens;
  readonly quantization: string;
  readonly price: Price;
  /** Null: every configured market. */
  readonly markets: readonly MarketName[] | null;
  readonly replicasMin: number;
  readonly replicasMax: number;
  readonly schedule?: Schedule | null;
  readonly paused?: boolean;
  /** Who pays for a cold start; left out: nobody has to. */
  readonly wake?: Wake;
  readonly slots: number;
  readonly ceilingNanoUsdPerHour: NanoUsd;
  readonly budget: SpendingBudget;
  readonly hardware: Hardware;
  readonly image: string | null;
  readonly container: Container | null;
  readonly weights?: Weights | null;
  /** Of a private image. */
  readonly registry?: Registry | null;
  readonly shape?: ModelShape | null;
  /** What a provider must say of itself. */
  readonly attributes?: Readonly<Record<string, string>>;
  /** The least notice before a provider takes its machine back; null: none is asked for. */
  readonly reclamationMs?: Ms | null;
  readonly region: string | null;
  readonly trust: Trust;
  /** Null: replicas are kept by what a start-up costs and the pauses seen. */
  readonly idleMs: Ms | null;
  readonly runwayMs: Ms;
  readonly bidWindowMs: Ms;
  readonly slo: { readonly ttftMs: Ms; readonly tokensPerSecond: number };
  readonly limits: PoolLimits;
  readonly nMax: number;
  readonly sliceTokens: Tokens;
  readonly templateTokens: Tokens;
  /** How a model server is asked to go on with an answer that another had begun. */
  readonly resume: Resume;
  /** The most that an image becomes; 0: the model takes text only. */
  readonly imageTokensMax: Tokens;
  readonly showPrices: boolean;
  /** When this description was loaded; a change makes a new one. */
  readonly loadedAtMs: EpochMs;
}

const seconds = (value: number): Ms => Math.round(value * 1000);

/** A checked description in the file's shape to the one the program works with. Throws ZodError on a bad one. */
export function parsePool(id: string, input: unknown, loadedAtMs: EpochMs): PoolSpec {
  const pool = poolSchema.parse(input);
  const inputPico = parsePricePerMillion(pool.price.input);
  return {
    id: modelIdSchema.parse(id),
    engine: pool.engine,
    model: pool.model,
    kind: pool.kind,
    contextTokens: pool.context,
    quantization: pool.quantization,
    price: {
      inputPico,
      cachedInputPico:
        pool.price.cached_input === undefined ? inputPico : parsePricePerMillion(pool.price.cached_input),
      outputPico: parsePricePerMillion(pool.price.output),
    },
    markets: pool.markets ?? null,
    replicasMin: pool.replicas.min,
    replicasMax: pool.replicas.max,
    schedule: pool.schedule === undefined ? null : parseSchedule(pool.schedule),
    paused: pool.paused,
    ...(pool.wake === undefined ? {} : { wake: parseWake(pool.wake) }),
    slots: pool.slots,
    ceilingNanoUsdPerHour: parseUsd(pool.ceiling_usd_per_hour),
    budget: parseBudget(pool.budget),
    hardware: parseHardware(pool.hardware),
    image: pool.image ?? null,
    container: pool.container === undefined ? null : parseContainer(pool.container),
    weights: pool.weights === undefined ? null : parseWeights(pool.weights, pool.trust),
    registry: pool.registry === undefined ? null : parseRegistry(pool.registry, pool.trust),
    shape: pool.shape === undefined ? null : parseShape(pool.shape),
    attributes: pool.attributes ?? {},
    reclamationMs: pool.reclamation_s === undefined ? null : seconds(pool.reclamation_s),
    region: pool.region ?? null,
    trust: pool.trust,
    idleMs: pool.idle_s === undefined ? null : seconds(pool.idle_s),
    runwayMs: seconds(pool.runway_s),
    bidWindowMs: seconds(pool.bid_window_s),
    slo: { ttftMs: pool.slo.ttft_ms, tokensPerSecond: pool.slo.tokens_per_second },
    limits: {
      maxWaitMs: seconds(pool.limits.max_wait_s),
      connectMs: seconds(pool.limits.connect_s),
      firstTokenMs: seconds(pool.limits.first_token_s),
      betweenTokensMs: seconds(pool.limits.between_tokens_s),
      totalMs: seconds(pool.limits.total_s),
      startMs: seconds(pool.limits.start_s),
      drainMs: seconds(pool.limits.drain_s),
      waitingMax: pool.limits.waiting_max,
    },
    nMax: pool.n_max,
    sliceTokens: pool.slice_tokens,
    templateTokens: pool.template_tokens,
    resume: pool.resume,
    imageTokensMax: pool.image_tokens_max,
    ...parseHonesty(pool),
    showPrices: pool.show_prices,
    loadedAtMs,
  };
}
