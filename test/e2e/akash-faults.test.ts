import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import {
  devnetConfig,
  assertAllClosed,
  assertPaidOnce,
  leasesOf,
  MODEL,
  startDevnet,
  UNHURRIED,
  type DevnetProcess,
} from './akash-bench.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';
import { askStreamed } from './streamed-answer.ts';

/** Several things go wrong in a row on the emulated network, with real processes. */

const ENTRY = fileURLToPath(new URL('../../bin/underbid.js', import.meta.url));
const WAIT_MS = 180_000;

test('a refused manifest, a chain that stalls, no node at all, two restarts: one answer after the other comes, and all is given back', async (t) => {
  const devnet = await startDevnet(t, UNHURRIED);
  const heldBefore = await devnet.uact();
  const first = await startGateway(t, { config: configOf(devnet) });
  const { folder } = first;

  // The best bid's provider refuses the manifest; the request waits, and the next best is taken.
  await devnet.fault('manifest-refused=prairie', true);
  await assertAnswered(first);
  const leases = await leasesOf(first);
  assert.deepEqual(
    leases.map(({ provider, state }) => [provider, state === 'active']),
    [
      [devnet.providers.get('fjord'), true],
      [devnet.providers.get('prairie'), false],
    ],
  );
  const [lease] = leases;
  assert.ok(lease);
  const reasons = (await decisions(first, 'replica.failed')).map(({ reason }) => reason);
  assert.match(reasons.join(), /manifest version validation failed/);

  // No block comes, then no node answers: what runs serves on, and nobody takes it for dead.
  await devnet.fault('chain-stalled', true);
  await assertAnswered(first);
  devnet.door.shut = true;
  await until('the gateway sees that no node answers', WAIT_MS, () =>
    /node 127\.0\.0\.1:\d+: /.test(first.stderr()) ? true : null,
  );
  await assertAnswered(first);
  assert.equal((await leasesOf(first))[0]?.state, 'active', 'it can be shown');

  // SIGTERM leaves the lease; a start without any node keeps it too, and serves when one answers.
  first.child.kill('SIGTERM');
  assert.equal(await first.exited, 0);
  const second = await startGateway(t, { folder });
  assert.equal((await leasesOf(second))[0]?.state, 'active');
  devnet.door.shut = false;
  await devnet.fault('chain-stalled', false);
  await assertAnswered(second);
  assert.deepEqual(await openLeases(second), [lease.id], 'found again, no second one');
  assert.equal((await decisions(second, 'order.placed')).length, 2, 'and no order more');

  // The stop that closes everything.
  second.child.kill('SIGTERM');
  assert.equal(await second.exited, 0);
  assert.equal((await devnet.leases('active')).length, 1);
  const third = await startGateway(t, { folder, args: ['--close-leases'] });
  await assertAnswered(third);
  third.child.kill('SIGTERM');
  assert.equal(await third.exited, 0, third.stderr());
  assert.deepEqual(await devnet.deployments(), []);
  assert.equal(await checkOffline(folder), 0, 'underbid ledger check');

  const last = await startGateway(t, { folder });
  await assertAllClosed(last, devnet, { heldBefore });
  await assertPaidOnce(devnet);
});

/** The exit code of `underbid ledger check` beside a gateway that is not running. */
function checkOffline(folder: string): Promise<number | null> {
  const env = { ...process.env, UNDERBID_DATA: 'data' };
  const child = spawn(process.execPath, [ENTRY, 'ledger', 'check'], { cwd: folder, env, stdio: 'ignore' });
  return new Promise((resolve) => child.once('exit', resolve));
}

async function assertAnswered(gateway: GatewayProcess): Promise<void> {
  const messages = [{ role: 'user', content: 'Name three colours.' }];
  const answer = await askStreamed(gateway, { model: MODEL, max_tokens: 8, messages });
  assert.ok(answer.done, `${JSON.stringify(answer)} ${gateway.stderr()}`);
  const tokens = answer.usage?.completion_tokens ?? 0;
  assert.ok(tokens > 0 && tokens <= 8, `${tokens} tokens`);
}

async function openLeases(gateway: GatewayProcess): Promise<string[]> {
  return (await leasesOf(gateway)).filter(({ state }) => state !== 'closed').map(({ id }) => id);
}

async function decisions(gateway: GatewayProcess, kind: string): Promise<{ kind: string; reason: string }[]> {
  const { data } = (await gateway.admin('/admin/decisions?limit=1000')) as { data: { kind: string; reason: string }[] };
  return data.filter((one) => one.kind === kind);
}

const configOf = (devnet: DevnetProcess): string => devnetConfig(devnet, ['bid_window_s: 6', 'idle_s: 600']);
