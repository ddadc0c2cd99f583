import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminOf, emptyFleet } from '../fakes/admin.ts';
import { startGateway } from '../fakes/gateway.ts';
import { errorOf } from '../fakes/reply.ts';

test('GET /admin/reports/margin gives JSON or CSV of the time and the rows asked for', async (t) => {
  const asked: unknown[] = [];
  const data = [{ pool: '=evil,"x"', margin_usd: '-0.10' }];
  const margin = async (of: unknown) => {
    asked.push(of);
    return { data, total: { pool: 'total', margin_usd: '-0.10' } };
  };
  const admin = adminOf(await startGateway(t, { door: 'web', fleet: { ...emptyFleet, margin } }));
  const path = '/admin/reports/margin?from=2026-01-01T00:00:00Z&to=1767312000';
  assert.deepEqual((await admin.ask('GET', `${path}&group_by=provider`))['data'], data);
  assert.deepEqual(asked[0], { fromMs: Date.UTC(2026, 0, 1), toMs: 1_767_312_000_000, groupBy: 'provider' });
  const csv = await admin.send('GET', `${path}&format=csv`);
  assert.match(csv.headers.get('content-type') ?? '', /^text\/csv/);
  assert.equal(await csv.text(), 'pool,margin_usd\n"\'=evil,""x""",-0.10\ntotal,-0.10\n');
  for (const bad of ['from=x', 'group_by=model', 'format=xml', 'from=2000000000&to=1000000000']) {
    assert.equal((await admin.send('GET', `/admin/reports/margin?${bad}`)).status, 400, bad);
  }
});

for (const list of ['orders', 'decisions'] as const) {
  test(`GET /admin/${list} gives as many as asked for, and says what a limit is`, async (t) => {
    const limits: number[] = [];
    const listed = async ({ limit }: { readonly limit: number }): Promise<unknown[]> => {
      limits.push(limit);
      return [];
    };
    const admin = adminOf(await startGateway(t, { door: 'web', fleet: { ...emptyFleet, [list]: listed } }));
    for (const query of ['', '?limit=7', '?limit=1000']) await admin.ask('GET', `/admin/${list}${query}`);
    assert.deepEqual(limits, [list === 'orders' ? 500 : 200, 7, 1000]);
    for (const bad of ['abc', '0', '-1', '1.5', '1001', '']) {
      const reply = await admin.send('GET', `/admin/${list}?limit=${bad}`);
      assert.deepEqual([reply.status, (await errorOf(reply, 400)).param], [400, 'limit'], bad);
    }
    assert.equal(limits.length, 3);
  });
}
