import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  assertAllClosed,
  assertPaidOnce,
  devnetConfig,
  leasesOf,
  MODEL,
  readBooks,
  startDevnet,
} from '../e2e/akash-bench.ts';
import { startStandby, until, type GatewayProcess } from '../e2e/gateway-process.ts';
import { askStreamed } from '../e2e/streamed-answer.ts';

/** (g) A restart, here a takeover by the one that stands by, loses neither leases nor the accounts of who waits. */

const WAIT_MS = 240_000;
const QUESTION = { model: MODEL, max_tokens: 800, messages: [{ role: 'user', content: 'Tell a long story.' }] };

test('(g) the leader is killed in mid-lease: the standby adopts the lease, pays nothing again, and holds nothing for who waited', async (t) => {
  const devnet = await startDevnet(t);
  const heldBefore = await devnet.uact();
  const folder = mkdtempSync(join(tmpdir(), 'underbid-g-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'underbid.yaml'), devnetConfig(devnet, ['bid_window_s: 0', 'idle_s: 600', 'slots: 1']));
  const first = await startStandby(t, { folder });
  const leader = await first.ready;
  const standby = await startStandby(t, { folder });
  assert.ok((await askStreamed(leader, { ...QUESTION, max_tokens: 4 })).done);
  const [lease] = await leasesOf(leader);
  assert.equal(lease?.state, 'active');
  const servers = devnet.modelServers();
  assert.equal(servers.length, 1);
  // One is answered, four are in line: the only slot is taken.
  const cut = [1, 2, 3, 4, 5].map(() => askStreamed(leader, QUESTION).catch(() => null));
  await until('all are there', WAIT_MS, async () =>
    (await heldOf(leader)) > 0 && (await waiting(leader)) >= 4 ? true : null,
  );
  leader.child.kill('SIGKILL');
  await leader.exited;
  await Promise.all(cut);
  const next = await standby.ready;
  assert.equal(await heldOf(next), 0, 'nothing is held for anybody');
  assert.ok((await askStreamed(next, { ...QUESTION, max_tokens: 4 })).done);
  const lines = await leasesOf(next);
  assert.deepEqual(
    lines.map(({ id, state }) => [id, state]),
    [[lease.id, 'active']],
    'the same lease, and no other',
  );
  assert.deepEqual(devnet.modelServers(), servers, 'its model server went on running');
  assert.equal((await devnet.leases('active')).length, 1);
  const messages = await assertPaidOnce(devnet);
  assert.equal(messages.filter(({ type }) => type === 'MsgCreateLease').length, 1);
  await next.admin(`/admin/leases/${lease.id}/close`, { method: 'POST' });
  await until('it is closed', WAIT_MS, async () => ((await devnet.deployments()).length === 0 ? true : null));
  await until('the books have it', WAIT_MS, async () => ((await leasesOf(next))[0]?.state === 'closed' ? true : null));
  await assertAllClosed(next, devnet, { heldBefore });
  assert.equal(readBooks(next).size > 0, true);
  next.child.kill('SIGTERM');
  assert.equal(await next.exited, 0, next.stderr());
});

async function heldOf(gateway: GatewayProcess): Promise<number> {
  return Number(((await gateway.admin('/admin/accounts/demo')) as { held_usd: string }).held_usd);
}

async function waiting(gateway: GatewayProcess): Promise<number> {
  const { data } = (await gateway.admin('/admin/pools')) as { data: { state: { waiting: number } }[] };
  return data[0]?.state.waiting ?? 0;
}
