import { availableParallelism } from 'node:os';
import type { Clock } from '../clock.ts';
import type { LocalMarketSettings, Settings } from '../config.ts';
import { openAkash } from './akash-market.ts';
import type { Ledger } from '../ledger/operations.ts';
import { embeddedBidders } from '../leases/local/bidder.ts';
import type { JoinedBidder } from '../leases/local/joined-bidder.ts';
import { ApiMarket } from '../leases/api/market.ts';
import { Escrow } from '../leases/local/escrow.ts';
import { LocalMarket } from '../leases/local/market.ts';
import { startModelServer } from '../leases/local/model-server.ts';
import { drawProgress } from '../leases/local/progress.ts';
import { prepareRuntime, type LlamaRuntime } from '../leases/local/runtime.ts';
import { WithheldRent } from '../leases/local/withheld-rent.ts';
import type { Market } from '../leases/market.ts';
import { OwnedMarket } from '../leases/owned/market.ts';
import type { DisputeRecords } from '../leases/dispute-records.ts';
import { localDisputes, type Disputes } from '../leases/disputes.ts';
import { MarketRecords } from '../leases/records.ts';
import type { MarketName } from '../spec.ts';
import type { Store } from '../store/open.ts';
import { leaseKeys } from './secrets.ts';

const LISTEN_MS = 60_000;
const THREADS_MAX = 4;

export interface MarketDeps {
  readonly settings: Settings;
  readonly store: Store;
  readonly disputes: DisputeRecords;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly runtime: LlamaRuntime | null;
  readonly joined: readonly JoinedBidder[];
  readonly log: (line: string) => void;
}

/**
 * What the embedded market runs, fetched on the first start. Null when it is not needed.
 * @throws AppError `setup_failed` with a sentence that says what to do
 */
export async function prepareLocal(
  settings: Settings,
  clock: Clock,
  signal: AbortSignal,
): Promise<LlamaRuntime | null> {
  const { local } = settings.markets;
  const needed = settings.pools.some(({ markets }) => markets?.includes('local') ?? true);
  if (!local || local.providers.length === 0 || (!needed && settings.pools.length > 0)) return null;
  const drawing = drawProgress(process.stderr);
  try {
    return await prepareRuntime({
      cacheDir: settings.cacheDir,
      llamaServer: local.llamaServer ?? undefined,
      modelPath: local.modelPath ?? undefined,
      env: process.env,
      clock,
      signal,
      progress: (progress) => drawing.report(progress),
    });
  } finally {
    drawing.end();
  }
}

/** Every configured market, opened and recovered. */
export async function openMarkets(deps: MarketDeps): Promise<Map<MarketName, Market>> {
  const { settings, clock } = deps;
  const markets = new Map<MarketName, Market>();
  const { local, owned, akash, api } = settings.markets;
  const standing = async (market: 'owned' | 'api'): Promise<Disputes> => {
    const disputes = localDisputes({ market, records: deps.disputes, clock, log: deps.log });
    await disputes.open();
    return disputes;
  };
  if (local) markets.set('local', await openLocal(deps, local));
  if (owned) {
    const servers = owned.servers.map(({ key, ...server }) => ({ ...server, apiKey: key?.reveal() ?? null }));
    markets.set('owned', new OwnedMarket(servers, clock, await standing('owned')));
  }
  if (api) {
    const endpoints = api.endpoints.map(({ key, ...endpoint }) => ({ ...endpoint, apiKey: key?.reveal() ?? null }));
    markets.set('api', new ApiMarket(endpoints, clock, await standing('api')));
  }
  if (akash) markets.set('akash', await openAkash(deps, akash));
  return markets;
}

async function openLocal(deps: MarketDeps, local: LocalMarketSettings): Promise<Market> {
  const { settings, store, ledger, clock, joined, log } = deps;
  const { blockMs, takeFeeBp, makeFeeBp, settlement } = local;
  const embedded = openEmbedded(deps, local);
  const market = new LocalMarket({
    bidders: () => [...embedded(), ...joined],
    terms: { blockMs, takeFeeBp, makeFeeBp, depositMinNanoUsd: 1n, settlement, endsWithProcess: true },
    treasuryNanoUsd: local.treasuryNanoUsd,
    records: new MarketRecords(store),
    escrow: new Escrow(ledger, clock, 'local'),
    disputes: {
      records: deps.disputes,
      money: new WithheldRent(ledger, clock, 'local'),
      windows: local.disputes,
    },
    clock,
    leaseKey: leaseKeys(settings.dataDir),
    log,
  });
  await market.open();
  return market;
}

function openEmbedded({ settings, clock, runtime }: MarketDeps, { providers, blockMs }: LocalMarketSettings) {
  const threads = threadsEach(settings, availableParallelism());
  // Without a runtime nobody can deliver, so nobody bids.
  return embeddedBidders(runtime ? providers : [], {
    clock,
    blockMs,
    startServer: (workload, apiKey, signal) => {
      if (!runtime) return Promise.reject(new Error('the embedded model server was not prepared'));
      const { kind, model: alias, slots, contextTokens } = workload;
      const sizes = { slots, contextTokensPerSlot: contextTokens, threads, listenTimeoutMs: LISTEN_MS };
      return startModelServer({ runtime, kind, alias, apiKey, clock, signal, ...sizes });
    },
  });
}

/**
 * Threads of one model server. llama.cpp's wait for one another by spinning: two servers of two threads on two cores
 * made 2 tokens/s together, at one thread each 54 to 143. So all that may run at once share the cores.
 */
function threadsEach({ pools }: Settings, cores: number): number {
  const servers = pools
    .filter(({ markets }) => markets?.includes('local') ?? true)
    .reduce((sum, pool) => sum + pool.replicasMax, 0);
  return Math.max(1, Math.min(THREADS_MAX, Math.floor(cores / Math.max(1, servers))));
}
