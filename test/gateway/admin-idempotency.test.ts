import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { onBothDoors, startGateway, type Door, type Gateway } from '../fakes/gateway.ts';
import { errorOf } from '../fakes/reply.ts';

/** `Idempotency-Key` on what operators make: the id follows from it, so that a repeat finds what the first one made. */

const ONCE = { 'idempotency-key': 'order-4711' };

onBothDoors('an account made twice under one key is one account; under another name it is refused', async (t, door) => {
  const { post } = await setup(t, door);
  const { id } = await read(await post('/admin/accounts', { name: 'Ada' }), 201);
  assert.equal((await read(await post('/admin/accounts', { name: 'Ada' }), 201))['id'], id);
  assert.equal((await mismatch(await post('/admin/accounts', { name: 'Eve' }))).code, 'idempotency_mismatch');
});

const CREDIT = { amount_usd: '5.00', kind: 'promo', reason: 'welcome', expires_at: '2100-01-01T00:00:00Z' };
for (const other of [
  { amount_usd: '6.00' },
  { kind: 'paid' },
  { reason: 'welcome back' },
  { expires_at: '2101-01-01T00:00:00Z' },
  { expires_at: null },
]) {
  onBothDoors(
    `credit is booked once under one key, and refused as another: ${JSON.stringify(other)}`,
    async (t, door) => {
      const { post } = await setup(t, door);
      const path = '/admin/accounts/acct-1/credits';
      const before = await credits(await post(path, CREDIT), 201);
      assert.equal(await credits(await post(path, CREDIT), 200), before);
      await mismatch(await post(path, { ...CREDIT, ...other }));
      assert.equal(await credits(await post(path, CREDIT), 200), before);
    },
  );
}

const KEY = { name: 'app', models: ['a', 'b'], spend_limit_usd: '1.50', limit_reset: 'day', rpm: 7, project: 'p' };
for (const where of ['/admin/accounts/acct-1/keys', '/admin/admin-keys'] as const) {
  const body = where === '/admin/admin-keys' ? { name: 'Ada', role: 'finance' } : KEY;
  onBothDoors(`one key is made under one Idempotency-Key, and shown once: ${where}`, async (t, door) => {
    const { post, list } = await setup(t, door);
    const before = await list(where);
    const made = await Promise.all(Array.from({ length: 20 }, () => post(where, body)));
    const [first, ...others] = made.filter(({ status }) => status === 201);
    assert.ok(first);
    assert.equal(others.length, 0, 'of many at once');
    const { id, key } = await read(first, 201);
    const again = await post(where, body);
    assert.equal(again.headers.get('x-should-retry'), 'false');
    const text = await again.clone().text();
    assert.ok(!text.includes(String(key)) && !text.includes('sk-'));
    const { code, metadata } = await errorOf(again, 409);
    assert.deepEqual([code, metadata], ['idempotency_completed', { id }]);
    assert.equal((await list(where)) - before, 1);
    for (const { status } of made) assert.ok(status === 201 || status === 409);
  });
}

const OTHERS: readonly Record<string, unknown>[] = [
  { name: 'b' },
  { models: ['a'] },
  { models: null },
  { spend_limit_usd: '1.51' },
  { limit_reset: 'week' },
  { rpm: 8 },
  { tpm: 1 },
  { concurrency: 1 },
  { project: null },
  { expires_at: '2100-01-01T00:00:00Z' },
];
onBothDoors('a key with other settings under the same Idempotency-Key is refused', async (t, door) => {
  const { post, list } = await setup(t, door);
  const path = '/admin/accounts/acct-1/keys';
  await read(await post(path, KEY), 201);
  const before = await list(path);
  for (const other of OTHERS) await mismatch(await post(path, { ...KEY, ...other }));
  assert.equal(await list(path), before);
  const { id } = await read(await post('/admin/accounts/acct-2/keys', KEY), 201);
  assert.match(String(id), /^key-[0-9a-f]{32}$/, "another account's keys are its own");
});

onBothDoors('an admin key of another role under the same Idempotency-Key is refused', async (t, door) => {
  const { post } = await setup(t, door);
  await read(await post('/admin/admin-keys', { name: 'Ada', role: 'read-only' }), 201);
  await mismatch(await post('/admin/admin-keys', { name: 'Ada', role: 'operator' }));
  await mismatch(await post('/admin/admin-keys', { name: 'Eve', role: 'read-only' }));
});

onBothDoors('a bad Idempotency-Key is refused, and nothing is made', async (t, door) => {
  const { post, list } = await setup(t, door);
  for (const bad of ['', 'a b', 'x'.repeat(256)]) {
    const response = await post('/admin/accounts/acct-1/keys', KEY, { 'idempotency-key': bad });
    assert.equal((await errorOf(response, 400)).param, 'Idempotency-Key');
  }
  assert.equal(await list('/admin/accounts/acct-1/keys'), 1);
});

interface Operator extends Gateway {
  /** Under one Idempotency-Key, unless the headers say otherwise. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Response>;
  /** How many there are. */
  list(path: string): Promise<number>;
}

async function read(response: Response, status: number): Promise<Record<string, unknown>> {
  const text = await response.text();
  assert.equal(response.status, status, text);
  return JSON.parse(text) as Record<string, unknown>;
}

const credits = async (response: Response, status: number): Promise<unknown> =>
  (await read(response, status))['credits_usd'];

async function mismatch(response: Response): ReturnType<typeof errorOf> {
  assert.equal(response.headers.get('x-should-retry'), 'false');
  const error = await errorOf(response, 422);
  assert.equal(error.code, 'idempotency_mismatch');
  return error;
}

async function setup(t: TestContext, door: Door): Promise<Operator> {
  const gateway = await startGateway(t, { door });
  const admin = { authorization: 'Bearer sk-ub-admin', 'content-type': 'application/json' };
  return {
    ...gateway,
    post: (path, body, headers = ONCE) =>
      gateway.fetch(path, { method: 'POST', body: JSON.stringify(body), headers: { ...admin, ...headers } }),
    list: async (path) => {
      const { data } = await read(await gateway.fetch(path, { headers: admin }), 200);
      return (data as unknown[]).length;
    },
  };
}
