import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bid, Lease, Outcome } from '../../../src/leases/market.ts';
import { systemClock } from '../../../src/clock.ts';
import { akashOrders, encodeJson } from '../../../src/store/schema.ts';
import { akashOrder, openAkash, type AkashBench } from './market-bench.ts';

const DEPOSIT = 1_000_000_000n;

/** What goes wrong on the network, each found, named and acted on: akash.md 5. */

test('nobody bids: the order stays empty, and closing it gives the whole deposit back', async (t) => {
  const bench = await openAkash(t, { faults: ['no-bids'] });
  await done(bench, () => bench.market.tender(akashOrder('o1')));
  const held = await bench.balance('treasury:akash');
  await bench.passBlocks(3);
  assert.deepEqual((await bench.market.order('o1'))?.bids, []);
  await done(bench, () => bench.market.cancel('o1'));
  assert.equal(await bench.balance('treasury:akash'), held + 500_000_000n);
  assert.equal(await bench.balance('escrow:akash:lease-o1'), 0n);
});

test('a bid with another GPU than was asked for is named, and cannot be taken', async (t) => {
  const bench = await openAkash(t, { faults: ['wrong-gpu'] });
  const gpu = [{ vendor: 'nvidia', model: 'rtx4090', ramBytes: null, interface: null }];
  const { hardware } = akashOrder('o1');
  await done(bench, () => bench.market.tender(akashOrder('o1', { hardware: { ...hardware, gpus: 1, gpu } })));
  await bench.until('a bid came', async () => ((await bench.market.order('o1'))?.declined.length ?? 0) > 0);
  const view = await bench.market.order('o1');
  assert.deepEqual(view?.bids, []);
  assert.match(view.declined[0]?.reason ?? '', /offers vendor\/nvidia.*not asked for/);
  const refusal = await bench.market.accept('o1', `o1/${view.declined[0]?.provider}`, DEPOSIT);
  assert.ok(refusal.kind === 'refused' && /not asked for/.test(refusal.reason));
  await done(bench, () => bench.market.cancel('o1'));
});

test('a GPU that was asked for is bid for and leased', async (t) => {
  const bench = await openAkash(t);
  const gpu = [{ vendor: 'nvidia', model: 'rtx4090', ramBytes: 24 * 2 ** 30, interface: null }];
  const { hardware } = akashOrder('o1');
  await done(bench, () => bench.market.tender(akashOrder('o1', { hardware: { ...hardware, gpus: 1, gpu } })));
  const bid = await firstBid(bench, 'o1');
  assert.match(bid.note, /rtx4090/);
  await done(bench, () => bench.market.accept('o1', bid.id, DEPOSIT));
});

test('an audited pool is bid for by audited providers alone', async (t) => {
  const bench = await openAkash(t);
  await done(bench, () => bench.market.tender(akashOrder('o1', { trust: 'audited' })));
  await firstBid(bench, 'o1');
  await bench.passBlocks(3);
  const audited = new Set(bench.devnet.providers.filter((one) => one.audited).map(({ address }) => address));
  const view = await bench.market.order('o1');
  assert.ok(view && view.bids.length > 0);
  for (const { provider } of view.bids) assert.ok(audited.has(provider), provider);
});

test('what the network cannot give is refused before anything is posted', async (t) => {
  const bench = await openAkash(t);
  const order = akashOrder('o1');
  for (const [change, why] of [
    [{ workload: { ...order.workload, image: null } }, /no image/],
    [{ workload: { ...order.workload, image: 'vllm/vllm-openai:latest' } }, /digest/],
  ] as const) {
    const outcome = await bench.market.tender({ ...order, ...change });
    assert.ok(outcome.kind === 'refused' && why.test(outcome.reason), outcome.kind);
  }
  assert.deepEqual((await bench.market.list()).orders, []);
});

test('a manifest that is refused fails the delivery with the reason', async (t) => {
  const bench = await openAkash(t, { faults: ['manifest-refused'] });
  const { id } = await lease(bench, 'o1');
  const outcome = await bench.market.deploy(id);
  assert.ok(outcome.kind === 'refused' && /version validation/.test(outcome.reason), JSON.stringify(outcome));
  assert.equal((await bench.market.status(id))?.delivery.state, 'failed');
  await done(bench, () => bench.market.close(id, 'delivery_failed'));
});

test('a provider with a certificate that is not on the chain never gets the manifest', async (t) => {
  const bench = await openAkash(t);
  bench.devnet.setFault('wrong-certificate', true);
  const { id } = await lease(bench, 'o1');
  await bench.passBlocks(5);
  assert.notEqual((await bench.market.status(id))?.delivery.state, 'running');
  assert.deepEqual(bench.servers.starts, []);
  await done(bench, () => bench.market.close(id, 'tenant'));
});

test('a lease that its provider closes is seen, its deployment closed and the rest given back', async (t) => {
  const bench = await openAkash(t, { faults: ['lease-closed'] });
  const { id, provider } = await lease(bench, 'o1');
  await bench.until('it is seen', async () => (await bench.market.status(id))?.lease.state === 'closed');
  const status = await bench.market.status(id);
  assert.equal(status?.lease.closeReason, 'provider');
  const { rentNanoUsd, refundNanoUsd, depositNanoUsd } = status.lease;
  assert.equal(rentNanoUsd + refundNanoUsd, depositNanoUsd);
  assert.equal(await bench.balance('escrow:akash:lease-o1'), 0n);
  const view = (await bench.market.providers()).find((one) => one.id === provider);
  assert.equal(view?.failures, 1);
});

test('an escrow that runs dry ends its lease as overdrawn', async (t) => {
  const bench = await openAkash(t);
  const { id } = await lease(bench, 'o1');
  bench.devnet.setFault('escrow-overdrawn', true);
  await bench.until('it is seen', async () => (await bench.market.status(id))?.lease.state === 'closed');
  const status = await bench.market.status(id);
  assert.equal(status?.lease.closeReason, 'overdrawn');
  assert.equal(await bench.balance('escrow:akash:lease-o1'), 0n);
});

test('orders and leases of an earlier run are found again, and a lease goes on running', async (t) => {
  const bench = await openAkash(t);
  await done(bench, () => bench.market.tender(akashOrder('o2')));
  const { id } = await lease(bench, 'o1');
  await bench.until('it runs', async () => (await bench.market.status(id))?.delivery.state === 'running');
  await bench.market.stop();
  const next = await bench.again();
  const { orders, leases } = await next.list();
  assert.deepEqual([orders.map((one) => one.id), leases.map(({ lease: one }) => one.id)], [['o2'], [id]]);
  await bench.until('it runs still', async () => (await next.status(id))?.delivery.state === 'running');
  const status = await next.status(id);
  assert.equal(status?.delivery.apiKey, `key-of-${id}`);
  assert.equal(bench.servers.starts.length, 1, 'nothing was started a second time');
  await done(bench, () => next.close(id, 'tenant'));
  await done(bench, () => next.cancel('o2'));
});

test('an order that everybody forgot falls by itself', async (t) => {
  const bench = await openAkash(t);
  await done(bench, () => bench.market.tender(akashOrder('o1')));
  await bench.market.stop();
  let nowMs = 0;
  const clock = { ...systemClock, now: () => systemClock.now() + nowMs };
  const next = await bench.again({ clock });
  nowMs = 400_000;
  await bench.until('it fell', async () => (await next.list()).orders.length === 0);
  await bench.until('its deposit is back', async () => (await bench.balance('escrow:akash:lease-o1')) === 0n);
});

test('each pool pays from a wallet of its own that holds nothing, out of the treasury’s grants', async (t) => {
  const bench = await openAkash(t, { rules: { walletPerPool: true } });
  const held = await bench.balance('treasury:akash');
  const { id } = await lease(bench, 'o1');
  await bench.until('it runs', async () => (await bench.market.status(id))?.delivery.state === 'running');
  await done(bench, () => bench.market.fund(id, 5000n, 'fund-1'));
  const closed = await done(bench, () => bench.market.close(id, 'tenant'));
  assert.equal(await bench.balance('treasury:akash'), held - closed.rentNanoUsd);
  assert.ok(bench.logs.some((line) => /pays from akash1/.test(line)));
});

test('no more than the limit of an hour goes into escrows, whatever asks for it', async (t) => {
  const bench = await openAkash(t, { rules: { depositsPerHour: 1_200_000n } });
  const { id } = await lease(bench, 'o1');
  const refusal = await bench.market.tender(akashOrder('o2'));
  assert.ok(refusal.kind === 'refused' && /limit of an hour/.test(refusal.reason));
  await done(bench, () => bench.market.fund(id, 200_000_000n, 'fund-1'));
  assert.equal((await bench.market.fund(id, 1000n, 'fund-2')).kind, 'refused');
  await done(bench, () => bench.market.close(id, 'tenant'));
});

test('secrets of a lease are in no row and no log', async (t) => {
  const bench = await openAkash(t);
  const { id } = await lease(bench, 'o1');
  await bench.until('it runs', async () => (await bench.market.status(id))?.delivery.state === 'running');
  const text = encodeJson(await bench.store.db.select().from(akashOrders));
  assert.match(text, /lease-key/, 'its place is marked');
  assert.doesNotMatch(text + bench.logs.join(), new RegExp(`key-of-|${bench.devnet.tenant.mnemonic.slice(0, 20)}`));
});

async function done<T>({ passBlocks }: AkashBench, call: () => Promise<Outcome<T>>): Promise<T> {
  for (let tries = 0; tries < 10; tries += 1) {
    const outcome = await call();
    if (outcome.kind === 'done') return outcome.value;
    if (outcome.kind === 'refused') throw new Error(`refused: ${outcome.reason}`);
    await passBlocks(1);
  }
  throw new Error('the outcome stays unknown');
}

async function firstBid({ market, until }: AkashBench, orderId: string): Promise<Bid> {
  await until('a bid comes', async () => ((await market.order(orderId))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order(orderId))?.bids ?? [];
  assert.ok(bid);
  return bid;
}

async function lease(bench: AkashBench, orderId: string): Promise<Lease> {
  await done(bench, () => bench.market.tender(akashOrder(orderId)));
  const bid = await firstBid(bench, orderId);
  return done(bench, () => bench.market.accept(orderId, bid.id, DEPOSIT));
}
