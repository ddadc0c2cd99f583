import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import type { Market } from '../../src/leases/market.ts';
import { Scheduler } from '../../src/scheduler/loop.ts';
import type { Measure, Probe, ProveResumption } from '../../src/scheduler/parts.ts';
import { Pools, type Pool } from '../../src/scheduler/pool/pools.ts';
import type { Slot } from '../../src/scheduler/pool/slot.ts';
import { SchedulerRecords, type DecisionRecord, type ReplicaRecord } from '../../src/scheduler/records.ts';
import type { MarketName, PoolSpec } from '../../src/spec.ts';
import type { CanaryMeans } from '../../src/scheduler/canary/means.ts';
import { openStore, type Store } from '../../src/store/open.ts';
import { FakeClock, turns } from '../fakes/clock.ts';
import { MortalClock, runFor, runUntil } from '../fakes/clock-timeline.ts';
import { FakeMarket, type FakeProvider } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';

/** A model server that answers its probe, or whatever a test has it do. */
export class FakeProbe {
  readonly asked: string[] = [];
  answer: Probe = () => Promise.resolve();

  readonly ask: Probe = (target, spec, signal) => {
    this.asked.push(target.leaseId);
    return this.answer(target, spec, signal);
  };
}

export interface Run {
  readonly scheduler: Scheduler;
  readonly pools: Pools;
  readonly pool: Pool;
}

export interface Bench {
  readonly clock: FakeClock;
  readonly probe: FakeProbe;
  readonly records: SchedulerRecords;
  readonly logs: string[];
  readonly run: Run;
  /** The end of the process: nothing of it goes on. */
  readonly kill: () => void;
  /** A scheduler over the same file, as after a restart; of the one before, nothing goes on. */
  readonly start: (change?: Partial<BenchOptions>) => Promise<Run>;
  /** Requests that wait for a slot as clients do. */
  readonly ask: (count: number, run?: Run) => Asking[];
  readonly until: (what: string, check: () => boolean | Promise<boolean>, withinMs?: number) => Promise<number>;
  readonly pass: (ms: number) => Promise<void>;
  readonly decisions: (kind?: string) => Promise<DecisionRecord[]>;
  readonly replicas: () => Promise<ReplicaRecord[]>;
}

export interface Asking {
  slot: Slot | null;
  error: unknown;
  readonly leave: () => void;
}

export interface BenchOptions {
  readonly specs: readonly PoolSpec[];
  /** Before each start: what has to be opened first. Its timers end with the process, like the scheduler's. */
  readonly prepare: (clock: Clock) => Promise<void>;
  readonly markets: (clock: FakeClock) => readonly Market[];
  readonly records: typeof SchedulerRecords;
  readonly proveResumption: ProveResumption;
  readonly canary: (store: Store) => CanaryMeans;
  readonly measure: Measure;
}

export const providers = (): FakeProvider[] => [
  { id: 'cheap', price: 100_000n, delivers: 'running' },
  { id: 'dear', price: 200_000n, delivers: 'running' },
];

/** One fake market, bids at once; made before the scheduler, so that a test can tell it what to do. */
export function fakeMarket(
  clock: FakeClock,
  change: Partial<ConstructorParameters<typeof FakeMarket>[0]> = {},
): FakeMarket {
  return new FakeMarket({ clock, providers: providers(), ...change });
}

export async function openBench(t: TestContext, options: Partial<BenchOptions> = {}): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-loop-'));
  const store = await openStore(join(folder, 'underbid.db'));
  const clock = new FakeClock(1_699_999_998_000);
  const [probe, records, logs] = [new FakeProbe(), new (options.records ?? SchedulerRecords)(store), [] as string[]];
  let last: Run | null = null;
  let mortal = new MortalClock(clock);
  let count = 0;
  const { specs = [testSpec()], markets = (): readonly Market[] => [fakeMarket(clock)] } = options;
  const start = async (change: Partial<BenchOptions> = {}): Promise<Run> => {
    mortal.kill();
    mortal = new MortalClock(clock);
    await options.prepare?.(mortal);
    const pools = new Pools(mortal, true);
    const made = (change.specs ?? specs).map((spec) => pools.put(spec, 1, 'api'));
    const named = (change.markets ?? markets)(clock).map((market): [MarketName, Market] => [market.name, market]);
    const newId = (prefix: string): string => `${prefix}${(count += 1)}`;
    const log = (line: string): void => void logs.push(line);
    const scheduler = new Scheduler({
      clock: mortal,
      records,
      pools,
      markets: new Map(named),
      probe: probe.ask,
      proveResumption: options.proveResumption,
      canary: options.canary?.(store),
      measure: options.measure,
      newId,
      epoch: store.epoch,
      log,
    });
    await scheduler.start();
    await turns(8);
    const [pool] = made;
    assert.ok(pool);
    last = { scheduler, pools, pool };
    return last;
  };
  const run = await start();
  t.after(async () => {
    await last?.scheduler.stop();
    // Whatever was done, it was said why.
    for (const { kind, reason } of await records.listDecisions({ limit: 1000 })) assert.notEqual(reason, '', kind);
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return {
    clock,
    probe,
    records,
    logs,
    run,
    kill: () => mortal.kill(),
    start,
    ask: (many, on = run) => Array.from({ length: many }, (_, n) => ask(on.pool, `account-${n}`)),
    until: (what, check, withinMs = 120_000) =>
      runUntil(clock, what, check, { withinMs, stepMs: withinMs > 120_000 ? 500 : 100 }),
    pass: (ms) => runFor(clock, ms, ms > 20_000 ? 500 : 100),
    decisions: async (kind) => {
      const all = await records.listDecisions({ limit: 1000 });
      return all.filter((one) => kind === undefined || one.kind === kind).toReversed();
    },
    replicas: () => records.listReplicas(),
  };
}

function ask(pool: Pool, account: string): Asking {
  const gone = new AbortController();
  const asking: Asking = { slot: null, error: null, leave: () => gone.abort() };
  pool.router.take({ account, maxWaitMs: 600_000, signal: gone.signal }).then(
    (slot) => (asking.slot = slot),
    (error: unknown) => (asking.error = error),
  );
  return asking;
}

export const served = (asking: readonly Asking[]): Asking[] => asking.filter(({ slot }) => slot !== null);
