import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v1 from '@akashnetwork/chain-sdk/private-types/akash.v1';
import * as v4 from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import * as v5 from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import { closeDeployment, createDeployment, FEE, openDevnet, openTenant, readSdl } from './setup.ts';

test("bids are refused with the module's own codes, whoever sends them", async (t) => {
  const devnet = await openDevnet(t);
  devnet.setFault('no-bids', true);
  const tenant = await openTenant(t, devnet);
  const bidder = await openTenant(t, devnet, devnet.payer.mnemonic);
  const order = await readSdl();
  await tenant.send([createDeployment(tenant.address, 7, order)]);
  const signedBy = { allOf: [], anyOf: [devnet.auditor] };
  const audited = order.groups.map((group) => ({ ...group, requirements: { attributes: [], signedBy } }));
  await tenant.send([createDeployment(tenant.address, 8, { ...order, groups: audited })]);
  const bid = (change: Parameters<typeof v5.MsgCreateBid.fromPartial>[0] = {}, dseq = 7) => ({
    typeUrl: '/akash.market.v1beta5.MsgCreateBid',
    value: v5.MsgCreateBid.fromPartial({
      id: { owner: tenant.address, dseq, gseq: 1, oseq: 1, provider: bidder.address, bseq: 0 },
      price: { denom: 'uact', amount: '1500.25' },
      deposit: { amount: { denom: 'uakt', amount: '500000' }, sources: [v1.Source.balance] },
      ...change,
    }),
  });
  const run = async (message: ReturnType<typeof bid>) => {
    const { code, rawLog } = await bidder.send([message], FEE);
    return `${code} ${rawLog.replace('failed to execute message; message index: 0: ', '')}`;
  };
  const register = async (keys: readonly string[]) => {
    const typeUrl = `/akash.provider.v1beta4.Msg${keys.length === 0 ? 'Create' : 'Update'}Provider`;
    const attributes = keys.map((key) => ({ key, value: 'true' }));
    const value = v4.MsgCreateProvider.fromPartial({
      owner: bidder.address,
      hostUri: 'https://127.0.0.1:9',
      attributes,
    });
    if (!bidder.client.registry.lookupType(typeUrl))
      bidder.client.registry.register(typeUrl, v4.MsgUpdateProvider as never);
    const { code, rawLog } = await bidder.send([{ typeUrl, value }]);
    assert.equal(code, 0, rawLog);
  };
  assert.equal(await run(bid()), '30 unknown provider');
  await register([]);
  assert.equal(await run(bid()), '32 capabilities mismatch', 'no such GPU');
  await register(['capabilities/gpu/vendor/nvidia/model/rtx4090']);
  assert.equal(await run(bid({}, 8)), '5 attribute mismatch', 'nobody signed for it');
  assert.equal(
    await run(bid({ price: { denom: 'uact', amount: '10000.000000000000000001' } })),
    '22 bid price is invalid',
  );
  assert.equal(await run(bid({ price: { denom: 'uakt', amount: '1' } })), '22 bid price is invalid');
  const small = { amount: { denom: 'uakt', amount: '499999' }, sources: [v1.Source.balance] };
  assert.equal(await run(bid({ deposit: small })), '28 deposit invalid: minimum:500000uakt received:499999uakt');
  const usdc = { amount: { denom: devnet.usdcDenom, amount: '500000' }, sources: [v1.Source.balance] };
  assert.match(await run(bid({ deposit: usdc })), /^28 deposit invalid: unsupported denom ibc\//);
  const other = { owner: tenant.address, dseq: 99, gseq: 1, oseq: 1, provider: bidder.address };
  assert.equal(await run(bid({ id: other })), '15 invalid order: order not found');
  assert.equal(await run(bid({ id: { ...other, dseq: 7, bseq: 1 } })), '31 invalid bid');
  await assert.rejects(run(bid({ price: { denom: 'uact', amount: '0' } })), /zero price/);
  await assert.rejects(run(bid({ id: { ...other, owner: bidder.address } })), /same account/);
  const before = BigInt((await bidder.client.getBalance(bidder.address, 'uakt')).amount);
  assert.equal(await run(bid()), '0 ');
  assert.equal(BigInt((await bidder.client.getBalance(bidder.address, 'uakt')).amount), before - 500_000n - 25_000n);
  assert.equal(await run(bid()), '21 invalid bid: bid exists from provider');
  // An order that nobody took gives each bid its deposit back.
  await tenant.send([closeDeployment(tenant.address, 7)]);
  assert.equal(BigInt((await bidder.client.getBalance(bidder.address, 'uakt')).amount), before - 2n * 25_000n);
  assert.equal(await run(bid()), '24 order closed');
});
