import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { StartServer } from '../../src/leases/local/delivery.ts';
import { breachOf } from '../../src/spec/dispute.ts';
import { turns } from '../fakes/clock.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { openLocal, provider, settled, type LocalBench } from './local-market-bench.ts';

const { workload } = testOrder('any');

test('a lease delivers a model server with a key of its own, and its end stops the server', async (t) => {
  const keys: string[] = [];
  const bench = await openLocal(t, { startServer: realServer(keys) });
  await bench.lease('o1');
  await bench.market.deploy('lease-o1', workload);
  assert.equal((await bench.market.status('lease-o1'))?.delivery.state, 'starting');
  await settled('it runs', async () => (await stateOf(bench)) === 'running');
  const { url, apiKey } = (await bench.market.status('lease-o1'))?.delivery ?? {};
  assert.deepEqual([apiKey, keys], ['key-of-lease-o1', ['key-of-lease-o1']]);
  assert.equal(await (await fetch(url ?? '')).text(), 'key-of-lease-o1');
  await bench.market.close('lease-o1', 'tenant');
  await assert.rejects(fetch(url ?? ''), 'nobody listens any more');
  const { delivery } = (await bench.market.status('lease-o1')) ?? {};
  assert.deepEqual([delivery?.state, delivery?.url, delivery?.apiKey], ['none', null, null]);
});

test('the tail of what a model server printed can be read while it runs', async (t) => {
  const startServer: StartServer = async () => ({
    url: 'http://127.0.0.1:9',
    exited: new Promise(() => undefined),
    tail: () => 'one\ntwo\nthree',
    stop: () => Promise.resolve(),
  });
  const bench = await openLocal(t, { startServer });
  await bench.lease('o1');
  const request = { what: 'logs', follow: false, tail: 2, service: null } as const;
  const read = async (): Promise<string[]> => {
    const lines: string[] = [];
    for await (const { text } of bench.market.logs('lease-o1', request)) lines.push(text);
    return lines;
  };
  await assert.rejects(read(), /no model server/);
  await bench.market.deploy('lease-o1', workload);
  await settled('it runs', async () => (await stateOf(bench)) === 'running');
  assert.deepEqual(await read(), ['two', 'three']);
});

test('a model server that does not start ends the lease, with the rest back and a failure on the record', async (t) => {
  const bench = await openLocal(t, { automatic: false });
  await bench.lease('o1', 50_000n);
  await bench.market.deploy('lease-o1', workload);
  await bench.passBlocks(2);
  let told = 0;
  bench.market.onChange(() => (told += 1));
  bench.servers.starts[0]?.fail('no such model');
  await settled('the lease is closed', async () => (await bench.market.status('lease-o1'))?.lease.state === 'closed');
  const status = await bench.market.status('lease-o1');
  assert.equal(status?.lease.closeReason, 'provider');
  assert.deepEqual([status.lease.rentNanoUsd, status.lease.refundNanoUsd], [2000n, 50_000n - 2400n]);
  assert.equal(status.delivery.state, 'failed');
  assert.match(status.delivery.detail, /no such model/, 'what went wrong can still be read');
  const [desk] = await bench.market.providers();
  assert.deepEqual([desk?.leases, desk?.failures, desk?.used], [1, 1, 0]);
  assert.ok(told > 0, 'whoever listens is told');
});

test('a model server that ends by itself ends the lease and counts against its provider', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  await bench.market.deploy('lease-o1', workload);
  await settled('it runs', async () => (await stateOf(bench)) === 'running');
  bench.servers.starts[0]?.exit('out of memory');
  await settled('the lease is closed', async () => (await bench.market.status('lease-o1'))?.lease.state === 'closed');
  assert.match((await bench.market.status('lease-o1'))?.delivery.detail ?? '', /out of memory/);
  assert.equal((await bench.market.providers())[0]?.failures, 1);
  assert.equal(await bench.balance('escrow:local:lease-o1'), 0n);
});

test('a lease that is closed while its server starts leaves no server, and counts against nobody', async (t) => {
  const bench = await openLocal(t, { automatic: false });
  await bench.lease('o1');
  await bench.market.deploy('lease-o1', workload);
  await turns(2);
  const closed = await bench.market.close('lease-o1', 'tenant');
  assert.equal(closed.kind, 'done');
  assert.equal(bench.servers.starts[0]?.signal.aborted, true);
  const [desk] = await bench.market.providers();
  assert.deepEqual([desk?.failures, desk?.used], [0, 0]);
});

test('a server that comes up after its lease was closed is stopped', async (t) => {
  const late = Promise.withResolvers<void>();
  let stopped = 0;
  const startServer: StartServer = async () => {
    await late.promise;
    const stop = (): Promise<void> => Promise.resolve(void (stopped += 1));
    return { url: 'http://127.0.0.1:9', exited: new Promise(() => undefined), stop };
  };
  const bench = await openLocal(t, { startServer });
  await bench.lease('o1');
  await bench.market.deploy('lease-o1', workload);
  const closing = bench.market.close('lease-o1', 'tenant');
  await turns(3);
  late.resolve();
  await closing;
  assert.equal(stopped, 1);
});

test('a lease that is being closed starts no server', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  const [closed, deployed] = await Promise.all([
    bench.market.close('lease-o1', 'tenant'),
    bench.market.deploy('lease-o1', workload),
  ]);
  assert.deepEqual([closed.kind, deployed.kind], ['done', 'refused']);
  assert.equal(bench.servers.starts.length, 0);
});

test('a launcher that throws at once is a failed delivery like any other', async (t) => {
  const startServer: StartServer = () => {
    throw new Error('no python');
  };
  const bench = await openLocal(t, { startServer });
  await bench.lease('o1');
  const outcome = await bench.market.deploy('lease-o1', workload);
  assert.equal(outcome.kind, 'done');
  await settled('the lease is closed', async () => (await bench.market.status('lease-o1'))?.lease.state === 'closed');
  assert.equal((await bench.market.providers())[0]?.failures, 1);
});

test('a dispute lowers the record of its provider, once, even when the lease has ended', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  await bench.market.close('lease-o1', 'tenant');
  const down = { kind: 'down' as const, fromMs: 0, toMs: bench.clock.now() };
  const filed = await bench.market.dispute('lease-o1', breachOf({ ...down, reason: 'x'.repeat(5000) }));
  assert.equal(filed.kind, 'done');
  assert.deepEqual(await bench.market.dispute('lease-o1', breachOf({ ...down, reason: 'again' })), filed);
  assert.equal((await bench.market.status('lease-o1'))?.lease.dispute?.reason.length, 1000);
  const next = await bench.again();
  const [desk] = await next.providers();
  assert.deepEqual([desk?.leases, desk?.failures, desk?.disputes], [1, 0, 1], 'and it outlives a restart');
});

test('a stop ends every lease and model server, takes no more orders, and leaves no timer', async (t) => {
  const bench = await openLocal(t, { providers: [provider('desk', 1000n, { slots: 3 })] });
  const { market, clock } = bench;
  for (const id of ['o1', 'o2']) {
    await bench.lease(id);
    await market.deploy(`lease-${id}`, workload);
  }
  await market.tender(testOrder('o3'));
  await clock.advance(100);
  await bench.passBlocks(1);
  // An accept that is under way ends in a lease that is closed, or in none.
  const late = market.accept('o3', 'o3/desk', 1000n);
  await market.stop();
  await late;
  assert.equal(bench.servers.running, 0);
  assert.deepEqual(await market.list(), { orders: [], leases: [] });
  for (const id of ['o1', 'o2']) {
    assert.equal((await market.status(`lease-${id}`))?.lease.closeReason, 'shutdown');
    assert.equal(await bench.balance(`escrow:local:lease-${id}`), 0n);
  }
  assert.equal(await bench.balance('escrow:local:lease-o3'), 0n);
  assert.equal((await market.tender(testOrder('o4'))).kind, 'refused');
  assert.equal(clock.pending, 0);
});

async function stateOf({ market }: LocalBench): Promise<string | undefined> {
  return (await market.status('lease-o1'))?.delivery.state;
}

/** A tiny server on a real socket that answers with the key it was started with. */
function realServer(keys: string[]): StartServer {
  return async (_workload, apiKey) => {
    keys.push(apiKey);
    const exited = Promise.withResolvers<{ detail: string }>();
    const server = createServer((_request, reply) => reply.end(apiKey));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const stop = async (): Promise<void> => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      exited.resolve({ detail: 'stopped' });
    };
    return { url: `http://127.0.0.1:${port}`, exited: exited.promise, stop };
  };
}
