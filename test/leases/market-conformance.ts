import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { Bid, Lease, Market, OrderRequest, Outcome } from '../../src/leases/market.ts';
import { breachOf, type Breach } from '../../src/spec/dispute.ts';
import { shareUp } from '../../src/units.ts';

/** A market that is ready for tests: some provider bids for `order(id)`, and delivers. */
export interface MarketBench {
  readonly market: Market;
  readonly order: (id: string, change?: Partial<OrderRequest>) => OrderRequest;
  /** It takes deposits and draws rent from them; without, nothing is paid. */
  readonly escrow: boolean;
  readonly disputes: boolean;
  /** The smallest amount that it can take, where that is more than a nano-USD. */
  readonly stepNanoUsd?: bigint;
  /** Lets time pass until something holds. */
  readonly until: (what: string, check: () => Promise<boolean>) => Promise<void>;
  /** Lets so many blocks pass. */
  readonly passBlocks: (count: number) => Promise<void>;
}

type Setup = (t: TestContext) => Promise<MarketBench>;
type Check = (bench: MarketBench) => Promise<void>;

const DEPOSIT = 1_000_000_000n;

/** What every market keeps, whatever is behind it. An outcome that is unknown is asked again, as the interface allows. */
export function marketConformance(name: string, setup: Setup): void {
  for (const [sentence, check] of Object.entries({ ...ORDERS, ...LEASES, ...MONEY })) {
    test(`${name}: ${sentence}`, async (t) => check(await setup(t)));
  }
}

const ORDERS: Record<string, Check> = {
  'says what it charges and how it counts time': ({ market }) => {
    const { blockMs, takeFeeBp, makeFeeBp, depositMinNanoUsd } = market.terms();
    assert.ok(blockMs > 0);
    for (const fee of [takeFeeBp, makeFeeBp]) assert.ok(Number.isInteger(fee) && fee >= 0 && fee <= 10_000);
    assert.ok(depositMinNanoUsd >= 0n);
    assert.ok(Number.isInteger(market.block()));
    return Promise.resolve();
  },
  'posts an order once, however often it is asked to': async (bench) => {
    const { market, order } = bench;
    const first = await finish(bench, () => market.tender(order('o1')));
    await bidsOf(bench, 'o1');
    const again = await finish(bench, () => market.tender(order('o1')));
    assert.equal(again.id, first.id);
    assert.equal(again.postedAtMs, first.postedAtMs);
    assert.deepEqual(
      (await market.list()).orders.map(({ id }) => id),
      ['o1'],
    );
  },
  'gathers bids of its providers, none above the ceiling': async (bench) => {
    const { market, order } = bench;
    await finish(bench, () => market.tender(order('o1')));
    const bids = await bidsOf(bench, 'o1');
    const providers = new Set((await market.providers()).map(({ id }) => id));
    assert.equal(new Set(bids.map(({ id }) => id)).size, bids.length, 'each bid has an id of its own');
    for (const { orderId, provider, priceNanoUsdPerBlock: price, block } of bids) {
      assert.equal(orderId, 'o1');
      assert.ok(providers.has(provider));
      assert.ok(price > 0n && price <= order('o1').ceilingNanoUsdPerBlock);
      assert.ok(block <= market.block());
    }
  },
  'has no bid for an order whose ceiling nobody meets': async (bench) => {
    const { market, order } = bench;
    await finish(bench, () => market.tender(order('o1', { ceilingNanoUsdPerBlock: 0n })));
    await bench.passBlocks(2);
    const view = await market.order('o1');
    assert.deepEqual(view?.bids, []);
  },
  'knows no order that was not posted': async ({ market }) => {
    assert.equal(await market.order('never'), null);
  },
  'withdraws an order for good, and again without complaint': async (bench) => {
    const { market, order } = bench;
    await finish(bench, () => market.tender(order('o1')));
    const [bid] = await bidsOf(bench, 'o1');
    for (let times = 0; times < 2; times += 1) await finish(bench, () => market.cancel('o1'));
    await finish(bench, () => market.cancel('never'));
    assert.deepEqual((await market.list()).orders, []);
    assert.notEqual((await market.order('o1'))?.state ?? 'closed', 'open');
    await isRefused(bench, () => market.accept('o1', bid.id, DEPOSIT));
    assert.notEqual((await finish(bench, () => market.tender(order('o1')))).state, 'open', 'an id is used once');
  },
  'refuses to withdraw an order that became a lease': async (bench) => {
    await lease(bench, 'o1');
    await isRefused(bench, () => bench.market.cancel('o1'));
  },
};

const LEASES: Record<string, Check> = {
  'makes one lease of an order, however often a bid is taken': async (bench) => {
    const { market } = bench;
    const made = await lease(bench, 'o1');
    assert.equal(made.state, 'active');
    assert.equal(made.orderId, 'o1');
    assert.equal((await market.order('o1'))?.state, 'leased');
    const bids = (await market.order('o1'))?.bids ?? [];
    for (const { id } of [...bids, ...bids]) {
      const again = await finish(bench, () => market.accept('o1', id, DEPOSIT));
      assert.equal(again.id, made.id);
      assert.equal(again.bidId, made.bidId);
    }
    const { orders, leases } = await market.list();
    assert.deepEqual([orders.length, leases.length], [0, 1]);
  },
  'makes one lease when a bid is taken twice at once': async (bench) => {
    const { market, order } = bench;
    await finish(bench, () => market.tender(order('o1')));
    const [bid] = await bidsOf(bench, 'o1');
    const take = (): Promise<Lease> => finish(bench, () => market.accept('o1', bid.id, DEPOSIT));
    const [a, b] = await Promise.all([take(), take()]);
    assert.equal(a.id, b.id);
    assert.equal((await market.list()).leases.length, 1);
  },
  'refuses a bid or an order that it does not know': async (bench) => {
    const { market, order } = bench;
    await finish(bench, () => market.tender(order('o1')));
    const [bid] = await bidsOf(bench, 'o1');
    await isRefused(bench, () => market.accept('o1', 'o1/nobody', DEPOSIT));
    await isRefused(bench, () => market.accept('never', bid.id, DEPOSIT));
    assert.equal((await market.list()).leases.length, 0);
  },
  'delivers once, and gives the address of what runs': async (bench) => {
    const { market } = bench;
    const { id } = await lease(bench, 'o1');
    const { workload } = bench.order('o1');
    for (let times = 0; times < 2; times += 1) await finish(bench, () => market.deploy(id, workload));
    await bench.until('the model server runs', async () => (await market.status(id))?.delivery.state === 'running');
    await finish(bench, () => market.deploy(id, workload));
    const status = await market.status(id);
    assert.equal(status?.lease.id, id);
    assert.match(status.delivery.url ?? '', /^https?:\/\/[^/]+$/);
    assert.equal((await market.list()).leases[0]?.delivery.state, 'running');
  },
  'knows no lease that was not made': async (bench) => {
    const { market, order } = bench;
    assert.equal(await market.status('lease-never'), null);
    await isRefused(bench, () => market.deploy('lease-never', order('o1').workload));
    await isRefused(bench, () => market.fund('lease-never', 1n, 'fund-1'));
    await isRefused(bench, () => market.close('lease-never', 'tenant'));
    await isRefused(bench, () => market.dispute('lease-never', slow('it never was')));
  },
  'ends a lease once, for the first reason, and makes no other of its order': async (bench) => {
    const { market, order } = bench;
    const { id, bidId } = await lease(bench, 'o1');
    await finish(bench, () => market.deploy(id, order('o1').workload));
    const [closed, twice] = await Promise.all(
      ['tenant' as const, 'tenant' as const].map((reason) => finish(bench, () => market.close(id, reason))),
    );
    assert.equal(closed?.state, 'closed');
    assert.deepEqual(twice, closed);
    assert.deepEqual(await finish(bench, () => market.close(id, 'shutdown')), closed);
    const status = await market.status(id);
    assert.equal(status?.lease.state, 'closed');
    assert.equal(status.lease.closeReason, 'tenant');
    assert.equal(status.delivery.url, null);
    assert.deepEqual((await market.list()).leases, []);
    await isRefused(bench, () => market.accept('o1', bidId, DEPOSIT));
    await isRefused(bench, () => market.deploy(id, order('o1').workload));
    await isRefused(bench, () => market.fund(id, 5n, 'late'));
  },
  'shows which of its providers are in use': async (bench) => {
    const { market } = bench;
    const { id, provider } = await lease(bench, 'o1');
    const used = async (): Promise<number | undefined> =>
      (await market.providers()).find((one) => one.id === provider)?.used;
    assert.equal(await used(), 1);
    await finish(bench, () => market.close(id, 'tenant'));
    assert.equal(await used(), 0);
    for (const view of await market.providers()) assert.equal(view.market, market.name);
  },
  'files a dispute once for a lease and a breach, on the record of its provider': async (bench) => {
    const { market } = bench;
    const { id, provider } = await lease(bench, 'o1');
    if (!bench.disputes) return isRefused(bench, () => market.dispute(id, slow('slow')));
    const filed = await finish(bench, () => market.dispute(id, slow('slow')));
    const again = await finish(bench, () => market.dispute(id, slow('slow still')));
    assert.deepEqual([again.id, again.reason], [filed.id, 'slow']);
    assert.equal((await market.status(id))?.lease.dispute?.reason, 'slow');
    const view = (await market.providers()).find((one) => one.id === provider);
    assert.equal(view?.disputes, 1);
  },
  'leaves no lease when it stops, if its leases end with this process': async (bench) => {
    const { market } = bench;
    const { id } = await lease(bench, 'o1');
    if (!market.terms().endsWithProcess) return;
    await market.stop();
    assert.equal((await market.status(id))?.lease.closeReason, 'shutdown');
  },
};

const MONEY: Record<string, Check> = {
  'keeps the deposit in escrow until rent is drawn': async (bench) => {
    const made = await lease(bench, 'o1');
    assert.equal(made.depositNanoUsd, bench.escrow ? DEPOSIT : 0n);
    assert.deepEqual([made.rentNanoUsd, made.takeFeeNanoUsd, made.refundNanoUsd], [0n, 0n, 0n]);
  },
  'adds a payment to the escrow once, known by its id': async (bench) => {
    const { market, escrow, stepNanoUsd: step = 1n } = bench;
    const { id } = await lease(bench, 'o1');
    if (!escrow) return;
    for (const fundingId of ['fund-1', 'fund-1', 'fund-2', 'fund-1'])
      await finish(bench, () => market.fund(id, 7n * step, fundingId));
    assert.equal((await market.status(id))?.lease.depositNanoUsd, DEPOSIT + 14n * step);
  },
  'draws rent and fee for whole blocks and gives the rest back: they add up to the deposit': async (bench) => {
    const { market } = bench;
    const { id, priceNanoUsdPerBlock: price } = await lease(bench, 'o1');
    await bench.passBlocks(3);
    const closed = await finish(bench, () => market.close(id, 'tenant'));
    const { depositNanoUsd, rentNanoUsd, takeFeeNanoUsd, refundNanoUsd, openedBlock, settledBlock } = closed;
    assert.equal(rentNanoUsd + takeFeeNanoUsd + refundNanoUsd, depositNanoUsd);
    if (!bench.escrow) return;
    const blocks = BigInt(settledBlock - openedBlock);
    assert.ok(blocks >= 3n);
    // Cut off to what can be paid out: exact where that is a nano-USD.
    const { stepNanoUsd: step = 1n } = bench;
    assert.ok(rentNanoUsd <= price * blocks && rentNanoUsd > price * blocks - step, `${rentNanoUsd} for ${blocks}`);
    assert.equal(takeFeeNanoUsd, shareUp(price, market.terms().takeFeeBp) * blocks);
    assert.ok(closed.closedAtMs !== null && (closed.closedBlock ?? 0) >= settledBlock);
  },
  'refuses a deposit below its least': async (bench) => {
    const { market, order } = bench;
    const { depositMinNanoUsd } = market.terms();
    if (depositMinNanoUsd === 0n) return;
    await finish(bench, () => market.tender(order('o1')));
    const [bid] = await bidsOf(bench, 'o1');
    await isRefused(bench, () => market.accept('o1', bid.id, depositMinNanoUsd - 1n));
    const made = await finish(bench, () => market.accept('o1', bid.id, DEPOSIT));
    assert.equal(made.state, 'active', 'the order still stands');
  },
};

const slow = (reason: string): Breach => breachOf({ kind: 'slow', reason, fromMs: 0, toMs: Number.MAX_SAFE_INTEGER });

/** Asks again, as idempotent calls may be, until the outcome is known. */
async function known<T>(
  bench: MarketBench,
  call: () => Promise<Outcome<T>>,
): Promise<Exclude<Outcome<T>, { kind: 'unknown' }>> {
  for (let tries = 0; tries < 10; tries += 1) {
    const outcome = await call();
    if (outcome.kind !== 'unknown') return outcome;
    await bench.passBlocks(1);
  }
  throw new Error('the outcome stays unknown');
}

async function finish<T>(bench: MarketBench, call: () => Promise<Outcome<T>>): Promise<T> {
  const outcome = await known(bench, call);
  if (outcome.kind === 'refused') throw new Error(`refused: ${outcome.reason}`);
  return outcome.value;
}

async function isRefused<T>(bench: MarketBench, call: () => Promise<Outcome<T>>): Promise<void> {
  const outcome = await known(bench, call);
  assert.equal(outcome.kind, 'refused');
  assert.ok(outcome.kind === 'refused' && outcome.reason.length > 0, 'with a reason');
}

async function bidsOf({ market, until }: MarketBench, orderId: string): Promise<[Bid, ...Bid[]]> {
  await until('a bid comes', async () => ((await market.order(orderId))?.bids.length ?? 0) > 0);
  const [first, ...rest] = (await market.order(orderId))?.bids ?? [];
  assert.ok(first);
  return [first, ...rest];
}

async function lease(bench: MarketBench, orderId: string): Promise<Lease> {
  const { market, order } = bench;
  await finish(bench, () => market.tender(order(orderId)));
  const [bid] = await bidsOf(bench, orderId);
  const made = await finish(bench, () => market.accept(orderId, bid.id, DEPOSIT));
  assert.equal(made.provider, bid.provider);
  assert.equal(made.priceNanoUsdPerBlock, bid.priceNanoUsdPerBlock);
  return made;
}
