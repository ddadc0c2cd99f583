import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { CUSTOMER, MODEL, onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { answer, cutAfter, eventsOf, slowFirst } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

const PRICING = { prompt: '0.000001', completion: '0.000002', input_cache_read: '0.0000005' };

onBothDoors('models are listed with what a buyer of tokens asks', async (t, door) => {
  const { get, router } = await setup(t, { door });
  const created = Math.floor(router.spec.loadedAtMs / 1000);
  const whose = { id: MODEL, object: 'model', created, owned_by: 'underbid' };
  const model = { ...whose, kind: 'chat', pricing: PRICING, context_length: 4096 };
  const warm = { ...model, quantization: 'q8_0', state: 'warm', expected_start_s: 0, trust: 'any' };
  assert.deepEqual(await (await get('/v1/models')).json(), { object: 'list', data: [warm] });
  router.drain('replica-0');
  assert.deepEqual(await (await get(`/v1/models/${MODEL}`)).json(), { ...warm, state: 'cold', expected_start_s: 2 });
});

onBothDoors('a promise that a pool publishes is shown, and what an account got by one', async (t, door) => {
  const { get } = await setup(t, {
    door,
    pool: { sla: { first_token_ms: 800, credit_percent: 50 } },
    slaCredits: (account) => Promise.resolve([{ amount: 0.5, account }]),
  });
  const { sla } = (await (await get(`/v1/models/${MODEL}`)).json()) as { sla: Record<string, unknown> };
  assert.deepEqual([sla['first_token_ms'], sla['credit_percent'], sla['credit']], [800, 50, 'promo']);
  const { data } = (await (await get('/v1/credits')).json()) as { data: Record<string, unknown> };
  assert.deepEqual(data['sla_credits'], [{ amount: 0.5, account: CUSTOMER }]);
});

test('a pool that never started does not guess how long it takes', async (t) => {
  const { get } = await setup(t, { servers: 0 });
  const { state, expected_start_s: start } = (await (await get(`/v1/models/${MODEL}`)).json()) as Record<
    string,
    unknown
  >;
  assert.deepEqual([state, start], ['cold', null]);
});

for (const path of [MODEL, MODEL.replace('/', '%2F'), MODEL.replace('/', '%2f'), 'org%2Ftin%79']) {
  onBothDoors(`an id with a slash may be written as ${path}`, async (t, door) => {
    const { get } = await setup(t, { door });
    const response = await get(`/v1/models/${path}`);
    assert.equal(response.status, 200);
    assert.equal(((await response.json()) as { id: string }).id, MODEL);
  });
}

for (const path of ['%', 'org%2', '%E0%A4%A', 'org%2Ftiny%00', '', 'org', 'org/tiny/']) {
  onBothDoors(`there is no model ${JSON.stringify(path)}, and asking for it breaks nothing`, async (t, door) => {
    const { get } = await setup(t, { door });
    const response = await get(`/v1/models/${path}`);
    const { code } = await errorOf(response, response.status === 400 ? 400 : 404);
    assert.equal(code, response.status === 400 ? 'invalid_request' : 'model_not_found');
  });
}

test('a generation was created when its request came; when it was settled, where the gateway had ended before', async (t) => {
  const { get, chat, server, ledger } = await setup(t, { door: 'node' });
  server.play(slowFirst(50, eventsOf()));
  const { id } = (await streamOf(await chat({ stream: true }))).chunks[0] ?? assert.fail('no chunk');
  const created = async (): Promise<number> => {
    const { data } = (await (await get(`/v1/generation?id=${id}`)).json()) as { data: { created_at: string } };
    return Date.parse(data.created_at);
  };
  const [settled] = ledger.settlements;
  assert.ok(settled && (settled.detail.totalMs ?? 0) >= 50);
  assert.equal(await created(), settled.atMs - (settled.detail.totalMs ?? 0));
  ledger.usageStatus = 'recovered';
  assert.equal(await created(), settled.atMs);
});

onBothDoors('a generation can be looked up by its id, by its own account alone', async (t, door) => {
  const { get, chat, server, fetch, addKey } = await setup(t, { door });
  server.play(answer({ prompt: 12, cached: 4 }));
  const { id, usage } = await completionOf(await chat({ max_tokens: 5 }));
  const { data } = (await (await get(`/v1/generation?id=${id}`)).json()) as { data: Record<string, unknown> };
  const { created_at: at, first_token_ms: first, total_ms: total, waited_ms: waited, ...rest } = data;
  assert.ok(Math.abs(Date.parse(String(at)) - Date.now()) < 10_000);
  assert.equal(first, null);
  assert.ok(Number(total) >= 0 && Number(total) < 10_000 && waited === 0);
  assert.deepEqual(rest, {
    id,
    model: MODEL,
    status: 'done',
    cancelled: false,
    finish_reason: 'stop',
    error: null,
    streamed: false,
    resumed: 0,
    tokens_prompt: 12,
    tokens_cached: 4,
    tokens_completion: 4,
    pricing: { prompt: '0.000001', completion: '0.000002', input_cache_read: '0.0000005' },
    total_cost: usage?.cost,
    wake_fee: 0,
    lease: 'lease-of-replica-0',
    provider: 'provider-of-replica-0',
    market: 'owned',
    cold_start_ms: 0,
  });
  const { key } = await addKey({}, 'acct-2');
  const other = await fetch(`/v1/generation?id=${id}`, { headers: { authorization: `Bearer ${key}` } });
  assert.deepEqual((await errorOf(other, 404)).param, 'id');
});

onBothDoors('a generation that failed says what it was charged for, and why', async (t, door) => {
  const { get, chat, server } = await setup(t, { door });
  server.play(cutAfter(eventsOf().slice(0, 3)));
  const { chunks, error } = await streamOf(await chat({ stream: true }));
  const response = await get(`/v1/generation?id=${chunks[0]?.id}`);
  const { data } = (await response.json()) as { data: Record<string, unknown> };
  assert.deepEqual([data['status'], data['error'], data['cancelled']], ['failed', error?.code, false]);
  assert.deepEqual([data['streamed'], data['tokens_completion'], data['total_cost']], [true, 2, 0.000016]);
  assert.ok(Number(data['first_token_ms']) >= 0);
});

for (const query of ['', '?id=', '?id=none', `?id=${'x'.repeat(5000)}`, '?id=%00']) {
  onBothDoors(`there is no generation ${query.slice(0, 20)}`, async (t, door) => {
    const { get } = await setup(t, { door });
    assert.equal((await errorOf(await get(`/v1/generation${query}`), 404)).code, 'not_found');
  });
}

onBothDoors('credits are what was granted and what was used', async (t, door) => {
  const { get, chat, ledger } = await setup(t, { door, creditUsd: '2.50' });
  const credits = async (): Promise<unknown> => (await get('/v1/credits')).json();
  assert.deepEqual(await credits(), { data: { total_credits: 2.5, total_usage: 0 } });
  const { usage } = await completionOf(await chat({ max_tokens: 5 }));
  assert.deepEqual(await credits(), { data: { total_credits: 2.5, total_usage: usage?.cost } });
  const balance = await ledger.ask({ op: 'balance', customer: CUSTOMER });
  assert.equal(balance?.used, ledger.settlements[0]?.charged);
});

test('look-ups need a key', async (t) => {
  const { fetch } = await setup(t, {});
  for (const path of ['/v1/models', `/v1/models/${MODEL}`, '/v1/credits', '/v1/generation?id=x']) {
    assert.equal((await errorOf(await fetch(path), 401)).code, 'invalid_api_key');
  }
});

function setup(t: TestContext, settings: GatewaySettings): Promise<Gateway> {
  return startGateway(t, settings);
}
