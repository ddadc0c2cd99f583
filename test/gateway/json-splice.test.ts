import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { refuseStructure, spliceObject, topLevelMembers } from '../../src/gateway/json-splice.ts';

interface Written {
  readonly key: string;
  /** The key as text, quotes and escapes included. */
  readonly rawKey: string;
  readonly rawValue: string;
  readonly gaps: readonly [string, string, string, string];
}

const blank = fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 });
const KEYS = ['model', 'max_tokens', 'seed', 'stream', 'a', '', '"', '\\', 'ü', '🎉', '__proto__', 'x"y\\z'];
const NUMBERS = ['9223372036854775807', '-9007199254740993', '1.0', '1.50e-7', '0', '-0', '1E+2', '0.1'];

/** A key, now and then with every character as an escape. */
const written = fc
  .record({
    key: fc.oneof(fc.constantFrom(...KEYS), fc.string({ unit: 'binary' })),
    escaped: fc.boolean(),
    rawValue: fc.oneof(
      fc.constantFrom(...NUMBERS, 'true', 'false', 'null', '""', '"\\\\"', '"\\""', '"}{,]["', '[]', '{}'),
      fc.json(),
      fc.tuple(fc.json(), fc.constantFrom(...NUMBERS)).map(([json, number]) => `[${json} , {"n":\n${number}}]`),
    ),
    gaps: fc.tuple(blank, blank, blank, blank),
  })
  .map(({ key, escaped, ...rest }): Written => {
    const units = Array.from({ length: key.length }, (_, at) => key.charCodeAt(at).toString(16).padStart(4, '0'));
    const rawKey = escaped ? `"${units.map((unit) => `\\u${unit}`).join('')}"` : JSON.stringify(key);
    return { key, rawKey, ...rest };
  });

const object = fc.array(written, { maxLength: 8 });
/** Each key once: V8 makes two properties of one name from keys that are escaped differently, and reads the first. */
const distinct = fc.uniqueArray(written, { maxLength: 8, selector: ({ key }) => key });

function textOf(members: readonly Written[], around: string): string {
  const list = members.map(({ rawKey, rawValue, gaps: [a, b, c, d] }) => `${a}${rawKey}${b}:${c}${rawValue}${d}`);
  return `${around}{${list.join(',')}${members.length === 0 ? around : ''}}${around}`;
}

test('finds each member of any object as it was written, duplicates too', () => {
  fc.assert(
    fc.property(object, blank, (members, around) => {
      const found = topLevelMembers(textOf(members, around));
      assert.deepEqual(
        found.map(({ key, value }) => ({ key, value })),
        members.map(({ key, rawValue }) => ({ key, value: rawValue })),
      );
      for (const [at, { text, value, valueAt }] of found.entries()) {
        assert.ok(textOf(members, around).startsWith(value, valueAt));
        const { rawKey, rawValue, gaps } = members[at] ?? assert.fail('too many members');
        assert.equal(text.trimEnd(), `${rawKey}${gaps[1]}:${gaps[2]}${rawValue}`);
      }
    }),
  );
});

test('takes keys out, however often and however escaped, and leaves the rest byte for byte', () => {
  fc.assert(
    fc.property(object, blank, fc.subarray(KEYS), (members, around, removed) => {
      const gone = new Set(removed);
      const spliced = spliceObject(textOf(members, around), gone, { added: '{"x":1.0}', left: undefined });
      const kept = members.filter(({ key }) => !gone.has(key));
      const texts = kept.map(({ rawKey, rawValue, gaps }) => `${rawKey}${gaps[1]}:${gaps[2]}${rawValue}`);
      assert.equal(spliced, `{${[...texts, '"added":{"x":1.0}'].join(',')}}`);
    }),
  );
});

test('what comes out parses to the object without the keys and with ours', () => {
  fc.assert(
    fc.property(distinct, fc.subarray(KEYS), fc.dictionary(fc.string(), fc.json()), (members, removed, added) => {
      const gone = new Set([...removed, ...Object.keys(added)]);
      const parsed: unknown = JSON.parse(spliceObject(textOf(members, ''), gone, added));
      const expected: unknown = JSON.parse(
        textOf(
          [
            ...members.filter(({ key }) => !gone.has(key)),
            ...Object.entries(added).map(([key, rawValue]): Written => {
              return { key, rawKey: JSON.stringify(key), rawValue, gaps: ['', '', '', ''] };
            }),
          ],
          '',
        ),
      );
      assert.deepEqual(parsed, expected);
    }),
  );
});

test('an int64 seed and 1.0 survive', () => {
  const text = '{"model":"a","seed":9223372036854775807,"temperature":1.0,"x":"\\u00e9"}';
  const expected = '{"seed":9223372036854775807,"temperature":1.0,"x":"\\u00e9","model":"b"}';
  assert.equal(spliceObject(text, new Set(['model']), { model: '"b"' }), expected);
});

test('a megabyte of quotes and backslashes takes no longer than reading it', () => {
  const value = JSON.stringify('\\"'.repeat(300_000));
  const started = performance.now();
  const [first, second] = topLevelMembers(`{"a":${value},"b":1}`);
  assert.equal(first?.value, value);
  assert.equal(second?.value, '1');
  assert.ok(performance.now() - started < 2000);
});

test('a body nested too deep or with too many members is refused before it is parsed', () => {
  assert.equal(refuseStructure(JSON.stringify({ a: ['}]", {', { b: 1 }], c: '\\"[[[[' })), null);
  assert.match(refuseStructure('['.repeat(129)) ?? '', /nested more than 128 deep/);
  assert.equal(refuseStructure('['.repeat(128) + ']'.repeat(128)), null);
  assert.match(refuseStructure(`{"a":[${'1,'.repeat(200_000)}1]}`) ?? '', /more than 200000 members/);
  assert.equal(refuseStructure(JSON.stringify({ text: ',[{'.repeat(300_000) })), null);
});
