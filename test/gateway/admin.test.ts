import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { MODEL, onBothDoors, startGateway, type Door, type Gateway } from '../fakes/gateway.ts';
import { completionOf, errorOf } from '../fakes/reply.ts';

/** Accounts, credit and keys; pools and leases are the scheduler's, and its tests'. */

onBothDoors('an account is made, credited and given a key that works until it is revoked', async (t, door) => {
  const { post, del, read, chat } = await setup(t, door);
  const account = idOf(await read(await post('/admin/accounts', { name: 'Ada' }), 201));
  const credit = await post(`/admin/accounts/${account}/credits`, { amount_usd: '5.00', kind: 'paid', reason: 'x' });
  const { credits_usd: credits, balance_usd: balance, name } = await read(credit, 201);
  assert.deepEqual([name, credits, balance], ['Ada', '5.00', '5.00']);
  const made = await read(await post(`/admin/accounts/${account}/keys`, { name: 'k', models: [MODEL], rpm: 7 }), 201);
  assert.match(String(made['key']), /^sk-ub-[0-9A-Za-z]{40}$/);
  const headers = { authorization: `Bearer ${String(made['key'])}` };
  const response = await chat({ max_tokens: 5 }, { headers });
  assert.equal(response.headers.get('x-ratelimit-limit-requests'), '7');
  const { usage } = await completionOf(response);
  const after = await read(await post.get(`/admin/accounts/${account}`), 200);
  assert.deepEqual([after['used_usd'], after['held_usd']], [String(usage?.cost), '0.00']);
  assert.equal((await del(`/admin/keys/${String(made['id'])}`)).status, 204);
  assert.equal((await errorOf(await chat({}, { headers }), 401)).code, 'invalid_api_key');
});

onBothDoors('keys are listed by hint, never in full', async (t, door) => {
  const { post, read } = await setup(t, door);
  const account = idOf(await read(await post('/admin/accounts', { name: 'Ada' }), 201));
  const settings = { spend_limit_usd: '1.50', tpm: 9, concurrency: 2, expires_at: '2030-01-01T00:00:00Z' };
  const { id, key } = await read(await post(`/admin/accounts/${account}/keys`, { name: 'k', ...settings }), 201);
  const response = await post.get(`/admin/accounts/${account}/keys`);
  const text = await response.text();
  assert.ok(!text.includes(String(key)));
  const { data } = JSON.parse(text) as { data: Record<string, unknown>[] };
  const { created_at: _at, hint, ...rest } = data[0] ?? {};
  assert.ok(String(key).startsWith(String(hint).replace('…', '')));
  const open = { models: null, rpm: null, revoked_at: null, replaced_by: null, project: null, limit_reset: 'none' };
  const others = {
    expires_at: '2030-01-01T00:00:00.000Z',
    trust: null,
    regions: null,
    providers: null,
    wake_fee_max_usd: null,
  };
  assert.deepEqual(rest, { id, name: 'k', ...settings, ...open, ...others, spent_usd: '0.00' });
});

onBothDoors('a credit that is sent twice under one Idempotency-Key is booked once', async (t, door) => {
  const { post, read } = await setup(t, door);
  const once = { 'idempotency-key': 'payment-1' };
  const account = idOf(await read(await post('/admin/accounts', { name: 'Ada' }, once), 201));
  const { id: same } = await read(await post('/admin/accounts', { name: 'Ada' }, once), 201);
  assert.equal(same, account);
  const path = `/admin/accounts/${account}/credits`;
  const credit = { amount_usd: '5.00', kind: 'promo', reason: 'welcome' };
  await read(await post(path, credit, once), 201);
  const { credits_usd: credits } = await read(await post(path, credit, once), 200);
  assert.equal(credits, '5.00');
  assert.equal(
    (await errorOf(await post(path, { ...credit, amount_usd: '6.00' }, once), 422)).code,
    'idempotency_mismatch',
  );
  const { credits_usd: both } = await read(await post(path, credit), 201);
  assert.equal(both, '10.00');
});

onBothDoors('without the admin key there is nothing to see, whoever asks', async (t, door) => {
  const { fetch, key } = await setup(t, door);
  for (const authorization of ['', `Bearer ${key}`, 'Bearer sk-ub-admin2', 'Basic sk-ub-admin']) {
    for (const path of ['/admin/accounts', '/admin/ledger/check', '/admin/nothing']) {
      assert.equal((await errorOf(await fetch(path, { headers: { authorization } }), 401)).code, 'invalid_api_key');
    }
  }
});

const BAD: readonly { path: string; body: unknown; param: string | null }[] = [
  { path: '/accounts', body: {}, param: 'name' },
  { path: '/accounts', body: { name: '' }, param: 'name' },
  { path: '/accounts', body: { name: 'x', more: 1 }, param: null },
  { path: '/accounts', body: { name: 'a\0b' }, param: 'name' },
  ...['0', '0.00', '-1', '1e3', '1.0000000001', 'five', '', 5, null].map((amount) => {
    return {
      path: '/accounts/ID/credits',
      body: { amount_usd: amount, kind: 'paid', reason: 'x' },
      param: 'amount_usd',
    };
  }),
  { path: '/accounts/ID/credits', body: { amount_usd: '1', kind: 'free', reason: 'x' }, param: 'kind' },
  { path: '/accounts/ID/credits', body: { amount_usd: '1', kind: 'paid' }, param: 'reason' },
  { path: '/accounts/ID/keys', body: { name: 'k', rpm: 0 }, param: 'rpm' },
  { path: '/accounts/ID/keys', body: { name: 'k', models: [] }, param: 'models' },
  { path: '/accounts/ID/keys', body: { name: 'k', expires_at: 'soon' }, param: 'expires_at' },
  { path: '/accounts/ID/keys', body: { name: 'k', expires_at: '2001-01-01T00:00:00Z' }, param: 'expires_at' },
  { path: '/admin-keys', body: { name: 'k', role: 'finance', expires_at: 1 }, param: 'expires_at' },
  { path: '/accounts/ID/keys', body: { name: 'k', expires_at: 8_640_000_000_001 }, param: 'expires_at' },
];

onBothDoors('what is wrong with a request is named, and nothing is booked', async (t, door) => {
  const { post, read } = await setup(t, door);
  const account = idOf(await read(await post('/admin/accounts', { name: 'Ada' }), 201));
  for (const { path, body, param } of BAD) {
    const error = await errorOf(await post(`/admin${path.replace('ID', account)}`, body), 400);
    assert.deepEqual([error.code, error.param], ['invalid_request', param], JSON.stringify(body));
  }
  assert.equal((await read(await post.get(`/admin/accounts/${account}`), 200))['credits_usd'], '0.00');
});

onBothDoors('an account or key that is not there is 404', async (t, door) => {
  const { post, del } = await setup(t, door);
  const credit = { amount_usd: '1', kind: 'paid', reason: 'x' };
  for (const response of [
    ...[await post.get('/admin/accounts/none'), await post('/admin/accounts/none/credits', credit)],
    ...[await post('/admin/accounts/none/keys', { name: 'k' }), await del('/admin/keys/none')],
    await post.get('/admin/accounts/none/keys'),
  ]) {
    assert.equal((await errorOf(response, 404)).code, 'not_found');
  }
});

interface Post {
  (path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  get(path: string): Promise<Response>;
}

interface Operator extends Gateway {
  readonly post: Post;
  del(path: string): Promise<Response>;
  read(response: Response, status: number): Promise<Record<string, unknown>>;
}

function idOf({ id }: Record<string, unknown>): string {
  assert.ok(typeof id === 'string');
  return id;
}

async function setup(t: TestContext, door: Door): Promise<Operator> {
  const gateway = await startGateway(t, { door });
  const admin = { authorization: 'Bearer sk-ub-admin', 'content-type': 'application/json' };
  const send = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
    gateway.fetch(path, { method: 'POST', body: JSON.stringify(body), headers: { ...admin, ...headers } });
  return {
    ...gateway,
    post: Object.assign(send, { get: (path: string) => gateway.fetch(path, { headers: admin }) }),
    del: (path) => gateway.fetch(path, { method: 'DELETE', headers: admin }),
    read: async (response, status) => {
      const text = await response.text();
      assert.equal(response.status, status, text);
      return JSON.parse(text) as Record<string, unknown>;
    },
  };
}
