import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Target } from '../../src/scheduler/pool/slot.ts';
import { NANO, onBothDoors, startGateway } from '../fakes/gateway.ts';
import { answer, cutAfter, eventsOf, json } from '../fakes/model-replies.ts';
import { startModelServer } from '../fakes/model-server.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

/** Replicas that are somebody else's API: asked in its words, and owed for by the token. */

const API: Partial<Target> = {
  id: 'api',
  provider: 'api-1',
  engine: 'openai',
  model: 'vendor/model',
  apiKey: 'api-key',
  tokenPrice: { inputPico: 300_000n, cachedInputPico: 100_000n, outputPico: 900_000n },
};
const USAGE = { stream: true, stream_options: { include_usage: true } };

onBothDoors('an API is asked for its own model in plain OpenAI, and the client sees ours', async (t, door) => {
  const { chat, server, addReplica } = await startGateway(t, { door, servers: 0 });
  addReplica(server, API);
  const reply = await chat({ max_tokens: 5 });
  assert.equal(reply.headers.get('x-underbid-provider'), 'api-1');
  const { model } = await completionOf(reply);
  assert.notEqual(model, 'vendor/model');
  await streamOf(await chat(USAGE));
  const [whole, streamed] = server.requests.map(({ body }) => body);
  assert.deepEqual([whole?.['model'], whole?.['max_tokens'], streamed?.['model']], ['vendor/model', 5, 'vendor/model']);
  for (const field of ['n_predict', 'timings_per_token']) {
    assert.equal(whole?.[field], undefined);
    assert.equal(streamed?.[field], undefined);
  }
  assert.deepEqual(streamed?.['stream_options'], { include_usage: true });
  assert.equal(server.requests[0]?.headers['authorization'], 'Bearer api-key');
});

onBothDoors('what an answer used is owed to the API, beside what the client is charged', async (t, door) => {
  const { chat, server, addReplica, ledger, router } = await startGateway(t, { door, servers: 0 });
  addReplica(server, API);
  server.play(answer({ prompt: 20, cached: 5 }));
  await streamOf(await chat(USAGE));
  const [settled] = ledger.settlements;
  const output = BigInt(settled?.tokens.outputTokens ?? 0);
  assert.ok(output > 0n);
  assert.equal(settled?.charged, 15n * NANO.input + 5n * (NANO.input / 2n) + output * NANO.output);
  const owed = (15n * 300_000n + 5n * 100_000n + output * 900_000n + 999n) / 1000n;
  assert.deepEqual(settled.purchases, [{ provider: 'api-1', amount: owed }]);
  assert.equal(router.load('api')?.paidNanoUsd, owed);
  assert.equal(router.meter.average(Date.now())?.output ?? Number(output), Number(output));
});

test('a machine of the pool is owed nothing by the token', async (t) => {
  const { chat, ledger, router } = await startGateway(t);
  await completionOf(await chat({ max_tokens: 5 }));
  assert.equal(ledger.settlements[0]?.purchases, undefined);
  assert.equal(router.load('replica-0')?.paidNanoUsd, 0n);
});

onBothDoors('an answer that broke is owed for as far as it came, though the client pays nothing', async (t, door) => {
  const { chat, server, addReplica, ledger } = await startGateway(t, { door, servers: 0 });
  addReplica(server, API);
  server.usually(cutAfter(eventsOf({ prompt: 20 }).slice(0, 3)));
  await errorOf(await chat({ max_tokens: 200 }), 502);
  const [settled] = ledger.settlements;
  assert.equal(settled?.charged, 0n);
  assert.ok((settled.purchases?.[0]?.amount ?? 0n) > 0n);
});

onBothDoors('what an API refuses costs nothing', async (t, door) => {
  const { chat, server, addReplica, ledger } = await startGateway(t, { door, servers: 0 });
  addReplica(server, API);
  server.usually(json(500, { error: {} }));
  await errorOf(await chat({ max_tokens: 5 }), 502);
  assert.equal(ledger.settlements[0]?.purchases, undefined);
});

test('a machine that broke off in mid-stream is not gone on with by an API', async (t) => {
  const { chat, servers, addReplica, ledger, router } = await startGateway(t, { servers: 1 });
  router.setResumes(true);
  servers[0]?.usually(cutAfter(eventsOf({ prompt: 20 }).slice(0, 3)));
  const reply = chat(USAGE);
  const api = await startModelServer(t, answer());
  addReplica(api, API);
  const { done, error } = await streamOf(await reply);
  assert.deepEqual([done, error?.code], [false, 'upstream_error']);
  assert.equal(api.requests.length, 0);
  assert.equal(ledger.settlements[0]?.purchases, undefined);
});
