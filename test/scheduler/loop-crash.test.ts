import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { ApiMarket } from '../../src/leases/api/market.ts';
import type { Market } from '../../src/leases/market.ts';
import type { ReplicaRecord } from '../../src/scheduler/records.ts';
import type { PoolInput } from '../../src/spec.ts';
import { NO_NEEDS } from '../../src/spec/trust.ts';
import { turns } from '../fakes/clock.ts';
import { newWorld, type FakeProvider, type FakeWorld } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { CrashingMarket, CrashPoint, crashingRecords } from './crash-points.ts';
import { openBench, type Bench, type Run } from './loop-bench.ts';

/**
 * Every place at which the process may die, one after the other: after each row that is written and each act on a market,
 * in the life of each kind of step. The next start has to find what there is, and end up with what is wanted, once.
 */

const CALLS_MAX = 80;
const IMAGE = `server@sha256:${'a'.repeat(64)}`;
const NEWER = `server@sha256:${'b'.repeat(64)}`;
const DEAR = { inputPico: 1_000_000_000n, cachedInputPico: 1_000_000_000n, outputPico: 1_000_000_000n };
const AUDITED = { ...NO_NEEDS, trust: 'audited' as const };

interface Story {
  readonly pool: Partial<PoolInput>;
  readonly providers?: readonly FakeProvider[];
  readonly api?: boolean;
  /** Told until it is over or the process is gone. */
  tell(scene: Scene): Promise<void>;
  /** The least number of places to die at: a story that became shorter would prove less. */
  readonly places: number;
}

interface Scene {
  readonly bench: Bench;
  readonly run: Run;
  readonly world: FakeWorld;
  readonly market: () => CrashingMarket;
  /** The pool is described anew, for the next process too. */
  readonly describe: (pool: Partial<PoolInput>) => void;
  /** Goes on until `check` holds or the process is gone. */
  readonly until: (what: string, check: () => boolean) => Promise<void>;
}

const STORIES: Readonly<Record<string, Story>> = {
  'a machine is ordered, serves, and is given back when nobody asks': {
    pool: { replicas: { min: 0, max: 1 }, idle_s: 20 },
    places: 14,
    tell: async ({ bench, run, world, until }) => {
      const asking = bench.ask(1, run);
      await until('it serves', () => asking[0]?.slot !== null);
      asking[0]?.slot?.release('served');
      await until('it is given back', () => [...world.leases.values()].every(({ state }) => state === 'closed'));
    },
  },
  'its escrow is filled up again and again': {
    pool: { replicas: { min: 1, max: 1 }, runway_s: 60 },
    places: 14,
    tell: async ({ world, until }) => until('it was filled three times', () => world.fundings.size >= 3),
  },
  'its provider fails, is blamed and passed over': {
    pool: { replicas: { min: 1, max: 1 } },
    places: 18,
    tell: async ({ run, world, market, until }) => {
      await until('it serves', () => run.pool.router.stats.ready === 1);
      const [lease] = [...world.leases.values()];
      market().deliver(lease?.id ?? '', 'failed');
      await until('another one serves', () => run.pool.router.stats.ready === 1 && world.leases.size === 2);
    },
  },
  'its model server never comes up': {
    pool: { replicas: { min: 1, max: 1 }, limits: { start_s: 20 } },
    places: 14,
    providers: [
      { id: 'never', price: 50_000n, delivers: 'never' },
      { id: 'sure', price: 100_000n, delivers: 'running' },
    ],
    tell: async ({ run, until }) => until('another one serves', () => run.pool.router.stats.ready === 1),
  },
  'an API stands in while a machine loads': {
    pool: { replicas: { min: 0, max: 1 } },
    places: 18,
    api: true,
    providers: [{ id: 'slow', price: 100_000n, delivers: 'never' }],
    tell: async ({ bench, run, world, market, until }) => {
      const asking = bench.ask(1, run);
      await until('the API serves', () => asking[0]?.slot !== null);
      await until('the machine is leased', () => world.deliveries.size === 1);
      market().deliver([...world.leases.keys()][0] ?? '', 'running');
      const leaves = (one: ReplicaRecord): boolean => one.market === 'api' && one.state === 'draining';
      await until('the API leaves', () => run.scheduler.replicas().some(leaves));
      asking[0]?.slot?.release('served');
      await until('one is left', () => run.scheduler.replicas().length === 1);
    },
  },
  'a request needs what the machine that is there is not': {
    pool: { replicas: { min: 1, max: 1 } },
    places: 18,
    providers: [
      { id: 'anybody', price: 50_000n, delivers: 'running' },
      { id: 'checked', price: 100_000n, delivers: 'running', trust: 'audited' },
    ],
    tell: async ({ run, until }) => {
      await until('one serves', () => run.pool.router.stats.ready === 1);
      let served = false;
      const gone = new AbortController();
      const wish = { account: 'strict', needs: AUDITED, maxWaitMs: 600_000, signal: gone.signal };
      run.pool.router.take(wish).then(
        (slot) => {
          served = true;
          slot.release('served');
        },
        () => undefined,
      );
      await until('it is served', () => served);
      await until('one is left', () => run.scheduler.replicas().length === 1);
      gone.abort();
    },
  },
  'the pool is described anew and rolls out': {
    pool: { replicas: { min: 1, max: 1 }, image: IMAGE },
    places: 18,
    tell: async ({ run, world, describe, until }) => {
      await until('one serves', () => run.pool.router.stats.ready === 1);
      describe({ replicas: { min: 1, max: 1 }, image: NEWER });
      await until('the new one is alone', () => world.leases.size === 2 && openIn(world).length === 1);
    },
  },
  'a provider takes its machine back and another one follows': {
    pool: { replicas: { min: 1, max: 1 } },
    places: 18,
    tell: async ({ bench, run, world, until }) => {
      await until('one serves', () => run.pool.router.stats.ready === 1);
      const [lease] = [...world.leases.values()];
      assert.ok(lease);
      world.leases.set(lease.id, { ...lease, reclaimMs: bench.clock.now() + 120_000 });
      await until('the next one is alone', () => world.leases.size === 2 && openIn(world).length === 1);
    },
  },
  'everything is stopped': {
    pool: { replicas: { min: 1, max: 1 } },
    places: 12,
    tell: async ({ run, world, until }) => {
      await until('one serves', () => run.pool.router.stats.ready === 1);
      await run.scheduler.panic.on('a test');
      run.scheduler.wake();
      await until('nothing is open', () => openIn(world).length === 0);
    },
  },
};

for (const [name, story] of Object.entries(STORIES)) {
  test(`a crash at any place while ${name}: all is found again, nothing is paid twice or forgotten`, async (t) => {
    let died = 0;
    for (let at = 1; at <= CALLS_MAX; at += 1) {
      let over = false;
      // Each with a file of its own, that is closed before the next one.
      await t.test(`crash point ${at}`, async (place) => {
        const point = new CrashPoint(at);
        const scene = await open(place, story, point);
        over = (await tell(scene, story)) === 'over';
        const where = over ? 'no crash' : `after ${point.struck}`;
        place.diagnostic(where);
        await assertFound(scene, point, where);
      });
      if (over) break;
      died += 1;
    }
    assert.ok(died >= story.places && died < CALLS_MAX, `${died} places to die at`);
  });
}

class Gone extends Error {}

interface Opened extends Scene {
  /** As the pool stands now. */
  readonly spec: () => ReturnType<typeof testSpec>;
}

async function open(t: TestContext, story: Story, point: CrashPoint): Promise<Opened> {
  const world = newWorld();
  let market: CrashingMarket | null = null;
  let spec = testSpec(story.pool);
  const providers = story.providers ?? [
    { id: 'cheap', price: 100_000n, delivers: 'running' as const },
    { id: 'dear', price: 200_000n, delivers: 'running' as const },
  ];
  const bench = await openBench(t, {
    specs: [spec],
    records: crashingRecords(point),
    markets: (clock): Market[] => {
      market = new CrashingMarket({ clock, providers, world }, point);
      const endpoint = { id: 'api-1', url: 'http://127.0.0.1:9', apiKey: null, pool: 'tiny', model: 'x', slots: 8 };
      const api = { ...endpoint, trust: 'any' as const, region: null, price: DEAR };
      return story.api ? [market, new ApiMarket([api], clock)] : [market];
    },
  });
  return {
    ...{ bench, run: bench.run, world, spec: () => spec },
    market: () => {
      assert.ok(market);
      return market;
    },
    describe: (pool) => {
      spec = testSpec(pool);
      bench.run.pools.put(spec, 1, 'api');
      bench.run.scheduler.wake();
    },
    until: async (what, check) => {
      await bench.until(what, () => point.struck !== null || check());
      if (point.struck !== null) throw new Gone();
    },
  };
}

async function tell(scene: Opened, story: Story): Promise<'over' | 'gone'> {
  try {
    await story.tell(scene);
    return 'over';
  } catch (error) {
    if (error instanceof Gone) return 'gone';
    throw error;
  }
}

async function assertFound(scene: Opened, point: CrashPoint, where: string): Promise<void> {
  const { bench, world, spec } = scene;
  await turns(30);
  bench.kill();
  point.restart();
  const blamed = new Set((await bench.replicas()).map(({ blamed: one }) => one ?? null));
  const before = new Set(world.leases.keys());
  const restartMs = bench.clock.now();
  const run = await bench.start({ specs: [spec()] });
  const wanted = run.scheduler.panic.stop ? 0 : spec().replicasMin;
  const steady = (): boolean =>
    openIn(world).length === wanted &&
    run.scheduler.replicas().length === wanted &&
    run.pool.router.stats.ready === wanted;
  await bench.until(`${where}: as many as are wanted`, steady, 600_000);
  await bench.pass(60_000);
  assert.ok(steady(), `${where}: and it stays so`);
  for (const lease of world.leases.values()) {
    const left = lease.depositNanoUsd - lease.rentNanoUsd - lease.takeFeeNanoUsd;
    if (lease.state === 'closed') assert.equal(lease.refundNanoUsd, left, `${where}: the deposit came back`);
    // A payment that was repeated would be more than the runway ever needs.
    const most = (lease.priceNanoUsdPerBlock * 12n * BigInt(spec().runwayMs + 12_000)) / 60_000n;
    assert.ok(left <= most, `${where}: ${left} in the escrow of ${lease.id}, at most ${most}`);
    const soon = !before.has(lease.id) && lease.openedAtMs - restartMs < 30_000;
    assert.ok(!soon || !blamed.has(lease.provider), `${where}: ${lease.provider} was blamed before the crash`);
  }
  await assertGivenBack(scene, run, where);
}

/** Nobody wants the pool any more: nothing of it is left. */
async function assertGivenBack({ bench, world }: Opened, run: Run, where: string): Promise<void> {
  run.pools.remove('tiny');
  await bench.until(`${where}: all is given back`, () => run.scheduler.replicas().length === 0, 600_000);
  await bench.pass(5000);
  assert.deepEqual(openIn(world), [], `${where}: no lease is left`);
  const orders = [...world.orders.values()].filter(({ state }) => state === 'open');
  assert.deepEqual(orders, [], `${where}: no order is left`);
  const rows = await bench.replicas();
  assert.ok(
    rows.every(({ state }) => state === 'closed'),
    `${where}: every row says so`,
  );
  const known = new Set(rows.map(({ leaseId }) => leaseId));
  const told = new Set((await bench.decisions('lease.stranger_closed')).map(({ detail }) => detail['lease']));
  for (const id of world.leases.keys()) assert.ok(known.has(id) || told.has(id), `${where}: ${id} has no row`);
}

function openIn(world: FakeWorld): string[] {
  return [...world.leases.values()].filter(({ state }) => state !== 'closed').map(({ id }) => id);
}
