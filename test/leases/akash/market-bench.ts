import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Agent } from 'undici';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { createMemoryLedger } from '../../../src/ledger/memory.ts';
import type { Ledger } from '../../../src/ledger/operations.ts';
import { Chain, type ChainOptions } from '../../../src/leases/akash/chain.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import { DEFAULT_PROVIDERS, type ProviderSpec } from '../../../src/leases/akash/devnet/provider-spec.ts';
import { startDevnet, type Devnet, type DevnetOptions } from '../../../src/leases/akash/devnet/network.ts';
import { AkashMarket } from '../../../src/leases/akash/market.ts';
import type { AkashMarketOptions } from '../../../src/leases/akash/parts.ts';
import { TreasuryRecords } from '../../../src/leases/akash/treasury-records.ts';
import { AkashRecords } from '../../../src/leases/akash/records.ts';
import { DisputeRecords } from '../../../src/leases/dispute-records.ts';
import { MarketRecords } from '../../../src/leases/records.ts';
import type { OrderRequest } from '../../../src/leases/market.ts';
import { systemRandom } from '../../../src/random.ts';
import { openStore, type Store } from '../../../src/store/open.ts';
import { until } from '../../fakes/clock.ts';
import { testOrder } from '../../fakes/market-samples.ts';
import type { MarketBench } from '../market-conformance.ts';
import { FakeServers } from '../local-market-bench.ts';

export const IMAGE = `ghcr.io/example/server@sha256:${'0'.repeat(64)}`;
const BLOCK_MS = 80;

export interface AkashBench extends MarketBench {
  readonly market: AkashMarket;
  readonly devnet: Devnet;
  readonly servers: FakeServers;
  readonly ledger: Ledger;
  readonly store: Store;
  readonly logs: string[];
  readonly balance: (account: string) => Promise<bigint>;
  /** Another market over the same records, books and chain, as after a restart. */
  readonly again: (change?: Partial<AkashMarketOptions>) => Promise<AkashMarket>;
}

export interface AkashBenchOptions {
  readonly faults?: readonly string[];
  /** False: a test starts model servers by hand. */
  readonly automatic?: boolean;
  readonly change?: Partial<AkashMarketOptions>;
  readonly rules?: Partial<AkashMarketOptions['rules']>;
  /** Blocks come by `devnet.nextBlock` alone. */
  readonly byHand?: boolean;
  /** What the tenant begins with; default: plenty. */
  readonly funds?: DevnetOptions['tenantFunds'];
  /** In place of the fakes. */
  readonly startContainer?: DevnetOptions['startContainer'];
  /** Of every emulated provider. */
  readonly provider?: Partial<ProviderSpec>;
  /** Of the network; tokens are checked by it. */
  readonly clock?: Clock;
  /** Of the network and of the gateway. */
  readonly clockOfAll?: Clock;
}

/** The market over the emulated network, on real sockets, with blocks that come quickly. */
export async function openAkash(t: TestContext, options: AkashBenchOptions = {}): Promise<AkashBench> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-akash-'));
  const servers = new FakeServers(options.automatic ?? true);
  const { clockOfAll: clock = systemClock } = options;
  const devnet = await startDevnet({
    clock: options.clock ?? clock,
    random: systemRandom,
    startContainer:
      options.startContainer ??
      (({ env }, signal) => servers.start(testOrder('any').workload, env['LLAMA_API_KEY'] ?? '', signal)),
    blockMs: options.byHand === true ? null : BLOCK_MS,
    providers: DEFAULT_PROVIDERS.map((one) => ({ ...one, bidDelayMs: 0, ...options.provider })),
    faults: options.faults ?? [],
    ...(options.funds ? { tenantFunds: options.funds } : {}),
  });
  const store = await openStore(join(folder, 'underbid.db'));
  const ledger = createMemoryLedger(systemClock);
  const dispatcher = new Agent();
  const logs: string[] = [];
  const markets: AkashMarket[] = [];
  const keyring = await OwnKeyring.open(devnet.tenant.mnemonic);
  const again = async (change: Partial<AkashMarketOptions> = {}): Promise<AkashMarket> => {
    const market = new AkashMarket({
      newChain: (signal) => newChain(devnet, { clock, dispatcher, signal, log: (line) => logs.push(line) }),
      pollMs: 50,
      rules: {
        denom: 'uact',
        orderDeposit: null,
        depositsPerHour: null,
        expose: 'port',
        ingressTls: false,
        auditors: [devnet.auditor],
        defaultImage: null,
        allowPrivate: true,
        walletPerPool: false,
        ...options.rules,
      },
      grants: { deposits: 50_000_000n, feesUakt: 5_000_000n, lifeMs: 86_400_000 },
      keyring,
      pools: ['tiny'],
      records: new AkashRecords(store),
      treasuryRecords: new TreasuryRecords(store),
      disputes: new DisputeRecords(store),
      marketRecords: new MarketRecords(store),
      ledger,
      clock,
      resolve: () => Promise.resolve([{ address: '127.0.0.1', family: 4 }]),
      leaseKey: (leaseId) => `key-of-${leaseId}`,
      log: (line) => logs.push(line),
      ...options.change,
      ...change,
    });
    markets.push(market);
    await market.open();
    return market;
  };
  t.after(async () => {
    await Promise.all(markets.map((market) => market.stop()));
    await devnet.stop();
    await dispatcher.destroy();
    await ledger.close();
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const market = await again();
  const balance = async (name: string): Promise<bigint> => (await ledger.ask({ op: 'account', name }))?.posted ?? 0n;
  return {
    ...{ market, devnet, servers, ledger, store, logs, balance, again },
    order: akashOrder,
    escrow: true,
    disputes: true,
    stepNanoUsd: 1000n,
    until: (what, check) => until(what, check, 60_000),
    passBlocks: async (count) => {
      const end = devnet.chain.height + count;
      await until(`block ${end}`, () => devnet.chain.height >= end && market.block() >= end, 60_000);
    },
  };
}

/** A client of the emulated chain. */
export function newChain(
  devnet: Pick<Devnet, 'rpcUrl'>,
  change: Partial<ChainOptions> & Pick<ChainOptions, 'dispatcher' | 'signal' | 'log'>,
): Chain {
  return new Chain({
    rpc: [devnet.rpcUrl],
    chainId: null,
    denom: 'uact',
    gasPriceNano: 25_000_000n,
    feeMaxUakt: 10_000_000n,
    lifeMs: 5000,
    pollMs: 20,
    clock: systemClock,
    random: systemRandom,
    ...change,
  });
}

export function akashOrder(id: string, change: Partial<OrderRequest> = {}): OrderRequest {
  const order = testOrder(id, change);
  return { ...order, ceilingNanoUsdPerBlock: 100_000_000n, ...change, workload: { ...order.workload, image: IMAGE } };
}
