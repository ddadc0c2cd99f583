import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as v1 from '@akashnetwork/chain-sdk/private-types/akash.v1';
import * as v4 from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { sha256 } from '@cosmjs/crypto';
import { toHex } from '@cosmjs/encoding';
import {
  coins,
  DirectSecp256k1HdWallet,
  encodePubkey,
  makeAuthInfoBytes,
  makeSignDoc,
  type EncodeObject,
} from '@cosmjs/proto-signing';
import { encodeSecp256k1Pubkey } from '@cosmjs/amino';
import { BroadcastTxError } from '@cosmjs/stargate';
import { SimulateRequest, SimulateResponse } from 'cosmjs-types/cosmos/tx/v1beta1/service';
import { TxBody, TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import type { Devnet } from '../../../../src/leases/akash/devnet/network.ts';
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
  registry,
  uact,
} from './setup.ts';

interface Parts {
  readonly messages: readonly EncodeObject[];
  readonly sequence?: number;
  readonly chainId?: string;
  readonly accountNumber?: number;
  readonly mnemonic?: string;
  readonly body?: Partial<TxBody>;
  readonly fee?: typeof FEE;
  readonly granter?: string;
}

/** A transaction signed by hand, as right or as wrong as a test wants it. */
async function sign(devnet: Devnet, parts: Parts): Promise<Uint8Array> {
  const wallet = await DirectSecp256k1HdWallet.fromMnemonic(devnet.tenant.mnemonic, { prefix: 'akash' });
  const other =
    parts.mnemonic === undefined
      ? wallet
      : await DirectSecp256k1HdWallet.fromMnemonic(parts.mnemonic, { prefix: 'akash' });
  const [account] = await wallet.getAccounts();
  const [signer] = await other.getAccounts();
  assert.ok(account && signer);
  const known = devnet.chain.state.accounts.get(account.address);
  const fee = parts.fee ?? FEE;
  const pubkey = encodePubkey(encodeSecp256k1Pubkey(account.pubkey));
  const sequence = parts.sequence ?? Number(known?.sequence ?? 0);
  const authInfo = makeAuthInfoBytes([{ pubkey, sequence }], fee.amount, Number(fee.gas), parts.granter, undefined);
  const messages = parts.messages.map((message) => registry.encodeAsAny(message));
  const body = TxBody.encode(TxBody.fromPartial({ messages, ...parts.body })).finish();
  const number = parts.accountNumber ?? Number(known?.number ?? 0);
  const doc = makeSignDoc(body, authInfo, parts.chainId ?? devnet.chainId, number);
  const { signature } = await other.signDirect(signer.address, doc);
  return TxRaw.encode({
    bodyBytes: doc.bodyBytes,
    authInfoBytes: doc.authInfoBytes,
    signatures: [Buffer.from(signature.signature, 'base64')],
  }).finish();
}

const send = (from: string, to: string, amount = 5): EncodeObject => ({
  typeUrl: '/cosmos.bank.v1beta1.MsgSend',
  value: { fromAddress: from, toAddress: to, amount: coins(amount, 'uakt') },
});

async function refusal(work: Promise<unknown>): Promise<string> {
  const error: unknown = await work.then(
    () => new Error('it was taken'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof BroadcastTxError, String(error));
  return `${error.codespace}/${error.code} ${error.log}`;
}

test('a signature has to be by the right key, over the right chain, number and sequence', async (t) => {
  const { devnet, client, address } = await open(t);
  const messages = [send(address, devnet.payer.address)];
  const tried = async (parts: Omit<Parts, 'messages'>) =>
    refusal(client.broadcastTxSync(await sign(devnet, { messages, ...parts })));
  assert.match(
    await tried({ chainId: 'akashnet-2' }),
    /^sdk\/4 signature verification failed; please verify account number/,
  );
  assert.match(await tried({ accountNumber: 99 }), /^sdk\/4 signature verification failed/);
  assert.match(await tried({ mnemonic: devnet.payer.mnemonic }), /^sdk\/4 signature verification failed/);
  assert.equal(
    await tried({ sequence: 5 }),
    'sdk/32 account sequence mismatch, expected 0, got 5: incorrect account sequence',
  );
  await client.broadcastTxSync(await sign(devnet, { messages }));
  const next = await tried({ body: { memo: 'another' } });
  assert.match(next, /^sdk\/32 account sequence mismatch, expected 1, got 0/, 'one that waits counts');
  await client.broadcastTxSync(await sign(devnet, { messages, sequence: 1 }));
  assert.equal(devnet.nextBlock().txs.length, 2);
});

test('fee, memo, gas and message types are checked, each with the code of the SDK', async (t) => {
  const { devnet, client, address } = await open(t);
  const messages = [send(address, devnet.payer.address)];
  const tried = async (parts: Partial<Parts>) =>
    refusal(client.broadcastTxSync(await sign(devnet, { messages, ...parts })));
  const cheap = { amount: coins(100, 'uakt'), gas: '200000' };
  assert.equal(
    await tried({ fee: cheap }),
    'sdk/13 insufficient fees; got: 100uakt required: 500uakt: insufficient fee',
  );
  assert.match(await tried({ fee: { amount: coins(500, 'uact'), gas: '200000' } }), /^sdk\/13 /);
  assert.match(
    await tried({ body: { memo: 'm'.repeat(257) } }),
    /^sdk\/12 maximum number of characters is 256 but received 257/,
  );
  const rich = { amount: coins('99999999999999', 'uakt'), gas: '200000' };
  assert.match(await tried({ fee: rich }), /^sdk\/5 spendable balance .* insufficient funds$/);
  assert.match(await tried({ fee: { amount: coins(100, 'uakt'), gas: '20000' } }), /^sdk\/11 out of gas in location/);
  const unknown = { typeUrl: '/cosmos.gov.v1.MsgVote', value: new Uint8Array() };
  const bytes = TxRaw.encode({
    bodyBytes: TxBody.encode(TxBody.fromPartial({ messages: [unknown] })).finish(),
    authInfoBytes: makeAuthInfoBytes([], [], 1, undefined, undefined),
    signatures: [],
  }).finish();
  assert.match(await refusal(client.broadcastTxSync(bytes)), /^sdk\/2 unable to resolve type URL/);
  // Enough for the checks, too little for the message: the fee is gone and the sequence is used.
  const before = BigInt((await client.getBalance(address, 'uakt')).amount);
  const hash = await client.broadcastTxSync(
    await sign(devnet, { messages, fee: { amount: coins(1000, 'uakt'), gas: '45000' } }),
  );
  devnet.nextBlock();
  const tx = await client.getTx(hash);
  assert.equal(tx?.code, 11);
  assert.equal(BigInt((await client.getBalance(address, 'uakt')).amount), before - 1000n);
  assert.equal((await client.getSequence(address)).sequence, 1);
});

test('unordered transactions have a time-out instead of a sequence, and none twice', async (t) => {
  const { devnet, client, address } = await open(t);
  const messages = [send(address, devnet.payer.address)];
  const nowS = BigInt(Math.floor(devnet.chain.timeMs / 1000));
  const at = (seconds: bigint, nanos = 0) => ({ unordered: true, timeoutTimestamp: { seconds, nanos } });
  const tried = async (parts: Partial<Parts>) =>
    refusal(client.broadcastTxSync(await sign(devnet, { messages, ...parts })));
  assert.match(
    await tried({ sequence: 0, body: { unordered: true } }),
    /^sdk\/18 unordered transaction must have timeout_timestamp set/,
  );
  assert.match(await tried({ body: at(nowS - 10n) }), /^sdk\/42 block time: .* timeout timestamp: .*: tx timeout$/);
  assert.match(await tried({ body: at(nowS + 700n) }), /^sdk\/18 unordered tx ttl exceeds 10m0s/);
  assert.match(await tried({ sequence: 3, body: at(nowS + 30n) }), /^sdk\/18 sequence is not allowed/);
  const first = await sign(devnet, { messages, body: at(nowS + 30n, 1) });
  await client.broadcastTxSync(first);
  await assert.rejects(client.broadcastTxSync(first), /tx already exists in cache/);
  assert.match(
    await tried({ body: { ...at(nowS + 30n, 1), memo: 'again' } }),
    /^sdk\/18 failed to add unordered nonce/,
  );
  await client.broadcastTxSync(await sign(devnet, { messages, body: at(nowS + 30n, 2) }));
  const { txs } = devnet.nextBlock();
  assert.deepEqual(
    txs.map(({ result }) => result.code),
    [0, 0],
  );
  assert.equal((await client.getSequence(address)).sequence, 0);
  assert.match(await tried({ body: { ...at(nowS + 30n, 1), memo: 'again' } }), /already used timeout/);
  await assert.rejects(client.broadcastTxSync(first), /tx already exists in cache/);
  assert.equal((await client.getTx(toHex(sha256(first)).toUpperCase()))?.code, 0);
});

test('a simulation of the very bytes says the gas that the block takes', async (t) => {
  const { devnet, client, address } = await open(t);
  const order = await readSdl();
  const messages = [createDeployment(address, 9, order)];
  const query = await openQueries(t, devnet);
  const txBytes = await sign(devnet, { messages });
  const simulated = await query('cosmos.tx.v1beta1.Service/Simulate', [SimulateRequest, { txBytes }], SimulateResponse);
  const hash = await client.broadcastTxSync(txBytes);
  devnet.nextBlock();
  assert.equal((await client.getTx(hash))?.gasUsed, simulated.gasInfo?.gasUsed);
  // cosmjs' own leaves the fee out, so it counts less.
  const less = await client.simulate(address, [createDeployment(address, 10, order)], '');
  assert.ok(less < Number(simulated.gasInfo?.gasUsed));
  await assert.rejects(client.simulate(address, [createDeployment(address, 9, order)], ''), /Deployment exists/);
});

test("deployments are refused with the module's own codes", async (t) => {
  const { devnet, client, address } = await open(t);
  const order = await readSdl();
  const broadcast = (message: EncodeObject) => refusal(client.signAndBroadcastSync(address, [message], FEE));
  const short = { ...order, hash: order.hash.slice(1) };
  assert.equal(await broadcast(createDeployment(address, 1, short)), 'deployment/10 Invalid: deployment hash');
  assert.equal(await broadcast(createDeployment(address, 0, order)), 'deployment/8 Invalid: deployment id');
  const [group] = order.groups;
  assert.ok(group);
  const priced = (denom: string, amount: string) => ({
    ...order,
    groups: [{ ...group, resources: group.resources.map((unit) => ({ ...unit, price: { denom, amount } })) }],
  });
  assert.match(
    await broadcast(createDeployment(address, 1, priced('uakt', '10000'))),
    /^deployment\/20 Mismatched denominations \(uact != uakt\)/,
  );
  assert.match(
    await broadcast(createDeployment(address, 1, priced('uact', '10000001'))),
    /^undefined\/1 group .*invalid unit price/,
  );
  const run = async (message: EncodeObject) => {
    const { code, rawLog } = await devnetSend(devnet, client, address, [message]);
    return `${code} ${rawLog}`;
  };
  const index = 'failed to execute message; message index: 0:';
  assert.equal(
    await run(createDeployment(address, 1, order, uact(499_999))),
    `20 ${index} Deposit too low - 499999 < 500000uact: Deposit invalid`,
  );
  const usdc = { denom: devnet.usdcDenom, amount: '5000000' };
  assert.equal(
    await run(createDeployment(address, 1, priced(usdc.denom, '10000'), usdc)),
    `20 ${index} Deposit invalid: Invalid deposit denomination ${usdc.denom}`,
  );
  const akt = { denom: 'uakt', amount: '5000000' };
  assert.equal(await run(createDeployment(address, 1, priced('uakt', '10000'), akt)), `20 ${index} Deposit invalid`);
  assert.equal(
    await run(createDeployment(address, 1, order, uact(10n ** 15n))),
    `28 ${index} deposit invalid: insufficient balance`,
  );
  assert.equal(await run(createDeployment(address, 1, order)), '0 ');
  assert.equal(await run(createDeployment(address, 1, order)), `3 ${index} Deployment exists`);
  assert.equal(await run(closeDeployment(address, 2)), `4 ${index} Deployment not found`);
  const prairie = providerNamed(devnet, 'prairie').address;
  assert.equal(
    await run(createLease(address, 1, providerNamed(devnet, 'summit').address)),
    `18 ${index} invalid bid: bid not found`,
  );
  assert.equal(await run(createLease(address, 1, prairie)), '0 ');
  assert.equal(await run(createLease(address, 1, prairie)), `12 ${index} bid not open`);
  assert.equal(await run(createLease(address, 1, providerNamed(devnet, 'fjord').address)), `12 ${index} bid not open`);
  assert.equal(await run(closeDeployment(address, 1)), '0 ');
  assert.equal(await run(closeDeployment(address, 1)), `5 ${index} Deployment closed`);
  const deposit = v1.MsgAccountDeposit.fromPartial({
    signer: address,
    id: { scope: v1.Scope.deployment, xid: `${address}/1` },
    deposit: { amount: uact(1), sources: [v1.Source.balance] },
  });
  assert.equal(
    await run({ typeUrl: '/akash.escrow.v1.MsgAccountDeposit', value: deposit }),
    `2 ${index} account closed`,
  );
});

test('events carry what clients look for, and the index finds transactions by them', async (t) => {
  const { devnet, client, address } = await open(t);
  const tx = await devnetSend(devnet, client, address, [createDeployment(address, 3, await readSdl())]);
  const order = tx.events.find(({ type }) => type === 'akash.market.v1.EventOrderCreated');
  const id = order?.attributes.find(({ key }) => key === 'id')?.value ?? '';
  assert.deepEqual(JSON.parse(id), { owner: address, dseq: '3', gseq: 1, oseq: 1 });
  const action = `message.action='/${v4.MsgCreateDeployment.$type}'`;
  const found = await client.searchTx(`${action} AND tx.height=${tx.height}`);
  assert.deepEqual(
    found.map(({ hash }) => hash),
    [tx.hash],
  );
  assert.equal((await client.searchTx(`${action} AND tx.height>${tx.height}`)).length, 0);
  const block = await client.getBlock(tx.height);
  assert.equal(block.txs.length, 1);
});

async function open(t: TestContext) {
  const devnet = await openDevnet(t);
  const { client, address } = await openTenant(t, devnet);
  return { devnet, client, address };
}

async function devnetSend(
  devnet: Devnet,
  client: Awaited<ReturnType<typeof openTenant>>['client'],
  address: string,
  messages: readonly EncodeObject[],
) {
  const hash = await client.signAndBroadcastSync(address, messages, FEE);
  devnet.nextBlock();
  // Bids on what is new come with the next one.
  devnet.nextBlock();
  const tx = await client.getTx(hash);
  assert.ok(tx);
  return tx;
}
