import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as v1 from '@akashnetwork/chain-sdk/private-types/akash.v1';
import * as v5 from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { sha256 } from '@cosmjs/crypto';
import { toHex } from '@cosmjs/encoding';
import { request } from 'undici';
import { FAULT_NAMES } from '../../../../src/leases/akash/devnet/faults.ts';
import type { DevnetOptions } from '../../../../src/leases/akash/devnet/network.ts';
import { bidKey } from '../../../../src/leases/akash/devnet/state.ts';
import { systemRandom } from '../../../../src/random.ts';
import { FakeClock, until } from '../../../fakes/clock.ts';
import { startModelServer } from '../../../fakes/model-server.ts';
import { askProvider, rawToken } from './provider-client.ts';
import {
  createDeployment,
  createLease,
  FEE,
  openDevnet,
  openQueries,
  openTenant,
  providerNamed,
  readSdl,
  EAGER,
} from './setup.ts';

/** Each switch, seen from outside; the ones of closes and reclamation are in modules.test.ts. */

test('every fault has a name of its own', () => {
  assert.equal(new Set(FAULT_NAMES).size, FAULT_NAMES.length);
  assert.ok(FAULT_NAMES.length >= 16);
});

test('no-bids: orders stay alone until it is switched off', async (t) => {
  const { devnet, order, tenant } = await open(t);
  devnet.setFault('no-bids', true);
  await tenant.send([createDeployment(tenant.address, 1, order)]);
  devnet.nextBlock();
  devnet.nextBlock();
  assert.equal(devnet.chain.state.bids.values().length, 0);
  devnet.setFault('no-bids', false);
  devnet.nextBlock();
  devnet.nextBlock();
  assert.equal(devnet.chain.state.bids.values().length, 2);
});

test('slow-bids: they come a minute late', async (t) => {
  const clock = new FakeClock(Date.now());
  const { devnet, order, tenant } = await open(t, { clock, random: systemRandom });
  devnet.setFault('slow-bids', true);
  await tenant.send([createDeployment(tenant.address, 1, order)]);
  await clock.advance(59_000);
  devnet.nextBlock();
  assert.equal(devnet.chain.state.bids.values().length, 0);
  await clock.advance(1_000);
  devnet.nextBlock();
  assert.equal(devnet.chain.state.bids.values().length, 2);
});

test('wrong-gpu: the offer names another one than the order', async (t) => {
  const { devnet, order, tenant } = await open(t);
  const query = await openQueries(t, devnet);
  const offered = async (dseq: number) => {
    await tenant.send([createDeployment(tenant.address, dseq, order)]);
    devnet.nextBlock();
    const { bids } = await query(
      'akash.market.v1beta5.Query/Bids',
      [v5.QueryBidsRequest, { filters: { dseq } }],
      v5.QueryBidsResponse,
    );
    return bids[0]?.bid?.resourcesOffer[0]?.resources?.gpu?.attributes[0]?.key;
  };
  assert.equal(await offered(1), 'vendor/nvidia/model/rtx4090/ram/24Gi');
  devnet.setFault('wrong-gpu', true);
  assert.equal(await offered(2), 'vendor/nvidia/model/gt1030/ram/2Gi');
});

test('manifest-refused, then taken', async (t) => {
  const { devnet, prairie, put } = await leased(t);
  devnet.setFault('manifest-refused', true);
  assert.equal((await put()).status, 422);
  devnet.setFault('manifest-refused', false);
  assert.equal((await put()).status, 200);
  assert.equal(prairie.address.length, 44);
});

test('dark-provider: streams fall silent, connections are taken and nothing comes', async (t) => {
  const { devnet, running } = await leased(t);
  const uri = await running();
  const stream = await request(`http://${uri}/stream`);
  const seen: string[] = [];
  stream.body.on('data', (chunk: Buffer) => seen.push(chunk.toString()));
  stream.body.on('error', () => undefined);
  await until('the first token', () => seen.length > 0);
  devnet.setFault('dark-provider', true);
  const before = seen.length;
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(seen.length, before, 'silent in the middle');
  assert.equal(stream.body.destroyed, false, 'and yet connected');
  await assert.rejects(request(`http://${uri}/`, { headersTimeout: 300, signal: AbortSignal.timeout(300) }));
  stream.body.destroy();
  devnet.setFault('dark-provider', false);
  assert.equal((await request(`http://${uri}/`)).statusCode, 200);
});

test('provider-gone: connections are refused, by its gateway and by its model servers', async (t) => {
  const { devnet, prairie, running } = await leased(t);
  const uri = await running();
  devnet.setFault('provider-gone', true);
  await assert.rejects(request(`http://${uri}/`), { code: 'ECONNREFUSED' });
  await assert.rejects(askProvider(devnet, prairie, { method: 'GET', path: '/status' }), { code: 'ECONNREFUSED' });
  devnet.setFault('provider-gone', false);
  await until('it is back', async () => {
    const reply = await askProvider(devnet, prairie, { method: 'GET', path: '/status' }).catch(() => null);
    return reply?.status === 200;
  });
  assert.equal((await request(`http://${uri}/`)).statusCode, 200);
});

test('wrong-certificate: the handshake shows one that the chain does not have', async (t) => {
  const devnet = await openDevnet(t);
  const prairie = providerNamed(devnet, 'prairie');
  devnet.setFault('wrong-certificate', true);
  await assert.rejects(
    askProvider(devnet, prairie, { method: 'GET', path: '/status' }),
    /self-signed certificate|unable to verify/,
  );
  devnet.setFault('wrong-certificate', false);
  assert.equal((await askProvider(devnet, prairie, { method: 'GET', path: '/status' })).status, 200);
});

test('out-of-gas: the node takes it, the block says code 11, the fee is gone', async (t) => {
  const { devnet, order, tenant } = await open(t);
  const message = createDeployment(tenant.address, 1, order);
  const gas = Math.ceil((await tenant.client.simulate(tenant.address, [message], '')) * 1.5);
  devnet.setFault('out-of-gas', true);
  const tx = await tenant.send([message], { ...FEE, gas: String(gas) });
  assert.equal(tx.code, 11);
  assert.match(tx.rawLog, /out of gas in location: .*; gasWanted: \d+, gasUsed: \d+: out of gas$/);
  assert.equal((await tenant.send([message], { ...FEE, gas: String(gas * 3) })).code, 0);
});

test('already-in-cache: the reply is an error, the transaction is in the next block', async (t) => {
  const { devnet, order, tenant } = await open(t);
  devnet.setFault('already-in-cache', true);
  const { client, address } = tenant;
  const { TxRaw } = await import('cosmjs-types/cosmos/tx/v1beta1/tx');
  const bytes = TxRaw.encode(await client.sign(address, [createDeployment(address, 1, order)], FEE, '')).finish();
  await assert.rejects(client.broadcastTxSync(bytes), /tx already exists in cache/);
  devnet.nextBlock();
  assert.equal((await client.getTx(toHex(sha256(bytes))))?.code, 0);
});

test('stale-rpc: the node lags, and all it says is old', async (t) => {
  const { devnet, order, tenant } = await open(t);
  const { client, address } = tenant;
  const height = await client.getHeight();
  const { sequence } = await client.getSequence(address);
  devnet.setFault('stale-rpc', true);
  const hash = await client.signAndBroadcastSync(address, [createDeployment(address, 1, order)], FEE);
  devnet.nextBlock();
  devnet.nextBlock();
  assert.equal(await client.getHeight(), height);
  assert.equal((await client.getSequence(address)).sequence, sequence);
  assert.equal(await client.getTx(hash), null);
  await assert.rejects(
    client.signAndBroadcastSync(address, [createDeployment(address, 2, order)], FEE),
    /account sequence mismatch, expected 1, got 0/,
  );
  devnet.setFault('stale-rpc', false);
  assert.equal((await client.getTx(hash))?.code, 0);
  assert.ok((await client.getHeight()) > height);
});

test('chain-stalled: no block comes until it is over', async (t) => {
  const { devnet, tenant } = await open(t, { blockMs: 20 });
  const { client } = tenant;
  devnet.setFault('chain-stalled', true);
  const height = await client.getHeight();
  await new Promise((resolve) => setTimeout(resolve, 120));
  assert.equal(await client.getHeight(), height);
  devnet.setFault('chain-stalled', false);
  await until('a block', async () => (await client.getHeight()) > height);
});

test('mint-cancelled and mint-halted', async (t) => {
  const { devnet, tenant } = await open(t);
  const { client, address } = tenant;
  const query = await openQueries(t, devnet);
  const status = () => query('akash.bme.v1.Query/Status', [v1.QueryStatusRequest, {}], v1.QueryStatusResponse);
  const message = {
    typeUrl: '/akash.bme.v1.MsgMintACT',
    value: v1.MsgMintACT.fromPartial({
      owner: address,
      to: address,
      coinsToBurn: { denom: 'uakt', amount: '40000000' },
    }),
  };
  devnet.setFault('mint-cancelled', true);
  assert.equal((await status()).mintsAllowed, true, 'the status says nothing of it');
  const [akt, act] = [await client.getBalance(address, 'uakt'), await client.getBalance(address, 'uact')];
  assert.equal((await tenant.send([message])).code, 0);
  let events: string[] = [];
  for (let block = 0; block < 12 && events.length === 0; block += 1) {
    events = devnet
      .nextBlock()
      .events.map(({ type }) => type)
      .filter((type) => type.startsWith('akash.bme'));
  }
  assert.deepEqual(events, ['akash.bme.v1.EventLedgerRecordCanceled']);
  assert.equal((await client.getBalance(address, 'uact')).amount, act.amount);
  assert.equal(BigInt((await client.getBalance(address, 'uakt')).amount), BigInt(akt.amount) - 25_000n);
  devnet.setFault('mint-halted', true);
  assert.equal((await status()).mintsAllowed, false);
  const refused = await tenant.send([message]);
  assert.equal(refused.code, 6);
  assert.match(refused.rawLog, /circuit breaker is active$/);
});

test('escrow-overdrawn: the provider finds it, and deployment, group and lease end for want of funds', async (t) => {
  const { devnet, tenant, prairie } = await leased(t);
  const { state } = devnet.chain;
  devnet.setFault('escrow-overdrawn', true);
  for (let block = 0; block < 3; block += 1) devnet.nextBlock();
  const key = bidKey({ owner: tenant.address, dseq: 7n, gseq: 1, oseq: 1, provider: prairie.address });
  assert.equal(state.leases.get(key)?.state, 'insufficient_funds');
  assert.equal(state.leases.get(key)?.reason, v1.LeaseClosedReason.lease_closed_reason_insufficient_funds);
  assert.equal(state.groups.get(`${tenant.address}/7/1`)?.state, 'insufficient_funds');
  assert.equal(state.deployments.get(`${tenant.address}/7`)?.state, 'closed');
  assert.equal(state.escrows.get(`deployment ${tenant.address}/7`)?.state, 'overdrawn');
});

test('an escrow that runs dry by itself is found within ten blocks', async (t) => {
  const { devnet, tenant } = await leased(t);
  const { state } = devnet.chain;
  const account = () => state.escrows.get(`deployment ${tenant.address}/7`);
  assert.equal(account()?.state, 'open');
  const rate = state.payments.values()[0]?.rate.amount ?? 1n;
  const blocks = Number((account()?.funds[0]?.amount ?? 0n) / rate);
  for (let block = 0; block <= blocks + 12; block += 1) devnet.nextBlock();
  assert.equal(account()?.state, 'overdrawn');
});

test('a fault of one provider leaves the others alone', async (t) => {
  const { devnet, order, tenant } = await open(t);
  const [prairie, fjord] = [providerNamed(devnet, 'prairie'), providerNamed(devnet, 'fjord')];
  devnet.setFault('no-bids', true, 'prairie');
  devnet.setFault('provider-gone', true, 'prairie');
  await tenant.send([createDeployment(tenant.address, 1, order)]);
  devnet.nextBlock();
  assert.deepEqual(
    devnet.chain.state.bids.values().map(({ id }) => id.provider),
    [fjord.address],
  );
  assert.equal((await askProvider(devnet, fjord, { method: 'GET', path: '/status' })).status, 200);
  await assert.rejects(askProvider(devnet, prairie, { method: 'GET', path: '/status' }), { code: 'ECONNREFUSED' });
});

test('faults are switched over HTTP too', async (t) => {
  const devnet = await openDevnet(t);
  const post = async (body: unknown) => {
    const reply = await fetch(`${devnet.restUrl}/devnet/faults`, { method: 'POST', body: JSON.stringify(body) });
    return { status: reply.status, body: await reply.json() };
  };
  assert.deepEqual(await post({ fault: 'no-bids', on: true }), { status: 200, body: { faults: ['no-bids'] } });
  const both = { status: 200, body: { faults: ['no-bids', 'dark-provider=summit'] } };
  assert.deepEqual(await post({ fault: 'dark-provider=summit', on: true }), both);
  assert.ok(devnet.chain.faults.has('dark-provider', 'summit'));
  assert.equal(devnet.chain.faults.has('dark-provider', 'prairie'), false);
  for (const wrong of [
    { fault: 'earthquake', on: true },
    { fault: 'stale-rpc=prairie', on: true },
    { fault: 'no-bids' },
    7,
  ]) {
    assert.equal((await post(wrong)).status, 400);
  }
  assert.deepEqual(await (await fetch(`${devnet.restUrl}/devnet/faults`)).json(), both.body);
});

async function open(t: TestContext, options: Partial<DevnetOptions> = {}) {
  const devnet = await openDevnet(t, { providers: EAGER, ...options });
  const tenant = await openTenant(t, devnet);
  return { devnet, tenant, order: await readSdl() };
}

async function leased(t: TestContext) {
  const model = await startModelServer(t, async (turn) => {
    turn.head(200, { 'content-type': 'text/plain' });
    if (turn.path !== '/stream') return turn.end('up');
    for (let token = 0; token < 200 && !turn.hasLeft; token += 1) {
      await turn.write('token ');
      await turn.sleep(10);
    }
    turn.end();
  });
  const startContainer: DevnetOptions['startContainer'] = () =>
    Promise.resolve({ url: model.url, exited: new Promise(() => undefined), stop: () => Promise.resolve() });
  const { devnet, tenant, order } = await open(t, { startContainer });
  const prairie = providerNamed(devnet, 'prairie');
  await tenant.send([createDeployment(tenant.address, 7, order, { denom: 'uact', amount: '500000' })]);
  devnet.nextBlock();
  const lease = await tenant.send([createLease(tenant.address, 7, prairie.address)]);
  assert.equal(lease.code, 0, lease.rawLog);
  const put = () =>
    askProvider(devnet, prairie, {
      method: 'PUT',
      path: '/deployment/7/manifest',
      token: rawToken(devnet),
      body: order.manifest,
    });
  const running = async (): Promise<string> => {
    assert.equal((await put()).status, 200);
    let uri = '';
    await until('the container runs', async () => {
      const path = '/lease/7/1/1/status';
      const { text } = await askProvider(devnet, prairie, { method: 'GET', path, token: rawToken(devnet) });
      const status = JSON.parse(text) as { services: Record<string, { available: number; uris: string[] }> };
      uri = status.services['model']?.uris[0] ?? '';
      return status.services['model']?.available === 1;
    });
    return uri;
  };
  return { devnet, tenant, prairie, put, running };
}
