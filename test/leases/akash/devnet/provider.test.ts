import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test, type TestContext } from 'node:test';
import { connect } from 'node:tls';
import { request } from 'undici';
import type { ContainerSpec } from '../../../../src/leases/akash/devnet/container.ts';
import { until } from '../../../fakes/clock.ts';
import { startModelServer } from '../../../fakes/model-server.ts';
import { askProvider, chainCertificate, rawToken, walletToken } from './provider-client.ts';
import {
  closeDeployment,
  createDeployment,
  createLease,
  openDevnet,
  openTenant,
  providerNamed,
  readSdl,
  type Order,
} from './setup.ts';

test('a manifest over TLS with a token of chain-sdk starts the container, the close ends it', async (t) => {
  const { devnet, tenant, prairie, order, started, stopped, model } = await leased(t);
  const token = await walletToken(devnet.tenant.mnemonic);
  const path = '/lease/7/1/1/status';
  assert.equal((await askProvider(devnet, prairie, { method: 'GET', path, token })).status, 404, 'no manifest yet');
  const put = await askProvider(devnet, prairie, {
    method: 'PUT',
    path: '/deployment/7/manifest',
    token,
    body: order.manifest,
  });
  assert.deepEqual(put, { status: 200, text: '' });
  await until('the container runs', async () => {
    const { text } = await askProvider(devnet, prairie, { method: 'GET', path, token });
    return (JSON.parse(text) as Status).services['model']?.available === 1;
  });
  assert.equal(started.length, 1);
  assert.equal(started[0]?.image, 'example/llama:1');
  assert.deepEqual(started[0]?.env, { LLAMA_API_KEY: 'lease-key', ODD: '<a & b>' });
  const { text } = await askProvider(devnet, prairie, { method: 'GET', path, token });
  const status = JSON.parse(text) as Status;
  const [uri = ''] = status.services['model']?.uris ?? [];
  const [port] = status.forwarded_ports?.['model'] ?? [];
  assert.equal(port?.port, 9000);
  for (const base of [`http://${uri}`, `http://${port?.host}:${port?.externalPort}`]) {
    const reply = await request(`${base}/v1/models`, { headers: { authorization: 'Bearer lease-key' } });
    assert.equal(await reply.body.text(), 'from the model server');
  }
  assert.equal(model.requests[0]?.headers.authorization, 'Bearer lease-key');
  const closed = await tenant.send([closeDeployment(tenant.address, 7)]);
  assert.equal(closed.code, 0);
  await until('the container is gone', () => stopped.length === 1);
  await assert.rejects(request(`http://${uri}/v1/models`));
  assert.equal((await askProvider(devnet, prairie, { method: 'GET', path, token })).status, 404);
});

test('the certificate is the one on chain: TLS 1.3, self-signed in the name of its owner', async (t) => {
  const devnet = await openDevnet(t);
  const { address, hostUri } = providerNamed(devnet, 'summit');
  const pem = chainCertificate(devnet, address);
  const { hostname, port } = new URL(hostUri);
  const socket = connect({ host: hostname, port: Number(port), ca: pem });
  await new Promise((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  assert.equal(socket.getProtocol(), 'TLSv1.3');
  const shown = socket.getPeerX509Certificate();
  socket.destroy();
  assert.equal(shown?.fingerprint256, new X509Certificate(pem).fingerprint256);
  assert.equal(shown?.subject, `CN=${address}`);
  assert.equal(shown?.issuer, `CN=${address}`);
  const old = connect({ host: hostname, port: Number(port), ca: pem, maxVersion: 'TLSv1.2' });
  await assert.rejects(new Promise((resolve, reject) => old.once('secureConnect', resolve).once('error', reject)));
});

test('a provider says who it is without a token, and nothing else', async (t) => {
  const devnet = await openDevnet(t);
  const prairie = providerNamed(devnet, 'prairie');
  const status = await askProvider(devnet, prairie, { method: 'GET', path: '/status' });
  assert.equal(status.status, 200);
  assert.equal((JSON.parse(status.text) as { address: string }).address, prairie.address);
  const lease = await askProvider(devnet, prairie, { method: 'GET', path: '/lease/7/1/1/status' });
  assert.deepEqual(lease, { status: 401, text: '{"message":"unauthorized access"}' });
});

test('tokens that are not right are refused as provider-services refuses them', async (t) => {
  const { devnet, prairie } = await leased(t);
  const ask = async (token: string) => {
    const reply = await askProvider(devnet, prairie, { method: 'GET', path: '/lease/7/1/1/status', token });
    return `${reply.status} ${reply.text}`;
  };
  const nowS = Math.floor(Date.now() / 1000);
  const invalid = '401 {"message":"JWT is invalid"}';
  const claims = '400 {"message":"JWT has invalid claims"}';
  const unauthorized = '401 {"message":"unauthorized access"}';
  assert.equal(await ask(rawToken(devnet)), '404 ', 'the right one gets through');
  assert.equal(await ask('no.jwt'), invalid);
  assert.equal(await ask(rawToken(devnet, {}, devnet.payer.privateKey)), invalid, "somebody else's signature");
  assert.equal(
    await ask(rawToken(devnet, { extra: { iss: devnet.payer.address } })),
    invalid,
    'an account without a key',
  );
  assert.equal(await ask(rawToken(devnet, { nowS: nowS - 2000, lifeS: 900 })), claims, 'expired');
  assert.equal(await ask(rawToken(devnet, { nowS: nowS + 60 })), claims, 'not yet valid');
  assert.equal(await ask(rawToken(devnet, { extra: { version: 'v2' } })), claims);
  assert.equal(await ask(rawToken(devnet, { extra: { more: 1 } })), claims);
  const scoped = (...scope: ('status' | 'logs')[]) => ({ access: 'scoped' as const, scope });
  assert.equal(await ask(rawToken(devnet, { leases: scoped('logs') })), unauthorized);
  assert.equal(await ask(rawToken(devnet, { leases: scoped('status') })), '404 ');
  const granular = (provider: string, dseq: number) => ({
    access: 'granular' as const,
    permissions: [
      {
        provider,
        access: 'granular' as const,
        deployments: [{ dseq, scope: ['status' as const], services: ['model'] }],
      },
    ],
  });
  assert.equal(await ask(rawToken(devnet, { leases: granular(prairie.address, 7) })), '404 ');
  assert.equal(await ask(rawToken(devnet, { leases: granular(prairie.address, 8) })), unauthorized);
  const summit = providerNamed(devnet, 'summit').address;
  assert.equal(await ask(rawToken(devnet, { leases: granular(summit, 7) })), unauthorized);
});

test('a manifest has to be the one that was hashed, and the lease has to be there', async (t) => {
  const { devnet, prairie, order } = await leased(t);
  const put = async (body: string, dseq = 7) => {
    const reply = await askProvider(devnet, prairie, {
      method: 'PUT',
      path: `/deployment/${dseq}/manifest`,
      token: rawToken(devnet),
      body,
    });
    return `${reply.status} ${reply.text}`;
  };
  assert.match(await put('[{"name": 1}]'), /^422 invalid manifest/);
  assert.equal(await put(order.manifest.replace('example/llama:1', 'example/llama:2')), mismatch);
  assert.equal(await put(order.manifest, 8), '404 no lease for deployment\n');
  const spaced = JSON.stringify(JSON.parse(order.manifest), null, 1);
  assert.equal(await put(spaced), '200 ', 'the hash is of the structure, not of the text');
});
const mismatch = '422 manifest version validation failed\n';

interface Status {
  readonly services: Record<string, { readonly available: number; readonly uris: string[] | null }>;
  readonly forwarded_ports: Record<string, { host: string; port: number; externalPort: number }[]> | null;
}

/** A lease with prairie, and a fake model server that its container would be. */
async function leased(t: TestContext) {
  const started: ContainerSpec[] = [];
  const stopped: string[] = [];
  const model = await startModelServer(t, (turn) => {
    turn.head(200, { 'content-type': 'text/plain' });
    turn.end('from the model server');
  });
  const devnet = await openDevnet(t, {
    startContainer: (spec) => {
      started.push(spec);
      const stop = (): Promise<void> => {
        stopped.push(spec.lease);
        return Promise.resolve();
      };
      return Promise.resolve({ url: model.url, exited: new Promise(() => undefined), stop });
    },
  });
  const tenant = await openTenant(t, devnet);
  const order: Order = await readSdl();
  const prairie = providerNamed(devnet, 'prairie');
  await tenant.send([createDeployment(tenant.address, 7, order)]);
  devnet.nextBlock();
  const lease = await tenant.send([createLease(tenant.address, 7, prairie.address)]);
  assert.equal(lease.code, 0, lease.rawLog);
  return { devnet, tenant, prairie, order, started, stopped, model };
}
