import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { startGateway } from './gateway-process.ts';

/** The embedded market with its real model server, started to make embeddings. */

const CONFIG = `
pools:
  tiny-embeddings:
    engine: llama.cpp
    kind: embeddings
    model: smollm2-135m
    context: 512
    price: { input: "1.00", output: "0" }
    ceiling_usd_per_hour: "0.10"
    hardware: { cpu: 1, memory: 1Gi }
`;
const DIMENSIONS = 576;

interface List {
  readonly id: string;
  readonly data: readonly { readonly index: number; readonly embedding: readonly number[] }[];
  readonly usage: { readonly prompt_tokens: number; readonly total_tokens: number; readonly cost: number };
}

test('two texts become two vectors on a machine that was won at auction, and cost what is charged', async (t) => {
  const { url, demoKey, admin } = await startGateway(t, { config: CONFIG });
  const headers = { authorization: `Bearer ${demoKey}`, 'content-type': 'application/json' };
  const post = (path: string, body: unknown): Promise<Response> =>
    fetch(`${url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  const model = 'tiny-embeddings';
  const reply = await post('/v1/embeddings', { model, input: ['A cat on a mat.', 'The price of bread.'] });
  const text = await reply.text();
  assert.equal(reply.status, 200, text);
  const { id, data, usage } = JSON.parse(text) as List;
  assert.deepEqual(
    data.map(({ index, embedding }) => [index, embedding.length]),
    [
      [0, DIMENSIONS],
      [1, DIMENSIONS],
    ],
  );
  assert.notDeepEqual(data[0]?.embedding, data[1]?.embedding);
  assert.ok(Number(reply.headers.get('x-underbid-cold-start-ms')) > 0);
  // Each text has at least a token a word; the price is a dollar for a million of them.
  assert.ok(usage.prompt_tokens >= 9 && usage.prompt_tokens < 40, String(usage.prompt_tokens));
  assert.equal(usage.cost, usage.prompt_tokens / 1e6);
  const shown = (await (await fetch(`${url}/v1/generation?id=${id}`, { headers })).json()) as {
    data: { total_cost: number; tokens_prompt: number };
  };
  assert.deepEqual([shown.data.total_cost, shown.data.tokens_prompt], [usage.cost, usage.prompt_tokens]);

  // The largest input fits one batch, and one that is longer is the client's fault and takes no machine away.
  const longest = await post('/v1/embeddings', { model, input: 'a b '.repeat(200) });
  assert.equal(longest.status, 200, await longest.clone().text());
  const tooLong = await post('/v1/embeddings', { model, input: 'a b '.repeat(800) });
  const { error } = (await tooLong.json()) as { error: { code: string; param: string } };
  assert.deepEqual([tooLong.status, error.code, error.param], [400, 'context_length_exceeded', 'input']);

  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: demoKey });
  const tokens = await client.embeddings.create({ model, input: [[1, 2, 3], [4]] });
  assert.deepEqual(
    [tokens.data.map(({ embedding }) => embedding.length), tokens.usage.prompt_tokens],
    [[DIMENSIONS, DIMENSIONS], 4],
  );
  assert.equal(
    (await post('/v1/chat/completions', { model, messages: [{ role: 'user', content: 'Hi' }] })).status,
    400,
  );
  const check = (await admin('/admin/ledger/check')) as { ok: boolean };
  assert.equal(check.ok, true);
  const { data: leases } = (await admin('/admin/leases')) as { data: unknown[] };
  assert.equal(leases.length, 1);
});
