import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { Agent } from 'undici';
import { systemClock } from '../../../src/clock.ts';
import { checkUp } from '../../../src/leases/akash/checkup.ts';
import { reasonOf } from '../../../src/leases/akash/lease-rows.ts';
import { openFailures, type FailureBench } from './failure-bench.ts';
import { akashOrder } from './market-bench.ts';

/** What failures.ts tells, played: the fault, what is read of it, and what becomes of machine and money. */

export async function nobodyBids(t: TestContext): Promise<void> {
  const bench = await openFailures(t, { faults: ['no-bids'] });
  const held = await bench.balance('treasury:akash');
  await bench.done(() => bench.market.tender(akashOrder('o1')));
  await bench.passBlocks(3);
  assert.deepEqual((await bench.market.order('o1'))?.bids, []);
  await bench.done(() => bench.market.cancel('o1'));
  assert.equal(await bench.balance('treasury:akash'), held, 'the whole deposit');
  bench.ask();
  await bench.told('order.fell', /nobody bid/);
  await bench.settled();
}

export async function darkProvider(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  const { provider } = await served(bench);
  bench.devnet.setFault('provider-gone', true);
  // The provider's last answer gets old by the market's clock.
  bench.later(20_000);
  await bench.passBlocks(2);
  bench.later(200_000);
  await bench.told('replica.failed', /the provider does not answer/);
  assert.ok((await bench.decisions('replica.failed'))[0]?.detail['provider'] === provider);
  bench.devnet.setFault('no-bids', true);
  await bench.settled();
}

export async function leftRunning(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  const { leaseId, provider } = await served(bench);
  bench.devnet.setFault('escrow-overdrawn', true);
  await bench.told('replica.failed', /its lease ended: overdrawn/);
  bench.devnet.setFault('escrow-overdrawn', false);
  // The one that was at work has lost its machine.
  bench.ask();
  await bench.until('another machine serves, and the old one gets nothing any more', async () => {
    const target = bench.pool.router.targetFor();
    return target !== null && target.leaseId !== leaseId;
  });
  const record = (await bench.market.providers()).find(({ id }) => id === provider);
  assert.equal(record?.disputes, 0);
}

export async function closedByProvider(t: TestContext): Promise<void> {
  const bench = await openFailures(t, { faults: ['lease-closed=prairie'] });
  const bad = bench.devnet.providers.find(({ name }) => name === 'prairie')?.address;
  bench.ask();
  await bench.told('replica.failed', /its lease ended: provider/);
  assert.equal((await bench.decisions('replica.failed'))[0]?.detail['provider'], bad, 'the cheapest one, and no other');
  await bench.until('another provider serves', async () => (bench.pool.router.targetFor()?.provider ?? bad) !== bad);
  const record = (await bench.market.providers()).find(({ id }) => id === bad);
  assert.ok((record?.failures ?? 0) > 0);
  const open = [...bench.devnet.chain.state.deployments.values()].filter(({ state }) => state === 'active');
  assert.equal(open.length, 1, 'the first deployment is closed: its funds were locked');
}

export async function neverReady(t: TestContext): Promise<void> {
  const bench = await openFailures(t, { automatic: false, pool: { limits: { start_s: 3 } } });
  bench.ask();
  await bench.told('replica.failed', /it was not ready within 3 s/);
  bench.devnet.setFault('no-bids', true);
  await bench.settled();
  assert.ok((await bench.market.providers()).some(({ disputes }) => disputes > 0));
}

export async function manyAtOnce(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  const ids = Array.from({ length: 8 }, (_, at) => `o${at}`);
  const outcomes = await Promise.all(ids.map((id) => bench.market.tender(akashOrder(id))));
  assert.deepEqual(
    outcomes.map(({ kind }) => kind),
    ids.map(() => 'done'),
  );
  const account = bench.devnet.chain.state.accounts.get(bench.devnet.tenant.address);
  assert.equal(account?.sequence, 0n, 'no sequence was used');
  for (const id of ids) await bench.done(() => bench.market.cancel(id));
  await bench.settled();
}

export async function outOfGas(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  bench.devnet.setFault('out-of-gas', true);
  const before = bench.devnet.chain.txs().length;
  await bench.done(() => bench.market.tender(akashOrder('o1')));
  const mine = bench.devnet.chain
    .txs()
    .slice(before)
    .filter(({ bytes }) => Buffer.from(bytes).toString('latin1').includes('MsgCreateDeployment'));
  assert.deepEqual(
    mine.map(({ result }) => result.code === 0),
    [false, true],
    'included and failed, then again with more',
  );
  await bench.done(() => bench.market.cancel('o1'));
  await bench.settled();
}

export async function manifestAgain(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  await bench.done(() => bench.market.tender(akashOrder('o1')));
  await bench.until('a bid comes', async () => ((await bench.market.order('o1'))?.bids.length ?? 0) > 0);
  const [bid] = (await bench.market.order('o1'))?.bids ?? [];
  bench.devnet.setFault('provider-gone', true);
  const first = await bench.done(() => bench.market.accept('o1', bid?.id ?? '', 1_000_000_000n));
  const again = await bench.done(() => bench.market.accept('o1', bid?.id ?? '', 1_000_000_000n));
  assert.equal(again.id, first.id);
  bench.devnet.setFault('provider-gone', false);
  await bench.until('the manifest is there', async () => (await bench.market.deploy(first.id)).kind === 'done');
  await bench.until('it runs', async () => (await bench.market.status(first.id))?.delivery.state === 'running');
  assert.equal([...bench.devnet.chain.state.leases.values()].length, 1);
  assert.equal(bench.servers.starts.length, 1);
  await bench.done(() => bench.market.close(first.id, 'tenant'));
}

export async function manifestRefused(t: TestContext): Promise<void> {
  const bench = await openFailures(t, { faults: ['manifest-refused'] });
  bench.ask();
  await bench.told('replica.failed', /refused the manifest \(422\): .*version validation failed/);
  bench.devnet.setFault('no-bids', true);
  await bench.settled();
}

export async function wrongCertificate(t: TestContext): Promise<void> {
  const bench = await openFailures(t, { pool: { limits: { start_s: 5 } } });
  bench.devnet.setFault('wrong-certificate', true);
  bench.ask();
  await bench.told('replica.failed', /not (ready|deployed).*(certificate|self-signed|TLS)/i);
  assert.deepEqual(bench.servers.starts, [], 'no manifest arrived');
  bench.devnet.setFault('no-bids', true);
  await bench.settled();
}

export async function mintHalted(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  await served(bench);
  bench.devnet.setFault('mint-halted', true);
  const dispatcher = new Agent();
  t.after(() => dispatcher.destroy());
  const findings = await checkUp({
    ...{ rpc: [bench.devnet.rpcUrl], chainId: null, denom: 'uact', address: bench.devnet.tenant.address, pools: [] },
    ...{ auditors: [], allowPrivate: true, providersMax: 0, dispatcher, clock: systemClock },
    ...{ resolve: () => Promise.reject(new Error('no DNS here')), signal: new AbortController().signal },
  });
  const minting = findings.find(({ name }) => name === 'minting');
  assert.equal(minting?.result, 'warn');
  assert.match(minting.detail, /no ACT is made now/);
  await bench.passBlocks(2);
  assert.equal(bench.pool.router.stats.ready, 1);
}

export async function shortEscrow(t: TestContext): Promise<void> {
  const dear = { cpu: 60, memory: '240Gi', gpus: 0 };
  const bench = await openFailures(t, { pool: { hardware: dear, ceiling_usd_per_hour: '200' } });
  await served(bench);
  const [status] = (await bench.market.list()).leases;
  assert.ok(status);
  const { priceNanoUsdPerBlock: price, depositNanoUsd } = status.lease;
  const runwayBlocks = Math.floor(30_000 / bench.market.terms().blockMs);
  assert.ok(depositNanoUsd >= price * BigInt(runwayBlocks), 'it begins with the rent of its runway');
  // Blocks that would take an hour of the real network, until half of the deposit is gone.
  const blocks = Number(depositNanoUsd / price / 2n) + 2;
  for (let left = blocks; left > 0; left -= 1) bench.devnet.nextBlock();
  await bench.told('lease.funded', /runway below/);
  await bench.passBlocks(5);
  assert.equal((await bench.decisions('lease.funded')).length, 1, 'once');
  const lease = (await bench.market.status(status.lease.id))?.lease;
  assert.ok(lease && lease.depositNanoUsd > depositNanoUsd && lease.state === 'active');
}

export function lostReason(): Promise<void> {
  const lease = {
    provider: 'akash1p',
    gseq: 1,
    oseq: 1,
    bseq: 0,
    price: '1',
    createdAt: 1,
    closedOn: 9,
    reclaimMs: null,
  };
  assert.equal(reasonOf({ ...lease, state: 'insufficient_funds', reason: 0 }), 'overdrawn');
  assert.equal(reasonOf({ ...lease, state: 'closed', reason: 0 }), 'provider');
  assert.equal(reasonOf({ ...lease, state: 'closed', reason: 1 }), 'tenant');
  assert.equal(reasonOf({ ...lease, state: 'closed', reason: 10_003 }), 'delivery_failed');
  return Promise.resolve();
}

export async function forgottenOrder(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  const held = await bench.balance('treasury:akash');
  await bench.done(() => bench.market.tender(akashOrder('o1')));
  bench.later(301_000);
  await bench.until('it fell', async () => (await bench.market.order('o1'))?.state === 'closed');
  await bench.settled();
  await bench.until('its deposit is back', async () => (await bench.balance('treasury:akash')) === held);
}

export async function otherPort(t: TestContext): Promise<void> {
  const bench = await openFailures(t);
  const { id } = await bench.lease('o1');
  await bench.until('it runs', async () => (await bench.market.status(id))?.delivery.state === 'running');
  const url = new URL((await bench.market.status(id))?.delivery.url ?? '');
  assert.notEqual(url.port, '8000', 'what the container listens on is not what is open outside');
  assert.notEqual(url.port, '');
  await bench.done(() => bench.market.close(id, 'tenant'));
}

/** One request is at work on a leased machine. */
async function served(bench: FailureBench): Promise<{ readonly leaseId: string; readonly provider: string }> {
  const asking = bench.ask();
  await bench.until('it is served', async () => asking.slot !== null);
  const target = asking.slot?.target;
  assert.ok(target);
  return { leaseId: target.leaseId, provider: target.provider };
}
