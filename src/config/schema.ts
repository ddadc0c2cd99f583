import { isIP } from 'node:net';
import { z } from 'zod';
import { modelIdSchema, poolSchema, poolsSchema } from '../spec.ts';
import { budgetSchema } from '../spec/budget.ts';
import { hardwareSchema } from '../spec/hardware.ts';
import { disputeWindowsSchema } from '../spec/dispute-windows.ts';
import { TRUST_LEVELS } from '../spec/trust.ts';
import { secretSchema, serverUrl } from './fields.ts';
import { akashSchema } from './akash-schema.ts';
import { embeddedPools, embeddedProviders } from './embedded.ts';

/**
 * Every setting, once: the checks, the defaults, the help and the JSON Schema are all read off `environmentSchema` (the
 * variables) and `fileSchema` (the file). A field with `writeOnly` holds a secret or a reference to one, and no message
 * ever repeats what stands there.
 */

// The file has one notion of money and of sizes, the pools'.
const usd = poolSchema.shape.ceiling_usd_per_hour;
const size = hardwareSchema.shape.memory.unwrap();

const count = (least: number, most: number) => z.number().int().min(least).max(most);
const basisPoints = (most: number) => count(0, most);
const word = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be a short name of letters, digits, . _ -');
const path = z.string().min(1).max(4096);

function isNetwork(text: string): boolean {
  const [address = '', prefix, ...rest] = text.split('/');
  const version = isIP(address);
  if (version === 0 || rest.length > 0) return false;
  return prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128));
}

const policySchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('cost_plus'),
    margin_bp: basisPoints(100_000).describe('basis points on top of the cost'),
  }),
  z.strictObject({
    kind: z.literal('idle_discount'),
    margin_bp: basisPoints(100_000).describe('basis points on top of the cost'),
    discount_max_bp: basisPoints(10_000).describe('basis points off when nothing runs, none when full'),
    peak_markup_bp: basisPoints(100_000).describe('basis points on top when full, none below 80 % in use'),
  }),
  z.strictObject({ kind: z.literal('fixed'), price_usd_per_hour: usd.describe('USD an hour, whatever the load') }),
]);

const providerSchema = z.strictObject({
  id: word.describe('name, once in the market'),
  slots: count(1, 64).default(1).describe('leases it serves at a time'),
  cpu: z.number().min(0.1).max(384).default(1).describe('cores of each machine it rents out'),
  memory: size.default('1Gi').describe('memory of each machine it rents out'),
  gpus: z.array(z.string().min(1).max(64)).max(24).default([]).describe('GPU models of each machine it rents out'),
  audited: z.boolean().default(false).describe('whether a pool with trust: audited may use it'),
  cost_usd_per_hour: usd.describe('what an hour of one machine costs the provider'),
  policy: policySchema.describe('how it makes its price'),
  reply_ms: count(0, 60_000).default(300).describe('how long it takes to bid'),
});

const joiningSchema = z.strictObject({
  id: word.describe('name, once in the market'),
  key: secretSchema.describe('the key that it calls with, as env:NAME or file:PATH'),
  audited: z.boolean().default(false).describe('whether a pool with trust: audited may use it'),
  region: word.optional().describe('where its machines stand; without it no pool that names a region uses it'),
  hosts: z
    .array(z.string().regex(/^[A-Za-z0-9.:[\]-]{1,253}$/, 'must be a host name or an address, without port'))
    .max(32)
    .default([])
    .describe('where its model servers may be; default: the address that it calls from, and no other'),
});

const localSchema = z
  .strictObject({
    block_ms: count(10, 600_000).default(6000).describe('rent is drawn once per block of so many milliseconds'),
    settlement: z.enum(['usdc', 'akt']).default('usdc').describe('the currency that leases are settled in'),
    take_fee_bp: basisPoints(10_000)
      .optional()
      .describe('paid by the tenant on top of the rent; default: 2000 for usdc, 400 for akt'),
    make_fee_bp: basisPoints(10_000).default(0).describe('paid by the provider out of the rent'),
    treasury_usd: usd.default('100').describe("play money that the operator's treasury starts with"),
    llama_server: path.optional().describe("llama.cpp's server; default: a checked download in the cache"),
    model_path: path.optional().describe('the GGUF file it serves; default: a checked download in the cache'),
    providers: z
      .array(providerSchema)
      .max(64)
      .prefault(embeddedProviders)
      .describe('who bids on this machine; default: four with different costs and policies'),
    disputes: disputeWindowsSchema,
    joining: z
      .array(joiningSchema)
      .max(256)
      .default([])
      .describe('who may join from elsewhere with `underbid provide`, and bid beside them'),
  })
  .describe('the embedded market: providers on this machine that start real model servers, and those who join it');

const ownedSchema = z
  .strictObject({
    servers: z
      .array(
        z.strictObject({
          id: z
            .string()
            .min(1)
            .max(256)
            .optional()
            .describe('name in reports and towards customers; default: owned-1, owned-2 and so on'),
          url: serverUrl.describe('base address; a trailing /v1 is taken off'),
          key: secretSchema.optional().describe('its bearer key, as env:NAME or file:PATH'),
          pool: modelIdSchema.describe('the pool it serves'),
          slots: count(1, 4096).default(4).describe('requests it works on at a time'),
          usd_per_hour: usd.default('0').describe('what an hour of use costs you: its bid'),
          trust: z.enum(TRUST_LEVELS).default('audited').describe('what you vouch for: it is your own machine'),
          region: z.string().min(1).max(128).optional().describe('where it stands; default: not said'),
        }),
      )
      .min(1)
      .max(1000),
  })
  .describe('servers that already run: they bid at their marginal cost');

const apiSchema = z
  .strictObject({
    endpoints: z
      .array(
        z.strictObject({
          id: word.optional().describe('what it is called as a provider; default: api-1, api-2, …'),
          url: serverUrl,
          key: secretSchema.optional(),
          pool: modelIdSchema,
          model: z.string().min(1).max(256).describe('what the API calls the model'),
          slots: count(1, 4096).default(16).describe('requests it is sent at a time'),
          trust: z
            .enum(['any', 'audited'])
            .default('any')
            .describe('what you vouch for: audited if you know who runs it'),
          region: z.string().min(1).max(128).optional().describe('where it runs; default: not said'),
          usd_per_million: z
            .strictObject({
              input: poolSchema.shape.price.shape.input,
              cached_input: poolSchema.shape.price.shape.input.optional().describe('default: the price of input'),
              output: poolSchema.shape.price.shape.output,
            })
            .describe('what it asks, in USD per million tokens'),
        }),
      )
      .min(1)
      .max(1000),
  })
  .describe(
    "other companies' OpenAI-compatible APIs: they bid at their token price, and carry a pool while a machine starts",
  );

const marketsSchema = z
  .strictObject({
    local: localSchema.optional(),
    owned: ownedSchema.optional(),
    akash: akashSchema.optional(),
    api: apiSchema.optional(),
  })
  .prefault({ local: {} })
  .describe('who may bid; default: the embedded market alone');

/** Decision 25. Deadlines, slices and waiting lines are each pool's own: `pools.<id>.limits`. */
const limitsSchema = z
  .strictObject({
    body_bytes: count(1024, 1_000_000_000).default(20_000_000).describe("a request's body"),
    bodies_bytes: count(1024, 1_000_000_000_000)
      .default(1_000_000_000)
      .describe('bodies of all requests in work together'),
    header_bytes: count(1024, 1_000_000).default(16_384).describe("a request's headers together"),
    headers: count(10, 1000).default(100).describe('headers of a request'),
    // Two descriptors per stream and 20,000 per process on the smallest machine in use: 9,000 leave room for files.
    concurrent_requests: count(1, 1_000_000).default(9000).describe('requests in work at a time'),
    header_s: count(1, 3600).default(15).describe("how long a client may take over a request's headers"),
    body_s: count(1, 3600).default(60).describe('how long a client may take over a whole request'),
    keep_alive_s: count(1, 3600).default(75).describe('how long an unused connection stays open'),
    reply_bytes: count(1024, 1_000_000_000).default(32_000_000).describe("a model server's whole reply"),
    replay_bytes: count(0, 16_000_000)
      .default(262_144)
      .describe('a reply that is kept for a repeat under its Idempotency-Key; 0: none'),
    event_bytes: count(1024, 100_000_000).default(1_000_000).describe("one event of a model server's stream"),
    key_requests_per_minute: count(1, 1_000_000_000).default(6000).describe('of a key that sets no rpm'),
    key_tokens_per_minute: count(1, 1_000_000_000_000).default(10_000_000).describe('of a key that sets no tpm'),
    key_concurrency: count(1, 1_000_000).default(500).describe('of a key that sets no concurrency'),
    stop_s: count(0, 3600).default(30).describe('how long streams may go on after SIGTERM'),
  })
  .prefault({})
  .describe('the most the gateway takes; a pool has its own limits besides');

export const fileSchema = z.strictObject({
  pools: poolsSchema.prefault(embeddedPools).describe('by public model id; default: the embedded pool smollm2-135m'),
  markets: marketsSchema,
  budget: budgetSchema.prefault({}).describe('the most that all pools together may cost; shared by need'),
  limits: limitsSchema,
  cors: z
    .array(
      z.string().regex(/^(\*|https?:\/\/[A-Za-z0-9.:[\]-]{1,255})$/, 'must be * or an origin: https://app.example'),
    )
    .max(100)
    .default([])
    .describe('origins whose pages may call the API'),
  trusted_proxies: z
    .array(z.string().refine(isNetwork, 'must be an address or a network: 10.0.0.0/8'))
    .max(100)
    .default([])
    .describe('addresses whose X-Forwarded-For is believed'),
});

const port = z.string().superRefine((text, context) => {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) context.addIssue('must be a whole number from 0 to 65535');
});

export const environmentSchema = z.object({
  UNDERBID_HOST: z
    .string()
    .regex(/^[A-Za-z0-9._:-]{1,255}$/, 'must be a host name or an address, without port')
    .default('127.0.0.1')
    .describe('address to listen on'),
  UNDERBID_PORT: port.default('8080').describe('port to listen on; 0: any free one'),
  UNDERBID_DATA: path.default('.underbid').describe('folder of databases and keys'),
  UNDERBID_CACHE: path
    .optional()
    .describe('folder of downloads; default: $XDG_CACHE_HOME/underbid or ~/.cache/underbid'),
  UNDERBID_STANDBY: z
    .enum(['0', '1'], 'must be 0 or 1')
    .default('0')
    .describe('1: wait while another gateway uses the data folder, then take over'),
  UNDERBID_CONFIG: path.optional().describe('the file; default: underbid.yaml when it exists'),
  UNDERBID_ADMIN_KEY: z
    .string()
    .regex(/^[\x21-\x7e]{1,512}$/, 'must be 1 to 512 visible ASCII characters without blanks')
    .optional()
    .meta({ writeOnly: true })
    .describe("the operator's key; default: made on the first start in <data>/admin.key"),
});

export type FileSettings = z.output<typeof fileSchema>;
