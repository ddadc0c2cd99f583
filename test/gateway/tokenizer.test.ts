import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NANO, onBothDoors, startGateway, type Gateway } from '../fakes/gateway.ts';
import { answer, json, silence } from '../fakes/model-replies.ts';
import type { Script } from '../fakes/model-server.ts';
import { completionOf, errorOf } from '../fakes/reply.ts';

/** A long text of few tokens: its bytes do not fit the balance, its tokens do. */
const MESSAGES = [{ role: 'user', content: 'a '.repeat(150) }];
const TOKENS = 60;
/** Pays for 100 tokens of input and 10 of output. */
const CREDIT_USD = '0.00012';

for (const engine of ['llama.cpp', 'vllm'] as const) {
  onBothDoors(`${engine}: what does not fit by its bytes is counted by the model's own tokenizer`, async (t, door) => {
    const gateway = await startGateway(t, { door, pool: { engine }, creditUsd: CREDIT_USD });
    gateway.server.usually(answer({ prompt: 500, pieces: ['a', 'b'] }));
    gateway.server.tokenizes(tokenizing(engine, TOKENS));
    await completionOf(await gateway.chat({ messages: MESSAGES, max_tokens: 10 }));
    const holds = gateway.ledger.asks('hold').map(({ amount }) => amount);
    assert.equal(holds.at(-1), BigInt(TOKENS) * NANO.input + 10n * NANO.output);
    assert.ok((holds[0] ?? 0n) > (holds.at(-1) ?? 0n), 'the bound by bytes was tried first');
    const [asked] = gateway.server.questions;
    assert.equal(asked?.headers.authorization, 'Bearer key-of-replica-0');
    assert.deepEqual(asked?.body['messages'], MESSAGES);
    // The bound is the count now: a server that claims more is not believed.
    assert.equal(gateway.ledger.settlements[0]?.tokens.inputTokens, TOKENS);
  });
}

onBothDoors('what does not fit by its tokens either is refused, with what they need', async (t, door) => {
  const gateway = await startGateway(t, { door, creditUsd: CREDIT_USD });
  gateway.server.usually(answer({ prompt: 500, pieces: ['a', 'b'] }));
  gateway.server.tokenizes(tokenizing('llama.cpp', 119));
  const error = await errorOf(await gateway.chat({ messages: MESSAGES, max_tokens: 10 }), 402);
  assert.deepEqual([error.metadata?.['needed_usd'], error.metadata?.['available_usd']], ['0.000139', '0.00012']);
});

onBothDoors('a small balance gets a shorter answer by the count, not by the bytes', async (t, door) => {
  const gateway = await startGateway(t, { door, creditUsd: CREDIT_USD });
  gateway.server.usually(answer({ prompt: 500, pieces: ['a', 'b'] }));
  gateway.server.tokenizes(tokenizing('llama.cpp', TOKENS));
  await completionOf(await gateway.chat({ messages: MESSAGES }));
  assert.equal(gateway.server.requests.at(-1)?.body['max_tokens'], 4096);
  assert.equal(gateway.ledger.asks('hold').at(-1)?.amount, BigInt(TOKENS) * NANO.input + 30n * NANO.output);
});

onBothDoors('a tokenizer that fails, lies in kind or is not there leaves the bound by bytes', async (t, door) => {
  const odd: readonly Script[] = [
    json(500, {}),
    json(200, { prompt: 7 }),
    json(200, 'no'),
    (turn) => turn.reset(),
    json(200, { prompt: 'x', tokens: 'many' }),
  ];
  const gateway = await startGateway(t, { door, creditUsd: CREDIT_USD });
  for (const script of odd) {
    gateway.server.tokenizes(script);
    assert.equal(
      (await errorOf(await gateway.chat({ messages: MESSAGES, max_tokens: 10 }), 402)).code,
      'insufficient_credits',
    );
  }
  const asked = gateway.server.questions.length;
  // The least that its texts can come to does not fit either: nobody is asked.
  await errorOf(await gateway.chat({ messages: MESSAGES, max_tokens: 60 }), 402);
  assert.equal(gateway.server.questions.length, asked);
  const cold = await startGateway(t, { door, servers: 0, creditUsd: CREDIT_USD });
  await errorOf(await cold.chat({ messages: MESSAGES, max_tokens: 10 }), 402);
});

onBothDoors('a tokenizer that is silent is waited for a few seconds at most', async (t, door) => {
  const gateway: Gateway = await startGateway(t, { door, creditUsd: CREDIT_USD });
  gateway.server.tokenizes(silence);
  await errorOf(await gateway.chat({ messages: MESSAGES, max_tokens: 10 }), 402);
});

test('a crowd without money does not keep the model servers busy', async (t) => {
  const gateway = await startGateway(t, { creditUsd: CREDIT_USD });
  gateway.server.tokenizes(silence);
  const replies = await Promise.all(
    Array.from({ length: 60 }, () => gateway.chat({ messages: MESSAGES, max_tokens: 10 })),
  );
  for (const reply of replies) await errorOf(reply, 402);
  assert.equal(gateway.server.questions.length, 16);
});

function tokenizing(engine: 'llama.cpp' | 'vllm', tokens: number): Script {
  return (turn) => {
    if (turn.path === '/apply-template') return json(200, { prompt: 'the prompt' })(turn);
    if (engine === 'vllm') return json(200, { count: tokens, tokens: [], max_model_len: 4096 })(turn);
    assert.equal(turn.body['content'], 'the prompt');
    return json(200, { tokens: Array.from({ length: tokens }, (_, at) => at) })(turn);
  };
}
