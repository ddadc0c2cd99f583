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
import { announce } from './node/announce.ts';
import { openDemo } from './node/demo.ts';
import { openMarkets, prepareLocal } from './node/markets.ts';
import { reachOf } from './node/reach.ts';
import { openJoining, type Joining } from './node/provider-door.ts';
import { createOperations } from './node/operations.ts';
import { secretFile } from './node/secrets.ts';
import { startServer, type RunningServer } from './node/server.ts';
import { createIds, randomText, systemRandom } from './random.ts';
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
}

/** Builds every part once, serves until told to stop, ends the parts in reverse order. Resolves with the exit code. */
export async function serve(
  env: Readonly<Record<string, string | undefined>>,
  options: ServeOptions = {},
): Promise<number> {
  try {
    const gateway = await start(env, systemClock, options);
    await untilStopped(gateway);
    return 0;
  } catch (error) {
    console.error(error instanceof AppError ? error.message : `underbid could not start: ${describeError(error)}`);
    if (error instanceof AppError && error.cause !== undefined) log(describeError(error.cause).slice(0, 4000));
    return 1;
  }
}

interface Gateway {
  readonly server: RunningServer;
  readonly settings: Settings;
  /** Turns waiting requests away and refuses new ones. */
  refuse(): void;
  /** Ends everything behind the server. */
  close(): Promise<void>;
}

async function start(
  env: Readonly<Record<string, string | undefined>>,
  clock: Clock,
  options: ServeOptions,
): Promise<Gateway> {
  const settings = loadSettings({ env, cwd: process.cwd(), nowMs: clock.now() });
  for (const warning of warnSettings(settings, clock.now())) log(`warning: ${warning}`);
  const { dataDir } = settings;
  // Databases and keys are their owner's alone.
  process.umask(0o077);
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  if (existsSync(join(dataDir, 'underbid.db')) && !existsSync(join(dataDir, 'ledger.db'))) {
    const why = `the ledger (ledger.db) is missing from ${dataDir}, though the gateway ran there: put it back, or use another data folder`;
    throw new AppError('setup_failed', why);
  }
  const closers: (() => Promise<void> | void)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).toReversed()) await close();
  };
  try {
    closers.push(lockDataFolder(dataDir));
    const pidFile = join(dataDir, 'gateway.pid');
    writeFileSync(pidFile, `${process.pid}\n`);
    closers.push(() => rmSync(pidFile, { force: true }));
    const preparing = new AbortController();
    const abort = (): void => preparing.abort(new AppError('setup_failed', 'stopped while preparing'));
    process.once('SIGINT', abort).once('SIGTERM', abort);
    const runtime = await prepareLocal(settings, clock, preparing.signal);
    process.off('SIGINT', abort).off('SIGTERM', abort);
    const ledger = await openLedger({
      dataDir,
      onFatal: (error) => {
        log(`the ledger failed and the gateway ends: ${describeError(error)}`);
        process.exit(EXIT_FATAL);
      },
    });
    closers.push(() => ledger.close());
    const store = await openStore(join(dataDir, 'underbid.db'));
    closers.push(() => store.close());
    const joining = openJoining(settings, clock, log);
    const disputes = new DisputeRecords(store);
    const shared = { settings, clock, store, disputes, ledger };
    const markets = await openMarkets({ ...shared, runtime, joined: joining.bidders, log });
    for (const market of markets.values()) closers.push(() => market.stop());
    return await startGateway({ ...shared, options, markets, joining, closers, closeAll });
  } catch (error) {
    await closeAll();
    throw error;
  }
}

interface Parts {
  readonly settings: Settings;
  readonly options: ServeOptions;
  readonly clock: Clock;
  readonly store: Store;
  readonly disputes: DisputeRecords;
  readonly ledger: Ledger;
  readonly markets: Awaited<ReturnType<typeof openMarkets>>;
  readonly joining: Joining;
  readonly closers: (() => Promise<void> | void)[];
  readonly closeAll: () => Promise<void>;
}

async function startGateway(parts: Parts): Promise<Gateway> {
  const { settings, options, clock, store, disputes, ledger, markets, joining, closers, closeAll } = parts;
  const { dataDir, limits } = settings;
  const newId = createIds(systemRandom);
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
    markets,
    newId,
    log,
    probe: (target, spec, signal) => probeModelServer(upstream, target, spec, signal),
    proveResumption: (target, spec, signal) => proveResumption(upstream, target, spec, signal),
    measure: (target, pool, signal) =>
      measureSpeed({ upstream, clock, target, pool, nonce: randomText(systemRandom, 16), signal }),
  });
  const keys = new Keys(ledger);
  await keys.refresh();
  const adminKey =
    settings.adminKey?.reveal() ??
    secretFile(join(dataDir, 'admin.key'), () => `sk-ub-admin-${randomText(systemRandom, 40)}`).value;
  const demoKey = await openDemo({ ledger, keys, dataDir, clock, random: systemRandom });
  disputes.onUpheld(({ market, provider, breach }) => scheduler.book.disputed({ market, provider }, breach.reason));
  await scheduler.start();
  closers.push(() => scheduler.stop(options));
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
    fleet: createOperations({ clock, pools, records, scheduler, markets, ledger, disputes }),
    joining: joining.door,
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
  const server = await startServer(
    app,
    { host: settings.host, port: settings.port, clock, limits },
    createDirectChat(deps, gate),
  );
  announce(server.url, demoKey, settings);
  const refuse = (): void => {
    refusing = 'the gateway is stopping';
    // Their questions for tasks would hold up the end.
    for (const bidder of joining.bidders) bidder.stop();
    for (const { router } of pools.list()) router.close(new AppError('no_capacity', refusing, { retryAfterS: 5 }));
  };
  return { server, settings, refuse, close: closeAll };
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

/** The first signal lets answers end, the second ends them; either way money is settled and model servers are gone. */
function untilStopped(gateway: Gateway): Promise<void> {
  const { server, settings } = gateway;
  return new Promise((resolve, reject) => {
    const hurry = new AbortController();
    let stopping = false;
    const stop = (): void => {
      if (stopping) {
        hurry.abort();
        return;
      }
      stopping = true;
      log('stopping: answers in progress may end');
      gateway.refuse();
      server
        .stop(settings.limits.stopMs, hurry.signal)
        // A cut answer is charged for what was delivered: its settlement is on its way to the ledger.
        .then(() => systemClock.sleep(100))
        .then(() => gateway.close())
        .then(resolve, reject);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  });
}

if (import.meta.main) process.exit(await serve(process.env));
