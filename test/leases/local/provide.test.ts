import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import type { Settings } from '../../../src/config.ts';
import { Secret } from '../../../src/config/secret.ts';
import type { AppError } from '../../../src/errors.ts';
import { openJoining } from '../../../src/node/provider-door.ts';
import { until } from '../../fakes/clock.ts';
import { testOrder } from '../../fakes/market-samples.ts';
import { marketConformance } from '../market-conformance.ts';
import { openJoined, startAgent, type Agent, type JoinedBench } from './joined-bench.ts';

const PATIENCE_MS = 60_000;

marketConformance('local, with providers who joined over HTTP', async (t) => {
  const bench = await openJoined(t, ['rack-7', 'rack-8']);
  for (const [id, perBlock] of [['rack-7', 1000n] as const, ['rack-8', 2000n] as const]) {
    await joins(startAgent(t, bench.gateway.url ?? '', { key: bench.keyOf(id), perBlock }));
  }
  return {
    market: bench.market,
    order: testOrder,
    escrow: true,
    disputes: true,
    until: (what, check) => until(what, check, PATIENCE_MS),
    passBlocks: (count) => systemClock.sleep(count * bench.market.terms().blockMs),
  };
});

test('a model server that the market no longer wants is stopped', async (t) => {
  const { bench, agent, lease } = await setup(t);
  await lease('o1');
  await until('it runs', () => agent.running() === 1, PATIENCE_MS);
  await bench.market.close('lease-o1', 'tenant');
  await until('it was stopped', () => agent.running() === 0, PATIENCE_MS);
});

test('what it asks is published as it would bid it, by how much of it is in use', async (t) => {
  const policy = { kind: 'idle_discount', marginBp: 10_000, discountMaxBp: 5000, peakMarkupBp: 0 } as const;
  const { bench, agent, lease } = await setup(t, { policy });
  const { market } = bench;
  const asks = async (): Promise<unknown> => (await market.providers())[0]?.asksNanoUsdPerBlock;
  for (const [n, perBlock] of [1000n, 1500n].entries()) {
    assert.equal(await asks(), perBlock);
    await lease(`o${n}`);
    assert.equal((await market.order(`o${n}`))?.bids[0]?.priceNanoUsdPerBlock, perBlock);
    await until('it runs', () => agent.running() === n + 1, PATIENCE_MS);
  }
  assert.equal(await asks(), null, 'it has no room');
});

test('a model server that ends by itself ends its lease, with what it said', async (t) => {
  const exit = Promise.withResolvers<{ detail: string }>();
  const server = { url: 'http://127.0.0.1:9', exited: exit.promise, stop: () => Promise.resolve() };
  const { bench, lease } = await setup(t, { start: () => Promise.resolve(server) });
  await lease('o1');
  const status = () => bench.market.status('lease-o1');
  await until('it runs', async () => (await status())?.delivery.state === 'running', PATIENCE_MS);
  exit.resolve({ detail: 'out of\nmemory' });
  await until('the lease is over', async () => (await status())?.lease.state === 'closed', PATIENCE_MS);
  assert.match((await status())?.delivery.detail ?? '', /out of memory/);
});

test('a model server that does not start ends its lease, with what it said', async (t) => {
  const { bench, lease } = await setup(t, { start: () => Promise.reject(new Error('no such weights')) });
  await lease('o1');
  const state = async () => (await bench.market.status('lease-o1'))?.lease.state;
  await until('the lease is over', async () => (await state()) === 'closed', PATIENCE_MS);
  const status = await bench.market.status('lease-o1');
  assert.match(status?.delivery.detail ?? '', /no such weights/);
  assert.equal(status?.lease.closeReason, 'provider');
});

test('told to stop, it says goodbye: its leases end at once, its model servers too', async (t) => {
  const { bench, agent, lease } = await setup(t);
  await lease('o1');
  await until('it runs', () => agent.running() === 1, PATIENCE_MS);
  await agent.stop();
  assert.equal(agent.running(), 0);
  const state = async () => (await bench.market.status('lease-o1'))?.lease.state;
  await until('the lease is over', async () => (await state()) === 'closed', PATIENCE_MS);
  assert.equal((await bench.market.providers())[0]?.capacity, 0);
});

test('after the market was started anew it offers again, and stops what that knows nothing of', async (t) => {
  const old = await openJoined(t, ['rack-7']);
  const next = await openJoined(t, ['rack-7']);
  let url = old.gateway.url ?? '';
  const { agent, lease } = await setup(t, {
    bench: old,
    urlOf: () => url,
  });
  await lease('o1');
  await until('it runs', () => agent.running() === 1, PATIENCE_MS);
  url = next.gateway.url ?? '';
  const stopped = (): boolean => {
    // Its question may be on the way to the old one still.
    for (const bidder of old.joining.bidders) bidder.stop();
    return agent.running() === 0;
  };
  await until('it was stopped', stopped, PATIENCE_MS);
  await until('it is there', async () => (await next.market.providers())[0]?.capacity === 2, PATIENCE_MS);
});

test('a second process with the same key takes the place of the first, which ends and says so', async (t) => {
  const { bench, agent, lease } = await setup(t);
  await lease('o1');
  await until('it runs', () => agent.running() === 1, PATIENCE_MS);
  const second = startAgent(t, bench.gateway.url ?? '', { key: bench.keyOf('rack-7') });
  await joins(second);
  await assert.rejects(agent.over, (error: AppError) => error.code === 'conflict');
  assert.equal(agent.running(), 0);
  assert.equal((await bench.market.providers())[0]?.capacity, 2);
});

test('a market that fails in between is asked again until it answers', async (t) => {
  let failures = 3;
  const { agent } = await setup(t, {
    wrap: (call) => (asked) => {
      failures -= 1;
      return failures < 0 ? call(asked) : Promise.resolve({ status: 502, body: undefined });
    },
  });
  assert.equal(agent.log.filter((line) => line.includes('cannot be reached')).length, 1, 'and it is said once');
});

test('a key that nobody has is refused, whoever asks for what', async (t) => {
  const { send, gateway, keyOf } = await openJoined(t, ['rack-7']);
  const paths = [
    ['PUT', '/offer'],
    ['DELETE', '/offer?session=x'],
    ['GET', '/tasks?session=x&after=0&wait_s=0'],
    ['POST', '/bids'],
    ['POST', '/leases/l1'],
  ] as const;
  for (const key of ['nobody', '', gateway.key, `${keyOf('rack-7')}x`, 'sk-ub-admin']) {
    for (const [method, path] of paths) {
      const reply = await send(key, method, path, method === 'GET' ? undefined : {});
      assert.equal(reply.status, 401, `${method} ${path}`);
      const { error } = (await reply.json()) as { error: { code: string; message: string } };
      assert.equal(error.code, 'invalid_api_key');
      if (key !== '') assert.ok(!error.message.includes(key));
    }
  }
  const admin = await gateway.fetch('/admin/providers', { headers: { authorization: `Bearer ${keyOf('rack-7')}` } });
  assert.equal(admin.status, 401, 'a provider is no operator');
});

test('what a hostile provider sends is refused: prices, sizes, hosts, leases of others', async (t) => {
  const bench = await openJoined(t, ['rack-7', 'rack-8']);
  const other = startAgent(t, bench.gateway.url ?? '', { key: bench.keyOf('rack-8') });
  await joins(other);
  await leaseOf(bench, 'o1');
  await until('it runs', () => other.running() === 1, PATIENCE_MS);
  const session = 'H'.repeat(22);
  const send = (method: string, path: string, body: unknown) => bench.send(bench.keyOf('rack-7'), method, path, body);
  const offer = { session, slots: 2, cpu: 8, memory_bytes: 2 ** 34, gpus: [], policy: 'fixed' };
  assert.equal((await send('PUT', '/offer', offer)).status, 200);
  await bench.market.tender(testOrder('o2'));
  const bid = { session, order: 'o2' };
  const running = { session, state: 'running', url: 'http://127.0.0.1:9' };
  const cases: [string, string, unknown, number][] = [
    ['PUT', '/offer', { ...offer, slots: 65 }, 400],
    ['PUT', '/offer', { ...offer, slots: 1e300 }, 400],
    ['PUT', '/offer', { ...offer, gpus: Array.from({ length: 99 }, () => 'h100') }, 400],
    ['PUT', '/offer', { ...offer, policy: '\u001b[2Jfixed' }, 400],
    ['PUT', '/offer', { ...offer, audited: true }, 400],
    ['PUT', '/offer', '{"session":', 400],
    ['PUT', '/offer', JSON.stringify({ ...offer, policy: 'x'.repeat(70_000) }), 413],
    ['POST', '/bids', { ...bid, usd_per_hour: '-1' }, 400],
    ['POST', '/bids', { ...bid, usd_per_hour: '0' }, 400],
    ['POST', '/bids', { ...bid, usd_per_hour: '9223372037' }, 400],
    ['POST', '/bids', { ...bid, usd_per_hour: '1e3' }, 400],
    ['POST', '/bids', { ...bid, usd_per_hour: 0.1 }, 400],
    ['POST', '/bids', { ...bid, usd_per_hour: '0.1', decline: 'both' }, 400],
    ['POST', '/bids', bid, 400],
    ['POST', '/bids', { ...bid, order: 'never', usd_per_hour: '0.1' }, 404],
    ['POST', '/bids', { ...bid, session: 'I'.repeat(22), usd_per_hour: '0.1' }, 409],
    ['POST', '/leases/lease-o1', running, 404],
    ['POST', '/leases/lease-o1', { session, state: 'failed' }, 404],
    ['POST', '/leases/lease-o1', { session, state: 'running' }, 400],
    ['POST', `/leases/${'x'.repeat(5000)}`, running, 404],
  ];
  for (const [method, path, body, status] of cases) {
    const reply = await send(method, path, body);
    assert.equal(reply.status, status, `${method} ${path.slice(0, 40)} ${JSON.stringify(body).slice(0, 120)}`);
    await reply.arrayBuffer();
  }
  assert.equal((await bench.market.status('lease-o1'))?.delivery.state, 'running', 'nothing of it reached another');
  assert.equal(other.running(), 1);
});

test('who calls through a proxy could be anywhere: model servers are where the configuration allows, or nowhere', async (t) => {
  for (const [hosts, status] of [[[], 400] as const, [['127.0.0.1'], 204] as const]) {
    const bench = await openJoined(t, ['rack-7'], hosts);
    const key = bench.keyOf('rack-7');
    const session = 'P'.repeat(22);
    const offer = { session, slots: 2, cpu: 8, memory_bytes: 2 ** 34, gpus: [], policy: 'fixed' };
    const joined = await bench.send(key, 'PUT', '/offer', offer);
    assert.equal(((await joined.json()) as { seen_as: string }).seen_as, '127.0.0.1');
    await bench.market.tender(testOrder('o1'));
    assert.equal((await bench.send(key, 'POST', '/bids', { session, order: 'o1', usd_per_hour: '0.01' })).status, 204);
    await leaseOf(bench, 'o1');
    const reply = await bench.gateway.fetch('/provider/v1/leases/lease-o1', {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'x-forwarded-for': '127.0.0.1' },
      body: JSON.stringify({ session, state: 'running', url: 'http://127.0.0.1:9' }),
    });
    assert.equal(reply.status, status);
    await reply.arrayBuffer();
  }
  const local = { blockMs: 6000, joining: [{ id: 'a', key: new Secret('a'), audited: false, hosts: [] }] };
  const settings = { markets: { local }, trustedProxies: ['10.0.0.0/8', '::1'] } as unknown as Settings;
  const { door } = openJoining(settings, systemClock, () => undefined);
  const peerOf = (remoteAddress?: string) => door?.peerOf({ incoming: { socket: { remoteAddress } } });
  const peers = ['203.0.113.7', '::ffff:203.0.113.7', '10.1.2.3', '::ffff:10.1.2.3', '::1', undefined].map(peerOf);
  assert.deepEqual(peers, ['203.0.113.7', '203.0.113.7', null, null, null, null]);
});

test('a provider whose model servers the market could not reach is warned', async (t) => {
  const { agent } = await setup(t, {
    wrap: (call) => async (asked) => {
      const { status, body } = await call(asked);
      return { status, body: asked.method === 'PUT' ? { ...(body as object), seen_as: '203.0.113.7' } : body };
    },
  });
  assert.ok(agent.log.some((line) => /it sees us at 203\.0\.113\.7.*set --host or --advertise/.test(line)));
});

test('one provider that floods is held off, and the others are served meanwhile', async (t) => {
  const bench = await openJoined(t, ['rack-7', 'rack-8']);
  const [path, url] = [`/tasks?session=${'F'.repeat(22)}&after=0&wait_s=0`, bench.gateway.url ?? ''];
  const headers = { authorization: `Bearer ${bench.keyOf('rack-7')}`, 'content-length': '100' };
  // Bodies that never come to their end.
  const slow = Array.from({ length: 40 }, () => {
    const call = request(`${url}/provider/v1/offer`, { method: 'PUT', headers, agent: false });
    call.on('error', () => undefined).write('{');
    return call;
  });
  t.after(() => slow.forEach((call) => call.destroy()));
  const status = async (id: string) => (await bench.send(bench.keyOf(id), 'GET', path)).status;
  await until('it is held off', async () => (await status('rack-7')) === 429, PATIENCE_MS);
  assert.equal(await status('rack-8'), 404, 'it has yet to make an offer');
  for (const call of slow) call.destroy();
  await until('it is let in again', async () => (await status('rack-7')) === 404, PATIENCE_MS);
});

interface SetupOptions extends Partial<Parameters<typeof startAgent>[2]> {
  readonly bench?: JoinedBench;
  readonly urlOf?: () => string;
}

async function setup(t: TestContext, options: SetupOptions = {}) {
  const bench = options.bench ?? (await openJoined(t, ['rack-7']));
  const { urlOf, bench: _, ...rest } = options;
  const url = urlOf ?? ((): string => bench.gateway.url ?? '');
  const agent = startAgent(t, url, { key: bench.keyOf('rack-7'), ...rest });
  await joins(agent);
  return { bench, agent, lease: (id: string) => leaseOf(bench, id) };
}

async function joins(agent: Agent): Promise<void> {
  await until('it joins', () => agent.log.some((line) => line.startsWith('joined as')), PATIENCE_MS);
}

async function leaseOf({ market }: JoinedBench, id: string): Promise<void> {
  await market.tender(testOrder(id));
  await until('a bid comes', async () => ((await market.order(id))?.bids.length ?? 0) > 0, PATIENCE_MS);
  const bid = (await market.order(id))?.bids[0];
  const outcome = await market.accept(id, bid?.id ?? '', 1_000_000_000n);
  assert.equal(outcome.kind, 'done');
  await market.deploy(`lease-${id}`, testOrder(id).workload);
}
