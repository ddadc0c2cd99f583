import { systemClock } from './clock.ts';
import { createApp } from './gateway/app.ts';
import { BodyRoom } from './gateway/body-room.ts';
import { hashKey, hintOf, Keys } from './gateway/auth.ts';
import { createFetchUpstream } from './gateway/fetch-upstream.ts';
import { PromptCounter } from './gateway/tokenizer.ts';
import { Limiter } from './gateway/limits.ts';
import { Watch } from './gateway/watch.ts';
import { webTransport } from './gateway/web-transport.ts';
import { UNLIMITED } from './ledger/access.ts';
import { createMemoryLedger } from './ledger/memory.ts';
import { createIds, systemRandom } from './random.ts';
import { Pools } from './scheduler/pool/pools.ts';
import { parsePool } from './spec.ts';
import { parseUsd } from './units.ts';

/**
 * The same gateway on workerd, for now with one fixed replica and one account in memory: it forgets what was charged when
 * the isolate ends. What it must not have: chain code, undici, node:*.
 */
export interface Env {
  /** The public model id and its pool, in the configuration file's shape, as JSON. */
  readonly MODEL_ID: string;
  readonly POOL: string;
  /** Base address of the model server, without `/v1`. */
  readonly REPLICA_URL: string;
  readonly REPLICA_KEY?: string;
  /** The account's bearer key (a secret) and its credit. */
  readonly API_KEY?: string;
  readonly CREDIT_USD: string;
}

type App = ReturnType<typeof createApp>;

const LIMITS = {
  bodyBytes: 20 * 1024 * 1024,
  requestsMax: 1000,
  replyBytes: 32_000_000,
  replayBytes: 65_536,
  eventBytes: 1_000_000,
  keyRequestsPerMinute: 600,
  keyTokensPerMinute: 1_000_000,
  keyConcurrency: 64,
};

async function buildApp(env: Env): Promise<App> {
  const clock = systemClock;
  const ledger = createMemoryLedger(clock);
  const pools = new Pools(clock);
  const spec = parsePool(env.MODEL_ID, JSON.parse(env.POOL), clock.now());
  const atMs = clock.now();
  const priceVersion = await ledger.ask({ op: 'price', model: spec.id, price: spec.price, atMs });
  const { router } = pools.put(spec, priceVersion, 'file');
  const apiKey = env.REPLICA_KEY ?? null;
  const { engine, slots } = spec;
  const target = {
    id: 'fixed',
    url: env.REPLICA_URL,
    apiKey,
    engine,
    slots,
    market: 'owned',
    provider: 'fixed',
    leaseId: 'fixed',
    // The operator's own choice, like an owned server.
    trust: 'audited' as const,
    region: spec.region,
  };
  router.add(target, 0);
  const keys = new Keys(ledger);
  if (env.API_KEY !== undefined) await openAccount(ledger, env.API_KEY, env.CREDIT_USD, atMs);
  await keys.refresh();
  const upstream = createFetchUpstream((...call) => fetch(...call));
  return createApp({
    clock,
    random: systemRandom,
    subtle: crypto.subtle,
    newId: createIds(systemRandom),
    ledger,
    keys,
    pools,
    // workerd's fetch loses its `this` when it is called as a field.
    upstream,
    promptCounter: new PromptCounter({ upstream, clock }),
    // A timer ends with the request that set it, so no two requests may share one.
    watch: () => new Watch(clock),
    transport: webTransport,
    fleet: null,
    adminKeyHash: null,
    limiter: new Limiter(),
    bodyRoom: new BodyRoom(64 * 1024 * 1024),
    limits: LIMITS,
    notReady: () => null,
    log: () => undefined,
  });
}

async function openAccount(
  ledger: ReturnType<typeof createMemoryLedger>,
  key: string,
  usd: string,
  atMs: number,
): Promise<void> {
  await ledger.ask({ op: 'customer', id: 'edge', name: 'edge', atMs });
  const grant = { id: 'edge-credit', customer: 'edge', kind: 'promo' as const, amount: parseUsd(usd), expiresMs: null };
  await ledger.ask({ op: 'grant', ...grant, actor: 'worker', reason: 'fixed credit', atMs });
  const record = { id: 'key-edge', hash: hashKey(key), hint: hintOf(key), customer: 'edge', name: 'edge' };
  await ledger.ask({ op: 'key', ...record, settings: UNLIMITED, atMs });
}

let app: Promise<App> | null = null;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    // workerd forbids timers and randomness outside a request, so the parts are built in the first one.
    app ??= buildApp(env);
    return (await app).fetch(request, env);
  },
};
