import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { systemClock } from '../../src/clock.ts';
import { goesWithin } from '../fakes/processes.ts';
import { checkLedger } from '../../src/ledger/check.ts';
import { until } from './gateway-process.ts';
import { withBooks } from './books.ts';
import { startLoad, type Told } from './load.ts';
import { assertBooks, House, newFolder, watchBook } from './standby-bench.ts';

/** Gateways and model servers are killed at random under mixed load: after each the books are right, in the end nothing is left. */

/** Longer by hand: UNDERBID_TEST_CHAOS_S=1800. */
const CHAOS_MS = Number(process.env['UNDERBID_TEST_CHAOS_S'] ?? 30) * 1000;

/** A provider whose model servers die again and again is passed over for longer and longer. */
const PATIENCE_MS = 300_000;

test('whoever is killed, clients are served again, books are right after each, and no process or lease is left', async (t) => {
  const seed = Date.now() % 2 ** 31;
  const picks = fc.sample(fc.nat(9999), { seed, numRuns: 5000 });
  const folder = newFolder(t);
  const house = new House(t, folder);
  await Promise.all([house.add(), house.add()]);
  let leader = await house.leader();
  const book = watchBook(t, join(folder, 'data'));
  const load = startLoad({
    url: () => house.anyUrl(),
    key: leader.demoKey,
    model: 'tiny',
    clients: 6,
    fieldsOf: (client, count) => ({
      max_tokens: 1 + ((client * 7 + count * 3) % 30),
      ...(client % 3 === 0 ? {} : { stream: true, stream_options: { include_usage: true } }),
    }),
  });
  t.after(() => load.stop());
  const servers = new Set<number>();
  const killed = { gateways: 0, servers: 0 };
  const endMs = systemClock.monotonic() + CHAOS_MS;
  for (const pick of picks) {
    if (systemClock.monotonic() > endMs) break;
    const before = load.told.length;
    await until(`answers come (seed ${seed})`, PATIENCE_MS, () =>
      load.told.slice(before).some(isAnswered) ? true : null,
    );
    await systemClock.sleep(pick % 400);
    const own = modelServers(leader.child.pid ?? 0);
    for (const pid of own) servers.add(pid);
    const [server] = own;
    if (pick % 3 === 0 && server !== undefined) {
      process.kill(server, 'SIGKILL');
      killed.servers += 1;
    } else {
      await house.kill(leader);
      killed.gateways += 1;
      const coming = house.add();
      leader = await house.leader();
      await coming;
    }
    withBooks(join(folder, 'data', 'ledger.db'), (sql) => {
      const { ok, checks } = checkLedger(sql);
      assert.ok(ok, `seed ${seed}: ${JSON.stringify(checks.filter((check) => !check.ok))}`);
    });
  }
  await load.stop();
  for (const pid of modelServers(leader.child.pid ?? 0)) servers.add(pid);
  await house.stop();
  for (const pid of servers) assert.ok(await goesWithin(pid, 10_000), `model server ${pid} is left`);
  assert.ok(book.stop().most <= 1, 'one lease at a time');
  assertBooks(folder, load.told, `seed ${seed}`);
  assert.ok(killed.gateways + killed.servers > 0);
  t.diagnostic(`${JSON.stringify(killed)}, ${load.told.filter(isAnswered).length} answers, seed ${seed}`);
});

const isAnswered = ({ acknowledged }: Told): boolean => acknowledged !== null;

/** Processes below this one that run the stand-in for llama.cpp. */
function modelServers(pid: number): number[] {
  const found: number[] = [];
  try {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim();
      for (const child of children === '' ? [] : children.split(' ').map(Number)) {
        if (readFileSync(`/proc/${child}/cmdline`, 'utf8').includes('llama-server.py')) found.push(child);
        found.push(...modelServers(child));
      }
    }
  } catch {
    // It ended in between.
  }
  return found;
}
