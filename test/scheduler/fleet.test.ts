import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Fleet } from '../../src/scheduler/fleet.ts';
import { SchedulerRecords, type OrderRecord, type ReplicaRecord } from '../../src/scheduler/records.ts';
import { openStore } from '../../src/store/open.ts';
import { parseUsd } from '../../src/units.ts';
import { FakeClock } from '../fakes/clock.ts';

const HOUR = 3_600_000;
const MIDNIGHT = 1_700_006_400_000;

test('a live replica costs its price since it was leased, a closed one what it cost until then', async (t) => {
  const { fleet, clock } = await setup(t);
  const live = replica('a', { leasedMs: clock.now() });
  await fleet.save(live);
  await fleet.save(replica('b', { leasedMs: clock.now() }));
  await clock.advance(HOUR);
  assert.equal(fleet.spentToday('tiny'), parseUsd('2'));
  await fleet.save(replica('b', { leasedMs: clock.now() - HOUR, closedMs: clock.now(), state: 'closed' }));
  await clock.advance(HOUR / 2);
  assert.equal(fleet.spentToday('tiny'), parseUsd('2.50'));
  assert.equal(fleet.spentToday('other'), 0n);
});

test('a day begins at midnight UTC, in the middle of a lease too', async (t) => {
  const { fleet, clock } = await setup(t, MIDNIGHT + 22 * HOUR);
  await fleet.save(replica('a', { leasedMs: clock.now() }));
  await fleet.save(replica('b', { leasedMs: clock.now() }));
  await clock.advance(HOUR);
  await fleet.save(replica('b', { leasedMs: clock.now() - HOUR, closedMs: clock.now(), state: 'closed' }));
  await clock.advance(2 * HOUR);
  assert.equal(fleet.spentToday('tiny'), parseUsd('1'), 'only what the live one cost since midnight');
});

test('what closed replicas cost today outlives a restart, however many there were', async (t) => {
  const { fleet, clock, reopen } = await setup(t, MIDNIGHT + 22 * HOUR);
  const closedMs = MIDNIGHT + 22 * HOUR;
  for (let n = 0; n < 600; n += 1) {
    await fleet.save(
      replica(`r${n}`, { leasedMs: closedMs - 36_000, closedMs, state: 'closed', orderedMs: closedMs + n }),
    );
  }
  await fleet.save(replica('old', { leasedMs: MIDNIGHT - 9 * HOUR, closedMs: MIDNIGHT - HOUR, state: 'closed' }));
  await fleet.save(
    replica('across', { leasedMs: MIDNIGHT - HOUR, closedMs: MIDNIGHT + HOUR, state: 'closed', orderedMs: 1 }),
  );
  const again = await reopen();
  assert.equal(
    again.spentToday('tiny'),
    parseUsd('7'),
    '600 hundredths of an hour, and one hour of the one across midnight',
  );
  await clock.advance(2 * HOUR);
  assert.equal(again.spentToday('tiny'), 0n);
});

test('closed replicas leave memory, with what was noted of them', async (t) => {
  const { fleet } = await setup(t);
  await fleet.save(replica('a'));
  fleet.notes('a').posted = true;
  assert.equal(fleet.notes('a').posted, true);
  await fleet.save(replica('a', { state: 'closed', closedMs: 1 }));
  assert.deepEqual([fleet.find('a'), fleet.active(), fleet.notes('a').posted], [undefined, [], false]);
});

test('a bid that is being taken counts for its provider before there is a lease', async (t) => {
  const { fleet } = await setup(t);
  await fleet.save(replica('a', { state: 'ordering', provider: null }));
  await fleet.save(replica('b', { state: 'accepting', leaseId: null }));
  await fleet.save(replica('c', { pool: 'other' }));
  assert.deepEqual([...fleet.perProvider('tiny')], [['desk', 1]]);
});

test('a restart finds the replicas that are not closed', async (t) => {
  const { fleet, reopen } = await setup(t);
  await fleet.save(replica('a'));
  await fleet.save(replica('b', { state: 'closed', closedMs: 5 }));
  const again = await reopen();
  assert.deepEqual(again.active(), [replica('a')]);
});

test('an open order is kept in memory, an ended one is read from its row', async (t) => {
  const { fleet, records } = await setup(t);
  const order = orderOf('o1');
  await fleet.saveOrder(order);
  assert.equal(await fleet.order('o1'), order);
  await fleet.saveOrder({ ...order, state: 'won', closedMs: 7 });
  assert.deepEqual(await fleet.order('o1'), { ...order, state: 'won', closedMs: 7 });
  assert.equal((await records.findOrder('o1'))?.state, 'won');
  assert.equal(await fleet.order('never'), null);
});

test('a pool pauses longer with each failure in a row, and not for the failures of another', async (t) => {
  const { fleet, clock } = await setup(t);
  const { failures } = fleet;
  const start = clock.now();
  const pauses = Array.from({ length: 9 }, () => {
    failures.failed('tiny');
    return failures.backoffUntil('tiny') - start;
  });
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  failures.failed('other');
  failures.succeeded('tiny');
  assert.deepEqual([failures.backoffUntil('tiny'), failures.backoffUntil('other')], [0, start + 1000]);
});

test('decisions are told the latest first, for one pool or all, and numbered on after a restart', async (t) => {
  const { records, reopen } = await setup(t);
  for (const [n, pool] of ['tiny', 'other', 'tiny'].entries()) {
    await records.decide({ atMs: n, pool, kind: 'order.placed', reason: `reason ${n}`, detail: { n: BigInt(n) } });
  }
  await reopen();
  await records.open();
  await records.decide({ atMs: 9, pool: null, kind: 'other', reason: 'later', detail: {} });
  const all = await records.listDecisions({ limit: 10 });
  assert.deepEqual(
    all.map(({ seq, reason }) => [seq, reason]),
    [
      [4, 'later'],
      [3, 'reason 2'],
      [2, 'reason 1'],
      [1, 'reason 0'],
    ],
  );
  assert.deepEqual(all[3]?.detail, { n: 0n });
  const tiny = await records.listDecisions({ pool: 'tiny', limit: 1 });
  assert.deepEqual(
    tiny.map(({ reason }) => reason),
    ['reason 2'],
  );
});

test('of the decisions the last ten thousand are kept', async (t) => {
  const { records, run } = await setup(t);
  await run(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10999)
    INSERT INTO decisions SELECT i, 0, NULL, 'old', 'old', '{}' FROM n`);
  await records.open();
  await records.decide({ atMs: 1, pool: null, kind: 'new', reason: 'the eleven thousandth', detail: {} });
  const kept = await records.listDecisions({ limit: 20_000 });
  assert.deepEqual([kept.length, kept[0]?.kind, kept.at(-1)?.seq], [10_001, 'new', 1000]);
});

function replica(id: string, change: Partial<ReplicaRecord> = {}): ReplicaRecord {
  return {
    id,
    pool: 'tiny',
    state: 'ready',
    orderId: `order-of-${id}`,
    market: 'local',
    bidId: 'bid',
    leaseId: `lease-of-${id}`,
    provider: 'desk',
    priceNanoUsdPerBlock: 1n,
    costNanoUsdPerHour: parseUsd('1'),
    orderedMs: 0,
    leasedMs: null,
    runningMs: null,
    readyMs: null,
    drainMs: null,
    closedMs: null,
    failed: false,
    reason: 'a test',
    fundings: 0,
    ...change,
  };
}

function orderOf(id: string): OrderRecord {
  const offer = { cpu: 1, memoryBytes: 1, gpus: 0, ceilingUsdPerHour: '1.00' };
  const rest = { markets: [], bids: [], declined: [], choice: null, offer };
  return { id, pool: 'tiny', replica: 'a', state: 'open', reason: 'a test', orderedMs: 0, closedMs: null, ...rest };
}

interface Setup {
  readonly fleet: Fleet;
  readonly records: SchedulerRecords;
  readonly clock: FakeClock;
  readonly reopen: () => Promise<Fleet>;
  readonly run: (statement: string) => Promise<void>;
}

async function setup(t: TestContext, startMs = MIDNIGHT + HOUR): Promise<Setup> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-fleet-'));
  const store = await openStore(join(folder, 'underbid.db'));
  t.after(() => {
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const clock = new FakeClock(startMs);
  const records = new SchedulerRecords(store);
  await records.open();
  const open = async (): Promise<Fleet> => {
    const fleet = new Fleet(records, clock);
    await fleet.open();
    return fleet;
  };
  const run = async (statement: string): Promise<void> => void (await store.db.run(statement));
  return { fleet: await open(), records, clock, reopen: open, run };
}
