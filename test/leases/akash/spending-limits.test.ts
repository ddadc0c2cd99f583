import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { Alarms } from '../../../src/leases/akash/alarms.ts';
import type { Order } from '../../../src/leases/akash/chain-types.ts';
import { Purse } from '../../../src/leases/akash/purse.ts';
import { DAY_MS, HOUR_MS, SpendingLimits, type SpendingLimit } from '../../../src/leases/akash/spending-limits.ts';
import { TreasuryRecords, type Spending } from '../../../src/leases/akash/treasury-records.ts';
import { openStore, type Store } from '../../../src/store/open.ts';
import { FakeClock } from '../../fakes/clock.ts';

const LIMITS: readonly SpendingLimit[] = [
  { kind: 'deposit', windowMs: HOUR_MS, max: 100n, setting: 'per_hour' },
  { kind: 'deposit', windowMs: DAY_MS, max: 250n, setting: 'per_day' },
  { kind: 'mint', windowMs: DAY_MS, max: 80n, setting: 'mints' },
  { kind: 'fee', windowMs: DAY_MS, max: 50n, setting: 'fees' },
];
const ID = { owner: 'akash1owner', dseq: 1n };
const MINUTE = 60_000;

test('an hour and a day have limits of their own, and each opens again as its window moves on', async (t) => {
  const { limits, clock } = await setup(t);
  assert.equal((await limits.take('deposit', 60n)).ok, true);
  const over = await limits.take('deposit', 41n);
  assert.deepEqual(over, { ok: false, reason: 'deposits have reached the limit of an hour (per_hour)' });
  assert.equal((await limits.take('deposit', 40n)).ok, true);
  await clock.advance(HOUR_MS);
  assert.equal((await limits.take('deposit', 100n)).ok, true);
  await clock.advance(HOUR_MS);
  assert.equal(await limits.left('deposit'), 50n, 'of the day');
  assert.deepEqual(await limits.take('deposit', 51n), {
    ok: false,
    reason: 'deposits have reached the limit of a day (per_day)',
  });
  await clock.advance(DAY_MS - 2 * HOUR_MS);
  assert.equal((await limits.take('deposit', 100n)).ok, true);
});

test('a restart forgets nothing, and neither does a clock that is set back', async (t) => {
  const { limits, again, store } = await setup(t);
  await limits.take('deposit', 90n);
  assert.equal((await again().take('deposit', 11n)).ok, false);
  const early = new SpendingLimits(new TreasuryRecords(store), LIMITS, new FakeClock(1_700_000_000_000 - 2 * DAY_MS));
  assert.equal((await early.take('deposit', 11n)).ok, false);
  assert.equal((await early.take('deposit', 10n)).ok, true);
});

test('what could not be written may not be spent, and counts when the row is there after all', async (t) => {
  const { store, clock } = await setup(t);
  const records = new BrokenRecords(store);
  const limits = new SpendingLimits(records, LIMITS, clock);
  for (const when of ['before', 'after'] as const) {
    records.fails = when;
    await assert.rejects(() => limits.take('deposit', 40n), /disk/);
  }
  records.fails = null;
  const fresh = new SpendingLimits(new TreasuryRecords(store), LIMITS, clock);
  assert.equal(await fresh.left('deposit'), 60n, 'one of the two rows is on disk');
  assert.equal((await limits.take('deposit', 40n)).ok, true, 'the numbers of rows do not clash');
});

test('the purse reads off the orders what they pay, and gives back what was not spent', async (t) => {
  const { limits, clock } = await setup(t);
  const logs: string[] = [];
  const log = (line: string): void => void logs.push(line);
  const alarms = new Alarms(clock, log);
  const purse = new Purse({ limits, alarms, bookFee: () => Promise.reject(new Error('no ledger')), log });
  const orders: Order[] = [
    { type: 'deposit', id: ID, amount: 30n },
    { type: 'create_deployment', id: ID, deposit: 50n, version: new Uint8Array(), group: {} as never },
    { type: 'mint_act', owner: ID.owner, burnUakt: 1n, worth: 70n },
  ];
  const permit = await purse.permit(orders);
  assert.equal(permit.kind, 'granted');
  assert.deepEqual([await limits.left('deposit'), await limits.left('mint')], [20n, 10n]);
  const refused = await purse.permit(orders.slice(0, 1));
  assert.equal(refused.kind, 'refused');
  assert.deepEqual(
    alarms.list().map(({ name }) => name),
    ['limit.reached'],
  );
  // A mint that is refused leaves nothing of its deposit counted.
  assert.equal((await purse.permit([{ type: 'deposit', id: ID, amount: 5n }, ...orders.slice(2)])).kind, 'refused');
  assert.equal(await limits.left('deposit'), 20n);
  if (permit.kind === 'granted') await permit.giveBack();
  assert.deepEqual([await limits.left('deposit'), await limits.left('mint')], [100n, 80n]);
  assert.equal(await purse.fee(50n, orders), null);
  assert.match((await purse.fee(1n, orders)) ?? '', /limit of a day \(fees\)/);
  assert.equal(await purse.fee(9n, [{ type: 'close_deployment', id: ID }]), null, 'what ends a lease always passes');
  await purse.included({ hash: 'AB', height: 1, code: 0, log: '', gasUsed: 1n, feeUakt: 1n });
  assert.ok(logs.some((line) => /fee of AB is not in the books yet: no ledger/.test(line)));
});

test('what a transaction was to pay has its room back once it is certain that it did not, after a restart too', async (t) => {
  const { limits, clock, store } = await setup(t);
  const logs: string[] = [];
  const log = (line: string): void => void logs.push(line);
  const make = (over: SpendingLimits): Purse =>
    new Purse({ limits: over, alarms: new Alarms(clock, log), bookFee: () => Promise.resolve(), log });
  const orders: Order[] = [
    { type: 'deposit', id: ID, amount: 60n },
    { type: 'mint_act', owner: ID.owner, burnUakt: 1n, worth: 70n },
  ];
  const first = await make(limits).permit(orders);
  assert.ok(first.kind === 'granted');
  await first.noted('TX-OUT-OF-GAS');
  await first.noted('TX');
  const other = await make(limits).permit([{ type: 'deposit', id: ID, amount: 7n }]);
  assert.ok(other.kind === 'granted');
  await other.noted('ANOTHER');
  const again = new SpendingLimits(new TreasuryRecords(store), LIMITS, clock);
  const purse = make(again);
  assert.deepEqual([await again.left('deposit'), await again.left('mint')], [33n, 10n]);
  await purse.unspent('TX-OUT-OF-GAS');
  assert.equal(await again.left('deposit'), 33n, 'it was signed anew: the later one decides');
  await again.giveBackOf('TX', 'mint');
  assert.deepEqual([await again.left('deposit'), await again.left('mint')], [33n, 80n], 'a deposit beside it stays');
  await purse.unspent('TX');
  await purse.unspent('TX');
  assert.equal(await again.left('deposit'), 93n);
  const third = new SpendingLimits(new TreasuryRecords(store), LIMITS, clock);
  assert.equal(await third.left('deposit'), 93n, 'on disk as well');
  assert.deepEqual(logs, []);
});

test('whatever is asked, given back, restarted or timed, no window ever holds more than its limit', async (t) => {
  const folder = temporary(t);
  let run = 0;
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('take' as const), amount: fc.bigInt(0n, 70n) }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('give back' as const), which: fc.nat() }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), minutes: fc.nat(500) }) },
    { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const), when: fc.constantFrom('before', 'after') }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('two at once' as const), amount: fc.bigInt(1n, 70n) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      run += 1;
      const store = await openStore(join(folder, `${run}.db`));
      const clock = new FakeClock();
      const records = new BrokenRecords(store);
      let limits = new SpendingLimits(records, LIMITS, clock);
      /** What really went out. */
      const spent: { amount: bigint; atMs: number; spending: Spending | null }[] = [];
      const take = async (amount: bigint): Promise<void> => {
        const taken = await limits.take('deposit', amount).catch(() => null);
        if (taken?.ok) spent.push({ amount, atMs: clock.now(), spending: taken.spending });
      };
      for (const one of steps) {
        if (one.do === 'take') await take(one.amount);
        else if (one.do === 'two at once') await Promise.all([take(one.amount), take(one.amount)]);
        else if (one.do === 'wait') await clock.advance(one.minutes * MINUTE);
        else if (one.do === 'restart') limits = new SpendingLimits(records, LIMITS, clock);
        else if (one.do === 'fail') {
          records.fails = one.when as 'before' | 'after';
          await take(1n);
          records.fails = null;
        } else {
          const [given] = spent.splice(one.which % Math.max(1, spent.length), 1);
          if (given?.spending) await limits.giveBack(given.spending);
        }
        for (const { windowMs, max } of LIMITS.slice(0, 2)) {
          const now = clock.now();
          const used = spent.filter(({ atMs }) => atMs > now - windowMs).reduce((sum, { amount }) => sum + amount, 0n);
          assert.ok(used <= max, `${used} within ${windowMs} ms`);
        }
      }
      store.close();
    }),
    { numRuns: 40 },
  );
});

class BrokenRecords extends TreasuryRecords {
  fails: 'before' | 'after' | null = null;

  override async addSpending(spending: Spending): Promise<void> {
    if (this.fails === 'before') throw new Error('disk');
    await super.addSpending(spending);
    if (this.fails === 'after') throw new Error('disk');
  }
}

function temporary(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-spending-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

interface Setup {
  readonly store: Store;
  readonly clock: FakeClock;
  readonly limits: SpendingLimits;
  readonly again: () => SpendingLimits;
}

async function setup(t: TestContext): Promise<Setup> {
  const folder = temporary(t);
  const store = await openStore(join(folder, 'underbid.db'));
  t.after(() => store.close());
  const clock = new FakeClock();
  const again = (): SpendingLimits => new SpendingLimits(new TreasuryRecords(store), LIMITS, clock);
  return { store, clock, limits: again(), again };
}
