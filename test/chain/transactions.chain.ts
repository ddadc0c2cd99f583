import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SimulateResponse } from 'cosmjs-types/cosmos/tx/v1beta1/service';
import { AuthInfo, TxBody, TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import { systemClock } from '../../src/clock.ts';
import type { SendOutcome, SignedTx } from '../../src/leases/akash/chain-types.ts';
import { USDC_DENOM } from '../../src/leases/akash/devnet/genesis.ts';
import { until } from '../fakes/clock.ts';
import { FUNDS, startCosmosChain, type CosmosChain } from './cosmos-chain.ts';
import { send } from './messages.ts';
import { broadcast, call, hashOf, included } from './node-rpc.ts';
import { chainTimeNs, numberOf, sign } from './signing.ts';
import { deposits, feesTo, newChain, noting, openTenant, paysFees, sendByHand, show } from './tenant.ts';

/** What signs, sends and follows Akash's transactions, on blocks of a real chain. Grants are the orders that it knows too. */

let node: CosmosChain;

before(async () => {
  node = await startCosmosChain(40);
});

after(() => node.stop());

test('a chain is opened, and says its blocks, its balances and who has an account', async (t) => {
  const { chain, wallet, keyring } = await openTenant(t, node);
  assert.equal(chain.head?.chainId, node.chainId);
  assert.ok((chain.head?.height ?? 0) >= 2);
  assert.equal(await chain.balanceUakt(wallet.address), FUNDS);
  assert.equal(await chain.balance(wallet.address), FUNDS);
  assert.equal(await chain.balanceUakt(keyring.wallet(5).address), 0n, 'of a wallet that the chain does not know');
  assert.equal(await paysFees(chain, wallet.address, keyring.wallet(5).address), false);
  assert.equal(await deposits(chain, wallet.address, keyring.wallet(5).address), null);
  await assert.rejects(chain.depositMin(), /unknown query path|was refused/, 'there is no module of Akash');
  const noted: SignedTx[] = [];
  const sent = await chain.send({ wallet: keyring.wallet(5), orders: [feesTo(keyring, 6)], note: noting(noted) });
  assert.ok(sent.kind === 'unknown' && /has no account/.test(sent.reason), show(sent));
  assert.deepEqual(noted, []);
  await until('there are blocks to measure', async () => ((await chain.refresh())?.height ?? 0) > 4, 60_000);
  const measured = await chain.blockMs();
  assert.ok(measured !== null && measured > 50, `${measured} ms`);
});

test('a transaction is unordered, pays its fee once and takes the gas that was simulated', async (t) => {
  const { chain, wallet, keyring, grant } = await openTenant(t, node);
  const noted: SignedTx[] = [];
  const sent = await grant(1, noted);
  assert.equal(sent.kind, 'done', show(sent));
  const [tx] = noted;
  assert.ok(sent.kind === 'done' && tx && noted.length === 1);
  assert.equal(sent.tx.hash, tx.hash);
  const raw = TxRaw.decode(Buffer.from(tx.bytesBase64, 'base64'));
  const { fee, signerInfos } = AuthInfo.decode(raw.authInfoBytes);
  assert.equal(TxBody.decode(raw.bodyBytes).unordered, true);
  assert.equal(signerInfos[0]?.sequence, 0n);
  assert.ok(fee && sent.tx.gasUsed < fee.gasLimit, 'a simulation of what is sent leaves its margin unused');
  assert.ok(sent.tx.gasUsed * 2n > fee.gasLimit, `${sent.tx.gasUsed} of ${fee.gasLimit}`);
  assert.equal(sent.tx.feeUakt, BigInt(fee.amount[0]?.amount ?? '0'));
  assert.equal(await chain.balanceUakt(wallet.address), FUNDS - sent.tx.feeUakt);
  assert.equal(await paysFees(chain, wallet.address, keyring.wallet(1).address), true, 'seen at once');
  const { result } = await call(node.rpcUrl, 'block', { height: String(sent.tx.height) });
  const { block } = result as { block: { data: { txs: string[] } } };
  assert.ok(block.data.txs.includes(tx.bytesBase64), 'these very bytes are in the block that is told');
});

test('many at once of one wallet all go in, for none waits for a sequence number', async (t) => {
  const { wallet, grant } = await openTenant(t, node);
  const outcomes = await Promise.all([1, 2, 3, 4, 5].map((index) => grant(index)));
  assert.deepEqual(
    outcomes.map(({ kind }) => kind),
    Array(5).fill('done'),
    outcomes.map(show).join('\n'),
  );
  const next = { wallet: node.account(), chainId: node.chainId };
  const accountNumber = await numberOf(node.rpcUrl, next.wallet.address);
  const messages = [send(next.wallet.address, wallet.address, 1n)];
  const ordered = [0n, 0n, 2n].map((sequence, at) =>
    sign({ ...next, accountNumber, messages, sequence, memo: String(at) }),
  );
  const codes: unknown[] = [];
  for (const tx of ordered) codes.push(((await broadcast(node.rpcUrl, tx)).result as { code: number }).code);
  assert.deepEqual(codes, [0, 32, 32], 'those with sequence numbers are refused when one is taken or missing');
});

test('what the chain would refuse is refused with its reason, before anything is signed', async (t) => {
  const { wallet, grant, chain, keyring } = await openTenant(t, node);
  assert.equal((await grant(1)).kind, 'done');
  const noted: SignedTx[] = [];
  const again = await grant(1, noted);
  assert.ok(again.kind === 'refused' && /fee allowance already exists/.test(again.reason), show(again));
  const past = { ...feesTo(keyring, 2), untilMs: systemClock.now() - 86_400_000 };
  const late = await chain.send({ wallet, orders: [past], note: noting(noted) });
  assert.ok(late.kind === 'refused' && /expir/.test(late.reason), show(late));
  const id = { owner: wallet.address, dseq: 1n };
  const strange = await chain.send({ wallet, orders: [{ type: 'close_deployment', id }], note: noting(noted) });
  assert.ok(strange.kind === 'refused' && /unable to resolve type URL/.test(strange.reason), show(strange));
  const unpaid = await chain.send({
    ...{ wallet, orders: [feesTo(keyring, 3)], note: noting(noted) },
    feeGranter: keyring.wallet(9).address,
  });
  assert.ok(unpaid.kind === 'refused' && /not found/.test(unpaid.reason), show(unpaid));
  assert.deepEqual(noted, []);
});

test('a wallet without AKT is told so, and nothing is sent', async (t) => {
  const { chain, keyring } = await openTenant(t, node);
  const [poor, rich] = [keyring.wallet(7), node.account()];
  await sendByHand(node, rich, [send(rich.address, poor.address, 5n, USDC_DENOM)]);
  const usdc = newChain(t, node, { denom: USDC_DENOM });
  assert.equal(await usdc.balance(poor.address), 5n);
  const noted: SignedTx[] = [];
  const sent = await chain.send({ wallet: poor, orders: [feesTo(keyring, 8, 7)], note: noting(noted) });
  assert.ok(sent.kind === 'refused' && /insufficient funds/.test(sent.reason), show(sent));
  assert.deepEqual(noted, []);
});

for (const [when, factor] of [
  ['before it is taken', 3n],
  ['only after it was included', 2n],
] as const) {
  test(`out of gas, seen ${when}, is signed again with more`, async (t) => {
    const { wallet, chain, grant, proxy } = await openTenant(t, node, { proxied: true });
    proxy.change = (_method, params, reply) => lessGas(params, reply, factor);
    const noted: SignedTx[] = [];
    const sent = await grant(1, noted);
    assert.ok(sent.kind === 'done', show(sent));
    assert.ok(noted.length >= 2, `${noted.length} transactions`);
    const outcomes = await Promise.all(noted.map((tx) => chain.outcomeOf(tx)));
    const failed = outcomes.flatMap((one) => (one.kind === 'included' && one.tx.code !== 0 ? [one.tx] : []));
    assert.ok(failed.every(({ code, log }) => code === 11 && /out of gas in location/.test(log)));
    if (factor === 2n) assert.ok(failed.length > 0, 'it was in a block');
    const paid = failed.reduce((sum, { feeUakt }) => sum + feeUakt, sent.tx.feeUakt);
    assert.equal(await chain.balanceUakt(wallet.address), FUNDS - paid, 'those in blocks were paid for');
  });
}

test('of two that exclude each other one happens; the other one is refused in its block and pays its fee', async (t) => {
  const { wallet, chain, grant } = await openTenant(t, node);
  const noted: SignedTx[] = [];
  // Both have been simulated when the first one is sent.
  const together = async (tx: SignedTx): Promise<void> => {
    noted.push(tx);
    await until('both are signed', () => noted.length === 2, 60_000);
  };
  const outcomes = await Promise.all([grant(1, together), grant(1, together)]);
  const refused = outcomes.flatMap((one) => (one.kind === 'refused' ? [one.reason] : []));
  assert.equal(outcomes.filter(({ kind }) => kind === 'done').length, 1, outcomes.map(show).join('\n'));
  assert.match(refused.join(), /message index: 0: fee allowance already exists/);
  const included = await Promise.all(noted.map((tx) => chain.outcomeOf(tx)));
  const fees = included.map((one) => (one.kind === 'included' ? one.tx.feeUakt : 0n));
  assert.ok(fees.every((fee) => fee > 0n));
  assert.equal(
    await chain.balanceUakt(wallet.address),
    fees.reduce((left, fee) => left - fee, FUNDS),
  );
});

test('the same bytes are taken once: while they wait, when they are in a block, and by resolving them', async (t) => {
  const { wallet, chain, grant } = await openTenant(t, node);
  const noted: SignedTx[] = [];
  const sent = await grant(1, noted);
  const [tx] = noted;
  assert.ok(sent.kind === 'done' && tx);
  const again = await broadcast(node.rpcUrl, Buffer.from(tx.bytesBase64, 'base64'));
  assert.match(JSON.stringify(again), /tx already exists in cache/);
  const resolved = await chain.resolve(tx);
  assert.deepEqual(resolved, { kind: 'included', tx: sent.tx });
  assert.equal(await chain.balanceUakt(wallet.address), FUNDS - sent.tx.feeUakt);
});

test('"already in cache" is sent, and so is one whose reply is lost: the hash tells', async (t) => {
  const { wallet, chain, grant, proxy } = await openTenant(t, node, { proxied: true });
  let lost = 0;
  proxy.change = (method, _params, reply) => {
    if (method !== 'broadcast_tx_sync') return reply;
    lost += 1;
    return null;
  };
  const sent = await grant(1);
  assert.ok(sent.kind === 'done' && lost === 1, show(sent));
  const told: string[] = [];
  proxy.change = (method, _params, reply) => (told.push(reply), method === 'broadcast_tx_sync' ? reply : reply);
  const second = await grant(2, async (tx) => {
    await broadcast(node.rpcUrl, Buffer.from(tx.bytesBase64, 'base64'));
  });
  assert.match(told.join(), /tx already exists in cache/);
  assert.ok(second.kind === 'done', show(second));
  assert.equal(await chain.balanceUakt(wallet.address), FUNDS - sent.tx.feeUakt - second.tx.feeUakt);
});

test('one that was noted and never sent is sent by resolving it, and one whose time is over never happens', async (t) => {
  const { chain, grant, wallet, open } = await openTenant(t, node);
  const noted: SignedTx[] = [];
  const dies = (tx: SignedTx): Promise<void> => {
    noted.push(tx);
    throw new Error('the process ended here');
  };
  await assert.rejects(grant(1, dies), /ended here/);
  const [tx] = noted;
  assert.ok(tx);
  assert.equal((await chain.outcomeOf(tx)).kind, 'pending');
  const resolved = await chain.resolve(tx);
  assert.ok(resolved.kind === 'included' && resolved.tx.code === 0);
  const hasty = await open({ lifeMs: 3_000 });
  await assert.rejects(hasty.grant(2, dies), /ended here/);
  const late = noted[1] ?? assert.fail();
  assert.equal((await hasty.chain.outcomeOf(late)).kind, 'pending');
  const fee = FUNDS - resolved.tx.feeUakt;
  for (;;) {
    const outcome = await hasty.chain.outcomeOf(late);
    if (outcome.kind === 'never') break;
    assert.equal(outcome.kind, 'pending');
    await systemClock.sleep(300);
  }
  const refused = await broadcast(node.rpcUrl, Buffer.from(late.bytesBase64, 'base64'));
  const { code, codespace } = refused.result as { code: number; codespace: string };
  assert.deepEqual([codespace, code], ['sdk', 42]);
  assert.equal((await hasty.chain.resolve(late)).kind, 'never');
  assert.equal(await chain.balanceUakt(wallet.address), fee);
});

test('a dead endpoint, one of another chain and one that forgets to answer are passed over', async (t) => {
  const { open, wallet } = await openTenant(t, node);
  const { chain, grant } = await open({ rpc: () => ['http://127.0.0.1:9', node.rpcUrl] });
  const first = await grant(1);
  assert.equal(first.kind, 'done', show(first));
  assert.deepEqual(
    chain.nodes().map(({ problem }) => problem !== null),
    [true, false],
  );
  const wrong = newChain(t, node, { chainId: 'akashnet-2' });
  await assert.rejects(wrong.open(), /is of the chain underbid-cosmos-1, not akashnet-2/);
  const both = await open({ rpc: (proxyUrl) => [proxyUrl, node.rpcUrl] });
  both.proxy.change = (method, _params, reply) => (method === 'broadcast_tx_sync' ? null : reply);
  const sent = await both.grant(2);
  assert.ok(sent.kind === 'done' && first.kind === 'done', show(sent));
  assert.ok(both.proxy.asked.includes('broadcast_tx_sync'), 'the one that lost it was told, then the other one');
  assert.equal(await chain.balanceUakt(wallet.address), FUNDS - first.tx.feeUakt - sent.tx.feeUakt, 'paid once');
});

test('a node that stands still leaves the outcome open, and its hash tells it later', async (t) => {
  const { chain, grant, wallet, open } = await openTenant(t, node, { lifeMs: 4_000, timeoutMs: 2_000 });
  const noted: SignedTx[] = [];
  const pid = node.process.pid ?? assert.fail();
  const frozen = (tx: SignedTx): Promise<void> => {
    noted.push(tx);
    process.kill(pid, 'SIGSTOP');
    return Promise.resolve();
  };
  let sent: SendOutcome;
  try {
    sent = await grant(1, frozen);
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  assert.equal(sent.kind, 'unknown', show(sent));
  const tx = noted[0] ?? assert.fail();
  let outcome = await chain.resolve(tx);
  for (let tries = 0; outcome.kind === 'pending' && tries < 20; tries += 1) outcome = await chain.resolve(tx);
  assert.notEqual(outcome.kind, 'pending');
  const fee = outcome.kind === 'included' ? outcome.tx.feeUakt : 0n;
  const patient = await open({});
  assert.equal(await patient.chain.balanceUakt(wallet.address), FUNDS - fee);
});

test('the time-out that tells unordered ones apart is checked by the chain', async (t) => {
  const { wallet } = await openTenant(t, node);
  const owner = node.account();
  const accountNumber = await numberOf(node.rpcUrl, owner.address);
  const nowNs = await chainTimeNs(node.rpcUrl);
  const of = (timeoutNs: bigint, memo = '') =>
    sign({
      ...{ wallet: owner, chainId: node.chainId, accountNumber, timeoutNs, memo },
      messages: [send(owner.address, wallet.address, 1n)],
    });
  const [timeoutNs, late] = [nowNs + 60_000_000_001n, nowNs + 660_000_000_000n];
  const first = of(timeoutNs);
  const check = async (tx: Uint8Array) => (await broadcast(node.rpcUrl, tx)).result as { code: number; log: string };
  assert.match((await check(of(late))).log, /unordered tx ttl exceeds 10m0s/);
  assert.equal((await check(first)).code, 0);
  assert.match((await check(of(timeoutNs, 'other'))).log, /already used timeout/);
  assert.equal((await check(of(timeoutNs + 1n))).code, 0, 'a nanosecond tells them apart');
  const { tx_result: result } = await included(node.rpcUrl, hashOf(first));
  assert.equal(result.code, 0);
  assert.match((await check(of(timeoutNs, 'other'))).log, /already used timeout/, 'in a block as well');
});

/** A simulation that says less than there is to pay, as one does whose state changes before the block. */
function lessGas(params: Readonly<Record<string, unknown>>, reply: string, factor: bigint): string {
  if (params['path'] !== '/cosmos.tx.v1beta1.Service/Simulate') return reply;
  const parsed = JSON.parse(reply) as { result: { response: { value: string } } };
  const { response } = parsed.result;
  const simulated = SimulateResponse.decode(Buffer.from(response.value, 'base64'));
  const gasUsed = (simulated.gasInfo?.gasUsed ?? 0n) / factor;
  const changed = SimulateResponse.fromPartial({ gasInfo: { gasUsed, gasWanted: 0n } });
  response.value = Buffer.from(SimulateResponse.encode(changed).finish()).toString('base64');
  return JSON.stringify(parsed);
}
