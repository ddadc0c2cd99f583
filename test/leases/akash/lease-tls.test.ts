import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import { test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { sql } from 'drizzle-orm';
import { createUndiciUpstream } from '../../../src/gateway/undici-upstream.ts';
import { readWhole, requestTo, type Upstream } from '../../../src/gateway/upstream.ts';
import { createCertificate } from '../../../src/leases/akash/devnet/certificate.ts';
import type { StartContainer } from '../../../src/leases/akash/devnet/container.ts';
import { withTls } from '../../../src/leases/akash/devnet/tls-front.ts';
import { leaseSecretsOf } from '../../../src/leases/akash/lease-secrets.ts';
import type { Delivery, Market } from '../../../src/leases/market.ts';
import { json } from '../../fakes/model-replies.ts';
import { startModelServer, type FakeModelServer } from '../../fakes/model-server.ts';
import { openAkash, type AkashBench, type AkashBenchOptions } from './market-bench.ts';

const LIMITS = { bytesMax: 10_000, signal: AbortSignal.timeout(30_000) };
const ASKED = { path: '/v1/chat/completions', body: '{"prompt":"a secret"}' };

test('a leased port is spoken to over TLS, by the certificate that was made for the lease', async (t) => {
  const { bench, server, upstream } = await setup(t);
  const delivery = await leased(bench);
  assert.match(delivery.url ?? '', /^https:\/\/127\.0\.0\.1:/);
  assert.match(delivery.certificate ?? '', /^-----BEGIN CERTIFICATE-----/);
  const { status } = await readWhole(upstream, requestTo(addressed(delivery), ASKED), LIMITS);
  assert.equal(status, 200);
  const [asked] = server.requests;
  assert.equal(asked?.headers.authorization, `Bearer ${delivery.apiKey}`);
  assert.equal(asked?.text, ASKED.body);
  const plain = { ...addressed(delivery), url: (delivery.url ?? '').replace('https:', 'http:'), certificate: null };
  await assert.rejects(readWhole(upstream, requestTo(plain, ASKED), LIMITS), 'and it speaks nothing else');
  await assert.rejects(
    readWhole(upstream, requestTo({ ...addressed(delivery), certificate: null }, ASKED), LIMITS),
    /self-signed certificate/,
    'no public authority vouches for it',
  );
  assert.equal(server.requests.length, 1);
});

test('a leased address is waited for, and spoken to in the same way', async (t) => {
  const { bench, server, upstream } = await setup(t, undefined, { expose: 'ip' });
  const delivery = await leased(bench);
  const [row] = await bench.store.db.all<{ body: string }>(sql`SELECT body FROM akash_orders`);
  assert.match(row?.body ?? '', /"ip":"address"|\\"ip\\":\\"address\\"/);
  assert.equal((await readWhole(upstream, requestTo(addressed(delivery), ASKED), LIMITS)).status, 200);
  assert.equal(server.requests.length, 1);
});

test('whoever shows another certificate at that port gets no byte of a prompt, and no key', async (t) => {
  const heard: Buffer[] = [];
  const { bench, upstream } = await setup(t, () => impostor(t, heard));
  const delivery = await leased(bench);
  assert.equal(delivery.state, 'running');
  for (const environment of [undefined, '0']) {
    if (environment !== undefined) process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = environment;
    t.after(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']);
    for (let tries = 0; tries < 3; tries += 1) {
      await assert.rejects(
        readWhole(upstream, requestTo(addressed(delivery), ASKED), LIMITS),
        /self-signed certificate|another certificate/,
      );
    }
  }
  assert.equal(Buffer.concat(heard).length, 0);
});

test('after a restart the lease is the same one, by the same certificate; its key is in no record and no log', async (t) => {
  const { bench, server, upstream } = await setup(t);
  const before = await leased(bench);
  await bench.market.stop();
  const market = await bench.again();
  const after = await delivered(bench, market);
  assert.deepEqual(
    [after.url, after.certificate, after.apiKey],
    [before.url, before.certificate, before.apiKey],
    'nothing was made anew',
  );
  assert.equal((await readWhole(upstream, requestTo(addressed(after), ASKED), LIMITS)).status, 200);
  assert.equal(server.requests.length, 1);
  const rows = inspect(await bench.store.db.all(sql`SELECT * FROM akash_orders`), {
    maxStringLength: null,
    depth: null,
  });
  const { apiKey, tlsKey } = leaseSecretsOf((id) => `key-of-${id}`, 'lease-o1');
  for (const secret of [apiKey, ...tlsKey.split('|').slice(1, -1), 'PRIVATE KEY']) {
    for (const text of [rows, bench.logs.join('\n')]) assert.ok(!text.includes(secret));
  }
  assert.ok(rows.includes('BEGIN CERTIFICATE'), 'the certificate itself is no secret');
});

test('an image that speaks no TLS is not ordered for a port: the reason says what to do', async (t) => {
  const { bench } = await setup(t);
  const order = bench.order('o2');
  const container = { command: null, args: [], env: {}, port: 80, weights: null, revision: null };
  const workload = {
    ...order.workload,
    engine: 'openai' as const,
    container: { ...container, shmBytes: 0, volume: null },
  };
  const refused = await bench.market.tender({ ...order, workload });
  assert.ok(
    refused.kind === 'refused' && refused.reason.includes('container.expose: ingress'),
    JSON.stringify(refused),
  );
  assert.equal([...bench.devnet.chain.state.deployments.values()].length, 0);
});

const addressed = ({ url, apiKey, certificate = null }: Delivery) => ({ url: url ?? '', apiKey, certificate });

async function leased(bench: AkashBench): Promise<Delivery> {
  const { market } = bench;
  assert.equal((await market.tender(bench.order('o1'))).kind, 'done');
  await bench.until('a bid', async () => ((await market.order('o1'))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order('o1'))?.bids ?? [];
  const lease = await market.accept('o1', bid?.id ?? '', 1_000_000_000n);
  assert.equal(
    lease.kind,
    'done',
    JSON.stringify(lease, (_, value: unknown) => String(value)),
  );
  return delivered(bench, market);
}

async function delivered(bench: AkashBench, market: Market): Promise<Delivery> {
  const look = async (): Promise<Delivery | undefined> => (await market.status('lease-o1'))?.delivery;
  await bench.until('a running container', async () => (await look())?.state === 'running');
  const delivery = await look();
  assert.ok(delivery);
  return delivery;
}

/** At the container's port: somebody with a certificate of his own. */
function impostor(t: TestContext, heard: Buffer[]): Promise<number> {
  const own = createCertificate({
    address: 'underbid lease',
    serial: 7n,
    nowMs: Date.now(),
    hosts: ['localhost', '127.0.0.1'],
  });
  const server = createServer({ cert: own.certPem, key: own.keyPem }, (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => heard.push(bytes));
  });
  server.on('tlsClientError', () => undefined);
  t.after(() => server.close());
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });
}

async function setup(
  t: TestContext,
  instead?: () => Promise<number>,
  rules: AkashBenchOptions['rules'] = {},
): Promise<{ bench: AkashBench; server: FakeModelServer; upstream: Upstream }> {
  const server = await startModelServer(t, json(200, { ok: true }));
  const running = (url: string) => ({
    url,
    exited: new Promise<{ detail: string }>(() => undefined),
    stop: () => Promise.resolve(),
  });
  const startContainer: StartContainer = instead
    ? async () => running(`https://127.0.0.1:${await instead()}`)
    : withTls(() => Promise.resolve(running(server.url)));
  const bench = await openAkash(t, { startContainer, rules });
  const upstream = createUndiciUpstream({ connectMs: 5000, connectionsMax: 4, headerBytesMax: 16_384 });
  t.after(() => upstream.close());
  return { bench, server, upstream };
}
