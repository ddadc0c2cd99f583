import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { answer, json, reset } from '../fakes/model-replies.ts';
import { startModelServer, type FakeModelServer } from '../fakes/model-server.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

/** What the entry puts together, seen from outside: parts that work alone and are of no use unless they are wired. */

test('the only machine of a pool fails a request, answers its probe and serves it after all', async (t) => {
  const { server, chat, gateway } = await setup(t);
  server.play(reset);
  assert.equal(await chat(gateway.demoKey, {}), 200);
  const { data } = (await gateway.admin('/admin/decisions')) as { data: { kind: string }[] };
  assert.ok(data.some(({ kind }) => kind === 'replica.verified'));
});

test('a prompt that does not fit the balance by its bytes is counted by the machine, and let in', async (t) => {
  const { server, chat, gateway } = await setup(t);
  server.tokenizes((turn) => {
    const reply = turn.path === '/tokenize' ? { tokens: [1, 2, 3] } : { prompt: 'x' };
    return json(200, reply)(turn);
  });
  const account = (await gateway.admin('/admin/accounts', { method: 'POST', body: { name: 'poor' } })) as {
    id: string;
  };
  const path = `/admin/accounts/${account.id}`;
  const credit = { amount_usd: '0.0001', kind: 'paid', reason: 'a little' };
  await gateway.admin(`${path}/credits`, { method: 'POST', body: credit });
  const { key } = (await gateway.admin(`${path}/keys`, { method: 'POST', body: { name: 'k' } })) as { key: string };
  assert.equal(await chat(key, { max_tokens: 10 }), 200);
  assert.ok(server.questions.length >= 2);
});

async function setup(t: TestContext) {
  const server: FakeModelServer = await startModelServer(t, answer());
  const gateway: GatewayProcess = await startGateway(t, { config: configOf(server.url) });
  await until('the machine is ready', 30_000, async () => {
    const { data } = (await gateway.admin('/admin/replicas')) as { data: { state: string }[] };
    return data.some(({ state }) => state === 'ready') ? true : null;
  });
  const chat = async (key: string, fields: Record<string, unknown>): Promise<number> => {
    const messages = [{ role: 'user', content: 'a '.repeat(100) }];
    const reply = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'm', messages, max_tokens: 20, ...fields }),
    });
    await reply.arrayBuffer();
    return reply.status;
  };
  return { server, gateway, chat };
}

const configOf = (url: string): string => `pools:
  m:
    engine: llama.cpp
    model: m
    context: 4096
    resume: off
    price: { input: "1.00", output: "2.00" }
    markets: [owned]
    replicas: { min: 1, max: 1 }
    ceiling_usd_per_hour: "1.00"
markets:
  owned:
    servers: [{ url: "${url}", pool: m, usd_per_hour: "0.10" }]
`;
