import { describeAkash } from './akash.ts';
import { describeExtras, formatSize } from './describe-extras.ts';
import type { GatewayLimits, LocalMarketSettings, OwnedMarketSettings, Settings } from '../config.ts';
import type { Container } from '../spec/container.ts';
import type { LocalProvider, PricePolicy, PoolSpec } from '../spec.ts';
import { formatPricePerMillion, formatUsd, type Ms, type NanoUsd } from '../units.ts';

/**
 * What is in force, for `underbid config check`: the file's own shape with every default filled in, so that a part can be
 * copied into a file. Secrets stay `[secret]`.
 */
export function describeSettings(settings: Settings): unknown {
  const { local, owned, akash } = settings.markets;
  return {
    host: settings.host,
    port: settings.port,
    data: settings.dataDir,
    cache: settings.cacheDir,
    standby: settings.standby,
    config_file: settings.configFile,
    admin_key: settings.adminKey?.toString() ?? null,
    pools: Object.fromEntries(settings.pools.map((pool) => [pool.id, describePool(pool)])),
    markets: {
      ...(local === null ? {} : { local: describeLocal(local) }),
      ...(owned === null ? {} : { owned: describeOwned(owned) }),
      ...(akash === null ? {} : { akash: describeAkash(akash) }),
    },
    budget: describeBudget(settings.budget),
    limits: describeLimits(settings.limits),
    cors: settings.cors,
    trusted_proxies: settings.trustedProxies,
  };
}

/** A pool in the file's shape: what `parsePool` makes the same pool of again. */
export function describePool(pool: PoolSpec): unknown {
  const { hardware, limits } = pool;
  return {
    engine: pool.engine,
    model: pool.model,
    kind: pool.kind,
    context: pool.contextTokens,
    quantization: pool.quantization,
    price: {
      input: formatPricePerMillion(pool.price.inputPico),
      cached_input: formatPricePerMillion(pool.price.cachedInputPico),
      output: formatPricePerMillion(pool.price.outputPico),
    },
    ...optional('markets', pool.markets),
    replicas: { min: pool.replicasMin, max: pool.replicasMax },
    slots: pool.slots,
    ceiling_usd_per_hour: formatUsd(pool.ceilingNanoUsdPerHour),
    budget: describeBudget(pool.budget),
    hardware: {
      gpus: hardware.gpus,
      gpu: hardware.gpu.map(({ vendor, model, ramBytes, interface: bus }) => ({
        vendor,
        model,
        ...optional('ram', ramBytes, formatSize),
        ...optional('interface', bus ?? null),
      })),
      cpu: hardware.cpu,
      memory: formatSize(hardware.memoryBytes),
      storage: formatSize(hardware.storageBytes),
    },
    ...optional('image', pool.image),
    ...optional('container', pool.container, describeContainer),
    ...describeExtras(pool),
    ...optional('region', pool.region),
    trust: pool.trust,
    ...(pool.idleMs === null ? {} : { idle_s: seconds(pool.idleMs) }),
    runway_s: seconds(pool.runwayMs),
    bid_window_s: seconds(pool.bidWindowMs),
    slo: { ttft_ms: pool.slo.ttftMs, tokens_per_second: pool.slo.tokensPerSecond },
    limits: {
      max_wait_s: seconds(limits.maxWaitMs),
      connect_s: seconds(limits.connectMs),
      first_token_s: seconds(limits.firstTokenMs),
      between_tokens_s: seconds(limits.betweenTokensMs),
      total_s: seconds(limits.totalMs),
      start_s: seconds(limits.startMs),
      drain_s: seconds(limits.drainMs),
      waiting_max: limits.waitingMax,
    },
    n_max: pool.nMax,
    slice_tokens: pool.sliceTokens,
    template_tokens: pool.templateTokens,
    show_prices: pool.showPrices,
  };
}

function describeBudget({ hourNanoUsd, dayNanoUsd }: PoolSpec['budget']): unknown {
  return { ...optional('usd_per_hour', hourNanoUsd, formatUsd), ...optional('usd_per_day', dayNanoUsd, formatUsd) };
}

function describeContainer(container: Container): unknown {
  const { volume } = container;
  return {
    ...optional('command', container.command),
    ...optional('args', container.args),
    env: container.env,
    ...optional('port', container.port),
    ...optional('weights', container.weights),
    ...optional('revision', container.revision),
    ...(container.shmBytes === 0 ? {} : { shm: formatSize(container.shmBytes) }),
    ...optional('volume', volume, (given) => ({
      size: formatSize(given.bytes),
      class: given.class,
      mount: given.mount,
    })),
    ...(container.expose === undefined ? {} : { expose: container.expose }),
    ...(container.tls === undefined ? {} : { tls: container.tls }),
  };
}

function describeLocal(local: LocalMarketSettings): unknown {
  return {
    block_ms: local.blockMs,
    settlement: local.settlement,
    take_fee_bp: local.takeFeeBp,
    make_fee_bp: local.makeFeeBp,
    treasury_usd: formatUsd(local.treasuryNanoUsd),
    disputes: { answer_s: local.disputes.answerMs / 1000, judge_s: local.disputes.judgeMs / 1000 },
    ...optional('llama_server', local.llamaServer),
    ...optional('model_path', local.modelPath),
    providers: local.providers.map(describeProvider),
    joining: local.joining.map(({ id, key, audited, region, hosts }) => {
      return { id, key: String(key), audited, ...optional('region', region), hosts };
    }),
  };
}

function describeProvider(provider: LocalProvider): unknown {
  return {
    id: provider.id,
    slots: provider.slots,
    cpu: provider.cpu,
    memory: formatSize(provider.memoryBytes),
    gpus: provider.gpus,
    audited: provider.audited,
    cost_usd_per_hour: formatUsd(provider.costNanoUsdPerHour),
    policy: describePolicy(provider.policy),
    reply_ms: provider.replyMs,
  };
}

function describePolicy(policy: PricePolicy): unknown {
  if (policy.kind === 'cost_plus') return { kind: policy.kind, margin_bp: policy.marginBp };
  if (policy.kind === 'fixed') {
    return { kind: policy.kind, price_usd_per_hour: formatUsd(policy.priceNanoUsdPerHour) };
  }
  return {
    kind: policy.kind,
    margin_bp: policy.marginBp,
    discount_max_bp: policy.discountMaxBp,
    peak_markup_bp: policy.peakMarkupBp,
  };
}

function describeOwned(owned: OwnedMarketSettings): unknown {
  return {
    servers: owned.servers.map(({ id, url, key, pool, slots, costNanoUsdPerHour, trust, region }) => ({
      id,
      url,
      ...optional('key', key, String),
      pool,
      slots,
      usd_per_hour: formatUsd(costNanoUsdPerHour),
      trust,
      ...optional('region', region),
    })),
  };
}

function describeLimits(limits: GatewayLimits): unknown {
  return {
    body_bytes: limits.bodyBytes,
    bodies_bytes: limits.bodiesBytes,
    header_bytes: limits.headerBytes,
    headers: limits.headersMax,
    concurrent_requests: limits.requestsMax,
    header_s: seconds(limits.headerMs),
    body_s: seconds(limits.bodyMs),
    keep_alive_s: seconds(limits.keepAliveMs),
    reply_bytes: limits.replyBytes,
    replay_bytes: limits.replayBytes,
    event_bytes: limits.eventBytes,
    key_requests_per_minute: limits.keyRequestsPerMinute,
    key_tokens_per_minute: limits.keyTokensPerMinute,
    key_concurrency: limits.keyConcurrency,
    stop_s: seconds(limits.stopMs),
  };
}

const seconds = (value: Ms): number => value / 1000;

/** Left out when it is null, as in a file. */
function optional<T extends NanoUsd | number | string | object>(
  key: string,
  value: T | null,
  format: (value: T) => unknown = (given) => given,
): Record<string, unknown> {
  return value === null ? {} : { [key]: format(value) };
}
