import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SSE_DONE, sseComment, sseData, SseReader } from '../../src/gateway/sse.ts';

const line = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 20 }).map((text) => text.replaceAll(/[\r\n]/g, ' ')),
  fc.constantFrom('', ' ', '[DONE]', '{"a":"ü你🎉"}', 'data: x', ':'),
);
const event = fc.record({ lines: fc.array(line, { minLength: 1, maxLength: 3 }), space: fc.boolean() });
const noise = fc.constantFrom(': ping', 'event: message', 'id: 7', 'retry: 10', 'dat: no', 'Data: no');

interface Stream {
  readonly text: string;
  readonly expected: readonly string[];
}

/** Events with comments and other fields between them, in one kind of line ends. */
const stream = fc
  .record({
    events: fc.array(fc.tuple(event, fc.option(noise)), { maxLength: 6 }),
    crlf: fc.boolean(),
  })
  .map(({ events, crlf }): Stream => {
    const text = events.map(([{ lines, space }, other]) => {
      // Without its space, a line that begins with one would lose it.
      const data = lines.map((one) => `data:${space || one.startsWith(' ') ? ' ' : ''}${one}\n`);
      return `${other === null ? '' : `${other}\n`}${data.join('')}\n`;
    });
    const whole = text.join('');
    return {
      text: crlf ? whole.replaceAll('\n', '\r\n') : whole,
      expected: events.map(([{ lines }]) => lines.join('\n')),
    };
  });

test('any split of the bytes gives the same events', () => {
  fc.assert(
    fc.property(stream, fc.array(fc.nat(40), { maxLength: 40 }), ({ text, expected }, cuts) => {
      const bytes = new TextEncoder().encode(text);
      const { reader, events } = setup();
      let at = 0;
      for (const size of cuts) {
        reader.push(bytes.subarray(at, at + size));
        at += size;
      }
      reader.push(bytes.subarray(at));
      assert.deepEqual(events, expected);
    }),
  );
});

test('byte by byte gives each event with its blank line, not before', () => {
  const { reader, events } = setup();
  const bytes = new TextEncoder().encode('data: é\r\n\r\ndata: b\n\n');
  const counts = [...bytes].map((byte) => {
    reader.push(Uint8Array.of(byte));
    return events.length;
  });
  assert.deepEqual(events, ['é', 'b']);
  assert.equal(counts.indexOf(1), new TextEncoder().encode('data: é\r\n\r\n').length - 1);
});

test('an event without its blank line is none', () => {
  const { reader, events } = setup();
  reader.push(new TextEncoder().encode('data: a\n\ndata: b\n'));
  assert.deepEqual(events, ['a']);
});

test('a byte order mark and bytes that are no UTF-8 break nothing', () => {
  const { reader, events } = setup();
  reader.push(Uint8Array.of(0xef, 0xbb, 0xbf));
  reader.push(new TextEncoder().encode('data: a\n\ndata: '));
  reader.push(Uint8Array.of(0xff, 0x0a, 0x0a));
  assert.deepEqual(events, ['a', '\ufffd']);
});

const HUGE: readonly { name: string; part: string }[] = [
  { name: 'one line that never ends', part: 'x'.repeat(1000) },
  { name: 'lines of one event that never ends', part: `data: ${'x'.repeat(1000)}\n` },
  { name: 'empty lines of data', part: 'data:\n'.repeat(200) },
];

for (const { name, part } of HUGE) {
  test(`refuses ${name}`, () => {
    const { reader } = setup(100_000);
    const bytes = new TextEncoder().encode(part);
    const pushAll = (): void => {
      for (let count = 0; count < 1000; count += 1) reader.push(bytes);
    };
    assert.throws(pushAll, RangeError);
  });
}

test('many events are never too large together', () => {
  const { reader, events } = setup(100);
  for (let count = 0; count < 1000; count += 1) reader.push(new TextEncoder().encode('data: 0123456789\n\n'));
  assert.equal(events.length, 1000);
});

test('an event in many small pieces is not read again with each of them', () => {
  const { reader, events } = setup();
  const started = performance.now();
  const piece = new TextEncoder().encode('x'.repeat(64));
  reader.push(new TextEncoder().encode('data: '));
  for (let count = 0; count < 20_000; count += 1) reader.push(piece);
  reader.push(new TextEncoder().encode('\n\n'));
  assert.equal(events[0]?.length, 64 * 20_000);
  assert.ok(performance.now() - started < 5000);
});

test('what we write is one event, one comment', () => {
  assert.equal(sseData('{"a":1}'), 'data: {"a":1}\n\n');
  assert.equal(SSE_DONE, 'data: [DONE]\n\n');
  assert.equal(sseComment('waiting: a\r\n\r\ndata: forged\nb'), ': waiting: a data: forged b\n\n');
});

function setup(bytesMax?: number): { readonly reader: SseReader; readonly events: string[] } {
  const events: string[] = [];
  return { reader: new SseReader((data) => events.push(data), bytesMax), events };
}
