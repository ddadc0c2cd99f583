import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { ApiMarket } from '../../src/leases/api/market.ts';
import type { ReplicaRecord } from '../../src/scheduler/records.ts';
import { testSpec } from '../fakes/market-samples.ts';
import type { FakeMarket, FakeProvider } from '../fakes/markets.ts';
import { fakeMarket, openBench, served, type Asking } from './loop-bench.ts';

/** What is paid by the token beside machines: when it wins, when it stands in, and when it goes. */

/** $0.001 and $0.004 a million tokens: far below any machine at a few requests an hour. */
const CHEAP = { inputPico: 1000n, cachedInputPico: 1000n, outputPico: 4000n };
/** So dear that the machines win each auction: a request or two already come to more than an hour of them. */
const DEAR = { inputPico: 1_000_000_000n, cachedInputPico: 1_000_000_000n, outputPico: 1_000_000_000n };

test('it wins the auction at a low load, and gives way to a machine when the load outgrows it', async (t) => {
  const { bench, market, states, finish } = await setup(t, CHEAP);
  const first = bench.ask(1);
  await bench.until('it is served', () => served(first).length === 1);
  assert.equal(first[0]?.slot?.target.market, 'api');
  assert.equal(market.open().length, 0, 'no machine was rented');
  // 200 million tokens of output: $0.80 within ten minutes, against a machine of $0.072 an hour.
  finish(first, 1_000_000, 200_000_000);
  const second = bench.ask(1);
  await bench.until('a machine is ready', async () => (await states()).includes('akash ready'));
  finish(second, 10, 10);
  await bench.until('the API is given back', async () => !(await states()).some((one) => one.startsWith('api')));
  assert.deepEqual(await states(), ['akash ready']);
  const third = bench.ask(1);
  await bench.until('it is served', () => served(third).length === 1);
  assert.equal(third[0]?.slot?.target.market, 'akash');
  finish(third, 1, 1);
});

test('it stands in while the machine that won is still loading, and goes when that is ready', async (t) => {
  const slow: FakeProvider = { id: 'slow', price: 100_000n, delivers: 'never' };
  const { bench, market, states, finish } = await setup(t, DEAR, [slow]);
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(asking[0]?.slot?.target.market, 'api');
  assert.deepEqual((await states()).sort(), ['akash starting', 'api ready']);
  const [order] = await bench.records.listOrders(1);
  assert.deepEqual(
    order?.markets.map(({ name }) => name),
    ['api'],
  );
  const [lease] = market.open();
  assert.ok(lease);
  market.deliver(lease.id, 'running');
  await bench.until('the machine is ready', async () => (await states()).includes('akash ready'));
  await bench.pass(5000);
  finish(asking, 1000, 1000);
  await bench.until('the API is given back', async () => (await states()).length === 1);
  assert.deepEqual(await states(), ['akash ready']);
  const closed = (await bench.replicas()).find(({ market }) => market === 'api');
  const drained = await bench.decisions('replica.draining');
  assert.deepEqual([drained.map(({ reason }) => reason), closed?.failed], [['machines carry the load'], false]);
  const cost =
    ((closed?.costNanoUsdPerHour ?? 0n) * BigInt((closed?.closedMs ?? 0) - (closed?.leasedMs ?? 0))) / 3_600_000n;
  // 2,000 tokens at $1,000 a million; the average of an hour is rounded down.
  assert.ok(cost > 1_999_900_000n && cost <= 2_000_000_000n, `${cost}`);
});

test('it carries a pool for whose machines nobody bids', async (t) => {
  const { bench, states, finish } = await setup(t, CHEAP, []);
  const asking = bench.ask(3);
  await bench.until('all are served', () => served(asking).length === 3);
  assert.deepEqual(await states(), ['api ready']);
  finish(asking, 10, 10);
  await bench.until('it goes after the idle time', async () => (await states()).length === 0);
});

test('a reserve that does not answer holds up no machine and is tried again later', async (t) => {
  const slow: FakeProvider = { id: 'slow', price: 100_000n, delivers: 'never' };
  const { bench, market, states, finish } = await setup(t, DEAR, [slow]);
  bench.probe.answer = (target) => (target.market === 'api' ? Promise.reject(new Error('401')) : Promise.resolve());
  const asking = bench.ask(1);
  await bench.until('the reserve is probed', () => bench.probe.asked.length > 0);
  const [lease] = market.open();
  assert.ok(lease);
  market.deliver(lease.id, 'running');
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(asking[0]?.slot?.target.market, 'akash');
  await bench.until('the reserve is given back', async () => (await states()).length === 1);
  finish(asking, 1, 1);
});

test('a day whose budget is used up has no reserve either', async (t) => {
  const { bench, states, finish } = await setup(t, CHEAP, [], { budget: { usd_per_day: '0.0001' } });
  const asking = bench.ask(1);
  await bench.until('it is served', () => served(asking).length === 1);
  // $0.004: forty days' worth.
  finish(asking, 0, 1_000_000);
  await bench.until('it is given back', async () => (await states()).length === 0, 1_200_000);
  const late = bench.ask(1);
  await bench.pass(20_000);
  assert.deepEqual([served(late).length, await states()], [0, []]);
  late[0]?.leave();
});

async function setup(
  t: TestContext,
  price: typeof CHEAP,
  providers: readonly FakeProvider[] = [{ id: 'cheap', price: 100_000n, delivers: 'running' }],
  pool: Parameters<typeof testSpec>[0] = {},
) {
  let market: FakeMarket | null = null;
  const bench = await openBench(t, {
    specs: [testSpec({ replicas: { min: 0, max: 1 }, ...pool })],
    markets: (clock) => {
      market = fakeMarket(clock, { providers });
      const endpoint = { id: 'api-1', url: 'http://127.0.0.1:9', apiKey: null, pool: 'tiny', model: 'x', slots: 8 };
      return [market, new ApiMarket([{ ...endpoint, trust: 'any' as const, region: null, price }], clock)];
    },
  });
  const live = ({ state }: ReplicaRecord): boolean => state !== 'closed';
  /** Of the replicas that are not closed. */
  const states = async (): Promise<string[]> =>
    (await bench.replicas()).filter(live).map(({ market, state }) => `${market} ${state}`);
  /** Their answers end, having used so many tokens. */
  const finish = (asking: readonly Asking[], input: number, output: number): void => {
    for (const { slot } of asking) {
      const tokenPrice = slot?.target.tokenPrice;
      const paid = tokenPrice
        ? (BigInt(input) * tokenPrice.inputPico + BigInt(output) * tokenPrice.outputPico) / 1000n
        : 0n;
      slot?.used(input, output, paid);
      slot?.release('served');
    }
  };
  assert.ok(market);
  return { bench, market: market as FakeMarket, states, finish };
}
