import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../src/clock.ts';
import { createApp } from '../../src/gateway/app.ts';
import { Gate } from '../../src/gateway/call.ts';
import { createDirectChat } from '../../src/gateway/node-direct.ts';
import { BodyRoom } from '../../src/gateway/body-room.ts';
import { hashKey, hintOf, Keys, newKey } from '../../src/gateway/auth.ts';
import type { AppDeps, FleetOperations } from '../../src/gateway/deps.ts';
import { createFetchUpstream } from '../../src/gateway/fetch-upstream.ts';
import { Limiter } from '../../src/gateway/limits.ts';
import { nodeTransport } from '../../src/gateway/node-transport.ts';
import { PromptCounter } from '../../src/gateway/tokenizer.ts';
import type { ProviderDoor } from '../../src/gateway/provider-door.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { Watch } from '../../src/gateway/watch.ts';
import { webTransport } from '../../src/gateway/web-transport.ts';
import { UNLIMITED, type KeySettings } from '../../src/ledger/access.ts';
import { createMemoryLedger } from '../../src/ledger/memory.ts';
import type { Ledger } from '../../src/ledger/operations.ts';
import { startServer } from '../../src/node/server.ts';
import { createIds, systemRandom } from '../../src/random.ts';
import { Pools } from '../../src/scheduler/pool/pools.ts';
import type { PoolRouter } from '../../src/scheduler/pool/router.ts';
import type { Target } from '../../src/scheduler/pool/slot.ts';
import { parsePool, type PoolInput } from '../../src/spec.ts';
import { parseUsd } from '../../src/units.ts';
import { CountingClock, until } from './clock.ts';
import { WatchedLedger } from './ledger.ts';
import { answer } from './model-replies.ts';
import { startModelServer, type FakeModelServer } from './model-server.ts';

/** Two ways in: a real socket with undici behind it, and `app.request` with web streams and fetch, as on workerd. */
export type Door = 'node' | 'web';
export const DOORS: readonly Door[] = ['node', 'web'];

export function onBothDoors(name: string, body: (t: TestContext, door: Door) => Promise<void>): void {
  for (const door of DOORS) test(`${name} [${door}]`, (t) => body(t, door));
}

export interface GatewaySettings {
  readonly door?: Door;
  readonly pool?: Partial<PoolInput>;
  /** Model servers, each a replica of the pool; none: the pool is cold. */
  readonly servers?: number;
  /** Of each replica. */
  readonly slots?: number;
  readonly creditUsd?: string;
  readonly key?: Partial<KeySettings>;
  readonly clock?: Clock;
  /** Default: one in memory. */
  readonly ledger?: Ledger;
  readonly limits?: Partial<AppDeps['limits']>;
  readonly notReady?: () => string | null;
  readonly bodiesBytes?: number;
  /** None: the admin routes of pools and leases are not there. */
  readonly fleet?: FleetOperations;
  readonly slaCredits?: NonNullable<AppDeps['slaCredits']>;
  readonly reach?: AppDeps['reach'];
  /** A scheduler is over its pools. */
  readonly supervised?: boolean;
  /** None: no provider may join. */
  readonly joining?: ProviderDoor;
}

export const MODEL = 'org/tiny';
export const CUSTOMER = 'acct-1';
/** A token of input is 1,000 nano-USD, a cached one 500, one of output 2,000. */
export const NANO = { input: 1000n, cached: 500n, output: 2000n };

const POOL: PoolInput = {
  engine: 'llama.cpp',
  model: 'name-on-the-server',
  context: 4096,
  price: { input: '1.00', cached_input: '0.50', output: '2.00' },
  ceiling_usd_per_hour: '1.00',
  slice_tokens: 64,
  template_tokens: 16,
  quantization: 'q8_0',
};
const LIMITS = {
  bodyBytes: 1_000_000,
  replyBytes: 32_000_000,
  replayBytes: 262_144,
  eventBytes: 1_000_000,
  requestsMax: 100,
  keyRequestsPerMinute: 100_000,
  keyTokensPerMinute: 1_000_000_000,
  keyConcurrency: 100,
};
const SERVER_LIMITS = { headerBytes: 16_384, headersMax: 100, headerMs: 5000, bodyMs: 5000, keepAliveMs: 5000 };

export interface Gateway {
  readonly door: Door;
  /** Null behind the web door. */
  readonly url: string | null;
  /** As the app has them. */
  readonly routes: Routes;
  readonly key: string;
  readonly keys: Keys;
  readonly servers: readonly FakeModelServer[];
  /** The first server; one that no replica stands for when the pool was started cold. */
  readonly server: FakeModelServer;
  readonly router: PoolRouter;
  readonly pools: Pools;
  readonly ledger: WatchedLedger;
  readonly clock: Clock;
  readonly watch: Watch;
  readonly limiter: Limiter;
  readonly logs: readonly string[];
  fetch(path: string, init?: RequestInit): Promise<Response>;
  get(path: string): Promise<Response>;
  /** POST /v1/chat/completions with the pool's model and a question, unless the fields say otherwise. */
  chat(fields?: Record<string, unknown>, init?: RequestInit): Promise<Response>;
  addKey(settings: Partial<KeySettings>, customer?: string): Promise<{ id: string; key: string }>;
  addReplica(server: FakeModelServer, more?: Partial<Target>): void;
}

/** The gateway between fake model servers and a test; when the test is over nothing may be in flight, held or set. */
export async function startGateway(t: TestContext, settings: GatewaySettings = {}): Promise<Gateway> {
  const { door = 'node', slots = 4, limits } = settings;
  const clock = settings.clock ?? new CountingClock();
  const ledger = new WatchedLedger(settings.ledger ?? createMemoryLedger(clock));
  const keys = new Keys(ledger);
  const pools = new Pools(clock, settings.supervised);
  const watch = new Watch(clock);
  const bodyRoom = new BodyRoom(settings.bodiesBytes ?? 100_000_000);
  const spec = parsePool(MODEL, { ...POOL, ...settings.pool }, clock.now());
  const price = { op: 'price' as const, model: MODEL, price: spec.price, atMs: clock.now() };
  const { router } = pools.put(spec, await ledger.ask(price), 'file');
  const leftOver = checkQuiet(t, { router, ledger, watch, clock, bodyRoom });
  const servers: FakeModelServer[] = [];
  const addReplica: Gateway['addReplica'] = (server, more = {}) => {
    const id = more.id ?? `replica-${servers.indexOf(server)}`;
    const place = { market: 'owned', provider: `provider-of-${id}`, leaseId: `lease-of-${id}` };
    router.add({ id, url: server.url, apiKey: `key-of-${id}`, engine: spec.engine, slots, ...place, ...more }, 1500);
  };
  for (let count = settings.servers ?? 1; count > 0; count -= 1) {
    servers.push(await startModelServer(t, answer()));
    addReplica(servers.at(-1) ?? fail('no server'));
  }
  const addKey = keyAdder(ledger, keys, clock);
  await openAccount(ledger, settings.creditUsd ?? '5.00', clock);
  const { key } = await addKey(settings.key ?? {});
  const logs: string[] = [];
  const limiter = new Limiter();
  const deps = { clock, ledger, keys, pools, notReady: settings.notReady ?? (() => null), random: systemRandom };
  const { url, request, routes } = await open(t, door, {
    ...deps,
    subtle: crypto.subtle,
    newId: createIds(systemRandom),
    watch: () => watch,
    fleet: settings.fleet ?? null,
    ...(settings.slaCredits ? { slaCredits: settings.slaCredits } : {}),
    reach: settings.reach,
    joining: settings.joining ?? null,
    adminKeyHash: hashKey('sk-ub-admin'),
    limiter,
    bodyRoom,
    limits: { ...LIMITS, ...limits },
    log: (line) => logs.push(line),
  });
  t.after(leftOver);
  return {
    ...{
      door,
      url,
      routes,
      key,
      keys,
      servers,
      router,
      pools,
      ledger,
      clock,
      watch,
      limiter,
      logs,
      addKey,
      addReplica,
      fetch: request,
    },
    server: servers[0] ?? (await startModelServer(t, answer())),
    get: (path) => request(path, { headers: bearer(key) }),
    chat: (fields = {}, init = {}) => {
      const body = { model: MODEL, messages: [{ role: 'user', content: 'Say hello.' }], ...fields };
      const headers = { ...bearer(key), 'content-type': 'application/json', ...(init.headers as object) };
      return request('/v1/chat/completions', { method: 'POST', body: JSON.stringify(body), ...init, headers });
    },
  };
}

type Routes = readonly { readonly method: string; readonly path: string }[];

interface Opened {
  readonly url: string | null;
  readonly routes: Routes;
  readonly request: (path: string, init?: RequestInit) => Promise<Response>;
}

async function open(
  t: TestContext,
  door: Door,
  deps: Omit<AppDeps, 'upstream' | 'transport' | 'promptCounter'>,
): Promise<Opened> {
  if (door === 'web') {
    const upstream = createFetchUpstream((...call) => fetch(...call));
    const promptCounter = new PromptCounter({ upstream, clock: deps.clock });
    const app = createApp({ ...deps, upstream, promptCounter, transport: webTransport });
    return { url: null, routes: app.routes, request: async (path, init) => app.request(path, init) };
  }
  const upstream = createUndiciUpstream({ connectMs: 2000, connectionsMax: 64, headerBytesMax: 16_384 });
  const promptCounter = new PromptCounter({ upstream, clock: deps.clock });
  const all = { ...deps, upstream, promptCounter, transport: nodeTransport };
  const gate = new Gate(all);
  const app = createApp(all, gate);
  const where = { host: '127.0.0.1', port: 0, clock: deps.clock, limits: SERVER_LIMITS };
  const server = await startServer(app, where, createDirectChat(all, gate));
  t.after(async () => {
    await server.stop(0, AbortSignal.abort());
    await upstream.close();
  });
  return { url: server.url, routes: app.routes, request: (path, init) => fetch(`${server.url}${path}`, init) };
}

async function openAccount(ledger: WatchedLedger, usd: string, clock: Clock): Promise<void> {
  const atMs = clock.now();
  for (const id of [CUSTOMER, 'acct-2']) await ledger.ask({ op: 'customer', id, name: id, atMs });
  const amount = parseUsd(usd);
  if (amount === 0n) return;
  const grant = { id: 'grant-1', customer: CUSTOMER, kind: 'paid' as const, amount, expiresMs: null };
  await ledger.ask({ op: 'grant', ...grant, actor: 'test', reason: 'credit for a test', atMs });
}

function keyAdder(ledger: WatchedLedger, keys: Keys, clock: Clock): Gateway['addKey'] {
  let count = 0;
  return async (more, customer = CUSTOMER) => {
    count += 1;
    const id = `key-${count}`;
    const key = newKey(systemRandom);
    const record = {
      id,
      hash: hashKey(key),
      hint: hintOf(key),
      customer,
      name: id,
      settings: { ...UNLIMITED, ...more },
    };
    await ledger.ask({ op: 'key', ...record, atMs: clock.now() });
    await keys.refresh();
    return { id, key };
  };
}

const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });

function fail(why: string): never {
  throw new Error(why);
}

interface Counted {
  readonly router: PoolRouter;
  readonly ledger: WatchedLedger;
  readonly watch: Watch;
  readonly clock: Clock;
  readonly bodyRoom: BodyRoom;
}

/**
 * When the test is over and before anything is closed: every slot given back, every hold settled, every deadline and
 * timer taken off. The returned hook says what was not; it comes last, since a hook that fails ends the others.
 */
function checkQuiet(t: TestContext, { router, ledger, watch, clock, bodyRoom }: Counted): () => void {
  const quiet = { held: 0n, inFlight: 0, waiting: 0, waitingSinceMs: null, watched: 0, timers: 0, bodies: 0 };
  const rest = async (): Promise<typeof quiet> => {
    const balance = await ledger.ask({ op: 'balance', customer: CUSTOMER });
    const { inFlight, waiting, waitingSinceMs } = router.stats;
    // The watch's own timer ends by itself when there is nothing to watch.
    const timers = clock instanceof CountingClock ? Math.max(0, clock.pending - 1) : 0;
    const since = waitingSinceMs as null;
    return {
      held: balance?.held ?? -1n,
      inFlight,
      waiting,
      waitingSinceMs: since,
      watched: watch.size,
      timers,
      bodies: bodyRoom.taken,
    };
  };
  let last = quiet;
  t.after(async () => {
    const check = async (): Promise<boolean> => isDeepStrictEqual((last = await rest()), quiet);
    await until('everything is given back', check).catch(() => undefined);
  });
  return () => assert.deepEqual(last, quiet, 'left over when the test was over');
}
