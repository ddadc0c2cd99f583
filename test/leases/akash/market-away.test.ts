import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent } from 'undici';
import { systemClock, type Clock } from '../../../src/clock.ts';
import { AppError } from '../../../src/errors.ts';
import type { AkashMarketOptions } from '../../../src/leases/akash/parts.ts';
import { ChainDoor } from '../../fakes/chain-door.ts';
import { akashOrder, newChain, openAkash, type AkashBench } from './market-bench.ts';

/** Every node of the chain is away: what runs goes on, nothing is ordered, nothing is given up. */

const DEPOSIT = 1_000_000_000n;
/** More than a provider may be silent. */
const LONG_MS = 200_000;

test('a machine at work is not given up because no node says where its provider is', async (t) => {
  let aheadMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  const { bench, door, change } = await setup(t, clock);
  const market = await bench.again({ ...change, clock });
  const id = await rent(bench, market);
  door.shut = true;
  for (let looks = 0; looks < 4; looks += 1) {
    aheadMs += LONG_MS;
    await market.look();
    const status = await market.status(id);
    assert.deepEqual([status?.lease.state, status?.delivery.state], ['active', 'running']);
  }
  // That the provider is silent is seen all the same: it is spoken to where it was last.
  bench.devnet.setFault('provider-gone', true);
  await bench.until('it is given up', async () => {
    aheadMs += LONG_MS;
    await market.look();
    return (await market.status(id))?.delivery.state === 'failed';
  });
  door.shut = false;
  await bench.until('it is closed', async () => (await market.close(id, 'tenant')).kind === 'done');
});

test('a gateway that rented here starts without the chain, orders nothing, and finds its lease when a node answers', async (t) => {
  const { bench, door, change } = await setup(t);
  const before = await bench.again(change);
  const id = await rent(bench, before);
  await before.stop();
  door.shut = true;
  const market = await bench.again(change);
  assert.equal((await market.tender(akashOrder('o2'))).kind, 'refused');
  await assert.rejects(market.list(), /no node of the Akash chain/, 'nobody may take it for an empty market');
  assert.equal((await market.status(id))?.lease.state, 'active');
  await bench.until('it is found where it was', async () => {
    await market.look();
    return (await market.status(id))?.delivery.state === 'running';
  });
  assert.match(bench.logs.join('\n'), /no node of the Akash chain can be used/);
  door.shut = false;
  await bench.until('the chain is joined', async () => {
    await market.look();
    return market.health().problem === null;
  });
  assert.deepEqual(
    (await market.list()).leases.map(({ lease }) => lease.id),
    [id],
  );
  assert.equal(bench.servers.starts.length, 1, 'nothing was started a second time');
  await bench.until('an order is taken again', async () => (await market.tender(akashOrder('o2'))).kind === 'done');
  await bench.until('both end', async () => {
    const ends = [await market.close(id, 'tenant'), await market.cancel('o2')];
    return ends.every(({ kind }) => kind === 'done');
  });
});

test('a first start without the chain says what its nodes answered, and orders nothing', async (t) => {
  const { bench, door, change } = await setup(t);
  door.shut = true;
  const market = await bench.again(change);
  assert.match(market.health().problem ?? '', /no node of the Akash chain/);
  await assert.rejects(market.treasury(), (error: unknown) => {
    return error instanceof AppError && error.code === 'no_capacity' && /no node of the Akash/.test(error.message);
  });
  const outcome = await market.tender(akashOrder('o1'));
  assert.ok(outcome.kind === 'refused');
  assert.match(outcome.reason, /no node of the Akash chain/);
});

/** A market behind a door. The bench's own has rented nothing and looks on. */
async function setup(
  t: TestContext,
  clock: Clock = systemClock,
): Promise<{
  readonly bench: AkashBench;
  readonly door: ChainDoor;
  readonly change: Partial<AkashMarketOptions>;
}> {
  const bench = await openAkash(t, { clock });
  const door = await ChainDoor.open(t, bench.devnet.rpcUrl);
  const dispatcher = new Agent();
  t.after(() => dispatcher.destroy());
  const change: Partial<AkashMarketOptions> = {
    newChain: (signal) => newChain({ rpcUrl: door.url }, { dispatcher, signal, log: () => undefined }),
  };
  await bench.market.stop();
  return { bench, door, change };
}

async function rent(bench: AkashBench, market: AkashBench['market']): Promise<string> {
  assert.equal((await market.tender(akashOrder('o1'))).kind, 'done');
  await bench.until('a bid', async () => ((await market.order('o1'))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order('o1'))?.bids ?? [];
  const outcome = await market.accept('o1', bid?.id ?? '', DEPOSIT);
  assert.ok(outcome.kind === 'done');
  const { id } = outcome.value;
  await bench.until('it runs', async () => (await market.status(id))?.delivery.state === 'running');
  return id;
}
