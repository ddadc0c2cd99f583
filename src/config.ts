import { dirname, resolve } from 'node:path';
import { buildAkashMarket, type AkashMarketSettings } from './config/akash.ts';
import { normalizeServerUrl } from './config/cross-checks.ts';
import { findConfigFile, readEnvironment, type Environment, type Surroundings } from './config/environment.ts';
import { readConfigFile } from './config/file.ts';
import type { FileSettings } from './config/schema.ts';
import type { Secret } from './config/secret.ts';
import { AppError } from './errors.ts';
import { parseBudget } from './spec/budget.ts';
import { parseDisputeWindows } from './spec/dispute-windows.ts';
import type { Trust } from './spec/trust.ts';
import { parsePool, parseSize, type LocalProvider, type PoolSpec, type Price, type PricePolicy } from './spec.ts';
import { parsePricePerMillion, parseUsd, type EpochMs, type Ms, type NanoUsd } from './units.ts';

export interface Settings extends Environment {
  readonly pools: readonly PoolSpec[];
  readonly markets: MarketSettings;
  /** Of all pools together. */
  readonly budget: PoolSpec['budget'];
  readonly limits: GatewayLimits;
  /** Origins, or `*`. */
  readonly cors: readonly string[];
  /** Addresses and networks in CIDR notation. */
  readonly trustedProxies: readonly string[];
}

export interface MarketSettings {
  readonly local: LocalMarketSettings | null;
  readonly owned: OwnedMarketSettings | null;
  readonly akash: AkashMarketSettings | null;
  readonly api: ApiMarketSettings | null;
}

export interface LocalMarketSettings {
  readonly blockMs: Ms;
  readonly settlement: 'usdc' | 'akt';
  readonly takeFeeBp: number;
  readonly makeFeeBp: number;
  /** Play money. */
  readonly treasuryNanoUsd: NanoUsd;
  /** Absolute; null: the downloaded one. */
  readonly llamaServer: string | null;
  /** Absolute; null: the downloaded one. */
  readonly modelPath: string | null;
  readonly providers: readonly LocalProvider[];
  readonly joining: readonly JoiningProvider[];
  /** How long disputes wait for an answer, and for a judgement. */
  readonly disputes: { readonly answerMs: Ms; readonly judgeMs: Ms };
}

/** A provider that may join from elsewhere. */
export interface JoiningProvider {
  readonly id: string;
  readonly key: Secret;
  readonly audited: boolean;
  readonly region: string | null;
  /** Where its model servers may be; none: where it calls from. */
  readonly hosts: readonly string[];
}

export interface OwnedMarketSettings {
  readonly servers: readonly OwnedServer[];
}

export interface ApiMarketSettings {
  readonly endpoints: readonly ApiEndpoint[];
}

/** Somebody else's API, paid by the token. */
export interface ApiEndpoint {
  readonly id: string;
  /** Base address, without a trailing slash or `/v1`. */
  readonly url: string;
  readonly key: Secret | null;
  readonly pool: string;
  readonly model: string;
  readonly slots: number;
  readonly trust: Trust;
  readonly region: string | null;
  readonly price: Price;
}

export interface OwnedServer {
  readonly id: string;
  /** Base address, without a trailing slash or `/v1`. */
  readonly url: string;
  readonly key: Secret | null;
  readonly pool: string;
  readonly slots: number;
  readonly costNanoUsdPerHour: NanoUsd;
  readonly trust: Trust;
  readonly region: string | null;
}

/** The most the gateway takes (decision 25); a pool has limits of its own besides. */
export interface GatewayLimits {
  readonly bodyBytes: number;
  readonly bodiesBytes: number;
  readonly headerBytes: number;
  readonly headersMax: number;
  readonly requestsMax: number;
  readonly headerMs: Ms;
  readonly bodyMs: Ms;
  readonly keepAliveMs: Ms;
  /** A model server's whole reply. */
  readonly replyBytes: number;
  readonly replayBytes: number;
  /** One event of a model server's stream. */
  readonly eventBytes: number;
  /** Of keys that set none of their own. */
  readonly keyRequestsPerMinute: number;
  readonly keyTokensPerMinute: number;
  readonly keyConcurrency: number;
  /** How long streams may go on after SIGTERM. */
  readonly stopMs: Ms;
}

/** Everything, or an AppError `invalid_config` with every mistake on a line of its own. */
export function loadSettings({ env, cwd, nowMs }: Surroundings & { readonly nowMs: EpochMs }): Settings {
  const environment = readEnvironment({ env, cwd });
  const configFile = findConfigFile({ env, cwd });
  const folder = configFile === null ? cwd : dirname(configFile);
  const file = readConfigFile(configFile, { env, cwd, folder });
  const mistakes = [...environment.mistakes, ...file.mistakes];
  if (environment.settings === null || file.settings === null || mistakes.length > 0) {
    throw new AppError('invalid_config', mistakes.join('\n'));
  }
  const { pools, markets, budget, limits, cors, trusted_proxies: trustedProxies } = file.settings;
  return {
    ...environment.settings,
    configFile,
    pools: Object.entries(pools).map(([id, pool]) => parsePool(id, pool, nowMs)),
    markets: {
      local: markets.local === undefined ? null : buildLocalMarket(markets.local, folder, file.secrets),
      owned: markets.owned === undefined ? null : buildOwnedMarket(markets.owned, file.secrets),
      akash: markets.akash === undefined ? null : buildAkashMarket(markets.akash, file),
      api: markets.api === undefined ? null : buildApiMarket(markets.api, file.secrets),
    },
    budget: parseBudget(budget),
    limits: buildLimits(limits),
    cors,
    trustedProxies,
  };
}

type LocalFile = NonNullable<FileSettings['markets']['local']>;
type OwnedFile = NonNullable<FileSettings['markets']['owned']>;
type ApiFile = NonNullable<FileSettings['markets']['api']>;
type ProviderFile = LocalFile['providers'][number];

const TAKE_FEE_BP = { usdc: 2000, akt: 400 };

function buildLocalMarket(local: LocalFile, folder: string, secrets: ReadonlyMap<string, Secret>): LocalMarketSettings {
  return {
    blockMs: local.block_ms,
    settlement: local.settlement,
    takeFeeBp: local.take_fee_bp ?? TAKE_FEE_BP[local.settlement],
    makeFeeBp: local.make_fee_bp,
    treasuryNanoUsd: parseUsd(local.treasury_usd),
    llamaServer: local.llama_server === undefined ? null : resolve(folder, local.llama_server),
    modelPath: local.model_path === undefined ? null : resolve(folder, local.model_path),
    providers: local.providers.map(buildProvider),
    disputes: parseDisputeWindows(local.disputes),
    joining: buildJoining(local.joining, secrets),
  };
}

const JOINING_KEY_MIN = 16;

/** @throws AppError `invalid_config` for keys that could be guessed, or that do not say who calls */
function buildJoining(joining: LocalFile['joining'], secrets: ReadonlyMap<string, Secret>): JoiningProvider[] {
  const owners = new Map<string, string>();
  // A key that could not be read is a mistake of the file already.
  return joining.flatMap(({ key: reference, region = null, ...provider }) => {
    const key = secrets.get(reference);
    if (key === undefined) return [];
    const where = `markets.local.joining: the key of ${provider.id}`;
    const owner = owners.get(key.reveal());
    if (owner !== undefined) throw new AppError('invalid_config', `${where} is that of ${owner}: each has its own`);
    if (key.reveal().length < JOINING_KEY_MIN)
      throw new AppError('invalid_config', `${where} has fewer than ${JOINING_KEY_MIN} characters`);
    owners.set(key.reveal(), provider.id);
    return [{ ...provider, region, key }];
  });
}

function buildProvider(provider: ProviderFile): LocalProvider {
  return {
    id: provider.id,
    slots: provider.slots,
    cpu: provider.cpu,
    memoryBytes: parseSize(provider.memory),
    gpus: provider.gpus,
    audited: provider.audited,
    costNanoUsdPerHour: parseUsd(provider.cost_usd_per_hour),
    policy: buildPolicy(provider.policy),
    replyMs: provider.reply_ms,
  };
}

function buildPolicy(policy: ProviderFile['policy']): PricePolicy {
  if (policy.kind === 'cost_plus') return { kind: policy.kind, marginBp: policy.margin_bp };
  if (policy.kind === 'fixed') {
    return { kind: policy.kind, priceNanoUsdPerHour: parseUsd(policy.price_usd_per_hour) };
  }
  return {
    kind: policy.kind,
    marginBp: policy.margin_bp,
    discountMaxBp: policy.discount_max_bp,
    peakMarkupBp: policy.peak_markup_bp,
  };
}

function buildOwnedMarket(owned: OwnedFile, secrets: ReadonlyMap<string, Secret>): OwnedMarketSettings {
  return {
    servers: owned.servers.map(({ id, url, key, pool, slots, usd_per_hour: cost, trust, region }, index) => ({
      // Customers see it as the provider: not an address of the operator's network.
      id: id ?? `owned-${index + 1}`,
      url: normalizeServerUrl(url),
      key: key === undefined ? null : (secrets.get(key) ?? null),
      pool,
      slots,
      costNanoUsdPerHour: parseUsd(cost),
      trust,
      region: region ?? null,
    })),
  };
}

function buildApiMarket(api: ApiFile, secrets: ReadonlyMap<string, Secret>): ApiMarketSettings {
  return {
    endpoints: api.endpoints.map(({ id, url, key, usd_per_million: usd, ...endpoint }, index) => ({
      ...endpoint,
      region: endpoint.region ?? null,
      id: id ?? `api-${index + 1}`,
      url: normalizeServerUrl(url),
      key: key === undefined ? null : (secrets.get(key) ?? null),
      price: {
        inputPico: parsePricePerMillion(usd.input),
        cachedInputPico: parsePricePerMillion(usd.cached_input ?? usd.input),
        outputPico: parsePricePerMillion(usd.output),
      },
    })),
  };
}

const ms = (seconds: number): Ms => seconds * 1000;

function buildLimits(limits: FileSettings['limits']): GatewayLimits {
  return {
    bodyBytes: limits.body_bytes,
    bodiesBytes: limits.bodies_bytes,
    headerBytes: limits.header_bytes,
    headersMax: limits.headers,
    requestsMax: limits.concurrent_requests,
    headerMs: ms(limits.header_s),
    bodyMs: ms(limits.body_s),
    keepAliveMs: ms(limits.keep_alive_s),
    replyBytes: limits.reply_bytes,
    replayBytes: limits.replay_bytes,
    eventBytes: limits.event_bytes,
    keyRequestsPerMinute: limits.key_requests_per_minute,
    keyTokensPerMinute: limits.key_tokens_per_minute,
    keyConcurrency: limits.key_concurrency,
    stopMs: ms(limits.stop_s),
  };
}
