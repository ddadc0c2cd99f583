import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { MarketTerms } from '../../src/leases/market.ts';
import {
  bidWindow,
  ceilingPerBlock,
  chooseBid,
  costPerHour,
  depositFor,
  missingRunway,
  NO_BID_MS,
  type Offer,
} from '../../src/scheduler/place.ts';
import { scoreProvider } from '../../src/scheduler/reputation.ts';
import { parseUsd, shareUp } from '../../src/units.ts';
import { testLease, testSpec } from '../fakes/market-samples.ts';

const SPEC = testSpec();
const TERMS: MarketTerms = {
  blockMs: 6000,
  takeFeeBp: 2000,
  makeFeeBp: 0,
  depositMinNanoUsd: 1n,
  settlement: 'USDC',
  endsWithProcess: true,
};

test('the ceiling of a bid leaves room for the take fee', () => {
  assert.equal(ceilingPerBlock(SPEC, TERMS), 833_333n);
  assert.equal(ceilingPerBlock(SPEC, { ...TERMS, takeFeeBp: 0 }), 1_000_000n);
});

test('price and fee are never above the ceiling, and a nano more would be', () => {
  const hourly = fc.bigInt({ min: 0n, max: 10n ** 13n });
  fc.assert(
    fc.property(hourly, fc.nat(10_000), fc.integer({ min: 1, max: 60_000 }), (ceiling, takeFeeBp, blockMs) => {
      const spec = { ...SPEC, ceilingNanoUsdPerHour: ceiling };
      const terms = { ...TERMS, takeFeeBp, blockMs };
      const price = ceilingPerBlock(spec, terms);
      assert.ok(price >= 0n);
      assert.ok(costPerHour(price, terms) <= ceiling);
      assert.ok(costPerHour(price + 1n, terms) > ceiling, 'no bid that fits is shut out');
    }),
  );
});

test('a deposit pays for the runway in whole blocks with fee, and is never below the least', () => {
  assert.equal(depositFor(1001n, 60_000, TERMS), 10n * (1001n + 201n));
  assert.equal(depositFor(1001n, 60_001, TERMS), 11n * 1202n);
  assert.equal(depositFor(1001n, 0, TERMS), 1202n);
  assert.equal(depositFor(1001n, 60_000, { ...TERMS, depositMinNanoUsd: 5_000_000n }), 5_000_000n);
});

test('an escrow is filled up when less than half of the runway is left, counting what is not drawn yet', () => {
  const bid = { id: 'o/desk', orderId: 'o', provider: 'desk', priceNanoUsdPerBlock: 1000n };
  const lease = testLease({ bid, depositNanoUsd: 12_000n, block: 100 });
  const missing = (block: number): bigint => missingRunway(lease, 60_000, { terms: TERMS, block });
  assert.equal(missing(100), 0n);
  assert.equal(missing(105), 0n, 'exactly half is left');
  assert.equal(missing(106), 7200n, 'filled up to the whole runway');
  assert.equal(missing(90), 0n, 'a clock behind the chain owes nothing');
  const drawn = { ...lease, settledBlock: 106, rentNanoUsd: 6000n, takeFeeNanoUsd: 1200n };
  assert.equal(missingRunway(drawn, 60_000, { terms: TERMS, block: 106 }), 7200n);
});

test('a lease without escrow or without a price is never filled up', () => {
  const bid = { id: 'o/desk', orderId: 'o', provider: 'desk', priceNanoUsdPerBlock: 1000n };
  assert.equal(missingRunway(testLease({ bid, depositNanoUsd: 0n }), 60_000, { terms: TERMS, block: 99 }), 0n);
  const free = testLease({ bid: { ...bid, priceNanoUsdPerBlock: 0n }, depositNanoUsd: 5n });
  assert.equal(missingRunway(free, 60_000, { terms: TERMS, block: 99 }), 0n);
});

test('bids are gathered for the window after the first one, or until everybody has answered', () => {
  const at = (nowMs: number, atMs: readonly number[], complete = false): string =>
    bidWindow({ orderedMs: 0, bids: atMs.map((ms) => ({ atMs: ms })), nowMs, complete }, SPEC);
  assert.equal(at(5999, [5000, 5500]), 'wait');
  assert.equal(at(6000, [5000, 5500]), 'choose');
  assert.equal(at(5001, [5000], true), 'choose');
  assert.equal(at(NO_BID_MS - 1, []), 'wait');
  assert.equal(at(NO_BID_MS, []), 'give_up');
  assert.equal(at(10, [], true), 'give_up', 'nobody will bid any more');
});

test('the cheapest of equally trusted bids wins, and the reason names it and the next', () => {
  const choice = chooseBid([offer('dear', 800_000n), offer('cheap', 500_000n)], SPEC, new Map(), 0);
  assert.equal(choice.offer?.bid.provider, 'cheap');
  assert.equal(choice.reason, 'cheap at 0.36 USD/h of 2 eligible bids, next dear at 0.576');
  assert.deepEqual(
    choice.table.map(({ provider, usdPerHour }) => [provider, usdPerHour]),
    [
      ['cheap', '0.36'],
      ['dear', '0.576'],
    ],
  );
});

test('the best value wins: a provider that often fails must be cheaper than its failures cost', () => {
  const shaky = { leases: 20, failures: 15, disputes: 1 };
  const sound = { leases: 200, failures: 0, disputes: 0 };
  const pick = (shakyPrice: bigint): string | undefined =>
    chooseBid(
      [
        offer('shaky', shakyPrice, { score: scoreProvider(shaky) }),
        offer('sound', 600_000n, { score: scoreProvider(sound) }),
      ],
      SPEC,
      new Map(),
      0,
    ).offer?.bid.provider;
  assert.equal(pick(500_000n), 'sound');
  assert.equal(pick(450_000n), 'shaky');
});

test('fees count: of two markets the one with the higher price but no fee may win', () => {
  const free = { ...TERMS, takeFeeBp: 0 };
  const choice = chooseBid(
    [offer('fee', 500_000n), offer('none', 590_000n, { terms: free, market: 'owned' })],
    SPEC,
    new Map(),
    0,
  );
  assert.equal(choice.offer?.bid.provider, 'none');
});

test('a bid above the ceiling or of a provider that just failed is not eligible, and the table says why', () => {
  const offers = [offer('greedy', 833_334n), offer('shaky', 100n, { quarantinedUntilMs: 5001 })];
  const choice = chooseBid(offers, SPEC, new Map(), 5000);
  assert.deepEqual([choice.offer, choice.reason], [null, 'no bid is eligible']);
  assert.deepEqual(
    choice.table.map(({ provider, score, note }) => [provider, score, note]),
    [
      ['greedy', null, 'above the ceiling'],
      ['shaky', null, 'failed a moment ago'],
    ],
  );
  assert.equal(chooseBid(offers, SPEC, new Map(), 5001).offer?.bid.provider, 'shaky', 'until the time is over');
});

test('without bids nobody is chosen', () => {
  assert.deepEqual(chooseBid([], SPEC, new Map(), 0), { offer: null, reason: 'no bid is eligible', table: [] });
});

test('a provider that has its half of the replicas is passed over for a dearer one', () => {
  const offers = [offer('cheap', 400_000n), offer('dear', 800_000n)];
  const pick = (cheap: number, dear: number): string | undefined =>
    chooseBid(
      offers,
      SPEC,
      new Map([
        ['cheap', cheap],
        ['dear', dear],
      ]),
      0,
    ).offer?.bid.provider;
  assert.deepEqual(
    [pick(0, 0), pick(1, 0), pick(1, 1), pick(2, 1), pick(2, 2), pick(3, 2)],
    ['cheap', 'dear', 'cheap', 'dear', 'cheap', 'dear'],
  );
  const { reason } = chooseBid(offers, SPEC, new Map([['cheap', 1]]), 0);
  assert.match(reason, /a cheaper provider has its half of the replicas/);
});

test('a provider that is the only one to bid gets more than half, and the reason says so', () => {
  const choice = chooseBid([offer('only', 400_000n)], SPEC, new Map([['only', 2]]), 0);
  assert.equal(choice.offer?.bid.provider, 'only');
  assert.match(choice.reason, /more than half of the replicas, but nobody else bid/);
});

test('growing one by one, no provider of several ever has more than half of the replicas, rounded up', () => {
  const prices = fc.array(fc.bigInt({ min: 1n, max: 833_333n }), { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(prices, fc.integer({ min: 1, max: 12 }), (asked, replicas) => {
      const offers = asked.map((price, n) => offer(`p${n}`, price));
      const has = new Map<string, number>();
      for (let n = 1; n <= replicas; n += 1) {
        const provider = chooseBid(offers, SPEC, has, 0).offer?.bid.provider;
        assert.ok(provider);
        has.set(provider, (has.get(provider) ?? 0) + 1);
        assert.ok(Math.max(...has.values()) <= Math.ceil(n / 2));
      }
    }),
  );
});

test('whoever is chosen fits the ceiling, and nobody eligible is better unless it has its share', () => {
  const history = fc.record({ leases: fc.nat(100), failures: fc.nat(50), disputes: fc.nat(5) });
  const score = history.map(scoreProvider);
  const one = fc.record({ price: fc.bigInt({ min: 1n, max: 1_000_000n }), score, until: fc.nat(2) });
  fc.assert(
    fc.property(fc.array(one, { maxLength: 6 }), (made) => {
      const offers = made.map(({ price, until, ...rest }, n) =>
        offer(`p${n}`, price, { ...rest, quarantinedUntilMs: until }),
      );
      const { offer: chosen, table } = chooseBid(offers, SPEC, new Map(), 1);
      assert.equal(table.length, offers.length, 'every bid is told');
      const scores = table.flatMap(({ score }) => score ?? []);
      assert.equal(chosen === null, scores.length === 0);
      if (!chosen) return;
      const { priceNanoUsdPerBlock: price } = chosen.bid;
      assert.ok((price + shareUp(price, 2000)) * 600n <= parseUsd('0.60'));
      assert.equal(table.find(({ bidId }) => bidId === chosen.bid.id)?.score, Math.min(...scores));
    }),
  );
});

function offer(provider: string, priceNanoUsdPerBlock: bigint, change: Partial<Omit<Offer, 'bid'>> = {}): Offer {
  const bid = {
    id: `o/${provider}`,
    orderId: 'o',
    provider,
    priceNanoUsdPerBlock,
    atMs: 0,
    block: 0,
    note: '',
    startMs: null,
  };
  const score = scoreProvider({ leases: 0, failures: 0, disputes: 0 });
  return { market: 'local', terms: TERMS, bid, score, quarantinedUntilMs: 0, ...change };
}
