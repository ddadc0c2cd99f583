import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { systemClock } from '../../src/clock.ts';
import { until } from '../e2e/gateway-process.ts';
import { startLoad, type Told } from '../e2e/load.ts';
import { assertBooks, epochOf, House, newFolder, WAIT_MS, watchBook } from '../e2e/standby-bench.ts';

/** (d) Gateways over one data folder never lease for the same need twice: processes, the embedded market, real kills. */

/** More by hand: UNDERBID_TEST_KILLS=200. */
const KILLS = Number(process.env['UNDERBID_TEST_KILLS'] ?? 20);
/** However slow the machine is: then rounds end, once there were some. */
const ROUNDS_MS = KILLS * 2200;
const KILLS_LEAST = 2;
const CLIENTS = 8;

test('(d) the leader is killed again and again under load: the next one takes over, and no need has two leases', async (t) => {
  const seed = Date.now() % 2 ** 31;
  const delays = fc.sample(fc.integer({ min: 0, max: 600 }), { seed, numRuns: KILLS });
  const folder = newFolder(t);
  const house = new House(t, folder);
  // At the same instant.
  await Promise.all([house.add(), house.add(), house.add()]);
  let leader = await house.leader();
  const book = watchBook(t, join(folder, 'data'));
  const load = startLoad({
    url: () => house.anyUrl(),
    key: leader.demoKey,
    model: 'tiny',
    clients: CLIENTS,
    fieldsOf: (client, count) =>
      client % 2 === 0 ? { max_tokens: 1 + (count % 4) } : { ...STREAM, max_tokens: 2 + client * 4 },
  });
  t.after(() => load.stop());
  const endMs = systemClock.monotonic() + ROUNDS_MS;
  let epoch = epochOf(await leader.admin('/admin/leader'));
  let [kills, retried] = [0, 0];
  for (const delayMs of delays) {
    if (kills >= KILLS_LEAST && systemClock.monotonic() > endMs) break;
    const where = `kill ${kills + 1}, seed ${seed}`;
    const before = load.told.length;
    await until(`answers come (${where})`, WAIT_MS, () => (load.told.slice(before).some(isAnswered) ? true : null));
    await systemClock.sleep(delayMs);
    await house.kill(leader);
    kills += 1;
    // Its place is taken by a new one, beside the takeover.
    const coming = house.add();
    leader = await house.leader();
    const next = epochOf(await leader.admin('/admin/leader'));
    assert.ok(next > epoch, `${where}: the epoch rises, ${epoch} to ${next}`);
    epoch = next;
    retried += load.told.slice(before).filter(({ status }) => status === 503).length;
    await coming;
  }
  await load.stop();
  const strange = load.told.map(({ status }) => status).filter((status) => ![0, 200, 503].includes(status));
  assert.deepEqual(strange, [], 'a retry is all that a client needs');
  await house.stop();
  const { seen, most } = book.stop();
  assert.ok(most <= 1, `${most} leases at a time`);
  assert.ok(seen.size > kills / 2, `${seen.size} leases over ${kills} kills: the market's book was read`);
  assert.ok(kills >= Math.min(KILLS, KILLS_LEAST) && retried > 0, `${kills} kills, ${retried} retries`);
  assertBooks(folder, load.told, `seed ${seed}`);
  t.diagnostic(`${kills} kills, ${load.told.filter(isAnswered).length} answers, ${seen.size} leases, epoch ${epoch}`);
});

const STREAM = { stream: true, stream_options: { include_usage: true } };
const isAnswered = ({ acknowledged }: Told): boolean => acknowledged !== null;
