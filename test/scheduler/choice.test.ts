import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import type { MarketTerms } from '../../src/leases/market.ts';
import { whyAvoid } from '../../src/scheduler/avoid.ts';
import { chooseBid, worthOf, type Chosen, type Offer } from '../../src/scheduler/choice.ts';
import type { ProviderScore } from '../../src/scheduler/reputation.ts';
import { parseUsd, shareUp } from '../../src/units.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { recordWith, scoreOf } from './track-samples.ts';

const SPEC = testSpec();
const TERMS: MarketTerms = {
  blockMs: 6000,
  takeFeeBp: 2000,
  makeFeeBp: 0,
  depositMinNanoUsd: 1n,
  settlement: 'USDC',
  endsWithProcess: true,
};
const HOUR_MS = 3_600_000;

test('the cheapest of equally trusted bids wins, and the reason names it and the next', () => {
  const choice = chooseBid([offer('dear', 800_000n), offer('cheap', 500_000n)], SPEC, chosen());
  assert.equal(choice.offer?.bid.provider, 'cheap');
  assert.equal(choice.reason, 'cheap at 0.36 USD/h of 2 eligible bids, next dear at 0.576: decided by price');
  assert.deepEqual(
    choice.table.map(({ provider, usdPerHour }) => [provider, usdPerHour]),
    [
      ['cheap', '0.36'],
      ['dear', '0.576'],
    ],
  );
});

test('the best value wins: a provider that often fails must be cheaper than its failures cost', () => {
  const shaky = recordWith({ started: 5, failed: 15 });
  const sound = recordWith({ started: 200, hours: 500 });
  const pick = (shakyPrice: bigint): string | undefined =>
    chooseBid(
      [offer('shaky', shakyPrice, { score: scoreOf(shaky) }), offer('sound', 600_000n, { score: scoreOf(sound) })],
      SPEC,
      chosen(),
    ).offer?.bid.provider;
  assert.equal(pick(500_000n), 'sound');
  assert.equal(pick(450_000n), 'shaky');
});

test('fees count: of two markets the one with the higher price but no fee may win', () => {
  const free = { ...TERMS, takeFeeBp: 0 };
  const choice = chooseBid(
    [offer('fee', 500_000n), offer('none', 590_000n, { terms: free, market: 'owned' })],
    SPEC,
    chosen(),
  );
  assert.equal(choice.offer?.bid.provider, 'none');
});

test('a bid above the ceiling or of a provider that just failed is not eligible, and the table says why', () => {
  const offers = [offer('greedy', 833_334n), offer('shaky', 100n, { quarantinedUntilMs: 5001 })];
  const choice = chooseBid(offers, SPEC, chosen({ nowMs: 5000 }));
  assert.deepEqual([choice.offer, choice.reason], [null, 'no bid is eligible']);
  assert.deepEqual(
    choice.table.map(({ provider, score, note }) => [provider, score, note]),
    [
      ['greedy', null, 'above the ceiling'],
      ['shaky', null, 'failed a moment ago'],
    ],
  );
  assert.equal(chooseBid(offers, SPEC, chosen({ nowMs: 5001 })).offer?.bid.provider, 'shaky', 'until the time is over');
});

test('without bids nobody is chosen', () => {
  assert.deepEqual(chooseBid([], SPEC, chosen()), { offer: null, reason: 'no bid is eligible', table: [] });
});

test('a provider that has its half of the replicas is passed over for a dearer one', () => {
  const offers = [offer('cheap', 400_000n), offer('dear', 800_000n)];
  const pick = (cheap: number, dear: number): string | undefined =>
    chooseBid(
      offers,
      SPEC,
      chosen({
        perProvider: new Map([
          ['cheap', cheap],
          ['dear', dear],
        ]),
      }),
    ).offer?.bid.provider;
  assert.deepEqual(
    [pick(0, 0), pick(1, 0), pick(1, 1), pick(2, 1), pick(2, 2), pick(3, 2)],
    ['cheap', 'dear', 'cheap', 'dear', 'cheap', 'dear'],
  );
  const { reason } = chooseBid(offers, SPEC, chosen({ perProvider: new Map([['cheap', 1]]) }));
  assert.match(reason, /a cheaper provider has its half of the replicas/);
});

test('a provider that is the only one to bid gets more than half, and the reason says so', () => {
  const choice = chooseBid([offer('only', 400_000n)], SPEC, chosen({ perProvider: new Map([['only', 2]]) }));
  assert.equal(choice.offer?.bid.provider, 'only');
  assert.match(choice.reason, /more than half of the replicas, but nobody else bid/);
});

test('a provider that takes a machine back, or failed lately, is taken only when nobody else bids', () => {
  const lately = { market: 'akash', provider: 'p', failedMs: 1_000 } as const;
  assert.equal(whyAvoid(lately, [], 600_999), 'it failed lately');
  assert.equal(whyAvoid(lately, [], 601_000), null);
  const never = { ...lately, failedMs: null };
  const machine = { market: 'akash', provider: 'p', endsMs: 5_000 } as const;
  assert.equal(whyAvoid(never, [machine], 0), 'it takes a machine back');
  for (const other of [
    { ...machine, endsMs: null },
    { ...machine, market: 'local' as const },
    { ...machine, provider: 'q' },
  ]) {
    assert.equal(whyAvoid(never, [other], 0), null);
  }
  const avoid = 'it takes a machine back';
  const offers = [offer('leaving', 100_000n, { avoid }), offer('crowded', 500_000n), offer('other', 700_000n)];
  const perProvider = new Map([['crowded', 1]]);
  const choice = chooseBid(offers, SPEC, chosen({ perProvider }));
  assert.equal(choice.offer?.bid.provider, 'other');
  assert.match(choice.reason, /not leaving: it takes a machine back$/);
  assert.equal(choice.table[0]?.provider, 'leaving');
  assert.match(choice.table[0]?.note ?? '', /it takes a machine back/);
  const half = chooseBid(offers.slice(0, 2), SPEC, chosen({ perProvider }));
  assert.equal(half.offer?.bid.provider, 'crowded', 'rather more than half on one provider');
  const alone = chooseBid(offers.slice(0, 1), SPEC, chosen({ perProvider }));
  assert.equal(alone.offer?.bid.provider, 'leaving');
  assert.match(alone.reason, /it takes a machine back, but nobody else bid/);
});

test('growing one by one, no provider of several ever has more than half of the replicas, rounded up', () => {
  const prices = fc.array(fc.bigInt({ min: 1n, max: 833_333n }), { minLength: 2, maxLength: 5 });
  fc.assert(
    fc.property(prices, fc.integer({ min: 1, max: 12 }), (asked, replicas) => {
      const offers = asked.map((price, n) => offer(`p${n}`, price));
      const has = new Map<string, number>();
      for (let n = 1; n <= replicas; n += 1) {
        const provider = chooseBid(offers, SPEC, chosen({ perProvider: has })).offer?.bid.provider;
        assert.ok(provider);
        has.set(provider, (has.get(provider) ?? 0) + 1);
        assert.ok(Math.max(...has.values()) <= Math.ceil(n / 2));
      }
    }),
  );
});

test('whoever is chosen fits the ceiling, and nobody eligible is better unless it has its share', () => {
  const history = fc.record({ started: fc.nat(100), failed: fc.nat(50), lost: fc.nat(5) });
  const scores = history.map((of) => scoreOf(recordWith(of)));
  const one = fc.record({ price: fc.bigInt({ min: 1n, max: 1_000_000n }), score: scores, until: fc.nat(2) });
  fc.assert(
    fc.property(fc.array(one, { maxLength: 6 }), (made) => {
      const offers = made.map(({ price, until, ...rest }, n) =>
        offer(`p${n}`, price, { ...rest, quarantinedUntilMs: until }),
      );
      const { offer: taken, table } = chooseBid(offers, SPEC, chosen({ nowMs: 1 }));
      assert.equal(table.length, offers.length, 'every bid is told');
      const eligible = table.flatMap(({ score: worth }) => worth ?? []);
      assert.equal(taken === null, eligible.length === 0);
      if (!taken) return;
      const { priceNanoUsdPerBlock: price } = taken.bid;
      assert.ok((price + shareUp(price, 2000)) * 600n <= parseUsd('0.60'));
      assert.equal(table.find(({ bidId }) => bidId === taken.bid.id)?.score, Math.min(...eligible));
    }),
  );
});

test('where a machine stays only for a while, a quick start is worth its price; where it stays long, it is not', () => {
  const quick = offer('quick', 600_000n, { score: score({ startMs: 30_000 }) });
  const slow = offer('slow', 500_000n, { score: score({ startMs: 600_000 }) });
  const pick = (lifeMs: number): string => chooseBid([quick, slow], SPEC, chosen({ lifeMs })).reason;
  assert.match(pick(HOUR_MS / 4), /^quick at 0.432 USD\/h .*: decided by start-up .*in spite of price$/);
  assert.match(pick(24 * HOUR_MS), /^slow at 0.36 USD\/h .*: decided by price$/);
});

test('a machine at half the speed must cost less than half', () => {
  const whole = offer('whole', 600_000n);
  const pick = (price: bigint): string | undefined =>
    chooseBid([whole, offer('half', price, { score: score({ speed: 0.5 }) })], SPEC, chosen()).offer?.bid.provider;
  assert.deepEqual([pick(310_000n), pick(280_000n)], ['whole', 'half']);
});

test('what the provider says of its start-up counts where nothing was seen of it', () => {
  const said = offer('said', 500_000n);
  const bid = { ...said.bid, startMs: 3_600_000 };
  assert.ok(worthOf({ ...said, bid }, 1, chosen()).start > worthOf(said, 1, chosen()).start);
  const seen = { ...said, bid, score: score({ startMs: 60_000 }) };
  assert.equal(worthOf(seen, 1, chosen()).start, worthOf(said, 1, chosen()).start);
});

test('the parts of what a bid is worth add up, and each is no less for a worse provider', () => {
  const made = fc.record({
    failureChance: fc.double({ min: 0, max: 1, noNaN: true }),
    startMs: fc.integer({ min: 0, max: HOUR_MS }),
    speed: fc.double({ min: 0.05, max: 2, noNaN: true }),
  });
  const lifeMs = fc.integer({ min: 300_000, max: 24 * HOUR_MS });
  fc.assert(
    fc.property(made, lifeMs, fc.bigInt({ min: 1n, max: 800_000n }), (given, life, price) => {
      const of = (change: Partial<ProviderScore>): ReturnType<typeof worthOf> =>
        worthOf(offer('one', price, { score: score({ ...given, ...change }) }), 0.5, chosen({ lifeMs: life }));
      const { price: rent, start, speed, risk, sum } = of({});
      assert.ok(Math.abs(rent + start + speed + risk - sum) < 1e-9);
      assert.ok(Number.isFinite(sum) && rent >= 0 && start >= 0 && risk >= 0);
      assert.ok(of({ startMs: given.startMs + 1000 }).sum > sum);
      assert.ok(of({ speed: given.speed / 2 }).sum >= sum);
      assert.ok(of({ failureChance: Math.min(1, given.failureChance + 0.1) }).sum >= sum);
    }),
  );
});

test('a move takes only what is cheaper by enough', () => {
  const most = parseUsd('0.30');
  const choice = chooseBid([offer('same', 500_000n)], SPEC, chosen({ mostNanoUsdPerHour: most }));
  assert.deepEqual([choice.offer, choice.table[0]?.note], [null, 'not cheaper by enough']);
});

const score = (change: Partial<ProviderScore> = {}): ProviderScore => {
  return { failureChance: 0.05, startMs: null, speed: 1, reason: '', ...change };
};

function chosen(change: Partial<Chosen> = {}): Chosen {
  return { perProvider: new Map(), nowMs: 0, lifeMs: HOUR_MS, startMs: 60_000, ...change };
}

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
  return { market: 'local', terms: TERMS, bid, score: score(), quarantinedUntilMs: 0, ...change };
}
