import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adminOf, emptyFleet } from '../fakes/admin.ts';
import { startGateway } from '../fakes/gateway.ts';

test('advice is asked of one pool, whatever slashes its name has, or of all', async (t) => {
  const asked: (string | null)[] = [];
  const fleet = {
    ...emptyFleet,
    pool: (id: string) => ({ id }),
    advice: (id: string | null) => {
      asked.push(id);
      return [{ model: id }];
    },
  };
  const gateway = await startGateway(t, { door: 'web', fleet });
  const { ask } = adminOf(gateway);
  assert.deepEqual(await ask('GET', '/admin/pools/org/m/advice'), { model: 'org/m' });
  assert.deepEqual(await ask('GET', '/admin/pools/org%2Fm/advice'), { model: 'org/m' });
  assert.deepEqual(await ask('GET', '/admin/pools/org/m'), { id: 'org/m' });
  assert.deepEqual(await ask('GET', '/admin/pools/advice'), { id: 'advice' });
  assert.deepEqual(await ask('GET', '/admin/advice'), { data: [{ model: null }] });
  assert.deepEqual(asked, ['org/m', 'org/m', null]);
});
