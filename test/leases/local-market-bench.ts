import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Book } from '../../src/ledger/book.ts';
import { checkLedger } from '../../src/ledger/check.ts';
import { openLedger } from '../../src/ledger/client.ts';
import { createMemoryLedger } from '../../src/ledger/memory.ts';
import type { Ledger, LedgerOp, LedgerReplies } from '../../src/ledger/operations.ts';
import type { LocalProvider } from '../../src/spec.ts';
import { embeddedBidders, type Bidder } from '../../src/leases/local/bidder.ts';
import type { RunningServer, StartServer } from '../../src/leases/local/delivery.ts';
import { Escrow } from '../../src/leases/local/escrow.ts';
import { LocalMarket } from '../../src/leases/local/market.ts';
import type { Lease, MarketTerms } from '../../src/leases/market.ts';
import { MarketRecords } from '../../src/leases/records.ts';
import { openSql } from '../../src/store/libsql.ts';
import { openStore, type Store } from '../../src/store/open.ts';
import { FakeClock, until } from '../fakes/clock.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { disputeParts } from '../fakes/disputes.ts';

/** The embedded market of the tests: blocks of 6 s, prices in nano-USD per block that can be added up in one's head. */
export const TERMS: MarketTerms = {
  blockMs: 6000,
  takeFeeBp: 2000,
  makeFeeBp: 1000,
  depositMinNanoUsd: 1n,
  settlement: 'USDC',
  endsWithProcess: true,
};

/** A provider that asks for so much per block, and answers after so long. */
export function provider(id: string, perBlock: bigint, change: Partial<LocalProvider> = {}): LocalProvider {
  return {
    id,
    slots: 1,
    cpu: 8,
    memoryBytes: 2 ** 34,
    gpus: [],
    audited: false,
    costNanoUsdPerHour: perBlock * 600n,
    policy: { kind: 'cost_plus', marginBp: 0 },
    replyMs: 100,
    ...change,
  };
}

/** Model servers that a test starts, fails and ends by hand; `automatic` ones come up by themselves. */
export class FakeServers {
  readonly starts: FakeStart[] = [];
  readonly #automatic: boolean;

  constructor(automatic: boolean) {
    this.#automatic = automatic;
  }

  readonly start: StartServer = (_workload, apiKey, signal) => {
    const start = new FakeStart(apiKey, signal);
    this.starts.push(start);
    if (this.#automatic) start.succeed();
    return start.result.promise;
  };

  get running(): number {
    return this.starts.filter(({ up, stopped }) => up && !stopped).length;
  }
}

export class FakeStart {
  readonly apiKey: string;
  readonly signal: AbortSignal;
  readonly result = Promise.withResolvers<RunningServer>();
  readonly #exit = Promise.withResolvers<{ detail: string }>();
  up = false;
  stopped = false;

  constructor(apiKey: string, signal: AbortSignal) {
    this.apiKey = apiKey;
    this.signal = signal;
    signal.addEventListener('abort', () => this.fail('aborted'));
  }

  succeed(url = 'http://127.0.0.1:9'): void {
    this.up = true;
    const stop = (): Promise<void> => {
      this.stopped = true;
      this.#exit.resolve({ detail: 'stopped' });
      return Promise.resolve();
    };
    this.result.resolve({ url, exited: this.#exit.promise, stop });
  }

  fail(detail: string): void {
    this.result.reject(new Error(detail));
  }

  exit(detail: string): void {
    this.#exit.resolve({ detail });
  }
}

export interface LocalBench {
  readonly folder: string;
  readonly clock: FakeClock;
  readonly ledger: Ledger;
  readonly store: Store;
  readonly market: LocalMarket;
  readonly servers: FakeServers;
  readonly logs: string[];
  /** Another market over the same books, as after a restart. */
  readonly again: () => Promise<LocalMarket>;
  readonly balance: (account: string) => Promise<bigint>;
  /** An order, its bids, and the lease of the first of them. */
  readonly lease: (orderId: string, depositNanoUsd?: bigint) => Promise<Lease>;
  /** Lets so many blocks pass, and what they start come to its end in the books. */
  readonly passBlocks: (count: number) => Promise<void>;
}

export interface LocalOptions {
  readonly providers?: readonly LocalProvider[];
  readonly terms?: Partial<MarketTerms>;
  readonly treasuryNanoUsd?: bigint;
  /** 'file': the writer's thread on a real file. */
  readonly ledger?: 'file' | 'memory';
  readonly automatic?: boolean;
  readonly startServer?: StartServer;
  /** Who bids besides. */
  readonly joined?: (clock: FakeClock) => readonly Bidder[];
  /** What stands between the market and the ledger. */
  readonly wrap?: (ledger: Ledger) => Ledger;
}

export async function openLocal(t: TestContext, options: LocalOptions = {}): Promise<LocalBench> {
  const { ledger: kind = 'memory', treasuryNanoUsd = 10_000_000_000n, automatic = true } = options;
  const folder = mkdtempSync(join(tmpdir(), 'underbid-local-'));
  const clock = new FakeClock(1_699_999_998_000);
  const store = await openStore(join(folder, 'underbid.db'));
  const onFatal = (error: Error): void => {
    throw error;
  };
  const ledger = kind === 'file' ? await openLedger({ dataDir: folder, onFatal }) : createMemoryLedger(clock);
  t.after(async () => {
    await ledger.close();
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const servers = new FakeServers(automatic);
  const logs: string[] = [];
  const again = async (): Promise<LocalMarket> => {
    const terms = { ...TERMS, ...options.terms };
    const startServer = options.startServer ?? servers.start;
    const embedded = embeddedBidders(options.providers ?? [provider('desk', 1000n)], { ...terms, clock, startServer });
    const market = new LocalMarket({
      bidders: () => [...embedded(), ...(options.joined?.(clock) ?? [])],
      terms,
      treasuryNanoUsd,
      records: new MarketRecords(store),
      escrow: new Escrow(options.wrap?.(ledger) ?? ledger, clock, 'local'),
      disputes: disputeParts(store, options.wrap?.(ledger) ?? ledger, clock),
      clock,
      leaseKey: (leaseId) => `key-of-${leaseId}`,
      log: (line) => logs.push(line),
    });
    await market.open();
    return market;
  };
  const market = await again();
  const lease = async (orderId: string, depositNanoUsd = 1_000_000n): Promise<Lease> => {
    await market.tender(testOrder(orderId));
    await clock.advance(200);
    const [bid] = (await market.order(orderId))?.bids ?? [];
    const outcome = await market.accept(orderId, bid?.id ?? 'none', depositNanoUsd);
    if (outcome.kind !== 'done') throw new Error(outcome.reason);
    return outcome.value;
  };
  const balance = async (name: string): Promise<bigint> => (await ledger.ask({ op: 'account', name }))?.posted ?? 0n;
  const passBlocks = async (count: number): Promise<void> => {
    for (let left = count; left > 0; left -= 1) {
      await clock.advance(6000);
      // A question after the others: when it is answered, they are.
      await ledger.ask({ op: 'account', name: 'treasury:local' });
    }
  };
  return { folder, clock, ledger, store, market, servers, logs, again, balance, lease, passBlocks };
}

export interface OpenLedger {
  readonly ledger: Ledger;
  readonly balance: (account: string) => bigint;
  readonly close: () => Promise<void>;
}

/** The writer's book on its file, without the thread: what is answered is on disk. */
export function openBook(files: string): Promise<OpenLedger> {
  const sql = openSql(join(files, 'ledger.db'));
  const book = new Book(sql, 1_700_000_000_000);
  const ask = <O extends LedgerOp>(operation: O): Promise<LedgerReplies[O['op']]> => {
    const asked: LedgerOp = operation;
    const reply = asked.op === 'check' ? checkLedger(sql) : book.apply(asked, 1_700_000_000_000);
    book.commit();
    return Promise.resolve(reply as LedgerReplies[O['op']]);
  };
  const balance = (name: string): bigint => {
    const account = book.apply({ op: 'account', name }, 0);
    return account !== null && typeof account === 'object' && 'posted' in account ? account.posted : 0n;
  };
  const close = (): Promise<void> => Promise.resolve(sql.close());
  return Promise.resolve({ ledger: { ask, close }, balance, close });
}

/** Waits for what the market does by itself. */
export async function settled(what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  await until(what, check);
}
