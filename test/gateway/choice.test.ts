import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Assembly, finishReasonOf, normaliseMessage } from '../../src/gateway/choice.ts';

test('texts are put together by their field, in any split', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('content', 'reasoning_content', 'refusal'), fc.string())),
      (parts) => {
        const assembly = new Assembly();
        for (const [field, text] of parts) assembly.add({ [field]: text }, null);
        const message = assembly.message();
        for (const field of ['content', 'refusal', 'reasoning_content']) {
          const texts = parts.filter(([one]) => one === field).map(([, text]) => text);
          const none = field === 'reasoning_content' ? undefined : null;
          assert.equal(message[field], texts.length === 0 ? none : texts.join(''));
        }
        assert.equal(message['role'], 'assistant');
      },
    ),
  );
});

test('tool calls that come interleaved keep their order, names and arguments', () => {
  const assembly = new Assembly();
  const call = (index: number, name: string, text: string, id?: unknown): object => {
    return { index, ...(id === undefined ? {} : { id, type: 'function' }), function: { name, arguments: text } };
  };
  const deltas = [
    [call(1, 'second', '', 'b'), call(0, 'first', '', 'a')],
    [call(0, '', '{"x"', null), call(1, '', '{}', '')],
    [call(0, '', ':1}')],
  ];
  for (const calls of deltas) assembly.add({ tool_calls: calls }, null);
  assert.deepEqual(assembly.message(), {
    role: 'assistant',
    content: null,
    refusal: null,
    tool_calls: [
      { id: 'a', type: 'function', function: { name: 'first', arguments: '{"x":1}' } },
      { id: 'b', type: 'function', function: { name: 'second', arguments: '{}' } },
    ],
  });
});

test('what is no tool call is left out', () => {
  const assembly = new Assembly();
  for (const calls of [null, 3, [null, 3, {}, { index: 'x' }, { index: 0, function: null }]]) {
    assembly.add({ tool_calls: calls }, null);
  }
  assert.deepEqual(assembly.message()['tool_calls'], [{ function: { name: '', arguments: '' } }]);
});

test('log-probabilities are strung together', () => {
  const assembly = new Assembly();
  assert.equal(assembly.logprobs, null);
  assembly.add({ content: 'a' }, { content: [{ token: 'a' }], refusal: null });
  assembly.add({ content: 'b' }, null);
  assembly.add({ content: 'c' }, { content: [{ token: 'b' }, { token: 'c' }] });
  assert.deepEqual(assembly.logprobs, { content: [{ token: 'a' }, { token: 'b' }, { token: 'c' }] });
});

test("names of an object's own insides are names like any other", () => {
  const assembly = new Assembly();
  const odd = JSON.parse('{"__proto__":["x"],"constructor":["y"]}') as Record<string, unknown>;
  assembly.add(JSON.parse('{"__proto__":"a","constructor":"b"}') as Record<string, unknown>, odd);
  assert.deepEqual(Object.keys(assembly.logprobs as object), ['__proto__', 'constructor']);
  assert.equal(({} as Record<string, unknown>)['x'], undefined);
  assert.equal(assembly.message()['constructor'], 'b');
});

test('a hundred thousand log-probabilities in one delta fit', () => {
  const assembly = new Assembly();
  const many = Array.from({ length: 200_000 }, () => ({ token: 'a' }));
  assembly.add({}, { content: [{ token: 'a' }] });
  assembly.add({}, { content: many });
  assert.equal((assembly.logprobs as { content: unknown[] }).content.length, 200_001);
});

test('a whole message gets the nulls and the role it lacks', () => {
  const none = { role: 'assistant', content: null, refusal: null };
  for (const message of [{}, null, undefined, 'x', { role: 'user', content: null }]) {
    assert.deepEqual(normaliseMessage(message), none);
  }
  assert.deepEqual(normaliseMessage({ content: 'a', refusal: 'b', x: 1 }), {
    ...none,
    content: 'a',
    refusal: 'b',
    x: 1,
  });
});

const FINISHES: readonly [unknown, string | null][] = [
  ['stop', 'stop'],
  ['length', 'length'],
  ['tool_calls', 'tool_calls'],
  ['content_filter', 'content_filter'],
  ['eos', 'stop'],
  ['', null],
  [null, null],
  [undefined, null],
  [3, null],
];

for (const [told, expected] of FINISHES) {
  test(`finish_reason ${JSON.stringify(told)} is ${expected}`, () => assert.equal(finishReasonOf(told), expected));
}

test('an answer that its server gave up has no end', () => {
  for (const told of ['abort', 'error', 'cancelled']) assert.throws(() => finishReasonOf(told), RangeError);
});
