import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { SchedulerRecords } from '../../src/scheduler/records.ts';
import { turns, type FakeClock } from '../fakes/clock.ts';
import { FakeMarket, newWorld, type FakeWorld, type Mishap, type Operation } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { openBench, providers, type Asking, type Run } from './loop-bench.ts';

/**
 * Whatever goes wrong, in whatever order: an order makes one lease at most, and once nobody wants the pool any more,
 * nothing is left that anybody pays for.
 */

const MISHAPS: Record<Operation, readonly (Mishap | 'fine')[]> = {
  tender: ['fine', 'refused', 'unknown', 'unknown_but_done', 'throws'],
  accept: ['fine', 'refused', 'unknown', 'unknown_but_done', 'throws'],
  // A refusal to withdraw says that the order became a lease: a market does not say so for nothing.
  cancel: ['fine', 'unknown', 'unknown_but_done', 'throws'],
  deploy: ['fine', 'refused', 'unknown', 'unknown_but_done', 'throws'],
  fund: ['fine', 'refused', 'unknown', 'unknown_but_done', 'throws'],
  close: ['fine', 'refused', 'unknown', 'unknown_but_done', 'throws'],
  dispute: ['fine', 'refused', 'unknown', 'throws'],
  list: ['fine', 'throws'],
  status: ['fine', 'throws'],
  order: ['fine', 'throws'],
};

type Event =
  | { readonly type: 'ask' | 'release' | 'leave' | 'lose' | 'break' | 'operator' | 'restart' | 'disk' }
  | { readonly type: 'pass'; readonly ms: number }
  | { readonly type: 'mishap'; readonly market: 0 | 1; readonly operation: Operation; readonly pick: number };

const operations = Object.keys(MISHAPS) as Operation[];
const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant('pass' as const), ms: fc.integer({ min: 100, max: 20_000 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('mishap' as const),
      market: fc.constantFrom(0 as const, 1 as const),
      operation: fc.constantFrom(...operations),
      pick: fc.nat(4),
    }),
  },
  {
    weight: 6,
    arbitrary: fc
      .constantFrom('ask', 'ask', 'ask', 'release', 'leave', 'lose', 'break', 'operator', 'restart', 'disk')
      .map((type): Event => ({ type: type as 'ask' })),
  },
);

test('no sequence of mishaps makes two leases of an order or leaves one behind', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(event, { minLength: 10, maxLength: 40 }), (events) => tell(t, events)),
    { numRuns: 25 },
  );
});

async function tell(t: TestContext, events: readonly Event[]): Promise<void> {
  const worlds = [newWorld(), newWorld()];
  const story = await openStory(t, worlds);
  for (const one of events) await story.meet(one);
  // Everything works again, and the pool is deleted.
  story.mend();
  story.run().pools.remove('tiny');
  await story.bench.until('all is given back', () => story.run().scheduler.replicas().length === 0, 1_200_000);
  await story.bench.pass(5000);
  for (const world of worlds) {
    const open = [...world.leases.values()].filter(({ state }) => state !== 'closed');
    assert.deepEqual(open, [], 'no lease is left');
    const orders = [...world.orders.values()].filter(({ state }) => state === 'open');
    assert.deepEqual(orders, [], 'no order is left');
  }
  const leases = worlds.flatMap((world) => [...world.leases.values()].map(({ orderId }) => orderId));
  assert.equal(new Set(leases).size, leases.length, 'one lease for an order');
  const rows = await story.bench.replicas();
  assert.ok(rows.every(({ state }) => state === 'closed') || story.diskFailed(), 'every row says so');
  await story.run().scheduler.stop();
}

interface Story {
  readonly bench: Awaited<ReturnType<typeof openBench>>;
  readonly run: () => Run;
  readonly meet: (event: Event) => Promise<void>;
  readonly mend: () => void;
  readonly diskFailed: () => boolean;
}

async function openStory(t: TestContext, worlds: readonly FakeWorld[]): Promise<Story> {
  let made: FakeMarket[] = [];
  const markets = (clock: FakeClock): FakeMarket[] => {
    const [near = newWorld(), far = newWorld()] = worlds;
    made = [
      new FakeMarket({ clock, providers: providers(), name: 'local', world: near }),
      new FakeMarket({
        clock,
        providers: providers().map(({ id, ...rest }) => ({ ...rest, id: `far-${id}` })),
        world: far,
      }),
    ];
    return made;
  };
  const spec = testSpec({ limits: { start_s: 60, drain_s: 10 }, runway_s: 60 });
  let failing = 0;
  let failed = false;
  const records = class extends SchedulerRecords {
    override saveReplica(...given: Parameters<SchedulerRecords['saveReplica']>): Promise<void> {
      if (failing <= 0) return super.saveReplica(...given);
      failing -= 1;
      failed = true;
      return Promise.reject(new Error('the disk is full'));
    }
  };
  const bench = await openBench(t, { specs: [spec], markets, records });
  let run = bench.run;
  const asking: Asking[] = [];
  const open = (): string[] => made.flatMap((market) => market.open().map(({ id }) => id));
  const acts: Record<Exclude<Event['type'], 'pass' | 'mishap'>, () => Promise<unknown> | void> = {
    ask: () => void asking.push(...bench.ask(1, run)),
    release: () => asking.find(({ slot }) => slot !== null)?.slot?.release('served'),
    leave: () => asking.shift()?.leave(),
    lose: () => made[0]?.lose(open()[0] ?? ''),
    break: () => made[0]?.deliver(open()[0] ?? '', 'failed', 'broken'),
    operator: () => run.scheduler.closeLease(open()[0] ?? '').catch(() => null),
    disk: () => void (failing += 1),
    restart: async () => {
      await turns(30);
      bench.kill();
      for (const one of asking.splice(0)) one.leave();
      failing = 0;
      run = await bench.start();
    },
  };
  const meet = async (one: Event): Promise<void> => {
    if (one.type === 'pass') await bench.pass(one.ms);
    else if (one.type === 'mishap') {
      const choices = MISHAPS[one.operation];
      const mishap = choices[one.pick % choices.length];
      const market = made[one.market];
      if (market && mishap !== undefined && mishap !== 'fine') (market.mishaps[one.operation] ??= []).push(mishap);
    } else await acts[one.type]();
    await turns(4);
  };
  const mend = (): void => {
    failing = 0;
    for (const market of made) for (const operation of operations) market.mishaps[operation] = [];
    for (const { slot, leave } of asking) {
      leave();
      slot?.release('served');
    }
  };
  return { bench, run: () => run, meet, mend, diskFailed: () => failed };
}
