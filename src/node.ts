import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { systemClock, type Clock } from './clock.ts';
import { warnSettings } from './config/warnings.ts';
import { loadSettings, type Settings } from './config.ts';
import { AppError, describeError } from './errors.ts';
import { createApp } from './gateway/app.ts';
import { Gate } from './gateway/call.ts';
import type { AppDeps } from './gateway/deps.ts';
import { createDirectChat } from './gateway/node-direct.ts';
import { BodyRoom } from './gateway/body-room.ts';
import { hashKey, Keys } from './gateway/auth.ts';
import { Limiter } from './gateway/limits.ts';
import { nodeTransport } from './gateway/node-transport.ts';
import { probeModelServer } from './gateway/probe.ts';
import { proveResumption } from './gateway/resume-probe.ts';
import { measureSpeed } from './gateway/speed-probe.ts';
import { PromptCounter } from './gateway/tokenizer.ts';
import { createUndiciUpstream } from './gateway/undici-upstream.ts';
import { Watch } from './gateway/watch.ts';
import { openLedger } from './ledger/client.ts';
import type { Ledger } from './ledger/operations.ts';
import { viewCredits } from './node/dispute-operations.ts';
import { fenceMarket } from './leases/fenced.ts';
import type { LlamaRuntime } from './leases/local/runtime.ts';
import { announce } from './node/announce.ts';
import { canaryMeans, startSlaCredits } from './node/honesty.ts';
import { openDemo } from './node/demo.ts';
import { Leadership } from './node/leadership.ts';
import { openMarkets, prepareLocal } from './node/markets.ts';
import { reachOf } from './node/reach.ts';
import { openJoining, type Joining } from './node/provider-door.ts';
import { createOperations } from './node/operations.ts';
import { secretFile } from './node/secrets.ts';
import { startServer, type RunningServer } from './node/server.ts';
import { standBy } from './node/standby.ts';
import { untilSignal, untilStopped, type Gateway } from './node/stopping.ts';
import { createIds, randomText, systemRandom } from './random.ts';
import { saysMore } from './leases/dispute.ts';
import { DisputeRecords } from './leases/dispute-records.ts';
import { Scheduler } from './scheduler/loop.ts';
import { Pools } from './scheduler/pool/pools.ts';
import { SchedulerRecords } from './scheduler/records.ts';
import { modelIdSchema, parsePool } from './spec.ts';
import { lockDataFolder } from './store/lock.ts';
import { openStore, type Store } from './store/open.ts';

/** A data file may no longer agree with memory: the process ends, the next start recovers. */
const EXIT_FATAL = 70;

/** One line each: what strangers' servers say may hold control characters. */
const log = (line: string): void => {
  console.error(
    `${new Date(systemClock.now()).toISOString()} ${line.replaceAll(/[\u0000-\u001f\u007f-\u009f]+/g, ' ')}`,
  );
};

export interface ServeOptions {
  /** The end closes every lease, also those that would be found again at the next start. */
  readonly closeLeases?: boolean;
  /** Waits while another gateway leads, then takes over; left out: as the settings have it. */
  readonly standby?: boolean;
}

/** Builds every part once, serves until told to stop, ends the parts in reverse order. Resolves with the exit code. */
export async function serve(
  env: Readonly<Record<string, string | undefined>>,
  options: ServeOptions = {},
): Promise<number> {
  try {
    const gateway = await start(env, systemClock, options);
    if (gateway) await untilStopped(gateway);
    return 0;
  } catch (error) {
    console.error(error instanceof AppError ? error.message : `underbid could not start: ${describeError(error)}`);
    if (error instanceof AppError && error.cause !== undefined) log(describeError(error.cause).slice(0, 4000));
    return 1;
  }
}

/** Null: it stood by and was told to stop. */
async function start(
  env: Readonly<Record<string, string | undefined>>,
  clock: Clock,
  options: ServeOptions,
): Promise<Gateway | null> {
  const settings = loadSettings({ env, cwd: process.cwd(), nowMs: clock.now() });
  for (const warning of warnSettings(settings, clock.now())) log(`warning: ${warning}`);
  // Databases and keys are their owner's alone.
  process.umask(0o077);
  mkdirSync(settings.dataDir, { recursive: true, mode: 0o700 });
  const newId = createIds(systemRandom);
  const prepare = (): Promise<LlamaRuntime | null> => untilSignal((signal) => prepareLocal(settings, clock, signal));
  if (!(options.standby ?? settings.standby)) {
    const unlock = lockDataFolder(settings.dataDir);
    return open({ settings, options, clock, newId, unlock, prepare, server: null });
  }
  const standby = await standBy({ settings, clock, newId });
  const runtime = await prepare();
  const unlock = await untilSignal((signal) => {
    console.log(`underbid stands by on ${standby.server.url}`);
    return standby.lead(signal);
  });
  if (unlock === null) return null;
  log('no other gateway leads: taking over');
  return open({
    settings,
    options,
    clock,
    newId,
    unlock,
    prepare: () => Promise.resolve(runtime),
    server: standby.server,
  });
}

interface Opening {
  readonly settings: Settings;
  readonly options: ServeOptions;
  readonly clock: Clock;
  readonly newId: (prefix: string) => string;
  /** Gives the data folder's lock back. */
  readonly unlock: () => void;
  readonly prepare: () => Promise<LlamaRuntime | null>;
  /** Of a standby: it listens already. */
  readonly server: RunningServer | null;
}

/** With the lock in hand: opens the data, and all that works on it. */
async function open(opening: Opening): Promise<Gateway> {
  const { settings, clock } = opening;
  const { dataDir } = settings;
  const closers: (() => Promise<void> | void)[] = [opening.unlock];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).toReversed()) await close();
  };
  try {
    refuseLostLedger(dataDir);
    const pidFile = join(dataDir, 'gateway.pid');
    writeFileSync(pidFile, `${process.pid}\n`);
    closers.push(() => rmSync(pidFile, { force: true }));
    const runtime = await opening.prepare();
    const fatal = (why: string): void => {
      log(`${why}, and the gateway ends`);
      process.exit(EXIT_FATAL);
    };
    const ledger = await openLedger({
      dataDir,
      onFatal: (error) => fatal(`the ledger failed (${describeError(error)})`),
    });
    closers.push(() => ledger.close());
    const store = await openStore(join(dataDir, 'underbid.db'));
    closers.push(() => store.close());
    const onLost = (): void => fatal('another gateway has taken over');
    const leadership = new Leadership({ store, dataDir, clock, log, onLost });
    await leadership.start();
    closers.push(() => leadership.stop());
    const joining = openJoining(settings, clock, log);
    const disputes = new DisputeRecords(store);
    const shared = { settings, clock, store, disputes, ledger };
    const markets = await openMarkets({ ...shared, runtime, joined: joining.bidders, log });
    for (const market of markets.values()) closers.push(() => market.stop());
    return await startGateway({ ...opening, ...shared, leadership, markets, joining, closers, closeAll });
  } catch (error) {
    await closeAll();
    throw error;
  }
}

function refuseLostLedger(dataDir: string): void {
  if (!existsSync(join(dataDir, 'underbid.db')) || existsSync(join(dataDir, 'ledger.db'))) return;
  const why = `the ledger (ledger.db) is missing from ${dataDir}, though the gateway ran there: put it back, or use another data folder`;
  throw new AppError('setup_failed', why);
}

interface Parts extends Opening {
  readonly store: Store;
  readonly disputes: DisputeRecords;
  readonly ledger: Ledger;
  readonly leadership: Leadership;
  readonly markets: Awaited<ReturnType<typeof openMarkets>>;
  readonly joining: Joining;
  readonly closers: (() => Promise<void> | void)[];
  readonly closeAll: () => Promise<void>;
}

async function startGateway(parts: Parts): Promise<Gateway> {
  const { settings, options, clock, newId, store, disputes, ledger, leadership, markets, joining, closers, closeAll } =
    parts;
  const { dataDir, limits } = settings;
  const pools = new Pools(clock, true);
  const records = new SchedulerRecords(store);
  await loadPools({ settings, pools, records, ledger, clock });
  const slotsMax = Math.max(16, ...settings.pools.map(({ slots }) => slots));
  const upstream = createUndiciUpstream({
    connectMs: 5000,
    connectionsMax: slotsMax * 2,
    headerBytesMax: limits.headerBytes,
  });
  closers.push(() => upstream.close());
  const scheduler = new Scheduler({
    clock,
    records,
    pools,
    markets: new Map([...markets].map(([name, market]) => [name, fenceMarket(market, () => leadership.leads())])),
    newId,
    epoch: leadership.epoch,
    log,
    budget: settings.budget,
    probe: (target, spec, signal) => probeModelServer(upstream, target, spec, signal),
    proveResumption: (target, spec, signal) => proveResumption(upstream, target, spec, signal),
    canary: canaryMeans({ settings, store, upstream }),
    measure: (target, pool, signal) =>
      measureSpeed({ upstream, clock, target, pool, nonce: randomText(systemRandom, 16), signal }),
  });
  const keys = new Keys(ledger);
  await keys.refresh();
  const adminKey =
    settings.adminKey?.reveal() ??
    secretFile(join(dataDir, 'admin.key'), () => `sk-ub-admin-${randomText(systemRandom, 40)}`).value;
  const demoKey = await openDemo({ ledger, keys, dataDir, clock, random: systemRandom });
  disputes.onUpheld((dispute) => {
    const { market, provider, breach } = dispute;
    if (saysMore(dispute)) scheduler.book.disputed({ market, provider }, breach.reason);
  });
  await scheduler.start();
  closers.push(() => scheduler.stop(options));
  const { creditRows, stop: stopCredits } = startSlaCredits({ store, clock, ledger, pools, log });
  closers.push(stopCredits);
  const watch = new Watch(clock);
  let refusing: string | null = null;
  const deps: AppDeps = {
    clock,
    random: systemRandom,
    subtle: crypto.subtle,
    newId,
    ledger,
    keys,
    pools,
    upstream,
    watch: () => watch,
    transport: nodeTransport,
    fleet: createOperations({ clock, pools, records, scheduler, markets, ledger, disputes, creditRows, dataDir }),
    slaCredits: (account) => viewCredits(creditRows, account),
    joining: joining.door,
    leader: () => leadership.view(),
    adminKeyHash: hashKey(adminKey),
    limiter: new Limiter(),
    bodyRoom: new BodyRoom(limits.bodiesBytes, Math.max(limits.bodyBytes, Math.floor(limits.bodiesBytes / 4))),
    promptCounter: new PromptCounter({ upstream, clock }),
    limits,
    notReady: () => refusing,
    reach: reachOf(markets),
    degraded: () => [...markets.values()].filter((market) => market.health?.().problem).map(({ name }) => name),
    log,
  };
  const gate = new Gate(deps);
  const app = createApp(deps, gate);
  const direct = createDirectChat(deps, gate);
  const { host, port } = settings;
  const server = parts.server ?? (await startServer(app, { host, port, clock, limits }, direct));
  if (parts.server) server.replace(app, direct);
  await leadership.serves(server.url);
  announce(server.url, demoKey, settings);
  const refuse = (): void => {
    refusing = 'the gateway is stopping';
    // Their questions for tasks would hold up the end.
    for (const bidder of joining.bidders) bidder.stop();
    for (const { router } of pools.list()) router.close(new AppError('no_capacity', refusing, { retryAfterS: 5 }));
  };
  return { server, settings, log, refuse, close: closeAll };
}

async function loadPools(parts: {
  readonly settings: Settings;
  readonly pools: Pools;
  readonly records: SchedulerRecords;
  readonly ledger: Ledger;
  readonly clock: Clock;
}): Promise<void> {
  const { settings, pools, records, ledger, clock } = parts;
  const price = (spec: (typeof settings.pools)[number]): Promise<number> =>
    ledger.ask({ op: 'price', model: spec.id, price: spec.price, atMs: clock.now() });
  for (const spec of settings.pools) pools.put(spec, await price(spec), 'file');
  for (const { id, input } of await records.listPools()) {
    if (pools.get(id)) {
      const why = `the pool ${id} stands in the configuration file and was also made over the API: rename one of them`;
      throw new AppError('invalid_config', why);
    }
    const spec = parsePool(modelIdSchema.parse(id), input, clock.now());
    pools.put(spec, await price(spec), 'api');
  }
}

if (import.meta.main) process.exit(await serve(process.env));
