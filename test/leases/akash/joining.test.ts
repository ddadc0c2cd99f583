import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent } from 'undici';
import type { ChainOptions } from '../../../src/leases/akash/chain.ts';
import type { AkashMarket } from '../../../src/leases/akash/market.ts';
import type { Lease, Outcome } from '../../../src/leases/market.ts';
import { akashOrder, newChain, openAkash, type AkashBench } from './market-bench.ts';
import { openDoor, type RpcDoor } from './rpc-door.ts';

/** A gateway whose chain is silent, or another one, starts nevertheless; the market joins when that ends. */

test('without a node the market opens, says why it takes no orders, and joins when a node answers', async (t) => {
  const { bench, door, open } = await setup(t, false);
  const market = await open();
  assert.match(market.health().problem ?? '', /no node of the Akash chain can be used: 127\.0\.0\.1:\d+: /);
  const refusal = await market.tender(akashOrder('o1'));
  assert.ok(refusal.kind === 'refused' && /no node of the Akash chain/.test(refusal.reason));
  await assert.rejects(market.list(), { code: 'no_capacity', message: /no node of the Akash chain/ });
  let changes = 0;
  market.onChange(() => (changes += 1));
  door.open = true;
  await bench.until('it joins', async () => market.health().problem === null);
  assert.ok(changes > 0, 'the scheduler is told');
  assert.ok(market.terms().depositMinNanoUsd > 0n);
  assert.equal((await market.tender(akashOrder('o1'))).kind, 'done');
  assert.deepEqual((await market.list()).orders.length, 1);
  assert.equal(bench.logs.filter((line) => /takes no orders/.test(line)).length, 1, 'said once');
  assert.ok(bench.logs.some((line) => /the Akash market is back/.test(line)));
});

test('a node of another chain is never worked with', async (t) => {
  const { open } = await setup(t, true);
  const market = await open({ chainId: 'akashnet-2' });
  assert.match(market.health().problem ?? '', /is of the chain underbid-devnet-1, not akashnet-2/);
  assert.equal((await market.tender(akashOrder('o1'))).kind, 'refused');
});

test('a chain that makes no blocks is joined when it goes on', async (t) => {
  const { bench, open } = await setup(t, true);
  bench.devnet.setFault('chain-stalled', true);
  // A devnet's blocks come every 80 ms: one that is so old has no successor.
  await bench.until('the newest block is old', async () => Date.now() - bench.devnet.chain.timeMs > 4000);
  const market = await open({ stalledMs: 3000 });
  assert.match(
    market.health().problem ?? '',
    /the chain underbid-devnet-1 has stalled: its newest block, \d+, is \d+ s/,
  );
  bench.devnet.setFault('chain-stalled', false);
  await bench.until('it joins', async () => market.health().problem === null);
});

test('a lease of an earlier run is served while no node answers, and closed when one does', async (t) => {
  const { bench, door, open } = await setup(t, true);
  const lease = await leaseOf(bench, bench.market);
  await bench.until('it runs', async () => (await bench.market.status(lease.id))?.delivery.state === 'running');
  await bench.market.stop();
  door.open = false;
  const market = await open();
  await bench.until('it is served', async () => (await market.status(lease.id))?.delivery.state === 'running');
  const status = await market.status(lease.id);
  assert.equal(status?.delivery.apiKey, `key-of-${lease.id}`);
  assert.notEqual(status.delivery.url, null);
  assert.equal(bench.servers.starts.length, 1);
  // Neither done nor refused, and at once: whoever calls need not wait for a transaction that nobody can take.
  assert.equal((await market.close(lease.id, 'tenant')).kind, 'unknown');
  door.open = true;
  await bench.until('it joins', async () => market.health().problem === null);
  await bench.until('what was begun is ended', async () => (await market.status(lease.id))?.lease.state === 'closed');
  const ended = await market.status(lease.id);
  assert.equal((ended?.lease.rentNanoUsd ?? 0n) + (ended?.lease.refundNanoUsd ?? 0n), ended?.lease.depositNanoUsd);
  assert.equal(await bench.balance(`escrow:akash:${lease.id}`), 0n);
});

test('when every node falls silent the lease goes on, and the market takes orders again when one is back', async (t) => {
  const { bench, door, open } = await setup(t, true);
  await bench.market.stop();
  const market = await open();
  const lease = await leaseOf(bench, market);
  await bench.until('it runs', async () => (await market.status(lease.id))?.delivery.state === 'running');
  door.open = false;
  await bench.until('it is noticed', async () => market.health().problem !== null);
  assert.equal((await market.tender(akashOrder('o2'))).kind, 'refused');
  assert.equal((await market.fund(lease.id, 5000n, 'fund-1')).kind, 'unknown');
  assert.equal((await market.status(lease.id))?.delivery.state, 'running');
  door.open = true;
  await bench.until('it is back', async () => market.health().problem === null);
  assert.equal((await market.fund(lease.id, 5000n, 'fund-1')).kind, 'done');
  assert.equal((await market.close(lease.id, 'tenant')).kind, 'done');
});

interface Setup {
  readonly bench: AkashBench;
  readonly door: RpcDoor;
  /** A market whose only node is behind the door. */
  readonly open: (change?: Partial<ChainOptions>) => Promise<AkashMarket>;
}

async function setup(t: TestContext, isOpen: boolean): Promise<Setup> {
  const bench = await openAkash(t);
  const door = await openDoor(t, bench.devnet.rpcUrl, isOpen);
  const dispatcher = new Agent();
  t.after(() => dispatcher.destroy());
  const open = (change: Partial<ChainOptions> = {}): Promise<AkashMarket> =>
    bench.again({
      newChain: (signal) =>
        newChain({ rpcUrl: door.url }, { dispatcher, signal, log: (line) => bench.logs.push(line), ...change }),
    });
  return { bench, door, open };
}

async function leaseOf(bench: AkashBench, market: AkashMarket): Promise<Lease> {
  await known(() => market.tender(akashOrder('o1')));
  await bench.until('a bid comes', async () => ((await market.order('o1'))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order('o1'))?.bids ?? [];
  return known(() => market.accept('o1', bid?.id ?? '', 1_000_000_000n));
}

async function known<T>(call: () => Promise<Outcome<T>>): Promise<T> {
  for (let tries = 0; tries < 20; tries += 1) {
    const outcome = await call();
    if (outcome.kind === 'done') return outcome.value;
    assert.equal(outcome.kind, 'unknown', outcome.reason);
  }
  throw new Error('stays unknown');
}
