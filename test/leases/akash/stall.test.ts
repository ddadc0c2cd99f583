import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent } from 'undici';
import { systemClock } from '../../../src/clock.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import { akashOrder, newChain, openAkash, type AkashBench, type AkashBenchOptions } from './market-bench.ts';

/** The chain answers and makes no block, for longer than the ten minutes that an unordered transaction may look ahead. */

const DEPOSIT = 1_000_000_000n;
const QUARTER_MS = 15 * 60_000;

test('a chain that stands still: what runs is served, nothing is sent, the operator is told, and then everything comes about', async (t) => {
  const { bench, pass } = await setup(t);
  const { market, devnet, logs } = bench;
  assert.equal((await market.tender(akashOrder('o2'))).kind, 'done');
  const id = await rent(bench);
  await bench.until('a bid for the other one', async () => ((await market.order('o2'))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order('o2'))?.bids ?? [];
  devnet.setFault('chain-stalled', true);
  pass();
  const sent = devnet.chain.txs().length;
  await market.look();
  const stalled = /the chain underbid-devnet-1 has stalled: its newest block, \d+, is \d{3} s old/;
  assert.match(market.health().problem ?? '', stalled);
  assert.ok(logs.some((line) => /takes no orders: the chain .* has stalled.*leases that run are served/.test(line)));
  const refused = await market.tender(akashOrder('o3'));
  assert.ok(refused.kind === 'refused' && stalled.test(refused.reason));
  const attempts = {
    accept: await market.accept('o2', bid?.id ?? '', DEPOSIT),
    fund: await market.fund(id, DEPOSIT, 'fund-1'),
    close: await market.close(id, 'tenant'),
    cancel: await market.cancel('o2'),
  };
  for (const [name, outcome] of Object.entries(attempts)) {
    assert.ok(outcome.kind === 'unknown' && stalled.test(outcome.reason), `${name}: ${outcome.kind}`);
  }
  assert.equal(devnet.chain.txs().length, sent);
  devnet.setFault('chain-stalled', false);
  await bench.until('the chain is back', async () => {
    await market.look();
    return market.health().problem === null;
  });
  assert.ok(logs.some((line) => line.startsWith('the Akash market is back')));
  await bench.until('what was to end has ended', async () => {
    await market.look();
    return (await market.status(id))?.lease.state === 'closed' && (await market.order('o2'))?.state === 'closed';
  });
  const lease = (await market.status(id))?.lease;
  assert.ok(lease && lease.rentNanoUsd + lease.refundNanoUsd === lease.depositNanoUsd);
  assert.equal((await market.tender(akashOrder('o4'))).kind, 'done');
  await bench.until('that one ends too', async () => (await market.cancel('o4')).kind === 'done');
});

test('a lease at work stays one while the chain stands still', async (t) => {
  const { bench, pass } = await setup(t);
  const id = await rent(bench);
  bench.devnet.setFault('chain-stalled', true);
  for (let looks = 0; looks < 3; looks += 1) {
    pass();
    await bench.market.look();
    const status = await bench.market.status(id);
    assert.deepEqual([status?.lease.state, status?.delivery.state], ['active', 'running']);
  }
  bench.devnet.setFault('chain-stalled', false);
  await bench.until('it is closed', async () => (await bench.market.close(id, 'tenant')).kind === 'done');
});

test('an order that was on its way when the chain fell still is not paid later, and its room in the limits comes back', async (t) => {
  // Room for one deposit of half an ACT.
  const { bench, pass } = await setup(t, { rules: { depositsPerHour: 600_000n } });
  const { market, devnet } = bench;
  devnet.setFault('chain-stalled', true);
  const first = await market.tender(akashOrder('o1'));
  assert.equal(first.kind, 'unknown');
  const used = async (): Promise<bigint | undefined> => (await market.treasury()).limits[0]?.used;
  assert.equal(await used(), 500_000n, 'in doubt it counts');
  pass();
  devnet.setFault('chain-stalled', false);
  await bench.until('it is certain that it was not paid', async () => {
    await market.look();
    return (await used()) === 0n;
  });
  assert.equal((await market.order('o1'))?.state, 'closed', 'nobody waited for it so long');
  await bench.until('the next one is posted', async () => (await market.tender(akashOrder('o2'))).kind === 'done');
  assert.equal(await used(), 500_000n);
  assert.equal([...devnet.chain.state.deployments.values()].length, 1);
  await bench.until('it is closed', async () => (await market.cancel('o2')).kind === 'done');
});

test('what is sent past all that, the chain refuses with its rule of ten minutes', async (t) => {
  const { bench, pass, clock } = await setup(t);
  bench.devnet.setFault('chain-stalled', true);
  pass();
  const dispatcher = new Agent();
  const stop = new AbortController();
  t.after(async () => {
    stop.abort();
    await dispatcher.destroy();
  });
  const wire = { dispatcher, signal: stop.signal, log: () => undefined, clock };
  const chain = newChain(bench.devnet, { ...wire, stalledMs: Infinity });
  await chain.open();
  const keyring = await OwnKeyring.open(bench.devnet.tenant.mnemonic);
  const outcome = await chain.send({
    wallet: keyring.wallet(0),
    orders: [
      {
        type: 'grant_fees',
        from: keyring.wallet(0).address,
        to: keyring.wallet(1).address,
        untilMs: Date.now() + 86_400_000,
        uakt: 1n,
      },
    ],
    note: () => Promise.resolve(),
  });
  assert.ok(outcome.kind === 'refused' && outcome.reason.includes('unordered tx ttl exceeds 10m0s'), outcome.kind);
});

async function rent(bench: AkashBench): Promise<string> {
  const { market } = bench;
  assert.equal((await market.tender(akashOrder('o1'))).kind, 'done');
  await bench.until('a bid', async () => ((await market.order('o1'))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order('o1'))?.bids ?? [];
  const outcome = await market.accept('o1', bid?.id ?? '', DEPOSIT);
  assert.ok(outcome.kind === 'done');
  const { id } = outcome.value;
  await bench.until('it runs', async () => (await market.status(id))?.delivery.state === 'running');
  return id;
}

/** `pass`: a quarter of an hour for everybody but the chain, when that stands still. */
async function setup(t: TestContext, options: AkashBenchOptions = {}) {
  let aheadMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  const bench = await openAkash(t, { ...options, clockOfAll: clock });
  return { bench, clock, pass: () => void (aheadMs += QUARTER_MS) };
}
