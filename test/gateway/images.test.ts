import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boundTokens } from '../../src/gateway/chat.ts';
import { chatSchema } from '../../src/gateway/openai.ts';
import { parsePool } from '../../src/spec.ts';
import { onBothDoors, startGateway } from '../fakes/gateway.ts';
import { completionOf, errorOf } from '../fakes/reply.ts';

const PNG = `data:image/png;base64,${'A'.repeat(4000)}`;
const withImages = (...urls: readonly string[]) => [
  {
    role: 'user',
    content: [
      { type: 'text', text: 'What is this?' },
      ...urls.map((url) => ({ type: 'image_url', image_url: { url } })),
    ],
  },
];

test('an image counts as the tokens that its pool says, however many bytes it has', () => {
  const body = { model: 'm', messages: withImages(PNG, PNG), max_tokens: 5 };
  const bytes = Buffer.byteLength(JSON.stringify(body));
  const { inputBound } = boundTokens(chatSchema.parse(body), spec(1000), bytes);
  assert.equal(inputBound, bytes - 2 * PNG.length + 2 * 1000 + 256);
});

onBothDoors('a pool that says nothing of images takes text only', async (t, door) => {
  const { chat } = await startGateway(t, { door });
  const error = await errorOf(await chat({ messages: withImages(PNG) }), 400);
  assert.deepEqual([error.code, error.param], ['invalid_request', 'messages[0].content[1]']);
  assert.match(error.message, /takes text only/);
});

onBothDoors(
  'an image is sent as it came; an address that a machine would have to fetch is refused',
  async (t, door) => {
    const { chat, server, ledger } = await startGateway(t, { door, pool: { image_tokens_max: 700 } });
    await completionOf(await chat({ messages: withImages(PNG), max_tokens: 5 }));
    assert.ok(server.requests[0]?.text.includes(PNG));
    const [hold] = ledger.asks('hold');
    assert.ok((hold?.amount ?? 0n) >= 700n * 1000n && (hold?.amount ?? 0n) < 1400n * 1000n, String(hold?.amount));
    for (const url of [
      'http://169.254.169.254/latest',
      'file:///etc/passwd',
      'data:image/svg+xml;base64,AAAA',
      'data:,x',
      7,
    ]) {
      const error = await errorOf(await chat({ messages: withImages(url as string) }), 400);
      assert.equal(error.param, 'messages[0].content[1]', String(url));
    }
    const audio = [{ role: 'user', content: [{ type: 'input_audio', input_audio: {} }] }];
    assert.match((await errorOf(await chat({ messages: audio }), 400)).message, /text and images only/);
    const many = withImages(...Array.from({ length: 65 }, () => 'data:image/png;base64,AA'));
    assert.match((await errorOf(await chat({ messages: many }), 400)).message, /at most 64 images/);
    assert.equal(server.requests.length, 1);
  },
);

function spec(imageTokensMax: number) {
  const price = { input: '1', output: '1' };
  const pool = { engine: 'vllm', model: 'm', context: 100_000, price, ceiling_usd_per_hour: '1' };
  return parsePool('m', { ...pool, image_tokens_max: imageTokensMax }, 0);
}
