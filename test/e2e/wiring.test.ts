import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { answer, json, reset } from '../fakes/model-replies.ts';
import { startModelServer, type FakeModelServer, type Script } from '../fakes/model-server.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

const ASKED = 'a '.repeat(100);

/** What the entry puts together, seen from outside: parts that work alone and are of no use unless they are wired. */

test('the only machine of a pool fails a request, answers its probe and serves it after all', async (t) => {
  const { server, chat, gateway } = await setup(t);
  // The gateway asks questions of its own, too.
  const breakChat: Script = (turn) => {
    if (turn.text.includes(ASKED)) return reset(turn);
    server.play(breakChat);
    return answer()(turn);
  };
  server.play(breakChat);
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

test('an API of somebody else carries a pool, and its lease and the ledger say what it is owed', async (t) => {
  const server = await startModelServer(t, answer({ prompt: 1000 }));
  const gateway = await startGateway(t, { config: apiConfigOf(server.url) });
  const chat = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'a '.repeat(2000) }], max_tokens: 20 }),
  });
  assert.equal(chat.status, 200);
  assert.equal(chat.headers.get('x-underbid-provider'), 'somebody');
  await chat.arrayBuffer();
  const asked = server.requests.at(-1);
  assert.equal(asked?.body['model'], 'vendor/m');
  const rent = await until('the lease says what was paid', 30_000, async () => {
    const { data } = (await gateway.admin('/admin/leases')) as { data: { market: string; rent_usd: string }[] };
    const [lease] = data;
    return lease && lease.rent_usd !== '0.00' ? lease : null;
  });
  assert.equal(rent.market, 'api');
  // 1,000 tokens at $0.50 a million, and some of output.
  assert.ok(Number(rent.rent_usd) >= 0.0005 && Number(rent.rent_usd) < 0.001, rent.rent_usd);
  assert.equal(((await gateway.admin('/admin/ledger/check')) as { ok: boolean }).ok, true);
});

async function setup(t: TestContext) {
  const server: FakeModelServer = await startModelServer(t, answer());
  const gateway: GatewayProcess = await startGateway(t, { config: configOf(server.url) });
  await until('the machine is ready', 30_000, async () => {
    const { data } = (await gateway.admin('/admin/replicas')) as { data: { state: string }[] };
    return data.some(({ state }) => state === 'ready') ? true : null;
  });
  const chat = async (key: string, fields: Record<string, unknown>): Promise<number> => {
    const messages = [{ role: 'user', content: ASKED }];
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

const apiConfigOf = (url: string): string => `pools:
  m:
    engine: llama.cpp
    model: m
    context: 4096
    price: { input: "1.00", output: "2.00" }
    ceiling_usd_per_hour: "1.00"
markets:
  api:
    endpoints:
      - { id: somebody, url: "${url}/v1", pool: m, model: vendor/m, usd_per_million: { input: "0.50", output: "1.00" } }
`;

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
