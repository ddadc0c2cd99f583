import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock, type Clock } from '../../src/clock.ts';
import { probeModelServer } from '../../src/gateway/probe.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import type { Delivery } from '../../src/leases/market.ts';
import { Scheduler } from '../../src/scheduler/loop.ts';
import { Pools } from '../../src/scheduler/pool/pools.ts';
import type { Slot } from '../../src/scheduler/pool/slot.ts';
import { SchedulerRecords } from '../../src/scheduler/records.ts';
import { openStore } from '../../src/store/open.ts';
import { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { startModelServer, type FakeModelServer, type Script } from '../fakes/model-server.ts';

/** Seconds of a provider in one of the test's: nothing here is about how long a second is. */
const FASTER = 8;

test('a provider that goes dark while idle is found without any request, replaced, and its rent stops', async (t) => {
  const { servers, market, ready, ended, record } = await setup(t);
  const slot = await ready();
  assert.equal(slot.target.provider, 'cheap');
  slot.release('served');
  servers.cheap.usually(DARK);
  const lease = await ended('cheap');
  assert.ok(lease.closedAtMs !== null && lease.refundNanoUsd > 0n, 'the rest of its deposit is back');
  const rentNanoUsd = lease.rentNanoUsd;
  assert.deepEqual(Object.keys(record('cheap')?.failures ?? {}), ['silent']);
  const next = await ready();
  assert.equal(next.target.provider, 'dear');
  next.release('served');
  assert.equal(market.world.leases.get(lease.id)?.rentNanoUsd, rentNanoUsd);
});

test('one that goes dark in mid-stream is found although nobody else asks, and its stream is told to move on', async (t) => {
  const { servers, ready, ended, record } = await setup(t);
  const slot = await ready();
  slot.began();
  const lost = new Promise<void>((resolve) => slot.onLost(resolve));
  servers.cheap.usually(DARK);
  await lost;
  slot.release('failed');
  await ended('cheap');
  assert.equal(record('cheap')?.failures.silent?.count, 1);
});

test('a machine that streams slowly, or that is silent and answers its question, is left alone', async (t) => {
  const { servers, ready, scheduler, pass } = await setup(t);
  const slot = await ready();
  slot.began();
  const before = servers.cheap.requests.length;
  await pass(40_000);
  assert.ok(servers.cheap.requests.length > before, 'it was asked');
  assert.equal(slot.lost, false);
  assert.equal(scheduler.replicas().filter(({ state }) => state === 'ready').length, 1);
  slot.release('served');
});

/** TCP accepts, and nothing comes. */
const DARK: Script = (turn) => turn.left;

const answers: Script = (turn) => {
  turn.head(200, { 'content-type': 'application/json' });
  turn.end(JSON.stringify({ choices: [{ index: 0, message: { role: 'assistant', content: 'yes' } }] }));
};

function fastClock(): Clock {
  const zero = systemClock.now();
  return {
    now: () => Math.round(zero + (systemClock.now() - zero) * FASTER),
    monotonic: () => systemClock.monotonic() * FASTER,
    sleep: (ms, signal) => systemClock.sleep(ms / FASTER, signal),
    timer: (ms, call) => systemClock.timer(ms / FASTER, call),
  };
}

/** A market whose machines are model servers on real sockets. */
class SocketMarket extends FakeMarket {
  readonly servers: Readonly<Record<string, FakeModelServer>>;

  constructor(clock: Clock, servers: Readonly<Record<string, FakeModelServer>>) {
    const providers = Object.keys(servers).map((id, at) => {
      return { id, price: 100_000n + BigInt(at) * 50_000n, delivers: 'running' as const };
    });
    super({ clock, providers });
    this.servers = servers;
  }

  override deliver(leaseId: string, state: Delivery['state'], detail: string = state): void {
    super.deliver(leaseId, state, detail);
    const lease = this.world.leases.get(leaseId);
    const delivery = this.world.deliveries.get(leaseId);
    const url = this.servers[lease?.provider ?? '']?.url;
    if (delivery && url !== undefined) this.world.deliveries.set(leaseId, { ...delivery, url, apiKey: null });
  }
}

async function setup(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-dark-'));
  const store = await openStore(join(folder, 'underbid.db'));
  const clock = fastClock();
  const cheap = await startModelServer(t, answers);
  const dear = await startModelServer(t, answers);
  const market = new SocketMarket(clock, { cheap, dear });
  const upstream = createUndiciUpstream({ connectMs: 2000, connectionsMax: 8, headerBytesMax: 16_384 });
  const pools = new Pools(clock, true);
  const pool = pools.put(testSpec({ replicas: { min: 1, max: 2 }, idle_s: 3600 }), 1, 'api');
  let count = 0;
  const scheduler = new Scheduler({
    clock,
    records: new SchedulerRecords(store),
    pools,
    markets: new Map([['akash', market]]),
    probe: (target, spec, signal) => probeModelServer(upstream, target, spec, signal),
    newId: (prefix) => `${prefix}${(count += 1)}`,
    epoch: 1,
    log: () => undefined,
  });
  await scheduler.start();
  t.after(async () => {
    await scheduler.stop();
    await upstream.close();
    store.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const until = async <T>(find: () => T | undefined): Promise<T> => {
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      await systemClock.sleep(10);
    }
  };
  return {
    servers: { cheap, dear },
    market,
    scheduler,
    pass: (ms: number) => clock.sleep(ms),
    ready: (): Promise<Slot> =>
      pool.router.take({ account: 'a', maxWaitMs: 600_000, signal: new AbortController().signal }),
    ended: (provider: string) =>
      until(() => [...market.world.leases.values()].find((one) => one.provider === provider && one.state === 'closed')),
    record: (provider: string) => scheduler.book.find({ market: 'akash', provider }),
  };
}
