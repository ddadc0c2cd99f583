import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { AkashRecords, type OrderRow } from '../../src/leases/akash/records.ts';
import { MarketRecords, type LeaseRow } from '../../src/leases/records.ts';
import { CanaryRows } from '../../src/scheduler/canary/canary-rows.ts';
import { SchedulerRecords, type OrderRecord, type ReplicaRecord } from '../../src/scheduler/records.ts';
import { openStore, type Store } from '../../src/store/open.ts';
import { testLease } from '../fakes/market-samples.ts';

/** Rows of what is over go, the oldest first; what is open or still counts stays, however old it is. */

const DAY = 86_400_000;
const NOW = 100 * DAY;
const KEPT = 3;

test('of closed replicas and their orders the newest stay, and those of the last day, and all that are open', async (t) => {
  const store = await open(t);
  const before = new SchedulerRecords(store);
  for (let n = 0; n < 6; n += 1) await save(before, `old-${n}`, { orderedMs: n, closedMs: 10 * DAY });
  await save(before, 'late', { orderedMs: 1, closedMs: NOW - DAY / 2 });
  await save(before, 'open', { orderedMs: 0, closedMs: null });
  const records = new SchedulerRecords(store, KEPT);
  await save(records, 'last', { orderedMs: 50, closedMs: NOW });
  const replicas = (await records.listReplicas()).map(({ id }) => id);
  const orders = (await records.listOrders()).map(({ id }) => id);
  assert.deepEqual(replicas.toSorted(), ['last', 'late', 'old-4', 'old-5', 'open']);
  assert.deepEqual(
    orders.toSorted(),
    ['last', 'late', 'old-4', 'old-5', 'open'].map((id) => `order-${id}`),
  );
  assert.equal(await records.findOrder('order-old-0'), null);
});

test('of closed leases of the embedded market the newest stay, and all that are open', async (t) => {
  const store = await open(t);
  const before = new MarketRecords(store);
  for (let n = 0; n < 6; n += 1) await before.saveLease(leaseRow(`l${n}`, n, n === 0 ? 'active' : 'closed'));
  const records = new MarketRecords(store, KEPT);
  await records.saveLease(leaseRow('last', 9, 'closed'));
  const found = await Promise.all(
    ['l0', 'l1', 'l2', 'l3', 'l4', 'l5', 'last'].map((id) => records.findLease(`lease-${id}`)),
  );
  assert.deepEqual(
    found.map((row) => row !== null),
    [true, false, false, false, true, true, true],
  );
});

test('of orders on Akash that are over the newest stay, and all of which the ledger lacks something', async (t) => {
  const store = await open(t);
  const before = new AkashRecords(store);
  for (let n = 0; n < 6; n += 1) await before.save(orderRow(`o${n}`, n, n !== 0));
  const records = new AkashRecords(store, KEPT);
  await records.save(orderRow('last', 9, true));
  const found = await Promise.all(['o0', 'o1', 'o2', 'o3', 'o4', 'o5', 'last'].map((id) => records.find(id)));
  assert.deepEqual(
    found.map((row) => row !== null),
    [true, false, false, false, true, true, true],
  );
});

test('of the honest distances of a pool, GPU and engine those of the newest descriptions stay', async (t) => {
  const rows = new CanaryRows(await open(t));
  const some = [{ provider: 'desk', distance: 0.1 }];
  const others = ['tiny v0 a100x1 vllm', 'tiny v0 h100x1 sglang', 'tiny-2 v0 h100x1 vllm'];
  for (const id of others) await rows.save(id, some, NOW - DAY);
  for (let n = 0; n < 10; n += 1) await rows.save(`tiny v${n} h100x1 vllm`, some, NOW + n);
  const kept = async (id: string): Promise<boolean> => (await rows.load(id)).length > 0;
  const own = await Promise.all(Array.from({ length: 10 }, (_, n) => kept(`tiny v${n} h100x1 vllm`)));
  assert.deepEqual(own, [false, false, ...Array<boolean>(8).fill(true)]);
  assert.deepEqual(await Promise.all(others.map(kept)), [true, true, true], 'of no other');
});

async function save(
  records: SchedulerRecords,
  id: string,
  { orderedMs, closedMs }: { readonly orderedMs: number; readonly closedMs: number | null },
): Promise<void> {
  const orderId = `order-${id}`;
  const over = closedMs !== null;
  const order = { id: orderId, pool: 'tiny', replica: id, state: over ? 'won' : 'open', orderedMs, closedMs };
  const replica = { id, pool: 'tiny', state: over ? 'closed' : 'ready', orderId, leaseId: null, orderedMs, closedMs };
  await records.saveOrder(order as unknown as OrderRecord);
  await records.saveReplica(replica as unknown as ReplicaRecord);
}

function leaseRow(order: string, openedAtMs: number, state: 'active' | 'closed'): LeaseRow {
  const bid = { id: `${order}/desk`, orderId: order, provider: 'desk', priceNanoUsdPerBlock: 7n };
  const lease = testLease({ bid, depositNanoUsd: 1n, openedAtMs, block: 3 });
  return { lease: { ...lease, state }, drawnFromBlock: 3, deposits: [], takeFeeBp: 0, makeFeeBp: 0 };
}

function orderRow(orderId: string, postedAtMs: number, booked: boolean): OrderRow {
  return { orderId, owner: 'akash1', postedAtMs, state: 'closed', booked } as unknown as OrderRow;
}

async function open(t: TestContext): Promise<Store> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-retention-'));
  const store = await openStore(join(folder, 'underbid.db'));
  t.after(() => {
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return store;
}
