import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { MsgTransfer } from 'cosmjs-types/ibc/applications/transfer/v1/tx';
import { Order, State } from 'cosmjs-types/ibc/core/channel/v1/channel';
import {
  MsgChannelOpenAck,
  MsgChannelOpenConfirm,
  MsgChannelOpenInit,
  MsgChannelOpenTry,
  MsgRecvPacket,
} from 'cosmjs-types/ibc/core/channel/v1/tx';
import { FUNDS, startCosmosChain, type CosmosChain } from './cosmos-chain.ts';
import { send } from './messages.ts';
import { broadcast, call, hashOf, included, type TxReply } from './node-rpc.ts';
import { chainTimeNs, numberOf, sign, type AnyMessage } from './signing.ts';
import { newChain } from './tenant.ts';

/** Coins of another chain: made by ibc-go's own transfer module, over a channel of this chain to itself. */

let node: CosmosChain;

before(async () => {
  node = await startCosmosChain(4);
});

after(() => node.stop());

type Account = ReturnType<CosmosChain['account']>;

test('a coin that came over IBC is a denom of its own, which our client counts to the last unit and can send on', async (t) => {
  const [payer, tenant] = [node.account(), node.account()];
  const [ours, theirs] = await openChannel(payer);
  const amount = 123_456_789n;
  const transfer = MsgTransfer.fromPartial({
    ...{ sourcePort: PORT, sourceChannel: ours, token: { denom: 'uact', amount: String(amount) } },
    ...{ sender: payer.address, receiver: tenant.address },
    timeoutTimestamp: (await chainTimeNs(node.rpcUrl)) + 600_000_000_000n,
  });
  // ACT is not to be sent on Akash, neither over IBC.
  const refused = await run(payer, { typeUrl: MsgTransfer.typeUrl, value: MsgTransfer.encode(transfer).finish() });
  assert.notEqual(refused.tx_result.code, 0);
  assert.match(refused.tx_result.log, /uact transfers are currently disabled/);

  const akt = { ...transfer, token: { denom: 'uakt', amount: String(amount) } };
  const sent = await run(payer, { typeUrl: MsgTransfer.typeUrl, value: MsgTransfer.encode(akt).finish() });
  assert.equal(sent.tx_result.code, 0, sent.tx_result.log);
  const packet = {
    sequence: BigInt(attribute(sent, 'send_packet', 'packet_sequence')),
    ...{ sourcePort: PORT, sourceChannel: ours, destinationPort: PORT, destinationChannel: theirs },
    data: Buffer.from(attribute(sent, 'send_packet', 'packet_data_hex'), 'hex'),
    timeoutTimestamp: transfer.timeoutTimestamp,
  };
  const came = MsgRecvPacket.fromPartial({
    packet,
    proofCommitment: PROOF,
    proofHeight: HEIGHT,
    signer: payer.address,
  });
  const taken = await run(payer, { typeUrl: MsgRecvPacket.typeUrl, value: MsgRecvPacket.encode(came).finish() });
  assert.equal(taken.tx_result.code, 0, taken.tx_result.log);

  const denom = `ibc/${createHash('sha256').update(`${PORT}/${theirs}/uakt`).digest('hex').toUpperCase()}`;
  const chain = newChain(t, node, { denom });
  await chain.open();
  assert.equal(await chain.balance(tenant.address), amount, denom);
  assert.equal(await chain.balanceUakt(tenant.address), FUNDS, 'it is no AKT of its own');
  const onward = await run(tenant, send(tenant.address, payer.address, 1_000_001n, denom));
  assert.equal(onward.tx_result.code, 0, onward.tx_result.log);
  await chain.refresh();
  chain.demandFresh();
  assert.deepEqual(
    [await chain.balance(tenant.address), await chain.balance(payer.address)],
    [amount - 1_000_001n, 1_000_001n],
  );
  assert.match(await metadataOf(denom), new RegExp(`${PORT}/${theirs}/uakt`), 'and the bank knows where it is from');
});

const PORT = 'transfer';
const CONNECTION = 'connection-localhost';
/** What the client of this very chain takes for a proof (ibc-go: 09-localhost, SentinelProof). */
const PROOF = new Uint8Array([1]);
const HEIGHT = { revisionNumber: 1n, revisionHeight: 1n };
const VERSION = 'ics20-1';

/** From this chain to itself; both its ends. */
async function openChannel(signer: Account): Promise<readonly [string, string]> {
  const from = { signer: signer.address };
  const channel = (state: State, channelId: string) => ({
    ...{ state, ordering: Order.ORDER_UNORDERED, connectionHops: [CONNECTION], version: VERSION },
    counterparty: { portId: PORT, channelId },
  });
  const init = MsgChannelOpenInit.fromPartial({ ...from, portId: PORT, channel: channel(State.STATE_INIT, '') });
  const begun = await must(signer, MsgChannelOpenInit.typeUrl, MsgChannelOpenInit.encode(init).finish());
  const ours = attribute(begun, 'channel_open_init', 'channel_id');
  const proof = { proofHeight: HEIGHT };
  const attempt = MsgChannelOpenTry.fromPartial({
    ...{ ...from, ...proof, portId: PORT, channel: channel(State.STATE_TRYOPEN, ours), counterpartyVersion: VERSION },
    proofInit: PROOF,
  });
  const tried = await must(signer, MsgChannelOpenTry.typeUrl, MsgChannelOpenTry.encode(attempt).finish());
  const theirs = attribute(tried, 'channel_open_try', 'channel_id');
  const ack = MsgChannelOpenAck.fromPartial({
    ...{ ...from, ...proof, portId: PORT, channelId: ours, counterpartyChannelId: theirs, proofTry: PROOF },
    counterpartyVersion: VERSION,
  });
  await must(signer, MsgChannelOpenAck.typeUrl, MsgChannelOpenAck.encode(ack).finish());
  const confirm = MsgChannelOpenConfirm.fromPartial({
    ...from,
    ...proof,
    portId: PORT,
    channelId: theirs,
    proofAck: PROOF,
  });
  await must(signer, MsgChannelOpenConfirm.typeUrl, MsgChannelOpenConfirm.encode(confirm).finish());
  return [ours, theirs];
}

async function must(signer: Account, typeUrl: string, value: Uint8Array): Promise<TxReply> {
  const reply = await run(signer, { typeUrl, value });
  assert.equal(reply.tx_result.code, 0, `${typeUrl}: ${reply.tx_result.log}`);
  return reply;
}

async function run(wallet: Account, message: AnyMessage): Promise<TxReply> {
  const accountNumber = await numberOf(node.rpcUrl, wallet.address);
  const timeoutNs = (await chainTimeNs(node.rpcUrl)) + 60_000_000_000n;
  const { chainId } = node;
  const tx = sign({
    wallet,
    chainId,
    accountNumber,
    messages: [message],
    timeoutNs,
    gas: 1_000_000n,
    feeUakt: 25_000n,
  });
  const checked = (await broadcast(node.rpcUrl, tx)).result as { code: number; log: string };
  assert.equal(checked.code, 0, checked.log);
  return included(node.rpcUrl, hashOf(tx));
}

function attribute({ tx_result: { events } }: TxReply, type: string, key: string): string {
  const found = events.find((event) => event.type === type) as
    { attributes?: { key: string; value: string }[] } | undefined;
  const value = found?.attributes?.find((one) => one.key === key)?.value;
  assert.ok(value !== undefined, `${type} has no ${key}`);
  return value;
}

/** What the bank says of a denom, with whatever else is in the reply. */
async function metadataOf(denom: string): Promise<string> {
  const name = Buffer.from(denom);
  const data = Buffer.concat([Buffer.of(0x0a, name.length), name]).toString('hex');
  const { result } = await call(node.rpcUrl, 'abci_query', { path: '/cosmos.bank.v1beta1.Query/DenomMetadata', data });
  const { response } = result as { response: { value: string | null; log: string } };
  assert.ok(response.value, response.log);
  return Buffer.from(response.value, 'base64').toString('latin1');
}
