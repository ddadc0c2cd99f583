import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { AlikeEvents } from '../../src/gateway/alike-events.ts';
import type { DeltaChoice } from '../../src/gateway/choice.ts';
import { DeltaReader } from '../../src/gateway/delta-reader.ts';
import { Tally } from '../../src/gateway/tally.ts';

type Json = Record<string, unknown>;

const newTally = (): Tally => new Tally({ inputBound: 1000, outputMax: 1000 });

/** What one reader makes of a stream, and what readers make of it that never saw another event: they parse each whole. */
function bothWays(events: readonly string[]) {
  const [mine, whole] = [newTally(), newTally()];
  const reader = new DeltaReader(mine);
  let ended = false;
  return events.map((event) => {
    const [read, parsed] = [() => reader.read(event, ended), () => new DeltaReader(whole).read(event, ended)].map(
      tryIt,
    );
    ended ||= (parsed?.choice?.finishReason ?? null) !== null;
    return [
      { ...read, counts: { ...mine.counts } },
      { ...parsed, counts: { ...whole.counts } },
    ] as const;
  });
}

function tryIt(read: () => DeltaChoice | null): { choice?: Partial<DeltaChoice> | null; error?: string } {
  try {
    const choice = read();
    // The delta itself may have members that say nothing: what is made of it is the text.
    return { choice: choice && { ...choice, delta: choice.text === null ? choice.delta : {} } };
  } catch (error) {
    return { error: error instanceof Error ? error.name : 'another' };
  }
}

const content = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.constantFrom('', '"', '\\', '\n', '"content":"', '","usage":{', '🎉', '}}],', '\u2028', '{"a":1}'),
);
const told = fc.oneof(
  fc.record({ prompt_tokens: fc.nat(2000), completion_tokens: fc.nat(2000), total_tokens: fc.nat(4000) }),
  fc.constant(null),
  fc.constantFrom<unknown>('much', 7, [1]),
);
const timed = fc.oneof(
  fc.record({ prompt_n: fc.nat(100), cache_n: fc.nat(9), predicted_n: fc.nat(100) }),
  fc.constant(null),
);
const event = fc
  .record({
    content: fc.oneof({ weight: 8, arbitrary: content as fc.Arbitrary<unknown> }, fc.constantFrom(null, 3, ['x'])),
    more: fc.oneof(
      { weight: 8, arbitrary: fc.constant({}) },
      fc.constantFrom<Json>({ role: 'assistant' }, { reasoning: 'so' }),
    ),
    finish: fc.oneof({ weight: 12, arbitrary: fc.constant(null) }, fc.constantFrom('stop', 'abort', '')),
    index: fc.oneof({ weight: 12, arbitrary: fc.constant(0) }, fc.constant(1)),
    logprobs: fc.oneof({ weight: 12, arbitrary: fc.constant(null) }, fc.constant({ content: [] })),
    counts: fc.oneof(
      fc.constant({}),
      told.map((usage) => ({ usage })),
      timed.map((timings) => ({ timings })),
      fc.tuple(told, timed).map(([usage, timings]) => ({ usage, timings })),
    ),
    model: fc.oneof({ weight: 8, arbitrary: fc.constant('m') }, fc.constantFrom('"content":"x"', 'usage":{')),
    error: fc.oneof({ weight: 12, arbitrary: fc.constant(undefined) }, fc.constantFrom(null, { message: 'no' })),
    countsFirst: fc.boolean(),
  })
  .map((one) => {
    const delta = { ...one.more, content: one.content };
    const choices = [{ index: one.index, delta, logprobs: one.logprobs, finish_reason: one.finish }];
    const body: Json = { id: 'c', model: one.model, choices, error: one.error };
    return (one.countsFirst ? { ...one.counts, ...body } : { ...body, ...one.counts }) as Json;
  });

/** As servers write them, and as nobody should: with blanks, with a name twice, cut off. */
const written = fc.tuple(event, fc.nat(40)).map(([made, how]) => {
  const text = JSON.stringify(made);
  if (how === 0) return text.slice(0, -1);
  if (how === 1) return text.replace('"content":', '"content": ');
  if (how === 2) return text.replace('"delta":{', '"delta":{"content":"first",');
  if (how === 3) return text.replace(/}$/, ',"choices":[]}');
  if (how === 4) return `${text} `;
  if (how === 5) return text.replace(/}$/, ',"usage":{"completion_tokens":3},"usage":{"completion_tokens":5}}');
  return text;
});

test('a stream is read as if each of its events were parsed whole', () => {
  fc.assert(
    fc.property(fc.array(written, { maxLength: 12 }), (events) => {
      for (const [read, parsed] of bothWays(events)) assert.deepEqual(read, parsed);
    }),
    { numRuns: 2000 },
  );
});

test('so is a stream of one shape, whatever its texts and counts are', () => {
  fc.assert(
    fc.property(event, fc.array(fc.tuple(content, fc.nat(50)), { maxLength: 12 }), (first, pieces) => {
      const [choice] = first['choices'] as [Json];
      const events = pieces.map(([text, count]) => {
        const choices = [{ ...choice, delta: { ...(choice['delta'] as Json), content: text } }];
        const counted = first['usage'] ? { usage: { completion_tokens: count } } : {};
        return JSON.stringify({ ...first, choices, ...counted });
      });
      for (const [read, parsed] of bothWays(events)) assert.deepEqual(read, parsed);
    }),
    { numRuns: 1000 },
  );
});

test('what a real server says is read alike, most of it without being parsed whole', () => {
  for (const name of ['llama-cpp-cached.sse', 'llama-cpp-emoji.sse', 'llama-cpp-logprobs.sse']) {
    const text = readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8');
    const events = [...text.matchAll(/^data: (\{.*)$/gm)].map((match) => match[1] ?? '');
    assert.ok(events.length > 3);
    for (const [read, parsed] of bothWays(events)) assert.deepEqual(read, parsed);
    const alike = new AlikeEvents();
    let known = 0;
    for (const one of events) {
      const chunk = JSON.parse(one) as Json;
      if (alike.read(one)) known += 1;
      else if ((chunk['choices'] as Json[])[0]) alike.learn(one, chunk);
    }
    if (name === 'llama-cpp-cached.sse') assert.ok(known >= events.length - 5, `${known} of ${events.length}`);
  }
});

test('of a stream whose texts alone differ, few events are parsed whole', (t) => {
  const event = (text: string): string => `{"id":"c","choices":[{"index":0,"delta":{"content":"${text}"}}]}`;
  const reader = new DeltaReader(newTally());
  const parse = t.mock.method(JSON, 'parse');
  for (let n = 0; n < 100; n += 1) assert.equal(reader.read(event(`word ${n}`), false)?.text, `word ${n}`);
  assert.ok(parse.mock.callCount() < 5, `${parse.mock.callCount()} of 100`);
});

test('a stream whose events are never alike is not looked at for ever', () => {
  const alike = new AlikeEvents();
  const chunk = (n: number, text: string): string => `{"choices":[{"delta":{"content":"${text}"}}],"n":${n}}`;
  for (const n of [1, 2, 3]) alike.learn(chunk(n, 'a'), JSON.parse(chunk(n, 'a')) as Json);
  alike.learn(chunk(4, 'a'), JSON.parse(chunk(4, 'a')) as Json);
  assert.equal(alike.read(chunk(4, 'b')), null);
  assert.equal(alike.read(chunk(3, 'b'))?.text, 'b');
});

test('only the text of the answer is taken for it, whatever else bears its name', () => {
  const said = (text: string): readonly string[] => [
    `{"choices":[{"delta":{"content":"first","content":"${text}"}}]}`,
    `{"x":{"content":"first"},"choices":[{"delta":{"content":"${text}"}}]}`,
    `{"choices":[{"delta":{"content":"first"}}],"choices":[{"delta":{"content":"${text}"}}]}`,
    `{"choices":[{"delta":{"content":"${text}"}}],"usage":{"completion_tokens":1},"usage":{"completion_tokens":2}}`,
    `{"choices":[{"delta":{"content":"${text}"}}],"usage":{"completion_tokens":1},"usage":null}`,
  ];
  for (const [at, one] of said('a').entries()) {
    const texts = bothWays([one, one, ...said('b').slice(at, at + 1), one]).map(([read, parsed]) => {
      assert.deepEqual(read, parsed);
      return read.choice?.text;
    });
    assert.deepEqual(texts, ['a', 'a', 'b', 'a']);
  }
});
