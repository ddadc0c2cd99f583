import assert from 'node:assert/strict';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { AuthInfo, TxBody, TxRaw } from 'cosmjs-types/cosmos/tx/v1beta1/tx';
import { Agent, request } from 'undici';
import type { Chain, ChainOptions } from '../../../src/leases/akash/chain.ts';
import type { Order, SendOutcome, SignedTx } from '../../../src/leases/akash/chain-types.ts';
import { OwnKeyring, type Wallet } from '../../../src/leases/akash/chain-wallet.ts';
import type { FaultName } from '../../../src/leases/akash/devnet/faults.ts';
import type { Devnet } from '../../../src/leases/akash/devnet/network.ts';
import { groupSpecOf, HTTP_DEFAULTS } from '../../../src/leases/akash/sdl.ts';
import { until } from '../../fakes/clock.ts';
import { openDevnet } from './devnet/setup.ts';
import { newChain } from './market-bench.ts';

const MNEMONIC =
  'addict worth drip violin note olive final pelican perfect feel goat game horror brass fence deposit dutch improve setup stuff frost spirit smart alien';

test('derives the account that Akash derives, and more of them', async () => {
  const keyring = await OwnKeyring.open(MNEMONIC);
  assert.equal(keyring.wallet(0).address, 'akash1qufa3xzrf34qvwyejkhvnc4psf49fftaw0asmh');
  assert.notEqual(keyring.wallet(1).address, keyring.wallet(0).address);
  const json = await OwnKeyring.open(JSON.stringify({ mnemonic: MNEMONIC }));
  assert.equal(json.wallet(5).address, keyring.wallet(5).address);
  const single = await OwnKeyring.open('11'.repeat(32));
  assert.equal(single.derives, false);
  assert.throws(() => single.wallet(1), /no derived wallets/);
});

test('no key is in what is printed, logged or thrown', async () => {
  const keyring = await OwnKeyring.open(MNEMONIC);
  const wallet = keyring.wallet(0);
  for (const shown of [
    inspect(keyring, { depth: 9, showHidden: true }),
    JSON.stringify({ keyring, wallet }),
    String(keyring),
    inspect(wallet, { depth: 9, showHidden: true }),
  ]) {
    assert.doesNotMatch(shown, /addict|Uint8Array/);
  }
  await assert.rejects(OwnKeyring.open('addict worth nothing'), (error: Error) => !/addict|worth/.test(error.message));
});

test('a transaction is unordered, has its time and its fee, and is noted before it is sent', async (t) => {
  const bench = await openBench(t);
  const heights: number[] = [];
  const sent = await bench.create(1n, (tx) => {
    bench.noted.push(tx);
    heights.push(bench.devnet.chain.height);
    assert.equal(bench.devnet.chain.tx(tx.hash), undefined);
    return Promise.resolve();
  });
  assert.equal(sent.kind, 'done');
  const [tx] = bench.noted;
  assert.ok(tx && sent.kind === 'done');
  assert.equal(tx.hash, sent.tx.hash);
  const raw = TxRaw.decode(Buffer.from(tx.bytesBase64, 'base64'));
  const body = TxBody.decode(raw.bodyBytes);
  assert.equal(body.unordered, true);
  assert.ok(body.timeoutTimestamp && Number(body.timeoutTimestamp.seconds) * 1000 <= tx.timeoutMs);
  const { fee, signerInfos } = AuthInfo.decode(raw.authInfoBytes);
  assert.equal(signerInfos[0]?.sequence, 0n);
  assert.ok(fee && fee.gasLimit > sent.tx.gasUsed, 'with a margin on what a simulation says');
  assert.equal(sent.tx.feeUakt, BigInt(fee.amount[0]?.amount ?? '0'));
  const deployment = await bench.chain.deployment({ owner: bench.wallet.address, dseq: 1n });
  assert.deepEqual(
    [deployment?.state, deployment?.groupName, deployment?.escrow.funds],
    ['active', 'underbid-o', 500_000n],
  );
});

test('many transactions at once of one wallet all go through', async (t) => {
  const bench = await openBench(t);
  const outcomes = await Promise.all([1n, 2n, 3n, 4n, 5n].map((dseq) => bench.create(dseq)));
  assert.deepEqual(
    outcomes.map(({ kind }) => kind),
    Array(5).fill('done'),
  );
});

test('what the chain would refuse is refused before anything is signed', async (t) => {
  const bench = await openBench(t);
  for (const [change, why] of [
    [{ deposit: 1n }, /deposit/i],
    [{ deposit: 10n ** 15n }, /insufficient|funds/i],
    [{ denom: 'uakt' }, /denom|invalid/i],
  ] as const) {
    const sent = await bench.create(9n, undefined, change);
    assert.ok(sent.kind === 'refused' && why.test(sent.reason), JSON.stringify(sent, stringify));
  }
  assert.deepEqual(bench.noted, []);
});

test('out of gas after it was included is signed again with more', async (t) => {
  const bench = await openBench(t, { faults: ['out-of-gas'] });
  const sent = await bench.create(1n);
  assert.equal(sent.kind, 'done', JSON.stringify(sent, stringify));
  assert.ok(bench.noted.length >= 2, `${bench.noted.length} transactions`);
  const [first] = bench.noted;
  assert.ok(first);
  const earlier = await bench.chain.outcomeOf(first);
  assert.ok(earlier.kind === 'included' && earlier.tx.code === 11);
});

test('"already in cache" is taken as sent', async (t) => {
  const bench = await openBench(t, { faults: ['already-in-cache'] });
  assert.equal((await bench.create(1n)).kind, 'done');
  assert.equal(bench.noted.length, 1);
});

test('a chain that stands still leaves the outcome unknown, and its hash tells it later: sent once', async (t) => {
  const bench = await openBench(t, { lifeMs: 300 });
  bench.devnet.setFault('chain-stalled', true);
  const sent = await bench.create(1n);
  assert.equal(sent.kind, 'unknown');
  const [tx] = bench.noted;
  assert.ok(tx && bench.noted.length === 1);
  const before = await bench.chain.balanceUakt(bench.wallet.address);
  bench.devnet.setFault('chain-stalled', false);
  const outcome = await bench.chain.resolve(tx);
  assert.notEqual(outcome.kind, 'pending');
  const paid = before - (await bench.chain.balanceUakt(bench.wallet.address));
  assert.equal(outcome.kind === 'included' ? outcome.tx.feeUakt : 0n, paid, 'too late in its block: it pays nothing');
  // Too late: it is in no block, or in one with an error. Either way what is told is what the chain has.
  const told = outcome.kind === 'included' && outcome.tx.code === 0;
  const there = await bench.chain.deployment({ owner: bench.wallet.address, dseq: 1n });
  assert.equal(there !== null, told);
  if (told) return;
  const patient = newChain(bench.devnet, { ...bench.options, lifeMs: 5000 });
  await patient.open();
  const again = await bench.create(1n, undefined, { chain: patient });
  assert.equal(again.kind, 'done', 'so that it can be done again');
});

test('one that was never sent is sent by resolving it; one whose time is over never happened', async (t) => {
  const bench = await openBench(t);
  const note = (tx: SignedTx): Promise<void> => {
    bench.noted.push(tx);
    throw new Error('the process ended here');
  };
  await assert.rejects(bench.create(1n, note), /ended here/);
  const [tx] = bench.noted;
  assert.ok(tx);
  assert.equal((await bench.chain.outcomeOf(tx)).kind, 'pending');
  const resolved = await bench.chain.resolve(tx);
  assert.ok(resolved.kind === 'included' && resolved.tx.code === 0);
  assert.equal((await bench.chain.resolve(tx)).kind, 'included', 'and again');
  const late = { ...tx, hash: 'AB'.repeat(32), timeoutMs: Date.now() - 60_000 };
  assert.equal((await bench.chain.outcomeOf(late)).kind, 'never');
});

test('a reply that is lost on the way changes nothing: the hash tells', async (t) => {
  const bench = await openBench(t, { proxied: true });
  bench.proxy.loses = 'broadcast_tx_sync';
  const sent = await bench.create(1n);
  assert.equal(sent.kind, 'done', JSON.stringify(sent, stringify));
  assert.equal(bench.noted.length, 1);
});

test('a node that is down, one that lags and one of another chain are passed over', async (t) => {
  const bench = await openBench(t, { proxied: true, rpc: (own) => ['http://127.0.0.1:9', ...own] });
  assert.equal((await bench.create(1n)).kind, 'done');
  const problems = bench.chain.nodes().map(({ problem }) => problem !== null);
  assert.deepEqual(problems, [true, false]);
  bench.proxy.network = 'another-1';
  const wrong = newChain(bench.devnet, { ...bench.options, rpc: [bench.proxy.url], chainId: 'underbid-devnet-1' });
  await assert.rejects(wrong.open(), /of the chain another-1, not underbid-devnet-1/);
  const both = newChain(bench.devnet, {
    ...bench.options,
    rpc: [bench.proxy.url, bench.devnet.rpcUrl],
    chainId: 'underbid-devnet-1',
  });
  await both.open();
  assert.equal((await both.deployment({ owner: bench.wallet.address, dseq: 1n }))?.state, 'active');
});

test('an answer older than what is known is asked for elsewhere, never believed', async (t) => {
  const bench = await openBench(t, { proxied: true });
  bench.proxy.heightOfQueries = '1';
  const sent = await bench.create(1n);
  assert.equal(sent.kind, 'done');
  await assert.rejects(bench.chain.deployment({ owner: bench.wallet.address, dseq: 1n }), /no node has block/);
});

test('an endless answer and a silent node are given up', async (t) => {
  const bench = await openBench(t, { proxied: true });
  bench.proxy.loses = 'status';
  await until('silence is noticed', () => true);
  const limits = { ...bench.options, rpc: [bench.proxy.url], timeoutMs: 100 };
  const chain = newChain(bench.devnet, limits);
  await assert.rejects(chain.open(), /no node .* can be used: .*within 0.1 s|abort/i);
});

test('a fee above its limit is refused before it is signed', async (t) => {
  const bench = await openBench(t, { feeMaxUakt: 1n });
  const sent = await bench.create(1n);
  assert.ok(sent.kind === 'refused' && /above the limit/.test(sent.reason));
  assert.deepEqual(bench.noted, []);
});

test('a wallet that holds nothing pays out of grants of another', async (t) => {
  const bench = await openBench(t);
  const keyring = await OwnKeyring.open(bench.devnet.tenant.mnemonic);
  const poor = keyring.wallet(7);
  const untilMs = Date.now() + 3_600_000;
  const ends = { from: bench.wallet.address, to: poor.address, untilMs };
  const granted = await bench.send(bench.wallet, [
    { type: 'grant_deposits', ...ends, amount: 2_000_000n },
    { type: 'grant_fees', ...ends, uakt: 1_000_000n },
  ]);
  assert.equal(granted.kind, 'done', JSON.stringify(granted, stringify));
  assert.deepEqual(await bench.chain.depositGrant(bench.wallet.address, poor.address), {
    amount: 2_000_000n,
    untilMs: Math.floor(untilMs / 1000) * 1000,
  });
  assert.equal((await bench.chain.feeGrant(bench.wallet.address, poor.address))?.amount, 1_000_000n);
  const before = await bench.chain.balance(bench.wallet.address);
  const made = await bench.create(3n, undefined, { wallet: poor, feeGranter: bench.wallet.address });
  assert.equal(made.kind, 'done', JSON.stringify(made, stringify));
  assert.equal(await bench.chain.balance(bench.wallet.address), before - 500_000n);
  assert.equal(await bench.chain.balanceUakt(poor.address), 0n);
  assert.equal((await bench.chain.depositGrant(bench.wallet.address, poor.address))?.amount, 1_500_000n);
});

test('grants are gone with the block after their date', async (t) => {
  const bench = await openBench(t);
  const poor = (await OwnKeyring.open(bench.devnet.tenant.mnemonic)).wallet(7);
  const ends = { from: bench.wallet.address, to: poor.address, untilMs: Date.now() + 3_600_000 };
  const granted = await bench.send(bench.wallet, [
    { type: 'grant_deposits', ...ends, amount: 2_000_000n },
    { type: 'grant_fees', ...ends, uakt: 1_000_000n },
  ]);
  assert.equal(granted.kind, 'done', JSON.stringify(granted, stringify));
  bench.devnet.chain.nextBlock(ends.untilMs - 2_000);
  assert.notEqual(await bench.chain.feeGrant(ends.from, ends.to), null);
  bench.devnet.chain.nextBlock(ends.untilMs);
  assert.equal(await bench.chain.feeGrant(ends.from, ends.to), null);
  assert.equal(await bench.chain.depositGrant(ends.from, ends.to), null);
});

test('how long a block is leaves out those that a chain begins with in no time', async (t) => {
  const devnet = await openDevnet(t);
  const dispatcher = new Agent();
  t.after(() => dispatcher.destroy());
  const chain = newChain(devnet, { dispatcher, signal: new AbortController().signal, log: () => undefined });
  const pass = async (ms: number): Promise<number | null> => {
    devnet.chain.nextBlock(devnet.chain.timeMs + ms);
    await chain.refresh();
    return chain.blockMs();
  };
  await chain.open();
  assert.deepEqual([devnet.chain.height, await chain.blockMs()], [3, null]);
  assert.equal(await pass(6000), null, 'one block may be any');
  assert.equal(await pass(6000), 6000);
  assert.equal(await pass(9000), 7000);
});

interface Proxy {
  readonly url: string;
  /** Its requests go through, their replies never come. */
  loses: string | null;
  network: string | null;
  heightOfQueries: string | null;
}

interface Bench {
  readonly devnet: Devnet;
  readonly chain: Chain;
  readonly wallet: Wallet;
  readonly proxy: Proxy;
  readonly noted: SignedTx[];
  readonly options: Pick<ChainOptions, 'dispatcher' | 'signal' | 'log'>;
  send(wallet: Wallet, orders: readonly Order[], feeGranter?: string): Promise<SendOutcome>;
  create(
    dseq: bigint,
    note?: (tx: SignedTx) => Promise<void>,
    change?: { deposit?: bigint; denom?: string; wallet?: Wallet; feeGranter?: string; chain?: Chain },
  ): Promise<SendOutcome>;
}

interface Setup extends Partial<Pick<ChainOptions, 'lifeMs' | 'feeMaxUakt'>> {
  readonly faults?: readonly FaultName[];
  readonly proxied?: boolean;
  readonly rpc?: (own: readonly string[]) => readonly string[];
}

async function openBench(t: TestContext, setup: Setup = {}): Promise<Bench> {
  const { faults = [], proxied = false, rpc = (own: readonly string[]) => own, ...limits } = setup;
  const devnet = await openDevnet(t, { blockMs: 50, faults });
  const dispatcher = new Agent();
  const stop = new AbortController();
  const proxy = await openProxy(t, devnet.rpcUrl);
  t.after(async () => {
    stop.abort(new Error('the test is over'));
    await dispatcher.destroy();
  });
  const options = { dispatcher, signal: stop.signal, log: () => undefined };
  const chain = newChain(devnet, {
    ...options,
    ...limits,
    rpc: rpc([proxied ? proxy.url : devnet.rpcUrl]),
    timeoutMs: 1000,
  });
  await chain.open();
  const wallet = (await OwnKeyring.open(devnet.tenant.mnemonic)).wallet(0);
  const noted: SignedTx[] = [];
  const keep = (tx: SignedTx): Promise<void> => Promise.resolve(void noted.push(tx));
  return {
    ...{ devnet, chain, wallet, proxy, noted, options },
    send: (from, orders, feeGranter) => chain.send({ wallet: from, orders, feeGranter, note: keep }),
    create: (dseq, note = keep, change = {}) => {
      const { deposit = 500_000n, denom = 'uact', wallet: from = wallet, feeGranter, chain: by = chain } = change;
      const order = { type: 'create_deployment', id: { owner: from.address, dseq }, deposit } as const;
      const group = groupSpecOf(service(denom));
      return by.send({
        wallet: from,
        feeGranter,
        note,
        orders: [{ ...order, group, version: new Uint8Array(32).fill(1) }],
      });
    },
  };
}

function service(denom: string): Parameters<typeof groupSpecOf>[0] {
  return {
    ...{ group: 'underbid-o', name: 'server', image: 'a@sha256:0', command: [], args: [], env: [], credentials: null },
    ...{ cpuMillis: 1000, memoryBytes: 2 ** 30, gpus: 0, gpu: [] },
    volumes: [{ name: 'default', bytes: 2 ** 30, storageClass: null, mount: null }],
    expose: [{ port: 8080, as: 8080, http: HTTP_DEFAULTS }],
    signedBy: { allOf: [], anyOf: [] },
    attributes: {},
    price: { denom, amount: 1000n },
  };
}

/** Stands before the node and changes what comes back. */
async function openProxy(t: TestContext, target: string): Promise<Proxy> {
  const proxy = {
    url: '',
    loses: null as string | null,
    network: null as string | null,
    heightOfQueries: null as string | null,
  };
  const server = createServer((incoming, response) => {
    void (async () => {
      const body = await bodyOf(incoming);
      const { method } = JSON.parse(body) as { method: string };
      const reply = await request(target, { method: 'POST', body, headers: { 'content-type': 'application/json' } });
      let text = await reply.body.text();
      if (method === proxy.loses) return;
      if (proxy.network !== null) text = text.replaceAll('underbid-devnet-1', proxy.network);
      if (proxy.heightOfQueries !== null && method === 'abci_query' && !text.includes('gas')) {
        text = text.replace(/"height":"\d+"/, `"height":"${proxy.heightOfQueries}"`);
      }
      response.writeHead(reply.statusCode, { 'content-type': 'application/json' }).end(text);
    })().catch(() => response.destroy());
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return proxy;
}

async function bodyOf(incoming: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

function stringify(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
