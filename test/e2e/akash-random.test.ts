import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { systemRandom } from '../../src/random.ts';
import { seeded } from '../../src/scheduler/simulation/seeded.ts';
import { assertAllClosed, assertPaidOnce, devnetConfig, leasesOf, MODEL, startDevnet } from './akash-bench.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';
import { askStreamed } from './streamed-answer.ts';

/**
 * kill -9 at random instants, when `UNDERBID_KILLS` says how many; `UNDERBID_SEED` repeats a run, its seed is printed. The
 * instants that matter are each struck in `akash-kills`.
 */

const KILLS = Number(process.env['UNDERBID_KILLS'] ?? 0);
const SEED = Number(process.env['UNDERBID_SEED'] ?? Buffer.from(systemRandom(4)).readUInt32BE());
/** From a start of the gateway to an answer under way takes about half of it. */
const LIFE_MS = 12_000;
const WAIT_MS = 180_000;
const skip = KILLS === 0 ? 'UNDERBID_KILLS is not set' : false;
const QUESTION = { model: MODEL, max_tokens: 200, messages: [{ role: 'user', content: 'Tell a long story.' }] };

test(
  `killed ${KILLS} times at random instants (seed ${SEED}), it pays nothing twice, forgets no lease, and gives all of it back`,
  { skip },
  async (t) => {
    t.diagnostic(`UNDERBID_SEED=${SEED}`);
    const devnet = await startDevnet(t);
    const heldBefore = await devnet.uact();
    const random = seeded(SEED, 'kills');
    const first = await startGateway(t, { config: devnetConfig(devnet, ['bid_window_s: 1', 'idle_s: 600']) });
    let gateway: GatewayProcess = first;
    for (let kills = 0; kills < KILLS; kills += 1) {
      const asking = askStreamed(gateway, QUESTION).catch(() => null);
      // Every third life ends its lease too, so that ends are struck as well.
      if (kills % 3 === 2) void closeAll(gateway).catch(() => undefined);
      await systemClock.sleep(Math.floor(random() * LIFE_MS));
      gateway.child.kill('SIGKILL');
      await Promise.all([gateway.exited, asking]);
      gateway = await startGateway(t, { folder: first.folder });
    }
    const answer = await askStreamed(gateway, { ...QUESTION, max_tokens: 8 });
    assert.ok(answer.done, JSON.stringify(answer.error));
    await until('everything is closed', WAIT_MS, async () => {
      await closeAll(gateway);
      const open = (await leasesOf(gateway)).filter(({ state }) => state !== 'closed');
      return open.length === 0 && (await devnet.deployments()).length === 0 ? true : null;
    });
    await assertAllClosed(gateway, devnet, { heldBefore });
    await assertPaidOnce(devnet);
  },
);

async function closeAll(gateway: GatewayProcess): Promise<void> {
  for (const { id, state } of await leasesOf(gateway)) {
    if (state !== 'closed') await gateway.admin(`/admin/leases/${id}/close`, { method: 'POST' });
  }
}
