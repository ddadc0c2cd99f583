import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chatSchema } from '../../src/gateway/openai.ts';
import { isPlainChat } from '../../src/gateway/plain-chat.ts';

const anything = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom(0, -0, 1, 2, 0.5, 1e308, -1, '', 'a', null, true),
);
const message = fc.oneof(
  fc.record({ role: fc.constantFrom('system', 'developer', 'user', 'assistant'), content: fc.string() }),
  fc.record(
    { role: fc.oneof(fc.constantFrom('user', 'tool', 'x'), anything), content: anything, name: anything },
    { requiredKeys: [] },
  ),
);
const FIELDS = [
  ...[
    'stream',
    'n',
    'max_tokens',
    'max_completion_tokens',
    'temperature',
    'top_p',
    'presence_penalty',
    'frequency_penalty',
  ],
  ...[
    'logprobs',
    'top_logprobs',
    'stop',
    'seed',
    'user',
    'metadata',
    'tools',
    'response_format',
    'grammar',
    'constructor',
  ],
  ...['stream_options', 'logit_bias', 'unknown', '__proto__'],
];

const request = fc
  .record({
    model: fc.oneof(fc.constantFrom('m', 'a/b', 'x'.repeat(129), ''), anything),
    messages: fc.oneof(fc.array(message, { maxLength: 3 }), anything),
    fields: fc.dictionary(fc.constantFrom(...FIELDS), fc.oneof(anything, fc.constant({ include_usage: true })), {
      maxKeys: 4,
    }),
    without: fc.constantFrom('', '', '', 'model', 'messages'),
  })
  .map(({ model, messages, fields, without }) => {
    const whole: Record<string, unknown> = { model, messages, ...fields };
    delete whole[without];
    return whole;
  });

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
