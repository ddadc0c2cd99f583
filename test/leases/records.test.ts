import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { MarketRecords, type LeaseRow } from '../../src/leases/records.ts';
import { openStore } from '../../src/store/open.ts';
import { testLease } from '../fakes/market-samples.ts';

test('a lease is read back as it was written, amounts beyond 2^53 to the nano', async (t) => {
  const { records, reopen } = await setup(t);
  const row = rowOf('a', 9_007_199_254_740_993n);
  await records.saveLease(row);
  assert.deepEqual(await records.findLease('lease-a'), row);
  assert.deepEqual(await (await reopen()).findLease('lease-a'), row);
});

test('a lease that is saved again has its new state, and a lease that nobody saved is not found', async (t) => {
  const { records } = await setup(t);
  const row = rowOf('a', 100n);
  await records.saveLease(row);
  await records.saveLease({ ...row, lease: { ...row.lease, state: 'closed', closeReason: 'tenant' } });
  assert.equal((await records.findLease('lease-a'))?.lease.closeReason, 'tenant');
  assert.equal(await records.findLease('lease-b'), null);
});

test('a restart finds the leases that have not ended, opening ones too', async (t) => {
  const { records, reopen } = await setup(t);
  const [a, b, c] = [rowOf('a', 1n), rowOf('b', 2n), rowOf('c', 3n)];
  await records.saveLease({ ...a, lease: { ...a.lease, state: 'opening' } });
  await records.saveLease(b);
  await records.saveLease({ ...c, lease: { ...c.lease, state: 'closed' } });
  const open = await (await reopen()).openLeases();
  assert.deepEqual(open.map(({ lease }) => lease.id).sort(), ['lease-a', 'lease-b']);
});

test('an order has one lease: a second one with another id is refused by the file', async (t) => {
  const { records } = await setup(t);
  const row = rowOf('a', 1n);
  await records.saveLease(row);
  await assert.rejects(records.saveLease({ ...row, lease: { ...row.lease, id: 'lease-again' } }));
});

test("a provider's record outlives a restart", async (t) => {
  const { records, reopen } = await setup(t);
  await records.saveProvider('desk', { leases: 1, failures: 0, disputes: 0 });
  await records.saveProvider('desk', { leases: 2, failures: 1, disputes: 3 });
  assert.deepEqual([...(await (await reopen()).providers())], [['desk', { leases: 2, failures: 1, disputes: 3 }]]);
});

function rowOf(order: string, amount: bigint): LeaseRow {
  const bid = { id: `${order}/desk`, orderId: order, provider: 'desk', priceNanoUsdPerBlock: 7n };
  const lease = testLease({ bid, depositNanoUsd: amount, openedAtMs: 5, block: 3 });
  return { lease, drawnFromBlock: 3, deposits: [{ id: 'deposit', amount }], takeFeeBp: 2000, makeFeeBp: 0 };
}

async function setup(t: TestContext): Promise<{ records: MarketRecords; reopen: () => Promise<MarketRecords> }> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-records-'));
  let store = await openStore(join(folder, 'underbid.db'));
  t.after(() => {
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const reopen = async (): Promise<MarketRecords> => {
    store.close();
    store = await openStore(join(folder, 'underbid.db'));
    return new MarketRecords(store);
  };
  return { records: new MarketRecords(store), reopen };
}
