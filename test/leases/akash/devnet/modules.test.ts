import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as v1 from '@akashnetwork/chain-sdk/private-types/akash.v1';
import * as v4 from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import * as v5 from '@akashnetwork/chain-sdk/private-types/akash.v1beta5';
import type { EncodeObject } from '@cosmjs/proto-signing';
import { MsgGrant } from 'cosmjs-types/cosmos/authz/v1beta1/tx';
import { QueryGranteeGrantsRequest, QueryGranteeGrantsResponse } from 'cosmjs-types/cosmos/authz/v1beta1/query';
import { BasicAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/feegrant';
import { MsgGrantAllowance } from 'cosmjs-types/cosmos/feegrant/v1beta1/tx';
import { createCertificate } from '../../../../src/leases/akash/devnet/certificate.ts';
import {
  bytesField,
  coinField,
  concatBytes,
  durationField,
  lastField,
  readFields,
} from '../../../../src/leases/akash/devnet/protobuf.ts';
import { bidKey } from '../../../../src/leases/akash/devnet/state.ts';
import { createWallet } from '../../../../src/leases/akash/devnet/wallet.ts';
import { systemRandom } from '../../../../src/random.ts';
import {
  closeDeployment,
  createDeployment,
  createLease,
  FEE,
  openDevnet,
  openQueries,
  openTenant,
  providerNamed,
  readSdl,
  uact,
} from './setup.ts';

const akash = (typeUrl: string, value: unknown): EncodeObject => ({ typeUrl, value });

test('ACT is minted in a queue: at an epoch, less the spread; too little is cancelled and comes back', async (t) => {
  const devnet = await openDevnet(t);
  const { client, address, send } = await openTenant(t, devnet);
  const query = await openQueries(t, devnet);
  const balance = async (denom: string) => BigInt((await client.getBalance(address, denom)).amount);
  // chain-sdk's type of an executed record lacks its spread and reads it as something else.
  const entries = { decode: (reply: Uint8Array) => readFields(reply).filter(({ number }) => number === 1) };
  const records = () => query('akash.bme.v1.Query/LedgerRecords', [v1.QueryLedgerRecordsRequest, {}], entries);
  const mint = (amount: string) =>
    akash(
      '/akash.bme.v1.MsgMintACT',
      v1.MsgMintACT.fromPartial({ owner: address, to: address, coinsToBurn: { denom: 'uakt', amount } }),
    );
  const [akt, act] = [await balance('uakt'), await balance('uact')];
  const asked = await send([mint('40000000'), mint('19999998')]);
  assert.equal(asked.code, 0, asked.rawLog);
  assert.equal(await balance('uakt'), akt - 59_999_998n - 25_000n);
  assert.equal((await records()).length, 2);
  let blocks = 0;
  let events: readonly string[] = [];
  while (events.length < 2 && blocks < 12) {
    events = devnet
      .nextBlock()
      .events.map(({ type }) => type)
      .filter((type) => type.startsWith('akash.bme'));
    blocks += 1;
  }
  assert.deepEqual(events, ['akash.bme.v1.EventLedgerRecordExecuted', 'akash.bme.v1.EventLedgerRecordCanceled']);
  // 40 AKT at $0.50 are 20 ACT, of which 25 bp stay; 19.999998 AKT would be less than the 10 ACT that one has to mint.
  assert.equal((await balance('uact')) - act, 20_000_000n - 50_000n);
  assert.equal(await balance('uakt'), akt - 40_000_000n - 25_000n);
  const statuses = (await records()).map(({ bytes }) => lastField(bytes, 2)?.value);
  assert.deepEqual(statuses, [2n, 3n], 'executed, canceled');
});

test('ACT cannot be sent, USDC can', async (t) => {
  const devnet = await openDevnet(t);
  const { client, address, send } = await openTenant(t, devnet, devnet.payer.mnemonic);
  const to = devnet.tenant.address;
  const message = (denom: string) =>
    akash('/cosmos.bank.v1beta1.MsgSend', { fromAddress: address, toAddress: to, amount: [{ denom, amount: '7' }] });
  const refused = await send([message('uact')]);
  assert.match(refused.rawLog, /uact transfers are currently disabled: send transactions are disabled$/);
  assert.equal((await send([message(devnet.usdcDenom)])).code, 0);
  assert.equal((await client.getBalance(to, devnet.usdcDenom)).amount, '7');
  const found = await client.searchTx(`transfer.recipient='${to}'`);
  assert.equal(found.length, 1);
});

test('a signer that holds nothing rents with deposits and fees of others', async (t) => {
  const devnet = await openDevnet(t);
  const treasury = await openTenant(t, devnet);
  const pool = await createWallet(systemRandom);
  const { client, address, send } = await openTenant(t, devnet, pool.mnemonic);
  const authorization = {
    typeUrl: '/akash.escrow.v1.DepositAuthorization',
    value: concatBytes(Uint8Array.of(0x12, 1, 1), coinField(3, { denom: 'uact', amount: 6_000_000n })),
  };
  const granted = await treasury.send([
    akash(
      '/cosmos.authz.v1beta1.MsgGrant',
      MsgGrant.fromPartial({ granter: treasury.address, grantee: address, grant: { authorization } }),
    ),
    akash(
      '/cosmos.feegrant.v1beta1.MsgGrantAllowance',
      MsgGrantAllowance.fromPartial({
        granter: treasury.address,
        grantee: address,
        allowance: {
          typeUrl: BasicAllowance.typeUrl,
          value: BasicAllowance.encode(
            BasicAllowance.fromPartial({ spendLimit: [{ denom: 'uakt', amount: '60000' }] }),
          ).finish(),
        },
      }),
    ),
  ]);
  assert.equal(granted.code, 0, granted.rawLog);
  const fee = { ...FEE, granter: treasury.address };
  const before = BigInt((await client.getBalance(treasury.address, 'uact')).amount);
  const asked = createDeployment(address, 5, await readSdl());
  const deposit = { amount: uact(5_000_000), sources: [v1.Source.balance, v1.Source.grant] };
  const message = { ...asked, value: { ...asked.value, deposit } };
  const created = await send([message], fee);
  assert.equal(created.code, 0, created.rawLog);
  assert.equal(BigInt((await client.getBalance(treasury.address, 'uact')).amount), before - 5_000_000n);
  const query = await openQueries(t, devnet);
  const left = async () => {
    const { grants } = await query(
      'cosmos.authz.v1beta1.Query/GranteeGrants',
      [QueryGranteeGrantsRequest, { grantee: address }],
      QueryGranteeGrantsResponse,
    );
    const limit = lastField(grants[0]?.authorization?.value ?? new Uint8Array(), 3);
    return Buffer.from(limit?.bytes ?? [])
      .toString('latin1')
      .slice(-7);
  };
  assert.equal(await left(), '1000000');
  assert.equal((await send([closeDeployment(address, 5)], fee)).code, 0);
  assert.equal(await left(), '6000000');
  assert.equal(BigInt((await client.getBalance(treasury.address, 'uact')).amount), before);
  assert.deepEqual(await client.getAllBalances(address), [], 'it never held anything');
  await assert.rejects(send([closeDeployment(address, 5)], fee), /fee limit exceeded/);
  const stranger = { ...FEE, granter: devnet.payer.address };
  await assert.rejects(send([closeDeployment(address, 5)], stranger), /fee-grant not found/);
});

test('a tenant that closes its lease gets a new order, a provider that does pauses the group', async (t) => {
  const devnet = await openDevnet(t);
  const { address, send } = await openTenant(t, devnet);
  const { state } = devnet.chain;
  const prairie = providerNamed(devnet, 'prairie').address;
  const lease = (oseq: number) =>
    state.leases.get(bidKey({ owner: address, dseq: 4n, gseq: 1, oseq, provider: prairie }));
  await send([createDeployment(address, 4, await readSdl())]);
  devnet.nextBlock();
  await send([createLease(address, 4, prairie)]);
  const id = { owner: address, dseq: 4, gseq: 1, oseq: 1, provider: prairie };
  const closed = await send([akash('/akash.market.v1beta5.MsgCloseLease', v5.MsgCloseLease.fromPartial({ id }))]);
  assert.equal(closed.code, 0, closed.rawLog);
  assert.equal(lease(1)?.reason, 1);
  assert.equal(state.orders.get(`${address}/4/1/2`)?.state, 'open');
  devnet.nextBlock();
  await send([createLease(address, 4, prairie, 2)]);
  devnet.setFault('lease-closed', true);
  devnet.nextBlock();
  devnet.nextBlock();
  assert.equal(lease(2)?.state, 'closed');
  assert.equal(lease(2)?.reason, v1.LeaseClosedReason.lease_closed_reason_unstable);
  assert.equal(state.groups.get(`${address}/4/1`)?.state, 'paused');
  assert.equal(state.deployments.get(`${address}/4`)?.state, 'active', 'its funds stay locked');
  devnet.setFault('lease-closed', false);
  const start = v4.MsgStartGroup.fromPartial({ id: { owner: address, dseq: 4, gseq: 1 } });
  assert.equal((await send([akash('/akash.deployment.v1beta4.MsgStartGroup', start)])).code, 0);
  assert.equal(state.orders.get(`${address}/4/1/3`)?.state, 'open');
});

test('reclamation: only who offers the window may bid, and the lease runs on at its price until the deadline', async (t) => {
  const devnet = await openDevnet(t);
  const { client, address, send } = await openTenant(t, devnet);
  const order = await readSdl();
  const message = createDeployment(address, 6, order);
  const bytes = v4.MsgCreateDeployment.encode(message.value as v4.MsgCreateDeployment).finish();
  const withWindow = (seconds: bigint) => ({
    typeUrl: message.typeUrl,
    value: concatBytes(bytes, bytesField(5, durationField(1, seconds))),
  });
  const raw = (seconds: bigint) => ({ typeUrl: '/raw', value: withWindow(seconds) });
  client.registry.register('/raw', { encode: () => ({ finish: () => new Uint8Array() }) } as never);
  const registry = client.registry as unknown as { encodeAsAny: (one: EncodeObject) => unknown };
  const known = registry.encodeAsAny.bind(client.registry);
  registry.encodeAsAny = (one) => (one.typeUrl === '/raw' ? one.value : known(one));
  assert.match(
    (await send([raw(60n)])).rawLog,
    /min_window below governance minimum: invalid reclamation configuration/,
  );
  const created = await send([raw(7_200n)]);
  assert.equal(created.code, 0, created.rawLog);
  devnet.nextBlock();
  const { state } = devnet.chain;
  const fjord = providerNamed(devnet, 'fjord').address;
  assert.deepEqual(
    state.bids.values().map(({ id }) => id.provider),
    [fjord],
    'prairie offers no window',
  );
  await send([createLease(address, 6, fjord)]);
  devnet.setFault('reclamation-started', true);
  devnet.nextBlock();
  const { txs } = devnet.nextBlock();
  const key = bidKey({ owner: address, dseq: 6n, gseq: 1, oseq: 1, provider: fjord });
  const lease = state.leases.get(key);
  assert.equal(lease?.state, 'reclaiming');
  const deadline = BigInt(Math.floor(devnet.chain.timeMs / 1000)) + 86_400n;
  assert.ok((lease?.reclamation?.deadlineS ?? 0n) - deadline < 2n);
  assert.ok(txs[0]?.result.events.some(({ type }) => type === 'akash.market.v1.EventLeaseReclaimStarted'));
  const query = await openQueries(t, devnet);
  const raws = { decode: (reply: Uint8Array) => reply };
  const info = await query(
    'akash.market.v1beta5.Query/Lease',
    [v5.QueryLeaseRequest, { id: { ...lease?.id, bseq: 0 } }],
    raws,
  );
  const reclamation = lastField(lastField(info, 1)?.bytes ?? new Uint8Array(), 7);
  assert.equal(lastField(reclamation?.bytes ?? new Uint8Array(), 4)?.value, 10_001n);
  assert.equal((await send([closeDeployment(address, 6)])).code, 0);
  assert.equal(state.leases.get(key)?.state, 'closed');
});

test('certificates are created once, by their owner, and revoked once', async (t) => {
  const devnet = await openDevnet(t);
  const { address, send } = await openTenant(t, devnet);
  const own = createCertificate({ address, serial: 77n, nowMs: Date.now(), hosts: [] });
  const pem = (text: string) => Buffer.from(text);
  const create = (owner: string, cert = own) =>
    akash(
      '/akash.cert.v1.MsgCreateCertificate',
      v1.MsgCreateCertificate.fromPartial({ owner, cert: pem(cert.certPem), pubkey: pem(cert.pubkeyPem) }),
    );
  const other = createCertificate({ address: devnet.payer.address, serial: 78n, nowMs: Date.now(), hosts: [] });
  await assert.rejects(send([create(address, other)]), /CommonName does not match owner/);
  await assert.rejects(
    send([create(address, { ...own, pubkeyPem: other.pubkeyPem })]),
    /invalid certificate signature/,
  );
  assert.equal((await send([create(address)])).code, 0);
  assert.match((await send([create(address)])).rawLog, /certificate exists$/);
  const query = await openQueries(t, devnet);
  const list = () =>
    query(
      'akash.cert.v1.Query/Certificates',
      [v1.QueryCertificatesRequest, { filter: { owner: address, state: 'valid' } }],
      v1.QueryCertificatesResponse,
    );
  assert.equal((await list()).certificates[0]?.serial, '77');
  const revoke = akash(
    '/akash.cert.v1.MsgRevokeCertificate',
    v1.MsgRevokeCertificate.fromPartial({ id: { owner: address, serial: '77' } }),
  );
  assert.equal((await send([revoke])).code, 0);
  assert.equal((await list()).certificates.length, 0);
  assert.match((await send([revoke])).rawLog, /certificate already revoked$/);
});

test('only audited providers bid where a signature is asked for', async (t) => {
  const devnet = await openDevnet(t);
  const { address, send } = await openTenant(t, devnet);
  const order = await readSdl();
  const groups = order.groups.map((group) => ({
    ...group,
    requirements: { attributes: [], signedBy: { allOf: [], anyOf: [devnet.auditor] } },
  }));
  await send([createDeployment(address, 8, { ...order, groups })]);
  devnet.nextBlock();
  const bidders = devnet.chain.state.bids.values().map(({ id }) => id.provider);
  assert.deepEqual(bidders, [providerNamed(devnet, 'fjord').address]);
});
