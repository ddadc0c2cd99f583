import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { adminOf } from '../fakes/admin.ts';
import { DatedClock, until } from '../fakes/clock.ts';
import { CUSTOMER, MODEL, onBothDoors, startGateway, type Door } from '../fakes/gateway.ts';
import { silence } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

/** Keys as their owners and operators meet them: limits that start anew, rotation, freezing. */

const DAY_MS = 86_400_000;
/** A Wednesday, the last day of a month. */
const START = Date.parse('2030-07-31T12:00:00Z');

onBothDoors('GET /v1/key tells what the key may spend and has spent, by day, week and month', async (t, door) => {
  const { clock, root, as, keyOf } = await setup(t, door);
  const limits = { spend_limit_usd: '0.50', limit_reset: 'week', rpm: 60, tpm: 90_000, concurrency: 3, project: 'web' };
  const key = await keyOf({ ...limits, models: [MODEL], expires_at: '2031-01-01T00:00:00Z' });
  await root.ask('PUT', `/admin/accounts/${CUSTOMER}/projects/web`, { spend_limit_usd: '2', limit_reset: 'month' });
  const { usage } = await completionOf(await as(key).chat({ max_tokens: 5 }));
  const cost = Number(usage?.cost);
  const shown = await as(key).key();
  const week = { limit_reset: 'weekly', limit_resets_at: '2030-08-05T00:00:00.000Z', held: 0 };
  const month = { limit_reset: 'monthly', limit_resets_at: '2030-08-01T00:00:00.000Z', held: 0 };
  assert.deepEqual(shown, {
    label: 'app',
    ...{ limit: 0.5, limit_remaining: 0.5 - cost, ...week },
    ...{ usage: cost, usage_daily: cost, usage_weekly: cost, usage_monthly: cost },
    expires_at: '2031-01-01T00:00:00.000Z',
    ...{ models: [MODEL], trust: null, regions: null, providers: null, wake_fee_max: null },
    project: { name: 'web', limit: 2, limit_remaining: 2 - cost, ...month },
    rate_limit: { requests_per_minute: 60, tokens_per_minute: 90_000, concurrency: 3 },
  });
  clock.moveTo(START + DAY_MS);
  const usages = ({ usage: all, usage_daily: day, usage_weekly: of, usage_monthly: at }: Record<string, unknown>) => [
    all,
    day,
    of,
    at,
  ];
  assert.deepEqual(usages(await as(key).key()), [cost, 0, cost, 0]);
  clock.moveTo(START + 5 * DAY_MS);
  const later = await as(key).key();
  assert.deepEqual([...usages(later), later['limit_remaining']], [cost, 0, 0, 0, 0.5]);
});

onBothDoors('a key without limits says so', async (t, door) => {
  const { as, gateway } = await setup(t, door);
  const shown = await as(gateway.key).key();
  const none = { limit: null, limit_remaining: null, limit_reset: null, limit_resets_at: null, held: 0 };
  const { rate_limit: _, ...rest } = shown;
  const usage = { usage: 0, usage_daily: 0, usage_weekly: 0, usage_monthly: 0 };
  const machines = { trust: null, regions: null, providers: null, wake_fee_max: null };
  assert.deepEqual(rest, {
    ...{ label: 'key-1', ...none, ...usage, ...machines },
    ...{ expires_at: null, models: null, project: null },
  });
  await errorOf(await gateway.fetch('/v1/key'), 401);
});

onBothDoors(
  'a daily limit refuses what passes it, says whose it is, and lets in again at midnight',
  async (t, door) => {
    const { clock, as, keyOf } = await setup(t, door);
    const key = await keyOf({ spend_limit_usd: '0.0003', limit_reset: 'day' });
    let refused: Response | null = null;
    for (let count = 0; count < 50 && !refused; count += 1) {
      const response = await as(key).chat({ max_tokens: 5 });
      if (response.status === 200) await completionOf(response);
      else refused = response;
    }
    assert.ok(refused);
    const { code, message, metadata } = await errorOf(refused, 402);
    assert.equal(code, 'insufficient_credits');
    assert.match(message, /this API key's spend limit/);
    assert.deepEqual([metadata?.['limit_source'], metadata?.['transient']], ['key', false]);
    assert.equal(refused.headers.get('x-should-retry'), null);
    clock.moveTo(Date.parse('2030-08-01T00:00:00Z') - 1000);
    await errorOf(await as(key).chat({ max_tokens: 5 }), 402);
    clock.moveTo(Date.parse('2030-08-01T00:00:00Z'));
    await completionOf(await as(key).chat({ max_tokens: 5 }));
  },
);

onBothDoors(
  'a project at its limit says so, whichever of its keys asks; what is in flight makes it transient',
  async (t, door) => {
    const { root, as, keyOf, gateway } = await setup(t, door);
    const [one, other] = [await keyOf({ project: 'web' }), await keyOf({ project: 'web' })];
    await root.ask('PUT', `/admin/accounts/${CUSTOMER}/projects/web`, { spend_limit_usd: '0.0003' });
    gateway.server.play(silence);
    const leave = new AbortController();
    const first = as(one)
      .chat({ max_tokens: 50 }, { signal: leave.signal })
      .catch(() => null);
    await gateway.server.request(0);
    const { project, held, usage } = await as(one).key();
    const shared = project as Record<string, number>;
    assert.ok(Number(held) > 0.0002 && held === shared['held'] && usage === 0);
    assert.ok(Math.abs(Number(shared['limit_remaining']) + Number(held) - 0.0003) < 1e-12);
    const response = await as(other).chat({ max_tokens: 50 });
    const { message, metadata } = await errorOf(response, 402);
    assert.match(message, /the spend limit of this API key's project/);
    assert.deepEqual([metadata?.['limit_source'], metadata?.['transient']], ['project', true]);
    assert.equal(response.headers.get('x-should-retry'), 'true');
    const { data } = (await root.ask('GET', `/admin/accounts/${CUSTOMER}/projects`)) as {
      data: Record<string, string>[];
    };
    assert.deepEqual(
      [data[0]?.['name'], data[0]?.['spend_limit_usd'], data[0]?.['spent_usd']],
      ['web', '0.0003', '0.00'],
    );
    assert.ok(Number(data[0]?.['held_usd']) > 0.0002);
    leave.abort();
    await first;
    await until('it is settled', () => gateway.ledger.settlements.length === 1);
    await completionOf(await as(other).chat({ max_tokens: 50 }));
  },
);

onBothDoors(
  'a rotated key works on with its rate and spending; the old one until the overlap ends',
  async (t, door) => {
    const { clock, root, as, keyOf, keyIds } = await setup(t, door);
    const old = await keyOf({ rpm: 3, spend_limit_usd: '0.01' });
    await completionOf(await as(old).chat({ max_tokens: 5 }));
    const [id] = await keyIds();
    const rotated = await root.ask('POST', `/admin/keys/${id}/rotate`, { overlap_s: 3600 }, 201);
    const fresh = String(rotated['key']);
    assert.deepEqual([rotated['replaces'], rotated['overlap_ends_at']], [id, '2030-07-31T13:00:00.000Z']);
    assert.match(fresh, /^sk-ub-[0-9A-Za-z]{40}$/);
    const second = await as(fresh).chat({ max_tokens: 5 });
    assert.equal(second.headers.get('x-ratelimit-remaining-requests'), '1');
    await completionOf(second);
    await completionOf(await as(old).chat({ max_tokens: 5 }));
    await errorOf(await as(fresh).chat({ max_tokens: 5 }), 429);
    const [shown, before] = [await as(fresh).key(), await as(old).key()];
    assert.equal(shown['usage'], before['usage']);
    assert.deepEqual([before['expires_at'], shown['expires_at']], ['2030-07-31T13:00:00.000Z', null]);
    const { data } = (await root.ask('GET', `/admin/accounts/${CUSTOMER}/keys`)) as { data: Record<string, unknown>[] };
    const listed = data.find((one) => one['id'] === id);
    assert.deepEqual([listed?.['replaced_by'], listed?.['expires_at']], [rotated['id'], '2030-07-31T13:00:00.000Z']);
    clock.moveTo(Date.parse('2030-07-31T13:00:00Z'));
    assert.equal((await errorOf(await as(old).chat({ max_tokens: 5 }), 401)).code, 'invalid_api_key');
    await completionOf(await as(fresh).chat({ max_tokens: 5 }));
    assert.equal((await errorOf(await root.send('POST', `/admin/keys/${id}/rotate`, {}), 409)).code, 'conflict');
  },
);

onBothDoors(
  'a key that ends between its look-up and its hold is refused like any other that ended',
  async (t, door) => {
    const { as, keyOf, keyIds, gateway, clock } = await setup(t, door);
    const key = await keyOf({});
    const [id = ''] = await keyIds();
    // The book knows; the keys in the gateway's memory were not read anew.
    await gateway.ledger.ask({ op: 'revoke', id, atMs: clock.now() });
    const { code, message } = await errorOf(await as(key).chat({ max_tokens: 5 }), 401);
    assert.deepEqual([code, message], ['invalid_api_key', 'this API key is unknown, expired or revoked']);
  },
);

onBothDoors('an overlap is a day unless told otherwise, none at 0, and at most thirty days', async (t, door) => {
  const { root, as, keyOf, keyIds } = await setup(t, door);
  const key = await keyOf({});
  const [id] = await keyIds();
  for (const overlap of [-1, 1.5, 30 * 86_400 + 1, '1']) {
    const error = await errorOf(await root.send('POST', `/admin/keys/${id}/rotate`, { overlap_s: overlap }), 400);
    assert.equal(error.param, 'overlap_s');
  }
  const first = await root.ask('POST', `/admin/keys/${id}/rotate`, undefined, 201);
  assert.equal(first['overlap_ends_at'], '2030-08-01T12:00:00.000Z');
  assert.equal((await as(key).chat({ max_tokens: 5 })).status, 200);
  const next = String(first['key']);
  const second = await root.ask('POST', `/admin/keys/${String(first['id'])}/rotate`, { overlap_s: 0 }, 201);
  await errorOf(await as(next).chat({ max_tokens: 5 }), 401);
  await completionOf(await as(String(second['key'])).chat({ max_tokens: 5 }));
  assert.equal((await errorOf(await root.send('POST', '/admin/keys/none/rotate', {}), 404)).code, 'not_found');
});

onBothDoors('a frozen account ends what runs, is charged for it, and starts nothing new', async (t, door) => {
  const { root, as, keyOf, gateway } = await setup(t, door);
  const key = await keyOf({});
  const { server } = gateway;
  server.play(silence);
  const leave = new AbortController();
  const running = as(key).chat({ stream: true }, { signal: leave.signal });
  await server.request(0);
  const path = `/admin/accounts/${CUSTOMER}`;
  assert.equal((await errorOf(await root.send('POST', `${path}/freeze`, {}), 400)).param, 'reason');
  const frozen = await root.ask('POST', `${path}/freeze`, { reason: 'unpaid' });
  assert.deepEqual(
    [frozen['frozen'], frozen['frozen_reason'], frozen['frozen_at']],
    [true, 'unpaid', '2030-07-31T12:00:00.000Z'],
  );
  const { code, message } = await errorOf(await as(key).chat({ max_tokens: 5 }), 403);
  assert.deepEqual([code, message], ['permission_denied', 'this account is frozen']);
  assert.equal((await as(key).get('/v1/credits')).status, 200, 'it may still look');
  leave.abort();
  await running.catch(() => null);
  await until('it is settled', () => gateway.ledger.settlements.length === 1);
  const thawed = await root.ask('POST', `${path}/unfreeze`);
  assert.deepEqual([thawed['frozen'], thawed['frozen_reason'], thawed['frozen_at']], [false, null, null]);
  await streamOf(await as(key).chat({ stream: true }));
  for (const action of ['freeze', 'unfreeze']) {
    await errorOf(await root.send('POST', `/admin/accounts/none/${action}`, { reason: 'x' }), 404);
  }
});

onBothDoors('credit that expired is no credit any more', async (t, door) => {
  const { clock, root, gateway } = await setup(t, door);
  const path = `/admin/accounts/${CUSTOMER}`;
  const promo = { amount_usd: '2', kind: 'promo', reason: 'x', expires_at: '2030-08-01T00:00:00Z' };
  await root.ask('POST', `${path}/credits`, promo, 201);
  const { usage } = await completionOf(await gateway.chat({ max_tokens: 5 }));
  const credits = async (): Promise<unknown> => (await gateway.get('/v1/credits')).json();
  assert.deepEqual(await credits(), { data: { total_credits: 7, total_usage: usage?.cost } });
  clock.moveTo(Date.parse('2030-08-01T00:00:00Z'));
  assert.deepEqual(await credits(), { data: { total_credits: 5 + Number(usage?.cost), total_usage: usage?.cost } });
  const { credits_usd: ever, expired_usd: expired, balance_usd: left } = await root.ask('GET', path);
  assert.deepEqual([ever, Number(expired), left], ['7.00', 2 - Number(usage?.cost), '5.00']);
});

onBothDoors('a reset needs a limit, and a project a name', async (t, door) => {
  const { root } = await setup(t, door);
  for (const [body, param] of [
    [{ name: 'k', limit_reset: 'day' }, 'limit_reset'],
    [{ name: 'k', spend_limit_usd: '1', limit_reset: 'year' }, 'limit_reset'],
    [{ name: 'k', project: '' }, 'project'],
    [{ name: 'k', project: 'a\nb' }, 'project'],
  ] as const) {
    const error = await errorOf(await root.send('POST', `/admin/accounts/${CUSTOMER}/keys`, body), 400);
    assert.equal(error.param, param);
  }
  const put = (body: unknown, of = CUSTOMER) => root.send('PUT', `/admin/accounts/${of}/projects/web`, body);
  assert.equal((await errorOf(await put({}), 400)).param, 'spend_limit_usd');
  assert.equal((await errorOf(await put({ spend_limit_usd: null }, 'none'), 404)).code, 'not_found');
  assert.equal((await put({ spend_limit_usd: null })).status, 200);
});

onBothDoors('deposits in suspense are shown and assigned to their owner', async (t, door) => {
  const { root, gateway } = await setup(t, door);
  const source = { name: 'bank:main', kind: 'asset' as const, asset: 'USD', bounded: false };
  const about = { customer: null, amount: 2_000_000_000n, source, actor: 'watcher', reason: 'no memo', atMs: START };
  await gateway.ledger.ask({ op: 'deposit', reference: 'tx/1:0', ...about });
  const { data } = (await root.ask('GET', '/admin/deposits')) as { data: unknown[] };
  assert.deepEqual(data, [
    { reference: 'tx/1:0', amount_usd: '2.00', source: 'bank:main', reason: 'no memo', at: '2030-07-31T12:00:00.000Z' },
  ]);
  const assignment = { reference: 'tx/1:0', account: CUSTOMER, reason: 'they wrote' };
  await errorOf(await root.send('POST', '/admin/deposits/assign', { ...assignment, account: 'none' }), 404);
  await root.ask('POST', '/admin/deposits/assign', assignment);
  assert.deepEqual(await root.ask('GET', '/admin/deposits'), { data: [] });
  assert.equal((await root.ask('GET', `/admin/accounts/${CUSTOMER}`))['balance_usd'], '7.00');
  const other = { ...assignment, account: 'acct-2' };
  assert.equal((await errorOf(await root.send('POST', '/admin/deposits/assign', other), 409)).code, 'conflict');
});

async function setup(t: TestContext, door: Door) {
  const clock = new DatedClock(START);
  const gateway = await startGateway(t, { door, clock });
  const root = adminOf(gateway);
  const as = (key: string) => {
    const headers = { authorization: `Bearer ${key}` };
    const get = (path: string): Promise<Response> => gateway.fetch(path, { headers });
    return {
      get,
      chat: (fields: Record<string, unknown>, init: RequestInit = {}) => gateway.chat(fields, { ...init, headers }),
      key: async () => ((await (await get('/v1/key')).json()) as { data: Record<string, unknown> }).data,
    };
  };
  const keyOf = async (settings: Record<string, unknown>): Promise<string> => {
    const made = await root.ask('POST', `/admin/accounts/${CUSTOMER}/keys`, { name: 'app', ...settings }, 201);
    return String(made['key']);
  };
  const keyIds = async (): Promise<string[]> => {
    const { data } = (await root.ask('GET', `/admin/accounts/${CUSTOMER}/keys`)) as { data: Record<string, unknown>[] };
    return data.filter(({ name }) => name === 'app').map(({ id }) => String(id));
  };
  return { gateway, clock, root, as, keyOf, keyIds };
}
