import assert from 'node:assert/strict';
import { dirname } from 'node:path';
import { test, type TestContext } from 'node:test';
import { sql as query } from 'drizzle-orm';
import * as fc from 'fast-check';
import { escrow, leaseExpense, marketFees, operatorEquity, treasury, withheldRent } from '../../src/ledger/accounts.ts';
import { runMargin } from '../../src/ledger/client.ts';
import { sumMargin, type MarginSums } from '../../src/ledger/margin-sums.ts';
import { marginOperation } from '../../src/node/margin-view.ts';
import { Pools } from '../../src/scheduler/pool/pools.ts';
import { marginOf, marginOfRow, type MarginRow } from '../../src/scheduler/margin.ts';
import { SchedulerRecords, type ReplicaRecord } from '../../src/scheduler/records.ts';
import type { Cause } from '../../src/scheduler/wake.ts';
import { disputeIdOf } from '../../src/spec/dispute.ts';
import { openStore } from '../../src/store/open.ts';
import { FakeClock } from '../fakes/clock.ts';
import { booksOn, customer, grant, hold, price, settle, tokens, transfer } from '../ledger/fixtures/books.ts';

test('the report is what the journal has, split by what machines did and put down to who woke them', (t) => {
  const { sql } = setup(t);
  const sums = sumMargin(sql, 0, 2000);
  const replicas = [replica('l1', { leasedMs: 0, readyMs: 250, closedMs: 1000, busyMs: 250, wake: CAUSE })];
  const { rows, total, other } = marginOf({ sums, replicas, busyOf: () => null, fromMs: 0, toMs: 2000, nowMs: 2000 });
  const [pool] = rows.pool;
  assert.deepEqual(rows.pool.length, 1);
  assert.deepEqual([pool?.tokens, pool?.wakeFees, pool?.rent, pool?.marketFees, pool?.api], [20n, 25n, 30n, 10n, 7n]);
  // A quarter of its time each: start-up 10, busy 40 * 250 / 1000, the rest idle.
  assert.deepEqual([pool?.startUp, pool?.busy, pool?.idle, pool?.wakes], [10n, 10n, 20n, 10n]);
  assert.equal(marginOfRow(total, 'total'), 45n - 47n);
  assert.deepEqual(
    rows.account.map(({ key, wakes }) => [key, wakes]),
    [
      ['ann', 7n],
      ['bob', 3n],
    ],
  );
  assert.deepEqual(
    rows.provider.map(({ key, rent, api }) => [key, rent, api]),
    [
      ['api-1', 0n, 7n],
      ['cheap', 30n, 0n],
    ],
  );
  assert.deepEqual(other, []);
  const captured = sql.all(`SELECT SUM(amount) AS n FROM transfers WHERE type IN ('capture', 'wake_fee')`);
  const rent = sql.all(`SELECT SUM(amount) AS n FROM transfers WHERE type = 'lease_rent'`);
  assert.deepEqual([captured[0]?.['n'], rent[0]?.['n']], [total.tokens + total.wakeFees, total.rent]);
});

test('withheld rent is taken off the lease and the provider that it is of, also where nothing else of it is in the span', (t) => {
  const { sql, add } = setup(t);
  const dispute = withheldRent('local', disputeIdOf('l1', 'slow'));
  add(transfer('held', 7n, { type: 'rent_withheld', debit: dispute, credit: leaseExpense('m'), atMs: 5000 }));
  const replicas = [replica('l1', { leasedMs: 0, readyMs: 250, closedMs: 6000, wake: CAUSE })];
  for (const [fromMs, rent] of [
    [0, 23n],
    [4000, -7n],
  ] as const) {
    const span = { fromMs, toMs: 7000, nowMs: 7000 };
    const { rows, total } = marginOf({ sums: sumMargin(sql, fromMs, 7000), replicas, busyOf: () => null, ...span });
    const cheap = rows.provider.find(({ key }) => key === 'cheap');
    assert.equal(cheap?.rent, rent);
    assert.equal(total.startUp + total.busy + total.idle, total.rent + total.marketFees);
    assert.equal(
      rows.account.reduce((sum, { wakes }) => sum + wakes, 0n),
      total.wakes,
    );
  }
});

test('credit for a breach is taken off its pool, its provider and the account that got it, promo or paid', (t) => {
  const { sql, add } = setup(t);
  const id = `sla:${disputeIdOf('l1', 'down')}:ann`;
  add(grant('gift', 50n, { kind: 'promo', atMs: 1500 }));
  add(grant(id, 4n, { kind: 'promo', given: true, atMs: 1500 }));
  add(grant(`sla:${disputeIdOf('l1', 'slow')}:ann`, 3n, { kind: 'paid', given: true, atMs: 1500 }));
  const replicas = [replica('l1', { leasedMs: 0, readyMs: 250, closedMs: 1000, wake: CAUSE })];
  const span = { fromMs: 0, toMs: 2000, nowMs: 2000 };
  const { rows, total, other } = marginOf({ sums: sumMargin(sql, 0, 2000), replicas, busyOf: () => null, ...span });
  const of = ({ key, slaCredits }: MarginRow): readonly [string, bigint] => [key, slaCredits];
  assert.deepEqual(rows.pool.map(of), [['m', 7n]]);
  assert.deepEqual(rows.provider.map(of), [
    ['api-1', 0n],
    ['cheap', 7n],
  ]);
  assert.deepEqual(rows.account.map(of), [
    ['ann', 7n],
    ['bob', 0n],
  ]);
  assert.equal(marginOfRow(total, 'total'), 45n - 47n - 7n);
  const [ann = assert.fail('no row of ann')] = rows.account;
  assert.equal(marginOfRow(ann, 'account'), 45n - 7n - ann.wakes);
  assert.deepEqual(other, [{ account: 'expense:promo', asset: 'USD', amount: 50n }], 'what was given besides is apart');
});

test('a lease is put down to its provider, however many replicas there were since', async (t) => {
  const { path } = setup(t);
  const store = await openStore(path.replace(/[^/]+$/, 'underbid.db'));
  t.after(() => store.close());
  const records = new SchedulerRecords(store);
  await records.saveReplica(replica('l1', { leasedMs: 0, readyMs: 250, closedMs: 1000 }));
  await store.db.run(query`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001)
    INSERT INTO replicas (id, pool, state, lease_id, at_ms, body)
    SELECT 'later-' || i, 'm', 'ready', 'later-' || i, i, '{}' FROM n`);
  const clock = new FakeClock(2000);
  const margin = marginOperation({ clock, pools: new Pools(clock), records, dataDir: dirname(path) });
  const { data } = await margin({ fromMs: 0, toMs: 2000, groupBy: 'provider' });
  assert.deepEqual(
    data.map((row) => [row['provider'], row['rent_usd']]),
    [
      ['api-1', '0.00'],
      ['cheap', '0.00000003'],
    ],
  );
});

test('only what lies between the two times counts, and the thread reads the same from the file', async (t) => {
  const { sql, path } = setup(t);
  assert.deepEqual(sumMargin(sql, 1001, 2000).charges, []);
  assert.deepEqual(await runMargin(dirname(path), 0, 2000), sumMargin(sql, 0, 2000));
});

test('a lease that no record tells of is still rent, of nobody known', (t) => {
  const { sql } = setup(t);
  const times = { fromMs: 0, toMs: 2000, nowMs: 2000 };
  const { rows, total } = marginOf({ sums: sumMargin(sql, 0, 2000), replicas: [], busyOf: () => null, ...times });
  assert.equal(total.rent, 30n);
  assert.deepEqual(
    rows.provider.map(({ key }) => key),
    ['api-1', 'unknown'],
  );
  assert.equal(total.startUp + total.busy + total.idle, 0n);
});

test('rows add up to the total, and the three kinds of time to rent and fees, whatever the leases', () => {
  const lease = fc.record({
    pool: fc.constantFrom('m', 'n'),
    times: fc.tuple(fc.nat(500), fc.nat(500), fc.nat(500)),
    busyMs: fc.nat(900),
    ready: fc.boolean(),
    rent: fc.bigInt(1n, 1000n),
    fee: fc.bigInt(1n, 100n),
  });
  fc.assert(
    fc.property(fc.array(lease, { maxLength: 8 }), fc.nat(1500), fc.nat(1500), (leases, fromMs, spanMs) => {
      const movements: MarginSums['movements'] = leases.flatMap(({ pool, rent, fee }, n) => {
        const of = { kind: 'expense', asset: 'USD', other: `escrow:local:l${n}` };
        return [
          { ...of, name: `expense:lease:${pool}`, amount: rent },
          { ...of, name: 'expense:market-fees:local', amount: fee },
        ];
      });
      const replicas = leases.map(({ pool, times: [leased, start, life], busyMs, ready }, n) => {
        const readyMs = ready ? leased + start : null;
        const times = { leasedMs: leased, readyMs, closedMs: leased + start + life };
        return replica(`l${n}`, { pool, ...times, busyMs, wake: CAUSE });
      });
      const sums = { charges: [], movements, truncated: false };
      const span = { fromMs, toMs: fromMs + spanMs, nowMs: 5000 };
      const { rows, total } = marginOf({ sums, replicas, busyOf: () => null, ...span });
      const costs = leases.reduce((sum, { rent, fee }) => sum + rent + fee, 0n);
      assert.equal(total.rent + total.marketFees, costs);
      assert.equal(total.startUp + total.busy + total.idle, costs);
      const sum = (of: readonly MarginRow[], field: 'rent' | 'marketFees' | 'startUp' | 'wakes'): bigint =>
        of.reduce((all, row) => all + row[field], 0n);
      for (const field of ['rent', 'marketFees', 'startUp'] as const) {
        assert.equal(sum(rows.pool, field), total[field]);
        assert.equal(sum(rows.provider, field), total[field]);
      }
      assert.equal(sum(rows.account, 'wakes'), total.wakes);
    }),
  );
});

const CAUSE: Cause = {
  ...{ way: 'value', costNanoUsd: 10n, fee: null },
  shares: [
    { account: 'ann', weight: 2n },
    { account: 'bob', weight: 1n },
  ],
};

function replica(leaseId: string, change: Partial<ReplicaRecord>): ReplicaRecord {
  const nothing = { market: 'local' as const, bidId: null, priceNanoUsdPerBlock: null, costNanoUsdPerHour: null };
  const times = { orderedMs: 0, leasedMs: null, runningMs: null, readyMs: null, drainMs: null, closedMs: null };
  return {
    ...{ id: `rep-${leaseId}`, pool: 'm', state: 'closed', orderId: 'o', leaseId, provider: 'cheap', reason: 'r' },
    ...{ ...nothing, ...times, failed: false, fundings: 0 },
    ...change,
  };
}

/** Ann was charged 20 for tokens and 25 for a wake; 7 are owed to an API; lease l1 cost 30 of rent and 10 of fees. */
function setup(t: TestContext) {
  const { path, open } = booksOn(t);
  const { book, sql, do: apply } = open();
  for (const operation of [customer(), grant('g', 100n), price()]) apply(operation);
  apply(hold('r1', 60n, { wakeFee: 25n }));
  const purchases = [{ provider: 'api-1', amount: 7n }];
  apply(settle('r1', tokens(20), { wakeFee: 25n, purchases, atMs: 1000 }));
  const local = treasury('local');
  apply(transfer('t', 100n, { debit: local, credit: operatorEquity('local') }));
  apply(transfer('d', 60n, { debit: escrow('local', 'l1'), credit: local }));
  const drawn = { credit: escrow('local', 'l1'), atMs: 900 };
  apply(transfer('x', 30n, { ...drawn, type: 'lease_rent', debit: leaseExpense('m') }));
  apply(transfer('y', 10n, { ...drawn, type: 'market_fee', debit: marketFees('local') }));
  book.commit();
  const add = (operation: ReturnType<typeof transfer> | ReturnType<typeof grant>): void => {
    apply(operation);
    book.commit();
  };
  return { sql, path, add };
}
