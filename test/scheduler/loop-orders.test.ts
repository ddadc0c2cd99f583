import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatUsd } from '../../src/units.ts';
import type { FakeClock } from '../fakes/clock.ts';
import { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, providers, served, type Bench } from './loop-bench.ts';

const SOLO = testSpec({ replicas: { min: 0, max: 1 } });

test('many requests on a cold pool make one order for each replica they need, not one each', async (t) => {
  const { bench, market } = await setup(t, { specs: [SOLO] });
  const asking = bench.ask(50);
  await bench.until('two are served', () => served(asking).length === 2);
  assert.equal(market.count('tender'), 1);
  assert.equal(market.open().length, 1);
  const [order] = await bench.records.listOrders();
  assert.equal(order?.reason, '50 requests, at most 1 replica');
});

test('the best bid is taken, with the reason and every bid on the record', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(market.open()[0]?.provider, 'cheap');
  const [order] = await bench.records.listOrders();
  assert.equal(order?.state, 'won');
  assert.equal(order.choice?.reason, 'cheap at 0.072 USD/h of 2 eligible bids, next dear at 0.144: decided by price');
  assert.deepEqual(
    order.bids.map(({ provider }) => provider),
    ['cheap', 'dear'],
  );
  const kinds = (await bench.decisions()).map(({ kind }) => kind);
  assert.deepEqual(kinds, ['order.placed', 'lease.opened', 'replica.ready']);
  const [, opened] = await bench.decisions();
  assert.equal(opened?.detail['deposit_usd'], formatUsd(100n * 120_000n), 'ten minutes of rent and fee');
});

test('two missing replicas are ordered in one round and go to two providers', async (t) => {
  const { bench, market } = await setup(t);
  const asking = bench.ask(4);
  await bench.until('all are served', () => served(asking).length === 4);
  assert.equal(market.count('tender'), 2);
  assert.deepEqual(
    market
      .open()
      .map(({ provider }) => provider)
      .sort(),
    ['cheap', 'dear'],
  );
});

test('an order is withdrawn when nobody waits for it any more', async (t) => {
  const { bench, market } = await setup(t);
  market.providersOf.length = 0;
  market.mishaps.order = Array.from({ length: 40 }, () => 'throws' as const);
  const [asking] = bench.ask(1);
  await bench.until('an order is out', () => market.count('tender') === 1);
  asking?.leave();
  await bench.until('it is withdrawn', () => market.count('cancel') === 1);
  const [replica] = await bench.replicas();
  assert.deepEqual([replica?.state, replica?.failed], ['closed', false]);
  assert.equal(bench.run.pool.router.phase, 'asleep');
});

test('when nobody bids, that is told, and asked again after a pause that doubles', async (t) => {
  const { bench, market } = await setup(t);
  const away = market.providersOf.splice(0);
  bench.ask(1);
  await bench.until('four orders fell', async () => (await bench.decisions('order.fell')).length === 4);
  const fell = await bench.decisions('order.fell');
  assert.deepEqual([...new Set(fell.map(({ reason }) => reason))], ['nobody bid']);
  const gaps = fell.map(({ atMs }, n) => atMs - (fell[n - 1]?.atMs ?? atMs)).slice(1);
  assert.ok(
    gaps.every((gap, n) => gap >= 1000 * 2 ** n && gap <= 1000 * 2 ** n + 1200),
    gaps.join(),
  );
  assert.match(bench.run.pool.router.phase, /nobody bid|waiting before the next order/);
  market.providersOf.push(...away);
  await bench.until('a machine is had', () => bench.run.pool.router.stats.ready === 1);
  const held = await bench.decisions('pool.held_back');
  assert.ok(held.length <= 4, 'a pause is told once');
});

test('a bid that is refused when taken gives way to the next one of the same order', async (t) => {
  const { bench, market } = await setup(t);
  market.mishaps.accept = ['refused'];
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(market.open()[0]?.provider, 'dear');
  assert.equal(market.count('tender'), 1);
  const [refused] = await bench.decisions('bid.refused');
  assert.equal(refused?.reason, 'not today');
});

test('when every bid is refused, the order falls with that reason', async (t) => {
  const { bench, market } = await setup(t, { specs: [SOLO] });
  market.mishaps.accept = ['refused', 'refused'];
  bench.ask(1);
  await bench.until('it falls', async () => (await bench.decisions('order.fell')).length === 1);
  assert.equal((await bench.decisions('order.fell'))[0]?.reason, 'not today');
  await bench.until('the next order is won', () => market.open().length === 1);
});

test('an accept whose outcome is unknown is looked up, and never makes a second lease', async (t) => {
  const { bench, market } = await setup(t);
  market.mishaps.accept = ['unknown_but_done'];
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(market.count('accept'), 1, 'not repeated blindly');
  assert.equal(market.world.leases.size, 1);
});

test('an accept that did not happen is tried again once the market knows of no lease', async (t) => {
  const { bench, market } = await setup(t);
  market.mishaps.accept = ['unknown', 'throws'];
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(market.world.leases.size, 1);
  const order = market.calls.filter((call) => /^(accept|list)/.test(call)).map((call) => call.split(' ')[0]);
  assert.deepEqual(order.slice(-4), ['list', 'accept', 'list', 'accept'], 'each time after a look');
});

test('an accept that stays unknown is given up after the time to start, and what it made is closed', async (t) => {
  const { bench, market } = await setup(t, { specs: [testSpec({ limits: { start_s: 30 }, replicas: { max: 1 } })] });
  market.mishaps.accept = ['unknown_but_done'];
  // Nor does the market show its leases, until a while after that time.
  market.mishaps.list = Array.from({ length: 20 }, () => 'throws' as const);
  const [asking] = bench.ask(1);
  await bench.until('it is given up', async () => (await bench.decisions('replica.closed')).length === 1);
  asking?.leave();
  const [lease] = market.world.leases.values();
  assert.equal(lease?.state, 'closed');
  const replica = await bench.records.findByLease(lease.id);
  assert.deepEqual([replica?.state, replica?.failed], ['closed', true]);
});

test('a pool that is deleted while its bid is being taken leaves no lease behind', async (t) => {
  const { bench, market } = await setup(t);
  market.mishaps.accept = ['unknown_but_done'];
  market.mishaps.list = Array.from({ length: 5 }, () => 'throws' as const);
  bench.ask(1);
  await bench.until('a lease is made', () => market.open().length === 1);
  bench.run.pools.remove('tiny');
  await bench.until('the replica is closed', async () => (await bench.replicas())[0]?.state === 'closed');
  assert.equal(market.open().length, 0);
});

test('a lease that was made after its pool was deleted is closed again', async (t) => {
  const { bench, market } = await setup(t);
  const answer = Promise.withResolvers<void>();
  market.mishaps.accept = [answer.promise];
  bench.ask(1);
  await bench.until('the bid is being taken', () => market.count('accept') === 1);
  bench.run.pools.remove('tiny');
  await bench.pass(3000);
  answer.resolve();
  await bench.until('the replica is closed', () => bench.run.scheduler.replicas().length === 0);
  assert.deepEqual([market.world.leases.size, market.open().length], [1, 0]);
});

test('a market that cannot be reached holds up neither another market nor another pool', async (t) => {
  const specs = [
    testSpec({ markets: ['local', 'akash'], replicas: { max: 1 } }),
    testSpec({ markets: ['local'] }, 'other'),
  ];
  const bench = await openBench(t, {
    specs,
    markets: (clock) => {
      const akash = new FakeMarket({ clock, providers: providers() });
      akash.mishaps.tender = ['throws'];
      akash.mishaps.order = Array.from({ length: 500 }, () => 'throws' as const);
      return [akash, new FakeMarket({ clock, providers: providers(), name: 'local' })];
    },
  });
  const asking = bench.ask(1);
  const took = await bench.until('it is served', () => served(asking).length === 1);
  assert.ok(took < 3000, `${took} ms: the window of the market that answers`);
  assert.equal((await bench.records.listOrders())[0]?.choice?.table.length, 2);
});

test('a market that is slow to take an order delays no other pool', async (t) => {
  const answer = Promise.withResolvers<void>();
  const specs = [testSpec({ markets: ['akash'] }), testSpec({ markets: ['local'] }, 'other')];
  const bench = await openBench(t, {
    specs,
    markets: (clock) => {
      const akash = new FakeMarket({ clock, providers: providers() });
      akash.mishaps.tender = [answer.promise];
      return [akash, new FakeMarket({ clock, providers: providers(), name: 'local' })];
    },
  });
  bench.ask(1);
  await bench.pass(1000);
  const pool = bench.run.pools.get('other');
  assert.ok(pool);
  const asking = bench.ask(1, { ...bench.run, pool });
  await bench.until('the other pool serves', () => served(asking).length === 1, 10_000);
  answer.resolve();
});

test('a pool whose plan fails stops no other', async (t) => {
  class Broken extends FakeMarket {
    override terms(): never {
      throw new Error('no terms today');
    }
  }
  const specs = [testSpec({ markets: ['akash'] }), testSpec({ markets: ['local'] }, 'other')];
  const bench = await openBench(t, {
    specs,
    markets: (clock) => [new Broken({ clock, providers: [] }), fakeMarket(clock, { name: 'local' })],
  });
  bench.ask(1);
  const pool = bench.run.pools.get('other');
  assert.ok(pool);
  const asking = bench.ask(1, { ...bench.run, pool });
  await bench.until('the other pool serves', () => served(asking).length === 1, 10_000);
  await bench.pass(60_000);
  const failures = bench.logs.filter((line) => line === 'pool tiny: no terms today').length;
  assert.ok(failures > 1 && failures < 10, `${failures} tries in a minute, further and further apart`);
});

test('a market that refuses the order says why nobody bid', async (t) => {
  const { bench, market } = await setup(t);
  market.mishaps.tender = ['refused'];
  bench.ask(1);
  await bench.until('it falls', async () => (await bench.decisions('order.fell')).length === 1);
  assert.equal((await bench.decisions('order.fell'))[0]?.reason, 'not today');
});

test('the order that did not win is withdrawn from the other market, if need be later', async (t) => {
  const made: FakeMarket[] = [];
  const bench = await openBench(t, {
    markets: (clock) => {
      const local = new FakeMarket({ clock, providers: providers(), name: 'local' });
      const akash = new FakeMarket({ clock, providers: [{ id: 'far', price: 400_000n, delivers: 'running' }] });
      akash.mishaps.cancel = ['unknown', 'throws'];
      made.push(local, akash);
      return [local, akash];
    },
  });
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  const stillOpen = (): number =>
    [...(made[1]?.world.orders.values() ?? [])].filter(({ state }) => state === 'open').length;
  assert.equal(stillOpen(), 1);
  await bench.until('it is withdrawn there', () => stillOpen() === 0, 20_000);
});

async function setup(
  t: Parameters<typeof openBench>[0],
  options: Pick<Parameters<typeof openBench>[1] & object, 'specs'> = {},
): Promise<{ bench: Bench; market: FakeMarket }> {
  const made: FakeMarket[] = [];
  const markets = (clock: FakeClock): FakeMarket[] => {
    made.push(fakeMarket(clock));
    return made;
  };
  const bench = await openBench(t, { ...options, markets });
  const [market] = made;
  assert.ok(market);
  return { bench, market };
}
