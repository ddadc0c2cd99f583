import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import type { Lease, Outcome } from '../../../src/leases/market.ts';
import { createIds, systemRandom } from '../../../src/random.ts';
import { Scheduler } from '../../../src/scheduler/loop.ts';
import type { Probe } from '../../../src/scheduler/parts.ts';
import { Pools, type Pool } from '../../../src/scheduler/pool/pools.ts';
import type { Slot } from '../../../src/scheduler/pool/slot.ts';
import { SchedulerRecords, type DecisionRecord } from '../../../src/scheduler/records.ts';
import type { PoolInput } from '../../../src/spec.ts';
import { testSpec } from '../../fakes/market-samples.ts';
import { akashOrder, IMAGE, openAkash, type AkashBench, type AkashBenchOptions } from './market-bench.ts';

/** A scheduler over the market over the emulated network: what an operator reads when something fails there. */
export interface FailureBench extends AkashBench {
  readonly pool: Pool;
  /** A request that waits for a machine. */
  readonly ask: () => { slot: Slot | null };
  readonly decisions: (kind: string) => Promise<DecisionRecord[]>;
  /** A decision of that kind whose reason or details say this. */
  readonly told: (kind: string, words: RegExp) => Promise<void>;
  /** The market's clock is ahead of the others' by so much more. */
  readonly later: (ms: number) => void;
  /** An order and the lease of its first bid, made by hand. */
  readonly lease: (orderId: string) => Promise<Lease>;
  readonly done: <T>(call: () => Promise<Outcome<T>>) => Promise<T>;
  /** Nothing is in any escrow, and the books have what the wallet has. */
  readonly settled: () => Promise<void>;
}

export interface FailureOptions extends AkashBenchOptions {
  readonly pool?: Partial<PoolInput>;
  readonly probe?: Probe;
}

export async function openFailures(t: TestContext, options: FailureOptions = {}): Promise<FailureBench> {
  let lateMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + lateMs };
  const bench = await openAkash(t, { ...options, change: { clock, ...options.change } });
  const records = new SchedulerRecords(bench.store);
  const pools = new Pools(systemClock, true);
  const price = { ceiling_usd_per_hour: '60', runway_s: 30, bid_window_s: 0 };
  const spec = testSpec({ image: IMAGE, markets: ['akash'], replicas: { min: 0, max: 1 }, ...price, ...options.pool });
  const pool = pools.put(spec, 1, 'api');
  const scheduler = new Scheduler({
    ...{ clock: systemClock, records, pools, newId: createIds(systemRandom), log: (line) => bench.logs.push(line) },
    markets: new Map([['akash', bench.market]]),
    epoch: bench.store.epoch,
    probe: options.probe ?? (() => Promise.resolve()),
  });
  await scheduler.start();
  const gone = new AbortController();
  t.after(async () => {
    gone.abort(new Error('the test is over'));
    await scheduler.stop();
  });
  const decisions = async (kind: string): Promise<DecisionRecord[]> =>
    (await records.listDecisions({ limit: 1000 })).filter((one) => one.kind === kind);
  const done: FailureBench['done'] = async (call) => {
    for (let tries = 0; tries < 20; tries += 1) {
      const outcome = await call();
      if (outcome.kind === 'done') return outcome.value;
      assert.equal(outcome.kind, 'unknown', outcome.reason);
      await bench.passBlocks(1);
    }
    throw new Error('the outcome stays unknown');
  };
  return {
    ...{ ...bench, pool, decisions, done },
    later: (ms) => (lateMs += ms),
    ask: () => {
      const asking: { slot: Slot | null } = { slot: null };
      pool.router.take({ account: 'a', maxWaitMs: 600_000, signal: gone.signal }).then(
        (slot) => (asking.slot = slot),
        () => undefined,
      );
      return asking;
    },
    told: (kind, words) =>
      bench.until(`${kind}: ${words}`, async () =>
        (await decisions(kind)).some(({ reason, detail }) => words.test(`${reason} ${JSON.stringify(detail)}`)),
      ),
    lease: async (orderId) => {
      await done(() => bench.market.tender(akashOrder(orderId)));
      await bench.until('a bid comes', async () => ((await bench.market.order(orderId))?.bids.length ?? 0) > 0);
      const [bid] = (await bench.market.order(orderId))?.bids ?? [];
      return done(() => bench.market.accept(orderId, bid?.id ?? '', 1_000_000_000n));
    },
    settled: async () => {
      const { state } = bench.devnet.chain;
      await bench.until('no deployment of ours is left on the chain', async () =>
        [...bench.devnet.chain.state.deployments.values()].every((one) => one.state === 'closed'),
      );
      const open = [...state.escrows.values()].filter((one) => one.scope === 'deployment' && one.state === 'open');
      assert.deepEqual(open, []);
    },
  };
}
