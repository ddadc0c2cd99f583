import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import type { LocalProvider } from '../../src/spec.ts';
import { Escrow } from '../../src/leases/local/escrow.ts';
import { embeddedBidders } from '../../src/leases/local/bidder.ts';
import { LocalMarket } from '../../src/leases/local/market.ts';
import { OwnedMarket } from '../../src/leases/owned/market.ts';
import { MarketRecords } from '../../src/leases/records.ts';
import { openStore } from '../../src/store/open.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { FakeServers, openBook, provider, TERMS, type OpenLedger } from '../leases/local-market-bench.ts';
import { openBench, served, type Bench } from './loop-bench.ts';
import { disputeParts } from '../fakes/disputes.ts';

/** The scheduler over the real embedded market, a real store and a ledger on its file. */

const OPENING = 1_000_000_000n;

test('from nothing to an answer and back to nothing: every nano of the way is in the books', async (t) => {
  const { bench, balance, servers, market } = await setup(t);
  const asking = bench.ask(3);
  await bench.until('three are served', () => served(asking).length === 3);
  assert.equal(servers.running, 2);
  const leases = (await market().list()).leases.map(({ lease }) => lease);
  assert.deepEqual(leases.map(({ provider: id }) => id).sort(), ['desk', 'shed'], 'half of them each');
  const inEscrow = leases.reduce((sum, { depositNanoUsd }) => sum + depositNanoUsd, 0n);
  assert.equal(balance('treasury:local'), OPENING - inEscrow);
  await bench.pass(120_000);
  for (const { slot } of asking) slot?.release('served');
  await bench.until('all is given back', () => bench.run.scheduler.replicas().length === 0);
  assert.equal(servers.running, 0);
  const spent = balance('expense:lease:tiny') + balance('expense:market-fees:local');
  assert.ok(spent > 0n);
  assert.equal(balance('treasury:local'), OPENING - spent);
  for (const { id } of leases) assert.equal(balance(`escrow:local:${id}`), 0n);
});

test('a provider whose machine fails is passed over, and its record shows it', async (t) => {
  const { bench, servers, market } = await setup(t, { automatic: false });
  const asking = bench.ask(1);
  await bench.until('a machine is asked for', () => servers.starts.length === 1);
  servers.starts[0]?.fail('no such model');
  await bench.until('another machine is asked for', () => servers.starts.length === 2);
  servers.starts[1]?.succeed();
  await bench.until('it is served', () => served(asking).length === 1);
  assert.equal(asking[0]?.slot?.target.provider, 'shed');
  const [failed] = await bench.decisions('replica.failed');
  assert.match(failed?.reason ?? '', /the model server did not start: no such model/);
  const records = (await market().providers()).map(({ id, leases, failures }) => [id, leases, failures]);
  assert.deepEqual(records, [
    ['desk', 1, 1],
    ['shed', 1, 0],
  ]);
});

test('an empty treasury makes the order fall with that reason, and nothing is left in escrow', async (t) => {
  const { bench, balance } = await setup(t, { treasuryNanoUsd: 1000n });
  const [asking] = bench.ask(1);
  await bench.until('an order fell', async () => (await bench.decisions('order.fell')).length > 0);
  asking?.leave();
  assert.equal((await bench.decisions('order.fell'))[0]?.reason, 'the treasury holds too little for the deposit');
  await bench.pass(1000);
  assert.equal(balance('treasury:local'), 1000n);
});

test('a lease that serves for long is paid for in time, and never more than the runway lies in escrow', async (t) => {
  const { bench, balance, market } = await setup(t, { spec: testSpec({ runway_s: 60, replicas: { min: 1, max: 1 } }) });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  await bench.pass(900_000);
  const [status] = (await market().list()).leases;
  assert.ok(status, 'it never ran dry');
  assert.equal((await market().list()).leases.length, 1);
  assert.ok(balance(`escrow:local:${status.lease.id}`) <= 16n * 1200n, 'the runway, and what is not drawn yet');
  assert.ok((await bench.decisions('lease.funded')).length >= 20);
  assert.deepEqual(await bench.decisions('replica.failed'), []);
});

test('after a kill -9 nothing of the earlier run is left, and the next run serves', async (t) => {
  const { bench, balance, restart, market } = await setup(t);
  const asking = bench.ask(3);
  await bench.until('three are served', () => served(asking).length === 3);
  const before = (await market().list()).leases.map(({ lease }) => lease.id);
  await bench.pass(60_000);
  bench.kill();
  const run = await restart();
  for (const id of before) assert.equal(balance(`escrow:local:${id}`), 0n);
  const spent = balance('expense:lease:tiny') + balance('expense:market-fees:local');
  assert.ok(spent > 0n);
  assert.equal(balance('treasury:local'), OPENING - spent);
  assert.deepEqual(run.scheduler.replicas(), []);
  const again = bench.ask(1, run);
  await bench.until('it is served', () => served(again).length === 1);
});

test('an own machine that is cheaper is taken before the market, and the market when it is in use', async (t) => {
  const { bench } = await setup(t, { owned: true });
  const asking = bench.ask(3);
  await bench.until('three are served', () => served(asking).length === 3);
  const markets = new Set(asking.map(({ slot }) => slot?.target.market));
  assert.deepEqual(markets, new Set(['owned', 'local']));
});

interface Options {
  readonly automatic?: boolean;
  readonly treasuryNanoUsd?: bigint;
  readonly spec?: ReturnType<typeof testSpec>;
  readonly owned?: boolean;
}

interface Setup {
  readonly bench: Bench;
  readonly servers: FakeServers;
  readonly market: () => LocalMarket;
  readonly balance: OpenLedger['balance'];
  readonly restart: () => ReturnType<Bench['start']>;
}

async function setup(t: TestContext, options: Options = {}): Promise<Setup> {
  const {
    automatic = true,
    treasuryNanoUsd = OPENING,
    spec = testSpec({ replicas: { max: 2 } }),
    owned = false,
  } = options;
  const folder = mkdtempSync(join(tmpdir(), 'underbid-books-'));
  const store = await openStore(join(folder, 'market.db'));
  const book = await openBook(folder);
  const servers = new FakeServers(automatic);
  const providers: LocalProvider[] = [provider('desk', 1000n, { slots: 2 }), provider('shed', 2000n, { slots: 2 })];
  const open = async (clock: Clock): Promise<LocalMarket> => {
    const market = new LocalMarket({
      bidders: embeddedBidders(providers, { ...TERMS, clock, startServer: servers.start }),
      terms: TERMS,
      treasuryNanoUsd,
      records: new MarketRecords(store),
      escrow: new Escrow(book.ledger, clock, 'local'),
      disputes: disputeParts(store, book.ledger, clock),
      clock,
      leaseKey: () => 'key',
      log: () => undefined,
    });
    await market.open();
    return market;
  };
  const made: LocalMarket[] = [];
  const last = (): LocalMarket => {
    const market = made.at(-1);
    assert.ok(market);
    return market;
  };
  const bench = await openBench(t, {
    specs: [spec],
    prepare: async (clock) => void made.push(await open(clock)),
    markets: (clock) => (owned ? [ownMachine(clock), last()] : [last()]),
  });
  t.after(async () => {
    await last().stop();
    const report = await book.ledger.ask({ op: 'check' });
    assert.equal(report.ok, true, JSON.stringify(report));
    await book.close();
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { bench, servers, market: last, balance: book.balance, restart: () => bench.start() };
}

function ownMachine(clock: Clock): OwnedMarket {
  const server = { id: 'rack', url: 'http://10.0.0.1', apiKey: null, pool: 'tiny', slots: 2, costNanoUsdPerHour: 1n };
  return new OwnedMarket([{ ...server, costNanoUsdPerHour: 60_000n }], clock);
}
