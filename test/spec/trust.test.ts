import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { needsOfLine } from '../../src/scheduler/pool/line-needs.ts';
import {
  allNeeds,
  asksNothing,
  contradiction,
  describeNeeds,
  NO_NEEDS,
  reaches,
  shortfall,
  TRUST_LEVELS,
  type Needs,
  type Place,
} from '../../src/spec/trust.ts';

const names = fc.option(fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { minLength: 1 }));
const needs: fc.Arbitrary<Needs> = fc.record({
  trust: fc.constantFrom(...TRUST_LEVELS),
  regions: names,
  providers: names,
});
const places: fc.Arbitrary<Place> = fc.record({
  trust: fc.constantFrom(undefined, ...TRUST_LEVELS),
  region: fc.constantFrom(undefined, null, 'a', 'b', 'c'),
  provider: fc.constantFrom('a', 'b', 'c'),
});

test('what meets several needs at once is what meets each of them', () => {
  fc.assert(
    fc.property(needs, needs, places, (one, other, place) => {
      const both = shortfall(place, one) === null && shortfall(place, other) === null;
      assert.equal(shortfall(place, allNeeds(one, other)) === null, both);
      assert.deepEqual({ ...allNeeds(one, NO_NEEDS) }, { ...one });
      if (contradiction(allNeeds(one, other)) !== null) assert.ok(!both);
    }),
  );
});

test('a place that says nothing of itself meets only who asks nothing', () => {
  fc.assert(
    fc.property(needs, (asked) => {
      const place = { provider: 'z' };
      assert.equal(shortfall(place, asked) === null, asksNothing(asked));
    }),
  );
  assert.deepEqual(
    TRUST_LEVELS.map((level) => TRUST_LEVELS.filter((least) => reaches(level, least)).length),
    [1, 2, 3],
  );
});

test('a shortfall says what is wrong', () => {
  const place = { trust: 'audited' as const, region: 'us', provider: 'p1' };
  assert.equal(shortfall(place, { ...NO_NEEDS, trust: 'tee' }), 'is not on trusted hardware (tee)');
  assert.equal(shortfall(place, { ...NO_NEEDS, regions: ['eu', 'uk'] }), 'stands in us, not in eu or uk');
  assert.equal(
    shortfall({ provider: 'p' }, { ...NO_NEEDS, regions: ['eu'] }),
    'stands in no region that is known, not in eu',
  );
  assert.equal(shortfall(place, { ...NO_NEEDS, providers: ['p2'] }), 'is not p2');
  assert.equal(describeNeeds({ trust: 'tee', regions: ['eu'], providers: ['p'] }), 'trust tee, region eu, provider p');
});

test('of a line it is known what nobody there can serve, and what all of it asks', () => {
  const audited: Needs = { ...NO_NEEDS, trust: 'audited' };
  const tee: Needs = { ...NO_NEEDS, trust: 'tee' };
  const line = (...list: (Needs | undefined)[]): { needs: Needs | undefined }[] => list.map((one) => ({ needs: one }));
  const none = { unmet: null, common: null };
  assert.deepEqual(
    needsOfLine([], NO_NEEDS, () => false),
    none,
  );
  assert.deepEqual(
    needsOfLine(line(undefined, audited), audited, () => false),
    none,
    'what the pool asks anyway',
  );
  assert.deepEqual(
    needsOfLine(line(audited, audited), NO_NEEDS, () => true),
    { unmet: null, common: audited },
  );
  assert.deepEqual(
    needsOfLine(line(undefined, tee, tee), NO_NEEDS, () => false),
    {
      unmet: { needs: tee, waiting: 2 },
      common: null,
    },
  );
  assert.deepEqual(
    needsOfLine(line(audited, tee), NO_NEEDS, ({ trust }) => trust === 'audited'),
    {
      unmet: { needs: tee, waiting: 1 },
      common: null,
    },
  );
});
