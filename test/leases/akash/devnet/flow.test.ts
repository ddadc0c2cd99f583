import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v1 from '@akashnetwork/chain-sdk/private-types/akash.v1';
import * as v5 from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import {
  closeDeployment,
  createDeployment,
  createLease,
  openDevnet,
  openQueries,
  openTenant,
  providerNamed,
  readSdl,
} from './setup.ts';

test('an order gets bids, the best one a lease, and a close refunds to the last uact', async (t) => {
  const devnet = await openDevnet(t);
  const { client, address, send } = await openTenant(t, devnet);
  const query = await openQueries(t, devnet);
  const order = await readSdl();
  const before = BigInt((await client.getBalance(address, 'uact')).amount);
  const created = await send([createDeployment(address, 7, order)]);
  assert.equal(created.code, 0, created.rawLog);
  devnet.nextBlock();
  const { bids } = await query(
    'akash.market.v1beta5.Query/Bids',
    [v5.QueryBidsRequest, { filters: { owner: address, dseq: 7, state: 'open' } }],
    v5.QueryBidsResponse,
  );
  assert.equal(bids.length, 2, 'the two with an rtx4090');
  const prairie = providerNamed(devnet, 'prairie');
  const bid = bids.find((one) => one.bid?.id?.provider === prairie.address)?.bid;
  const leased = await send([createLease(address, 7, prairie.address)]);
  assert.equal(leased.code, 0, leased.rawLog);
  for (let block = 0; block < 10; block += 1) devnet.nextBlock();
  const closed = await send([closeDeployment(address, 7)]);
  assert.equal(closed.code, 0, closed.rawLog);
  const blocks = BigInt(closed.height - leased.height);
  const [whole = '', fraction = ''] = (bid?.price?.amount ?? '').split('.');
  const rate = BigInt(whole) * 10n ** 18n + BigInt(fraction.padEnd(18, '0'));
  const rent = (rate * blocks) / 10n ** 18n;
  assert.ok(rent > 0n);
  assert.equal(BigInt((await client.getBalance(address, 'uact')).amount), before - rent);
  const { leases } = await query(
    'akash.market.v1beta5.Query/Leases',
    [v5.QueryLeasesRequest, { filters: { owner: address } }],
    v5.QueryLeasesResponse,
  );
  assert.equal(leases[0]?.lease?.state, v1.Lease_State.closed);
  assert.equal(leases[0]?.lease?.reason, v1.LeaseClosedReason.lease_closed_owner);
  assert.equal(leases[0]?.escrowPayment?.state?.withdrawn?.amount, rent.toString());
});
