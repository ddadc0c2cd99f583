import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import { createDeployment, createLease, FEE, openDevnet, openTenant, providerNamed, readSdl } from './setup.ts';

test('REST shows deployments, bids and leases as grpc-gateway does', async (t) => {
  const devnet = await openDevnet(t);
  const { address, send } = await openTenant(t, devnet);
  const get = async (path: string) => {
    const reply = await fetch(`${devnet.restUrl}${path}`);
    return { status: reply.status, body: (await reply.json()) as Record<string, unknown> };
  };
  await send([createDeployment(address, 7, await readSdl())]);
  devnet.nextBlock();
  const prairie = providerNamed(devnet, 'prairie').address;
  await send([createLease(address, 7, prairie)]);
  const { body: info } = await get(`/akash/deployment/v1beta4/deployments/info?id.owner=${address}&id.dseq=7`);
  assert.partialDeepStrictEqual(info, {
    deployment: { id: { owner: address, dseq: '7' }, state: 'active' },
    groups: [
      {
        state: 'open',
        group_spec: {
          name: 'anywhere',
          resources: [
            {
              resource: {
                cpu: { units: { val: '2000' } },
                gpu: { units: { val: '1' }, attributes: [{ key: 'vendor/nvidia/model/rtx4090', value: 'true' }] },
              },
              count: 1,
              price: { denom: 'uact', amount: '10000.000000000000000000' },
            },
          ],
        },
      },
    ],
    escrow_account: {
      id: { scope: 'deployment', xid: `${address}/7` },
      state: { state: 'open', funds: [{ denom: 'uact', amount: '5000000.000000000000000000' }] },
    },
  });
  const { body: bids } = await get(`/akash/market/v1beta5/bids/list?filters.owner=${address}&filters.state=active`);
  assert.partialDeepStrictEqual(bids, { bids: [{ bid: { id: { provider: prairie } } }], pagination: { total: '1' } });
  const { body: leases } = await get('/akash/market/v1beta5/leases/list?pagination.limit=1');
  assert.partialDeepStrictEqual(leases, {
    leases: [
      {
        lease: { id: { provider: prairie, dseq: '7' }, state: 'active' },
        escrow_payment: { state: { state: 'open' } },
      },
    ],
  });
  const { body: first } = await get('/akash/provider/v1beta4/providers?pagination.limit=2');
  assert.equal((first['providers'] as unknown[]).length, 2);
  const key = encodeURIComponent((first['pagination'] as { next_key: string }).next_key);
  const { body: rest } = await get(`/akash/provider/v1beta4/providers?pagination.key=${key}`);
  assert.equal((rest['providers'] as unknown[]).length, 1);
  assert.equal((await get('/akash/provider/v1beta4/providers/akash1nobody')).status, 404);
  assert.equal((await get('/akash/nothing/v1')).status, 501);
  const { body: account } = await get(`/cosmos/auth/v1beta1/accounts/${address}`);
  assert.partialDeepStrictEqual(account, { account: { address, sequence: '2' } });
});

test('REST answers every query of the list', async (t) => {
  const devnet = await openDevnet(t);
  const paths = [
    '/akash/deployment/v1beta4/deployments/list',
    '/akash/deployment/v1beta4/params',
    '/akash/market/v1beta5/orders/list',
    '/akash/market/v1beta5/params',
    '/akash/escrow/v1/types/accounts?state=open',
    '/akash/escrow/v1/types/payments',
    `/akash/cert/v1/certificates/list?filter.owner=${providerNamed(devnet, 'fjord').address}`,
    '/akash/audit/v1/audit/attributes/list',
    `/akash/audit/v1/audit/attributes/${devnet.auditor}/${providerNamed(devnet, 'fjord').address}`,
    '/akash/bme/v1/status',
    '/akash/bme/v1/params',
    '/akash/bme/v1/vault',
    '/akash/bme/v1/ledger',
    '/akash/discovery/v1/info',
    `/cosmos/bank/v1beta1/balances/${devnet.payer.address}`,
    '/cosmos/base/tendermint/v1beta1/node_info',
    '/cosmos/base/tendermint/v1beta1/blocks/latest',
  ];
  for (const path of paths) assert.equal((await fetch(`${devnet.restUrl}${path}`)).status, 200, path);
});

test('REST takes transactions, simulates them and finds them', async (t) => {
  const devnet = await openDevnet(t);
  const { client, address } = await openTenant(t, devnet);
  const signed = await client.sign(address, [createDeployment(address, 7, await readSdl())], FEE, '');
  const body = JSON.stringify({ tx_bytes: Buffer.from(TxRaw.encode(signed).finish()).toString('base64'), mode: 1 });
  const post = async (path: string) =>
    (await (await fetch(`${devnet.restUrl}${path}`, { method: 'POST', body })).json()) as Record<string, unknown>;
  const simulated = await post('/cosmos/tx/v1beta1/simulate');
  const { tx_response: sent } = (await post('/cosmos/tx/v1beta1/txs')) as {
    tx_response: { code: number; txhash: string };
  };
  assert.equal(sent.code, 0);
  const path = `/cosmos/tx/v1beta1/txs/${sent.txhash}`;
  assert.equal((await fetch(`${devnet.restUrl}${path}`)).status, 404);
  devnet.nextBlock();
  const found = (await (await fetch(`${devnet.restUrl}${path}`)).json()) as {
    tx_response: { code: number; gas_used: string };
  };
  assert.equal(found.tx_response.code, 0);
  assert.equal(found.tx_response.gas_used, (simulated['gas_info'] as { gas_used: string }).gas_used);
  assert.equal(((await post('/cosmos/tx/v1beta1/txs')) as { tx_response: { code: number } }).tx_response.code, 19);
});
