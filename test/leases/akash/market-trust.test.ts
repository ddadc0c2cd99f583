import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Bid, Outcome } from '../../../src/leases/market.ts';
import { parseWeights } from '../../../src/spec/weights.ts';
import { akashOrders } from '../../../src/store/schema.ts';
import { akashOrder, IMAGE, openAkash, type AkashBench } from './market-bench.ts';

const DEPOSIT = 1_000_000_000n;
const TOKEN = 'hf_the-token-of-"gated"-weights';

/** Who is given what, over the emulated network. */

test('bids say where the machine stands and whose word stands for it', async (t) => {
  const bench = await openAkash(t);
  await done(bench, () => bench.market.tender(akashOrder('o1')));
  const bids = await bidsOf(bench, 'o1', 3);
  const audited = new Map(bench.devnet.providers.map((one) => [one.address, one.audited]));
  for (const { provider, trust, region, note } of bids) {
    assert.equal(trust, audited.get(provider) ? 'audited' : 'any', provider);
    assert.match(region ?? '', /^[a-z]+(-[a-z]+)?$/);
    assert.match(note, audited.get(provider) ? /, audited$/ : /not audited/);
  }
});

test('trusted hardware is asked for by its attribute, audited, and the manifest says so', async (t) => {
  const none = await openAkash(t);
  await done(none, () => none.market.tender(akashOrder('o1', { trust: 'tee' })));
  await none.passBlocks(3);
  assert.deepEqual((await none.market.order('o1'))?.bids, [], 'nobody says that they have it');

  const bench = await openAkash(t, { provider: { tee: 'cpu' } });
  await done(bench, () => bench.market.tender(akashOrder('o1', { trust: 'tee' })));
  const [bid] = await bidsOf(bench, 'o1', 1);
  assert.ok(bid?.trust === 'tee' && bench.devnet.providers.find(({ address }) => address === bid.provider)?.audited);
  const lease = await done(bench, () => bench.market.accept('o1', bid.id, DEPOSIT));
  await bench.until('it runs', async () => (await bench.market.status(lease.id))?.delivery.state === 'running');
});

test('notice before a machine is taken back is asked for, and only such providers bid', async (t) => {
  const bench = await openAkash(t);
  await done(bench, () => bench.market.tender(akashOrder('o1', { reclamationMs: 7_200_000 })));
  const bids = await bidsOf(bench, 'o1', 2);
  await bench.passBlocks(3);
  assert.equal((await bench.market.order('o1'))?.bids.length, 2, 'one of the three gives none');
  assert.equal(bids.length, 2);
});

test('the token of gated weights is on the lease, and nowhere of ours; a new one serves the next lease', async (t) => {
  let token: string | null = TOKEN;
  const bench = await openAkash(t, { change: { secretOf: (name) => (name === 'env:HF' ? token : null) } });
  const order = gated('o1');
  await done(bench, () => bench.market.tender(order));
  const [bid] = await bidsOf(bench, 'o1', 1);
  assert.equal(bid?.trust, 'audited', 'although its order said any');
  const lease = await done(bench, () => bench.market.accept('o1', bid.id, DEPOSIT));
  await bench.until('it runs', async () => (await bench.market.status(lease.id))?.delivery.state === 'running');
  const rows = await bench.store.db.select().from(akashOrders);
  assert.ok(rows.length === 1 && JSON.stringify(rows, jsonOf).includes('{{secret env:HF}}'));
  assert.ok(!JSON.stringify(rows, jsonOf).includes('the-token-of'));
  assert.ok(!bench.logs.join('\n').includes('the-token-of'));

  // Rotated: what runs goes on, also over a restart; the next order has the new one.
  token = 'hf_another-one-of-next-week';
  await bench.market.stop();
  const market = await bench.again();
  await bench.until('it runs on', async () => (await market.status(lease.id))?.delivery.state === 'running');
  const next = await settled(bench, () => market.tender(gated('o2')));
  assert.equal(next.kind, 'done');
  token = null;
  const refused = await market.tender(gated('o3'));
  assert.ok(refused.kind === 'refused' && refused.reason === 'the secret env:HF cannot be read');
});

function gated(id: string): ReturnType<typeof akashOrder> {
  const order = akashOrder(id);
  const weights = parseWeights(
    { source: 'org/gated:q4', cache: 'ephemeral', cache_class: 'beta3', secret: 'env:HF', visible_to: 'audited' },
    'any',
  );
  return { ...order, workload: { ...order.workload, image: IMAGE, weights } };
}

const jsonOf = (_key: string, value: unknown): unknown => (typeof value === 'bigint' ? String(value) : value);

async function bidsOf(bench: AkashBench, order: string, least: number): Promise<readonly Bid[]> {
  let bids: readonly Bid[] = [];
  await bench.until('bids came', async () => {
    bids = (await bench.market.order(order))?.bids ?? [];
    return bids.length >= least;
  });
  return bids;
}

async function settled<T>(bench: AkashBench, run: () => Promise<Outcome<T>>): Promise<Outcome<T>> {
  let outcome = await run();
  await bench.until('the outcome is known', async () => {
    if (outcome.kind === 'unknown') outcome = await run();
    return outcome.kind !== 'unknown';
  });
  return outcome;
}

async function done<T>(bench: AkashBench, run: () => Promise<Outcome<T>>): Promise<T> {
  const outcome = await settled(bench, run);
  assert.ok(outcome.kind === 'done', outcome.kind === 'refused' ? outcome.reason : outcome.kind);
  return outcome.value;
}
