import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { until } from '../../fakes/clock.ts';
import { akashOrder, openAkash, type AkashBench } from './market-bench.ts';

/** How many blocks a lease takes: here one comes only when somebody needs it. */

test('an order is a block, its bids are another, deposit and lease are the third; the manifest goes at once', async (t) => {
  const { bench, block } = await setup(t);
  const { market, devnet, servers } = bench;
  const tendered = market.tender(akashOrder('o1'));
  const posted = await block();
  const order = await tendered;
  assert.ok(order.kind === 'done' && order.value.postedBlock === posted);
  await until('all of them bid', () => devnet.chain.waiting === devnet.providers.length, 60_000);
  const bidding = await block();
  await bench.until(
    'the bids are seen',
    async () => (await market.order('o1'))?.bids.length === devnet.providers.length,
  );
  const bids = (await market.order('o1'))?.bids ?? [];
  assert.ok(bids.every((bid) => bid.block === bidding));
  const accepting = market.accept('o1', bids[0]?.id ?? '', 1_000_000_000n);
  const leasing = await block();
  const lease = await accepting;
  assert.ok(lease.kind === 'done' && lease.value.openedBlock === leasing);
  assert.equal(lease.value.depositNanoUsd, 1_000_000_000n, 'paid by the same transaction');
  await bench.until('it runs', async () => (await market.status(lease.value.id))?.delivery.state === 'running');
  assert.equal(servers.starts.length, 1);
  assert.deepEqual([bidding - posted, leasing - bidding, devnet.chain.height - leasing], [1, 1, 0]);
  const closing = market.close(lease.value.id, 'tenant');
  await block();
  assert.equal((await closing).kind, 'done');
});

async function setup(t: TestContext): Promise<{ bench: AkashBench; block: () => Promise<number> }> {
  const bench = await openAkash(t, { byHand: true });
  const { devnet } = bench;
  const block = async (): Promise<number> => {
    await until('somebody needs a block', () => devnet.chain.waiting > 0, 60_000);
    return devnet.nextBlock().height;
  };
  return { bench, block };
}
