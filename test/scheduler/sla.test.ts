import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import type { LeaseUsage } from '../../src/ledger/lease-usage.ts';
import type { Ledger, LedgerOp, UsageDetail } from '../../src/ledger/operations.ts';
import { newDispute, WINDOWS } from '../../src/leases/dispute.ts';
import { DisputeRecords } from '../../src/leases/dispute-records.ts';
import { Pools } from '../../src/scheduler/pool/pools.ts';
import { isAffected, planCredits } from '../../src/scheduler/sla/credit-plan.ts';
import { CreditRows } from '../../src/scheduler/sla/credit-rows.ts';
import { SlaCredits } from '../../src/scheduler/sla/credits.ts';
import { breachOf, type BreachKind } from '../../src/spec/dispute.ts';
import { parseSla, slaSchema } from '../../src/spec/sla.ts';
import { openStore } from '../../src/store/open.ts';
import { openBook } from '../leases/local-market-bench.ts';
import { FakeClock } from '../fakes/clock.ts';
import { testSpec } from '../fakes/market-samples.ts';

const SLA = parseSla(slaSchema.parse({ first_token_ms: 1000, between_tokens_ms: 100, credit_percent: 50 }));
const START = 1_700_000_000_000;
/** Longer than any request of a breach may last: its wait for a machine, and its answer. */
const ENDED_MS = 300_000 + 900_000;

test('a request is affected that failed, moved on, or was slower than promised; the others are not', () => {
  const fine: UsageDetail = { lease: 'L', firstTokenMs: 1900, waitedMs: 1000, totalMs: 2800 };
  const of = (detail: UsageDetail, change: Partial<LeaseUsage> = {}, kind: BreachKind = 'down'): boolean =>
    isAffected({ ...usage('a', 100n), detail, outputTokens: 10, ...change }, 'L', kind, SLA);
  assert.equal(of(fine), false);
  assert.equal(of(fine, { status: 'failed' }), true);
  assert.equal(of({ ...fine, firstTokenMs: 2001, totalMs: 2500 }), true, 'the wait for a machine does not count');
  assert.equal(of({ ...fine, totalMs: 2801 }), true, 'more than 100 ms between tokens');
  assert.equal(of({ ...fine, lease: 'M', before: ['L'], resumed: 1 }), true);
  assert.equal(of({ ...fine, lease: 'M', before: ['L'] }), false);
  assert.equal(of(fine, {}, 'wrong_weights'), true, 'its answers were not the model that was paid for');
});

test('nobody gets more than the share of what was charged, nor more than is left of the month', () => {
  const rows = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.bigInt({ min: 0n, max: 10n ** 11n })));
  fc.assert(
    fc.property(rows, fc.bigInt({ min: 0n, max: 2n * SLA.monthNanoUsd }), (charges, before) => {
      const credits = planCredits(
        charges.map(([account, charged]) => usage(account, charged)),
        SLA,
        () => before,
      );
      assert.equal(new Set(credits.map(({ account }) => account)).size, credits.length);
      for (const { account, amountNanoUsd } of credits) {
        const charged = charges.filter(([one]) => one === account).reduce((sum, [, amount]) => sum + amount, 0n);
        assert.ok(amountNanoUsd > 0n && amountNanoUsd <= charged / 2n);
        assert.ok(amountNanoUsd + before <= SLA.monthNanoUsd);
      }
    }),
  );
});

test('a crash at any write leaves every credit granted once, and the month has a limit', async (t) => {
  let struck = 0;
  for (const when of ['before', 'after'] as const) {
    for (let at = 1; at < 40; at += 1) {
      const bench = await setup(t);
      await bench.serve('r1', 'ann', 'L');
      await bench.serve('r2', 'ben', 'L');
      await bench.serve('r3', 'ann', 'other');
      await bench.dispute('L', 'wrong_weights');
      let [calls, hit] = [0, false];
      const faulty = async <T>(effect: () => Promise<T>): Promise<T> => {
        calls += 1;
        if (calls !== at) return effect();
        hit = true;
        if (when === 'after') await effect();
        throw new Error('the process ended');
      };
      await bench.clock.advance(ENDED_MS);
      await bench
        .credits(faulty)
        .look()
        .catch(() => undefined);
      for (let start = 0; start < 3; start += 1) await bench.credits().look();
      const half = bench.charged / 2n;
      assert.deepEqual(await bench.granted(), { ann: half, ben: half }, `${when} call ${at}`);
      await bench.dispute('other', 'wrong_weights');
      await bench.clock.advance(ENDED_MS);
      await bench.credits().look();
      assert.deepEqual(await bench.granted(), { ann: bench.month, ben: half }, `${when} call ${at}: up to the limit`);
      assert.equal((await bench.ledger.ask({ op: 'check' })).ok, true);
      await bench.close();
      if (!hit) break;
      struck += 1;
    }
  }
  assert.ok(struck >= 8, `${struck} places to crash`);
});

test('nothing is granted before the requests of a breach have had their time to end, or without a promise', async (t) => {
  const bench = await setup(t);
  await bench.serve('r1', 'ann', 'L');
  await bench.dispute('L', 'wrong_weights');
  await bench.clock.advance(ENDED_MS - 1000);
  await bench.credits().look();
  assert.deepEqual(await bench.granted(), { ann: 0n, ben: 0n });
  const [{ id } = { id: '' }] = bench.pools.list().map(({ router }) => router.spec);
  bench.pools.put(testSpec({}, id), 1, 'file');
  await bench.clock.advance(2000);
  await bench.credits().look();
  assert.deepEqual(await bench.granted(), { ann: 0n, ben: 0n });
  await bench.close();
});

test('an answer that waited for another machine and ended as late as it may is credited', async (t) => {
  const bench = await setup(t, '1', 'paid');
  await bench.dispute('L', 'down');
  await bench.clock.advance(ENDED_MS - 1000);
  await bench.serve('r1', 'ann', 'M', { before: ['L'], resumed: 1 });
  await bench.clock.advance(1000);
  await bench.credits().look();
  assert.deepEqual(await bench.granted(), { ann: bench.charged / 2n, ben: 0n });
  const expense = await bench.ledger.ask({ op: 'account', name: 'expense:promo' });
  assert.equal(expense?.posted, bench.charged / 2n, 'paid credit that nobody paid for is an expense, too');
  await bench.close();
});

test('a request that two breaches hit is credited once, on one lease as on two', async (t) => {
  const bench = await setup(t, '1');
  await bench.serve('r1', 'ann', 'L');
  await bench.serve('r2', 'ben', 'M', { before: ['L'], resumed: 1 });
  for (const kind of ['wrong_weights', 'wrong_hardware'] as const) await bench.dispute('L', kind);
  await bench.dispute('M', 'wrong_weights');
  await bench.clock.advance(ENDED_MS);
  for (let look = 0; look < 2; look += 1) await bench.credits().look();
  assert.deepEqual(await bench.granted(), { ann: bench.charged / 2n, ben: bench.charged / 2n });
  await bench.close();
});

test('disputes of pools that promise nothing keep nobody from the credit of those that do', async (t) => {
  const bench = await setup(t);
  for (let at = 0; at < 120; at += 1) await bench.dispute(`silent-${at}`, 'down', 'no-promise');
  await bench.serve('r1', 'ann', 'L');
  await bench.dispute('L', 'wrong_weights');
  await bench.clock.advance(ENDED_MS);
  await bench.credits().look();
  assert.deepEqual(await bench.granted(), { ann: bench.charged / 2n, ben: 0n });
  await bench.close();
});

test('a pool that is being deleted keeps its promise', async (t) => {
  const bench = await setup(t);
  await bench.serve('r1', 'ann', 'L');
  await bench.dispute('L', 'wrong_weights');
  await bench.clock.advance(ENDED_MS);
  const [{ id } = { id: '' }] = bench.pools.list().map(({ router }) => router.spec);
  bench.pools.remove(id);
  await bench.credits().look();
  assert.deepEqual(await bench.granted(), { ann: bench.charged / 2n, ben: 0n });
  await bench.close();
});

test('what a breach of days did is asked of the ledger in steps: requests are charged in between', async (t) => {
  const bench = await setup(t);
  await bench.serve('r1', 'ann', 'L');
  await bench.clock.advance(3 * 86_400_000);
  await bench.serve('r2', 'ben', 'L');
  await bench.dispute('L', 'wrong_weights');
  await bench.clock.advance(ENDED_MS);
  const spans: number[] = [];
  await bench
    .credits(undefined, ({ op, ...query }) => {
      if (op === 'leaseUsage' && 'toMs' in query) spans.push(query.toMs - query.fromMs);
    })
    .look();
  assert.deepEqual(await bench.granted(), { ann: bench.charged / 2n, ben: bench.charged / 2n });
  assert.ok(Math.max(...spans) <= 600_000 && spans.length < 1000, `${spans.length} of ${Math.max(...spans)} ms`);
  await bench.close();
});

test('who reads his answer slowly makes no breach of it', () => {
  const slow: UsageDetail = { lease: 'L', firstTokenMs: 10, totalMs: 60_000 };
  const of = (detail: UsageDetail): boolean =>
    isAffected({ ...usage('a', 100n), detail, outputTokens: 10 }, 'L', 'slow', SLA);
  assert.equal(of(slow), true);
  assert.equal(of({ ...slow, slowClient: true }), false);
});

function usage(customer: string, charged: bigint): LeaseUsage {
  return { request: 'r', atMs: START, customer, outputTokens: 1, charged, status: 'done', detail: { lease: 'L' } };
}

type Around = <T>(effect: () => Promise<T>) => Promise<T>;

async function setup(t: TestContext, month = '0.00075', credit: 'promo' | 'paid' = 'promo') {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-sla-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const store = await openStore(join(folder, 'underbid.db'));
  const { ledger, close } = await openBook(folder);
  const clock = new FakeClock(START);
  const pools = new Pools(clock, true);
  // A request costs 1,000,000 nano-USD; half of it is credited, one and a half requests' worth a month at most.
  const sla = { credit_percent: 50, credit_max_usd_per_month: month, credit };
  const spec = testSpec({ price: { input: '1', output: '1' }, sla });
  const priceVersion = await ledger.ask({ op: 'price', model: spec.id, price: spec.price, atMs: START });
  pools.put(spec, priceVersion, 'file');
  for (const id of ['ann', 'ben']) {
    await ledger.ask({ op: 'customer', id, name: id, atMs: START });
    const grant = { id: `paid:${id}`, customer: id, kind: 'paid' as const, amount: 10n ** 9n, expiresMs: null };
    await ledger.ask({ op: 'grant', ...grant, actor: 'test', reason: 'paid', atMs: START });
  }
  const serve = async (request: string, customer: string, lease: string, more: UsageDetail = {}): Promise<void> => {
    const hold = { request, customer, key: null, model: spec.id, priceVersion, amount: 10n ** 7n };
    const held = await ledger.ask({ op: 'hold', ...hold, atMs: clock.now(), deadlineMs: clock.now() + 1000 });
    assert.equal(held.ok, true);
    const tokens = { inputTokens: 500, cachedTokens: 0, outputTokens: 500 };
    const detail = { lease, firstTokenMs: 10, totalMs: 20, ...more };
    await ledger.ask({ op: 'settle', request, tokens, status: 'done', detail, atMs: clock.now() });
  };
  const dispute = async (lease: string, kind: BreachKind, pool = spec.id): Promise<void> => {
    const breach = breachOf({ kind, reason: 'x', fromMs: START - 1000, toMs: clock.now() });
    const of = { id: lease, pool, provider: 'desk' };
    const made = { market: 'local' as const, lease: of, breach, atMs: clock.now(), local: true, withheld: null };
    await new DisputeRecords(store).save(newDispute({ ...made, windows: WINDOWS }));
  };
  const credits = (around: Around = (effect) => effect(), see: (asked: LedgerOp) => void = () => undefined) => {
    const rows = new CreditRows(store);
    const save = rows.save.bind(rows);
    rows.save = (run, state) => around(() => save(run, state));
    const ask: Ledger['ask'] = (operation) => {
      see(operation);
      return around(() => ledger.ask(operation));
    };
    const asked: Ledger = { ask, close: () => ledger.close() };
    return new SlaCredits({ clock, ledger: asked, rows, pools, log: () => undefined });
  };
  const grantedOf = async (customer: string): Promise<bigint> =>
    ((await ledger.ask({ op: 'balance', customer }))?.credits ?? 0n) - 10n ** 9n;
  const granted = async () => ({ ann: await grantedOf('ann'), ben: await grantedOf('ben') });
  const end = async (): Promise<void> => {
    await close();
    store.close();
  };
  return { clock, ledger, pools, serve, dispute, credits, granted, close: end, charged: 10n ** 6n, month: 750_000n };
}
