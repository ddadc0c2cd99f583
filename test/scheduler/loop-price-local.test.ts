import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { Clock } from '../../src/clock.ts';
import { embeddedBidders } from '../../src/leases/local/bidder.ts';
import { Escrow } from '../../src/leases/local/escrow.ts';
import { LocalMarket } from '../../src/leases/local/market.ts';
import { MarketRecords } from '../../src/leases/records.ts';
import type { LocalProvider } from '../../src/spec.ts';
import { openStore } from '../../src/store/open.ts';
import { disputeParts } from '../fakes/disputes.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { FakeServers, openBook, provider, TERMS } from '../leases/local-market-bench.ts';
import { openBench, served, type Bench } from './loop-bench.ts';

/** Ceilings and moves on the real embedded market, whose providers bid by their policies. */

test('on the embedded market nobody bids at the first ceiling, and a step higher somebody does', async (t) => {
  const { bench, providers } = await setup(t, [provider('desk', 100_000n)], { replicas: { min: 0, max: 1 } });
  const first = bench.ask(1);
  await bench.until('it is served', () => served(first).length === 1);
  first[0]?.slot?.release('served');
  await bench.until('it is given back', () => bench.run.scheduler.replicas().length === 0, 240_000);
  providers.splice(0, 1, provider('shed', 130_000n));
  const again = bench.ask(1);
  await bench.until('it is served again', () => served(again).length === 1);
  const orders = (await bench.records.listOrders()).toReversed();
  assert.deepEqual(
    orders.map(({ state, markets }) => [state, markets[0]?.ceilingNanoUsdPerBlock]),
    [
      ['won', 833_333n],
      ['fell', 112_000n],
      ['won', 140_000n],
    ],
  );
  assert.deepEqual(orders[1]?.declined, [
    { market: 'local', provider: 'shed', reason: 'its price is above the ceiling' },
  ]);
  assert.equal(orders[2]?.markets[0]?.why, 'three quarters of 1 bid seen, raised: step 1');
});

test('an embedded provider that publishes a lower price is moved to', async (t) => {
  const { bench, providers } = await setup(t, [provider('desk', 100_000n)], { replicas: { min: 1, max: 1 } });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  providers.push(provider('barn', 60_000n));
  await bench.until(
    'the first one drains',
    async () => (await bench.decisions('replica.draining')).length === 1,
    900_000,
  );
  const placed = (await bench.decisions('order.placed')).at(-1);
  assert.match(placed?.reason ?? '', /rep-1 at desk costs 0.072 USD\/h, barn asks 0.0432/);
  await bench.pass(5000);
  const left = bench.run.scheduler.replicas().filter(({ state }) => state === 'ready');
  assert.deepEqual(
    left.map(({ provider: id }) => id),
    ['barn'],
  );
});

async function setup(
  t: TestContext,
  providers: LocalProvider[],
  pool: Parameters<typeof testSpec>[0],
): Promise<{ bench: Bench; providers: LocalProvider[] }> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-price-'));
  const store = await openStore(join(folder, 'market.db'));
  const book = await openBook(folder);
  const { start: startServer } = new FakeServers(true);
  let market: LocalMarket | null = null;
  const open = async (clock: Clock): Promise<void> => {
    market = new LocalMarket({
      bidders: () => embeddedBidders(providers, { ...TERMS, clock, startServer })(),
      terms: TERMS,
      treasuryNanoUsd: 1_000_000_000n,
      records: new MarketRecords(store),
      escrow: new Escrow(book.ledger, clock, 'local'),
      disputes: disputeParts(store, book.ledger, clock),
      clock,
      leaseKey: () => 'key',
      log: () => undefined,
    });
    await market.open();
  };
  const opened = (): LocalMarket => {
    assert.ok(market);
    return market;
  };
  const bench = await openBench(t, { specs: [testSpec(pool)], prepare: open, markets: () => [opened()] });
  t.after(async () => {
    await opened().stop();
    await book.close();
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { bench, providers };
}
