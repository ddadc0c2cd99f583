import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chatSchema } from '../../src/gateway/openai.ts';
import { isPlainChat } from '../../src/gateway/plain-chat.ts';

const anything = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(0, -0, 1, 2, 0.5, 1e308, -1, '', 'a', null, true),
);
const texts = fc.record({ role: fc.constantFrom('system', 'developer', 'user', 'assistant'), content: fc.string() });
const odd = fc.record(
  { role: fc.oneof(fc.constantFrom('user', 'tool', 'x'), anything), content: anything, name: anything },
  { requiredKeys: [] },
);
const near = (least: number, most: number) => fc.double({ min: least - 0.2, max: most + 0.2, noNaN: true });
/** Mostly right, and a little beside it. */
const FIELDS = {
  model: fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom('m', 'a/b') },
    fc.constantFrom('x'.repeat(129), ''),
    anything,
  ),
  messages: fc.oneof(
    { weight: 20, arbitrary: fc.array(texts, { minLength: 1, maxLength: 3 }) },
    fc.array(odd),
    anything,
  ),
  stream: fc.oneof(fc.boolean(), anything),
  stream_options: fc.oneof(fc.record({ include_usage: fc.boolean() }, { requiredKeys: [] }), anything),
  max_tokens: fc.oneof(fc.integer({ min: 0 }), anything),
  max_completion_tokens: fc.oneof(fc.integer({ min: 0 }), fc.constant(2 ** 53), anything),
  temperature: near(0, 2),
  top_p: near(0, 1),
  presence_penalty: near(-2, 2),
  frequency_penalty: near(-2, 2),
  stop: fc.oneof(fc.string(), anything),
  user: fc.oneof(fc.string(), anything),
};
const OTHERS = [
  'n',
  'logprobs',
  'top_logprobs',
  'seed',
  'metadata',
  'tools',
  'grammar',
  'constructor',
  'x',
  '__proto__',
];

const request = fc
  .tuple(
    fc.record(FIELDS, { requiredKeys: ['model', 'messages'] }),
    fc.oneof(
      { weight: 4, arbitrary: fc.constant({}) },
      fc.dictionary(fc.constantFrom(...OTHERS), anything, { maxKeys: 2 }),
    ),
    fc.constantFrom('' as const, '' as const, '' as const, 'model' as const, 'messages' as const),
  )
  .chain(([fields, others, without]) =>
    fc.subarray(Object.keys(fields)).map((kept) => {
      const whole: Record<string, unknown> = { model: fields.model, messages: fields.messages, ...others };
      for (const key of kept.slice(0, 3)) whole[key] = fields[key as keyof typeof fields];
      if (without !== '') delete whole[without];
      return whole;
    }),
  );

test('what is taken for a plain chat is one by the schema too, and means the same', () => {
  let plain = 0;
  fc.assert(
    fc.property(fc.oneof(request, anything), (made) => {
      // As it comes out of a body: with -0 as 0 and no other prototype.
      const value: unknown = JSON.parse(JSON.stringify(made));
      if (!isPlainChat(value)) return;
      plain += 1;
      const result = chatSchema.safeParse(value);
      assert.ok(result.success, JSON.stringify(result.error?.issues));
      assert.deepEqual(result.data, value);
    }),
    { numRuns: 5000 },
  );
  assert.ok(plain > 100, `only ${plain} of the requests tried were plain`);
});

test('what most clients send is plain', () => {
  const messages = [{ role: 'user', content: 'Hello' }];
  for (const fields of [
    {},
    { stream: true, stream_options: { include_usage: true } },
    { temperature: 0.7, top_p: 1, max_tokens: 50, stop: 'x', user: 'u' },
  ]) {
    assert.equal(isPlainChat({ model: 'm', messages, ...fields }), true);
  }
});
