import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  BLOCK_CHARS,
  openingOf as openingOfSpans,
  Remembered,
  rememberedMax,
} from '../../../src/scheduler/pool/opening.ts';

/** Of texts that stand somewhere in others. */
const openingOf = (account: string, texts: readonly string[], session: string | null) =>
  openingOfSpans(
    account,
    texts.map((one, at) => ({ text: `${'-'.repeat(at)}${one}-`, from: at, to: at + one.length })),
    session,
  );

const text = fc.string({ minLength: 0, maxLength: 3 * BLOCK_CHARS });

test('a conversation that goes on begins with the blocks it began with', () => {
  fc.assert(
    fc.property(text, text, (before, more) => {
      const first = openingOf('a', [before], null).blocks;
      const next = openingOf('a', [before + more], null).blocks;
      assert.deepEqual(next.slice(0, first.length), first);
      assert.equal(next.length, Math.floor((before.length + more.length) / BLOCK_CHARS));
    }),
  );
});

test('accounts, tools and earlier blocks tell openings apart', () => {
  const block = 'x'.repeat(BLOCK_CHARS);
  const [mine] = openingOf('a', [block], null).blocks;
  assert.notEqual(openingOf('b', [block], null).blocks[0], mine);
  assert.notEqual(openingOf('a', ['[{"type":"function"}]', block], null).blocks[0], mine);
  const [, second] = openingOf('a', [block + block], null).blocks;
  assert.notEqual(openingOf('a', ['y'.repeat(BLOCK_CHARS) + block], null).blocks[1], second);
});

test('a long prompt is told by its first 32 KiB', () => {
  assert.equal(openingOf('a', ['x'.repeat(1_000_000)], null).blocks.length, 128);
  const { blocks, size } = openingOf('a', ['x'.repeat(20_000), 'y'.repeat(20_000)], null);
  assert.deepEqual([blocks.length, size], [128, 158]);
});

test('a session is its account’s own', () => {
  const mine = openingOf('a', [], 's').session;
  assert.equal(openingOf('a', ['other texts'], 's').session, mine);
  assert.notEqual(openingOf('b', [], 's').session, mine);
  assert.notEqual(openingOf('a', [], 't').session, mine);
  assert.equal(openingOf('a', [], null).session, null);
});

test('matches from the first block on, as far as it goes', () => {
  const remembered = new Remembered(100);
  remembered.note({ session: null, blocks: [1, 2, 3] });
  assert.equal(remembered.matched({ session: null, blocks: [1, 2, 9] }), 2);
  assert.equal(remembered.matched({ session: null, blocks: [9, 2, 3] }), 0);
  assert.equal(remembered.matched({ session: null, blocks: [] }), 0);
});

test('forgets what was used longest ago, and of one opening its end before its beginning', () => {
  const remembered = new Remembered(4);
  remembered.note({ session: null, blocks: [1, 2, 3] });
  remembered.note({ session: 7, blocks: [4, 5] });
  assert.equal(remembered.matched({ session: null, blocks: [1, 2, 3] }), 1);
  assert.ok(remembered.hasSession({ session: 7, blocks: [] }));
  assert.ok(!remembered.hasSession({ session: null, blocks: [] }));
});

test('remembers no more than it may, whatever comes', () => {
  const opening = fc.record({
    session: fc.option(fc.nat(50)),
    blocks: fc.array(fc.integer({ min: 100, max: 140 }), { maxLength: 20 }),
  });
  fc.assert(
    fc.property(fc.array(opening), fc.integer({ min: 1, max: 30 }), (openings, max) => {
      const remembered = new Remembered(max);
      for (const one of openings) remembered.note(one);
      let known = 0;
      for (let block = 0; block <= 140; block += 1) known += remembered.matched({ session: null, blocks: [block] });
      assert.ok(known <= max, `${known} blocks`);
    }),
  );
});

test('a cache is taken to hold every slot at its full context, within bounds', () => {
  assert.equal(rememberedMax(4, 1024), 64);
  assert.equal(rememberedMax(16, 8192), 2048);
  assert.equal(rememberedMax(256, 131_072), 8192);
});
