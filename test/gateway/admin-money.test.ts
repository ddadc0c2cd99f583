import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { adminKey, adminOf, emptyFleet } from '../fakes/admin.ts';
import { startGateway } from '../fakes/gateway.ts';

test('nothing is closed without the very words, and what was done stands in the audit log', async (t) => {
  const { root, pressed } = await setup(t);
  for (const body of [{}, { confirm: true }, { confirm: 'yes' }, { confirm: 'Close every lease' }]) {
    const { error } = await root.ask('POST', '/admin/panic', body, 400);
    assert.match((error as { message: string }).message, /confirm: must be "close every lease"/);
  }
  const said = { confirm: 'close every lease', reason: 'drill \u001b[2J' };
  assert.match(JSON.stringify(await root.ask('POST', '/admin/panic', said, 400)), /control characters/);
  assert.deepEqual(pressed, []);
  await root.ask('POST', '/admin/panic', { confirm: 'close every lease', reason: 'drill' }, 202);
  await root.ask('POST', '/admin/panic', { confirm: 'close every lease' }, 202);
  await root.ask('DELETE', '/admin/panic');
  assert.deepEqual(pressed, ['drill', 'an operator pressed the button', 'resumed']);
  const { data } = (await root.ask('GET', '/admin/audit')) as { data: { action: string; outcome: string }[] };
  assert.deepEqual(
    data
      .map(({ action, outcome }) => `${action} ${outcome}`)
      .toReversed()
      .slice(5),
    ['panic.started ok', 'panic.started ok', 'panic.ended ok'],
  );
  assert.deepEqual(
    data
      .toReversed()
      .slice(0, 5)
      .map(({ outcome }) => outcome),
    Array.from({ length: 5 }, () => 'invalid_request'),
  );
});

test('only operators press it; everybody with an admin key sees the treasury', async (t) => {
  const { root, gateway, pressed } = await setup(t);
  for (const role of ['finance', 'read-only'] as const) {
    const { key } = await adminKey(root, role);
    const other = adminOf(gateway, key);
    await other.ask('POST', '/admin/panic', { confirm: 'close every lease' }, 403);
    await other.ask('DELETE', '/admin/panic', undefined, 403);
    assert.deepEqual(await other.ask('GET', '/admin/treasury'), { data: [{ market: 'akash' }] });
    assert.deepEqual(await other.ask('GET', '/admin/panic'), { stopped: false });
  }
  assert.deepEqual(pressed, []);
  assert.equal((await gateway.fetch('/admin/panic', { method: 'POST' })).status, 401);
});

async function setup(t: TestContext) {
  const pressed: string[] = [];
  const note = (what: string): Promise<unknown> => {
    pressed.push(what);
    return Promise.resolve({ stopped: what !== 'resumed' });
  };
  const fleet = {
    ...emptyFleet,
    treasury: () => Promise.resolve({ data: [{ market: 'akash' }] }),
    panic: () => Promise.resolve({ stopped: false }),
    startPanic: note,
    endPanic: () => note('resumed'),
  };
  const gateway = await startGateway(t, { door: 'web', fleet });
  return { gateway, root: adminOf(gateway), pressed };
}
