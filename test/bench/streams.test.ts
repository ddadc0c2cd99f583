import assert from 'node:assert/strict';
import { test } from 'node:test';
import { problemsOfBooks, type Books } from '../../bench/streams/gateway.ts';
import { ending, OPENING, PROMPT_TOKENS, stampedChunk } from '../../bench/streams/paced-replies.ts';
import { StreamReader } from '../../bench/streams/stream-reader.ts';

const STREAM = [OPENING, stampedChunk(10, 0), stampedChunk(20, 1), stampedChunk(30, 2), ending(3)];

test('a stream is read the same in whatever pieces it comes', () => {
  for (const bytes of [1, 2, 7, 100, 10_000]) {
    const { reader, stamps } = read(STREAM.join(''), bytes);
    assert.equal(reader.problem, undefined);
    assert.deepEqual(stamps, [10, 20, 30]);
    assert.deepEqual(reader.ended, { promptTokens: PROMPT_TOKENS, completionTokens: 3, cost: 0 });
  }
});

const WRONG: readonly { readonly name: string; readonly bytes: readonly string[]; readonly problem: RegExp }[] = [
  { name: 'a chunk that is lost', bytes: STREAM.toSpliced(2, 1), problem: /^chunk 000002 came as number 1$/ },
  { name: 'a chunk that comes twice', bytes: STREAM.toSpliced(2, 0, STREAM[2] ?? ''), problem: /number 2$/ },
  { name: 'a count that is wrong', bytes: [...STREAM.slice(0, 4), ending(4)], problem: /3 chunks, but usage says 4/ },
  { name: 'no [DONE]', bytes: [...STREAM.slice(0, 4), '0\r\n\r\n'], problem: /without \[DONE\]/ },
  { name: 'a refusal', bytes: ['HTTP/1.1 429 Too Many Requests\r\n\r\n{}'], problem: /^HTTP\/1.1 429/ },
  { name: 'an error event', bytes: [OPENING, '14\r\ndata: {"error":{}}\n\n\r\n'], problem: /error/ },
];

for (const { name, bytes, problem } of WRONG) {
  test(`${name} is a failure`, () => {
    const { reader } = read(bytes.join(''), 50);
    assert.match(reader.problem ?? '', problem);
    assert.equal(reader.ended, undefined);
  });
}

test('whatever is wrong in the books or left over is a problem of its own', () => {
  const total = { promptTokens: 1000, completionTokens: 100 };
  const good: Books = {
    ledger_check_ok: true,
    streams_charged_usd: 0.000_025,
    ledger_charged_usd: 0.000_025,
    held_usd: '0.00',
    in_flight: 0,
    waiting: 0,
    model_server_streams: 0,
  };
  assert.deepEqual(problemsOfBooks(good, total), []);
  const wrong: readonly Partial<Books>[] = [
    { ledger_check_ok: false },
    { ledger_charged_usd: 0.000_025_001 },
    { streams_charged_usd: 0.000_024, ledger_charged_usd: 0.000_024 },
    { held_usd: '0.000000001' },
    { in_flight: 1 },
    { waiting: 1 },
    { model_server_streams: 1 },
  ];
  for (const fields of wrong) assert.equal(problemsOfBooks({ ...good, ...fields }, total).length, 1);
});

function read(text: string, bytesEach: number): { reader: StreamReader; stamps: number[] } {
  const stamps: number[] = [];
  const reader = new StreamReader((stampUs) => stamps.push(stampUs));
  for (let at = 0; at < text.length; at += bytesEach) reader.feed(text.slice(at, at + bytesEach));
  return { reader, stamps };
}
