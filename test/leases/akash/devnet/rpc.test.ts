import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sha256 } from '@cosmjs/crypto';
import { toHex } from '@cosmjs/encoding';
import { StargateClient } from '@cosmjs/stargate';
import { Comet38Client, connectComet, HttpBatchClient } from '@cosmjs/tendermint-rpc';
import { TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import { createDeployment, FEE, openDevnet, openTenant, readSdl } from './setup.ts';

test('cosmjs takes it for a CometBFT 0.38 node and reads status, blocks and results', async (t) => {
  const devnet = await openDevnet(t);
  const { address, send } = await openTenant(t, devnet);
  const comet = await connectComet(devnet.rpcUrl);
  t.after(() => comet.disconnect());
  assert.ok(comet instanceof Comet38Client);
  const tx = await send([createDeployment(address, 1, await readSdl())]);
  const status = await comet.status();
  assert.equal(status.nodeInfo.network, devnet.chainId);
  assert.equal(status.syncInfo.latestBlockHeight, devnet.chain.height);
  assert.equal(status.syncInfo.catchingUp, false);
  const block = await comet.block(tx.height);
  assert.equal(toHex(sha256(block.block.txs[0] ?? new Uint8Array())).toUpperCase(), tx.hash);
  const results = await comet.blockResults(tx.height);
  assert.equal(results.results[0]?.code, 0);
  assert.equal(results.results[0]?.gasUsed, tx.gasUsed);
  assert.equal((await comet.abciInfo()).lastBlockHeight, devnet.chain.height);
  await comet.health();
  await assert.rejects(comet.block(9_999), /must be less than or equal to the current blockchain height/);
});

test('a batch of calls has its answers in order', async (t) => {
  const devnet = await openDevnet(t);
  const comet = Comet38Client.create(new HttpBatchClient(devnet.rpcUrl));
  // Its timer would hold the process open.
  t.after(() => comet.disconnect());
  const client = StargateClient.create(comet);
  const [chainId, height, nobody] = await Promise.all([
    client.getChainId(),
    client.getHeight(),
    client.getAccount('akash1qufa3xzrf34qvwyejkhvnc4psf49fftaw0asmh'),
  ]);
  assert.deepEqual([chainId, height, nobody], [devnet.chainId, devnet.chain.height, null]);
});

test('calls by GET are those by POST', async (t) => {
  const devnet = await openDevnet(t);
  const { client, address } = await openTenant(t, devnet);
  const get = async (path: string) =>
    (await (await fetch(`${devnet.rpcUrl}/${path}`)).json()) as {
      result?: Record<string, unknown>;
      error?: { data: string };
    };
  const bytes = TxRaw.encode(
    await client.sign(address, [createDeployment(address, 1, await readSdl())], FEE, ''),
  ).finish();
  const sent = await get(`broadcast_tx_sync?tx=0x${toHex(bytes)}`);
  assert.partialDeepStrictEqual(sent.result, { code: 0, hash: toHex(sha256(bytes)).toUpperCase() });
  assert.equal((await get(`broadcast_tx_sync?tx=0x${toHex(bytes)}`)).error?.data, 'tx already exists in cache');
  const hash = toHex(sha256(bytes));
  assert.match((await get(`tx?hash=0x${hash}`)).error?.data ?? '', /^tx \([0-9A-F]{64}\) not found$/);
  devnet.nextBlock();
  assert.partialDeepStrictEqual((await get(`tx?hash=0x${hash}`)).result, { tx_result: { code: 0 } });
  const query = encodeURIComponent(`"message.sender='${address}'"`);
  assert.equal((await get(`tx_search?query=${query}`)).result?.['total_count'], '1');
  assert.equal((await fetch(`${devnet.rpcUrl}/nothing`)).status, 404);
});

test('a commit waits for its block', async (t) => {
  const devnet = await openDevnet(t, { blockMs: 50 });
  const { client, address } = await openTenant(t, devnet);
  const comet = await connectComet(devnet.rpcUrl);
  t.after(() => comet.disconnect());
  const tx = TxRaw.encode(
    await client.sign(address, [createDeployment(address, 1, await readSdl())], FEE, ''),
  ).finish();
  const { checkTx, txResult, height } = await (comet as Comet38Client).broadcastTxCommit({ tx });
  assert.deepEqual([checkTx.code, txResult?.code], [0, 0]);
  assert.equal(height, (await client.getTx(toHex(sha256(tx)).toUpperCase()))?.height);
});

test('what is no request, or too much of one, gets an error and nothing else breaks', async (t) => {
  const devnet = await openDevnet(t);
  const post = async (body: string) => {
    const reply = await fetch(devnet.rpcUrl, { method: 'POST', body });
    return (await reply.json()) as { error?: { code: number } };
  };
  assert.equal((await post('{')).error?.code, -32700);
  assert.equal((await post('5')).error?.code, -32601);
  assert.equal((await post('{"method":"tx","params":{}}')).error?.code, -32602);
  assert.equal(
    (await post('{"method":"broadcast_tx_sync","params":{"tx":"AAAA"}}')).error,
    undefined,
    'a code in the result',
  );
  const big = JSON.stringify({ method: 'health', params: { fill: 'x'.repeat(5_000_000) } });
  const refused = await post(big).catch((error: unknown) => error);
  assert.ok(refused instanceof Error || (refused as { error?: unknown }).error !== undefined);
  assert.equal((await post('{"method":"health"}')).error, undefined);
});
