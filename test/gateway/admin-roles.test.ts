import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { ADMIN_ROLES, type AdminRole } from '../../src/ledger/access.ts';
import { adminKey, adminOf, emptyFleet } from '../fakes/admin.ts';
import { DatedClock } from '../fakes/clock.ts';
import { onBothDoors, startGateway, type Door } from '../fakes/gateway.ts';
import { errorOf } from '../fakes/reply.ts';

/** Who may do what: every admin route there is, with the least role for it and what the audit log calls it. */
const ROUTES: Readonly<Record<string, readonly ['read' | 'finance' | 'operator', string?]>> = {
  'GET /admin/accounts': ['read'],
  'GET /admin/accounts/:id': ['read'],
  'GET /admin/accounts/:id/credits': ['read'],
  'GET /admin/accounts/:id/keys': ['read'],
  'GET /admin/accounts/:id/projects': ['read'],
  'GET /admin/accounts/:id/wake-allowance': ['read'],
  'GET /admin/admin-keys': ['read'],
  'GET /admin/advice': ['read'],
  'GET /admin/audit': ['read'],
  'GET /admin/decisions': ['read'],
  'GET /admin/deposits': ['read'],
  'GET /admin/disputes': ['read'],
  'GET /admin/disputes/:id': ['read'],
  'GET /admin/leases': ['read'],
  'GET /admin/leases/:id': ['read'],
  'GET /admin/ledger/check': ['read'],
  'GET /admin/markets': ['read'],
  'GET /admin/orders': ['read'],
  'GET /admin/panic': ['read'],
  'GET /admin/pools': ['read'],
  'GET /admin/pools/*': ['read'],
  'GET /admin/providers': ['read'],
  'GET /admin/replicas': ['read'],
  'GET /admin/reports/margin': ['read'],
  'GET /admin/treasury': ['read'],
  'POST /admin/accounts/:id/credits': ['finance', 'credit.granted'],
  'POST /admin/deposits/assign': ['finance', 'deposit.assigned'],
  'GET /admin/leases/:id/logs': ['operator'],
  'POST /admin/accounts': ['operator', 'account.created'],
  'POST /admin/accounts/:id/freeze': ['operator', 'account.frozen'],
  'POST /admin/accounts/:id/unfreeze': ['operator', 'account.unfrozen'],
  'POST /admin/accounts/:id/keys': ['operator', 'key.created'],
  'PUT /admin/accounts/:id/projects/:project': ['operator', 'project.limited'],
  'POST /admin/keys/:id/rotate': ['operator', 'key.rotated'],
  'DELETE /admin/keys/:id': ['operator', 'key.revoked'],
  'POST /admin/admin-keys': ['operator', 'admin_key.created'],
  'DELETE /admin/admin-keys/:id': ['operator', 'admin_key.revoked'],
  'PUT /admin/accounts/:id/wake-allowance': ['operator', 'account.wake_allowance'],
  'PUT /admin/pools/*': ['operator', 'pool.set'],
  'POST /admin/pools/*': ['operator', 'pool.switched'],
  'DELETE /admin/pools/*': ['operator', 'pool.deleted'],
  'POST /admin/leases/:id/close': ['operator', 'lease.closed'],
  'POST /admin/leases/:id/dispute': ['operator', 'lease.disputed'],
  'POST /admin/disputes/:id/uphold': ['operator', 'dispute.upheld'],
  'POST /admin/disputes/:id/reject': ['operator', 'dispute.rejected'],
  'POST /admin/panic': ['operator', 'panic.started'],
  'DELETE /admin/panic': ['operator', 'panic.ended'],
};
const MAY: Record<'read' | 'finance' | 'operator', readonly AdminRole[]> = {
  read: ['operator', 'finance', 'read-only'],
  finance: ['operator', 'finance'],
  operator: ['operator'],
};

test('every admin route stands in the table of roles', async (t) => {
  const gateway = await startGateway(t, { door: 'web', fleet: emptyFleet });
  const found = gateway.routes
    .filter(({ path, method }) => path.startsWith('/admin') && method !== 'ALL')
    .map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(found.toSorted(), Object.keys(ROUTES).toSorted());
});

test('each route lets in the roles that it should, refuses the others, and logs what it was asked to do', async (t) => {
  const gateway = await startGateway(t, { door: 'web', fleet: emptyFleet });
  const root = adminOf(gateway);
  const keys = await Promise.all(ADMIN_ROLES.map(async (role) => ({ role, ...(await adminKey(root, role)) })));
  const newest = async (): Promise<Record<string, unknown>> => {
    const { data } = (await root.ask('GET', '/admin/audit?limit=1')) as { data: Record<string, unknown>[] };
    return data[0] ?? {};
  };
  for (const [route, [least, action]] of Object.entries(ROUTES)) {
    const [method = '', pattern = ''] = route.split(' ');
    const path = pattern.replace(':id', 'nobody').replace(':project', 'web').replace('*', 'org/none');
    const body = method === 'GET' || method === 'DELETE' ? undefined : {};
    for (const { role, key, id } of keys) {
      const before = await newest();
      const response = await adminOf(gateway, key).send(method, path, body);
      const after = await newest();
      if (MAY[least].includes(role)) assert.ok(![401, 403].includes(response.status), `${route} as ${role}`);
      else {
        const error = await errorOf(response, 403);
        assert.equal(error.code, 'permission_denied');
        assert.match(error.message, new RegExp(`has the role ${role}; this needs (finance or )?operator`));
        assert.equal(after['outcome'], 'permission_denied');
      }
      if (action === undefined) assert.deepEqual(after, before, `${route} is not logged`);
      else {
        assert.equal(after['seq'], Number(before['seq']) + 1, route);
        assert.deepEqual([after['admin'], after['role'], after['action']], [id, role, action]);
        assert.equal(after['request_id'], response.headers.get('x-request-id'));
      }
    }
    for (const key of [gateway.key, 'ak-ub-wrong', '']) {
      assert.equal((await errorOf(await adminOf(gateway, key).send(method, path, body), 401)).code, 'invalid_api_key');
    }
  }
});

onBothDoors('an admin key works until it is revoked or has expired, and is shown once', async (t, door) => {
  const { root, gateway, clock } = await setup(t, door);
  const lasting = await adminKey(root, 'read-only');
  const short = await adminKey(root, 'finance', { expires_at: Math.floor(clock.now() / 1000) + 3600 });
  assert.match(lasting.key, /^ak-ub-[0-9A-Za-z]{40}$/);
  const text = await (await root.send('GET', '/admin/admin-keys')).text();
  for (const { key } of [lasting, short]) {
    assert.ok(!text.includes(key));
    assert.equal((await adminOf(gateway, key).send('GET', '/admin/accounts')).status, 200);
  }
  const { data } = JSON.parse(text) as { data: Record<string, unknown>[] };
  assert.deepEqual(
    data.map(({ id, role, revoked_at: revoked }) => [id, role, revoked]),
    [
      [lasting.id, 'read-only', null],
      [short.id, 'finance', null],
    ],
  );
  assert.equal((await root.send('DELETE', `/admin/admin-keys/${lasting.id}`)).status, 204);
  await errorOf(await adminOf(gateway, lasting.key).send('GET', '/admin/accounts'), 401);
  clock.moveTo(clock.now() + 3_600_000);
  await errorOf(await adminOf(gateway, short.key).send('GET', '/admin/accounts'), 401);
  assert.equal((await errorOf(await root.send('DELETE', '/admin/admin-keys/root'), 404)).code, 'not_found');
  assert.equal((await gateway.get('/v1/models')).status, 200);
  await errorOf(await gateway.fetch('/v1/models', { headers: { authorization: `Bearer ${short.key}` } }), 401);
});

onBothDoors('an admin key needs a name and a role that there is', async (t, door) => {
  const { root } = await setup(t, door);
  for (const [body, param] of [
    [{ role: 'finance' }, 'name'],
    [{ name: 'x' }, 'role'],
    [{ name: 'x', role: 'owner' }, 'role'],
    [{ name: 'x', role: 'finance', expires_at: 'soon' }, 'expires_at'],
  ] as const) {
    assert.equal((await errorOf(await root.send('POST', '/admin/admin-keys', body), 400)).param, param);
  }
});

onBothDoors('the log tells who did what to whom, page by page, and holds no secret', async (t, door) => {
  const { root, gateway } = await setup(t, door);
  const ada = await adminKey(root, 'finance');
  const { id } = await root.ask('POST', '/admin/accounts', { name: 'Acme' }, 201);
  const path = `/admin/accounts/${String(id)}`;
  const made = await root.ask('POST', `${path}/keys`, { name: 'app' }, 201);
  const rotated = await root.ask('POST', `/admin/keys/${String(made['id'])}/rotate`, {}, 201);
  const credit = { amount_usd: '5.00', kind: 'paid', reason: 'an invoice' };
  await adminOf(gateway, ada.key).ask('POST', `${path}/credits`, credit, 201);
  await errorOf(await root.send('POST', `${path}/freeze`, { reason: '' }), 400);
  const text = await (await root.send('GET', '/admin/audit')).text();
  for (const key of [made['key'], rotated['key'], ada.key, gateway.key, 'sk-ub-admin"'].map(String)) {
    assert.ok(!text.includes(key), key);
  }
  const { data } = JSON.parse(text) as { data: Record<string, unknown>[] };
  assert.deepEqual(
    data.map(({ action, target, outcome, name }) => [action, target, outcome, name]),
    [
      ['account.frozen', id, 'invalid_request', 'root key'],
      ['credit.granted', id, 'ok', 'a finance'],
      ['key.rotated', made['id'], 'ok', 'root key'],
      ['key.created', made['id'], 'ok', 'root key'],
      ['account.created', id, 'ok', 'root key'],
      ['admin_key.created', ada.id, 'ok', 'root key'],
    ],
  );
  assert.equal(gateway.ledger.asks('grant').at(-1)?.actor, ada.id, 'the journal names the key, too');
  const detail = data[1]?.['detail'] as Record<string, unknown>;
  assert.deepEqual([detail['amount_usd'], detail['kind'], detail['reason']], ['5.00', 'paid', 'an invoice']);
  const first = await root.ask('GET', '/admin/audit?limit=2');
  const rest = await root.ask('GET', `/admin/audit?limit=100&before=${String(first['next_before'])}`);
  assert.deepEqual([...(first['data'] as unknown[]), ...(rest['data'] as unknown[])], data);
  assert.deepEqual([first['has_more'], rest['has_more'], rest['next_before']], [true, false, null]);
  for (const query of ['limit=0', 'limit=1001', 'limit=x', 'before=0', 'before=-1']) {
    assert.equal((await errorOf(await root.send('GET', `/admin/audit?${query}`), 400)).param, query.split('=')[0]);
  }
});

async function setup(t: TestContext, door: Door) {
  const clock = new DatedClock(1_900_000_000_000);
  const gateway = await startGateway(t, { door, clock });
  return { gateway, clock, root: adminOf(gateway) };
}
