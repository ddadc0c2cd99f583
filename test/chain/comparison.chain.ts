import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { QueryAccountRequest } from 'cosmjs-types/cosmos/auth/v1beta1/query';
import { QueryBalanceRequest } from 'cosmjs-types/cosmos/bank/v1beta1/query';
import { QueryAllowanceRequest } from 'cosmjs-types/cosmos/feegrant/v1beta1/query';
import { QueryGranterGrantsRequest, QueryGrantsRequest } from 'cosmjs-types/cosmos/authz/v1beta1/query';
import { SimulateRequest } from 'cosmjs-types/cosmos/tx/v1beta1/service';
import { systemClock } from '../../src/clock.ts';
import { startDevnet, type Devnet } from '../../src/leases/akash/devnet/network.ts';
import { createWallet, type Wallet } from '../../src/leases/akash/devnet/wallet.ts';
import { systemRandom } from '../../src/random.ts';
import { startCosmosChain, type CosmosChain } from './cosmos-chain.ts';
import { grantDeposits, grantFees, revoke, revokeFees, send } from './messages.ts';
import { broadcast, call, hashOf, included, type CheckResult, type RpcReply } from './node-rpc.ts';
import { chainTimeNs, numberOf, sign, type Parts } from './signing.ts';

/** The emulated chain answers as the real one does: the same transactions and questions to both. */

let node: CosmosChain;
let devnet: Devnet;

before(async () => {
  node = await startCosmosChain(2);
  devnet = await startDevnet({
    ...{ clock: systemClock, random: systemRandom, blockMs: 300, providers: [] },
    startContainer: () => Promise.reject(new Error('nothing is deployed here')),
  });
});

after(async () => {
  await node.stop();
  await devnet.stop();
});

/** One of the two chains, its first account in the part of whoever signs. */
interface Side {
  readonly rpcUrl: string;
  readonly chainId: string;
  readonly signer: Wallet;
  readonly other: Wallet;
  readonly stranger: Wallet;
  readonly number: bigint;
  readonly otherNumber: bigint;
  sequence: bigint;
  otherSequence: bigint;
}

async function bothSides(): Promise<readonly [Side, Side]> {
  const [first, second] = [node.account(), node.account()];
  const stranger = await createWallet(systemRandom);
  const side = async (from: { rpcUrl: string; chainId: string }, signer: Wallet, other: Wallet): Promise<Side> => {
    const [number, otherNumber] = await Promise.all([
      numberOf(from.rpcUrl, signer.address),
      numberOf(from.rpcUrl, other.address),
    ]);
    const { rpcUrl, chainId } = from;
    return { rpcUrl, chainId, signer, other, stranger, number, otherNumber, sequence: 0n, otherSequence: 0n };
  };
  return [await side(node, first, second), await side(devnet, devnet.tenant, devnet.payer)];
}

type Change = Partial<Omit<Parts, 'chainId'>> & { readonly chainId?: string };
type Make = (side: Side, nowNs: bigint) => Change | Uint8Array | Promise<Change>;

/** What is the same on both: codes, texts without numbers, the names of events, the shapes of replies. */
interface Told {
  readonly check: Outcome;
  readonly delivered: Outcome | null;
  readonly events: readonly string[];
  readonly shapes: readonly unknown[];
}

interface Outcome {
  readonly code: number;
  readonly codespace: string;
  readonly log: string;
}

async function submit(side: Side, make: Make): Promise<Told> {
  const nowNs = await chainTimeNs(side.rpcUrl);
  const change = await make(side, nowNs);
  const tx =
    change instanceof Uint8Array
      ? change
      : sign({
          ...{ wallet: side.signer, chainId: side.chainId, accountNumber: side.number, sequence: side.sequence },
          messages: [send(side.signer.address, side.other.address, 5n)],
          ...change,
        });
  const reply = await broadcast(side.rpcUrl, tx);
  const check = reply.result as CheckResult | undefined;
  assert.ok(check, JSON.stringify(reply));
  const shapes = [shapeOf(reply)];
  if (check.code !== 0) return { check: outcomeOf(side, check), delivered: null, events: [], shapes };
  const found = await included(side.rpcUrl, hashOf(tx));
  if (!(change instanceof Uint8Array) && change.timeoutNs === undefined) {
    if (change.wallet === side.other) side.otherSequence += 1n;
    else side.sequence += 1n;
  }
  const { tx_result: result } = found;
  const events = result.events.map(({ type }) => type);
  return {
    ...{ check: outcomeOf(side, check), delivered: outcomeOf(side, result), events },
    shapes: [...shapes, shapeOf({ ...found, tx_result: { ...result, events: [] } })],
  };
}

function outcomeOf(side: Side, { code, codespace, log }: Outcome): Outcome {
  return { code, codespace, log: plain(side, log) };
}

/** Without what is of the one chain alone: accounts, amounts, and where the two decode and count gas in their own ways. */
function plain(side: Side, log: string): string {
  return (
    log
      .replaceAll(side.signer.address, 'SIGNER')
      .replaceAll(side.other.address, 'OTHER')
      .replaceAll(side.stranger.address, 'STRANGER')
      .replaceAll(side.chainId, 'CHAIN')
      // The SDK writes raw bytes of addresses there.
      .replace(
        /^(rpc error.*? desc = )?.* does not allow to pay fees for .*?: /s,
        '$1A does not allow to pay fees for B: ',
      )
      .replace(/(fee payer address: ).*( does not exist)/s, '$1A$2')
      .replace(/(with key ).*(: authorization not found)/s, '$1A$2')
      .replace(/(decoding bech32 failed).*(: invalid address)/s, '$1$2')
      .replace(/(out of gas in location: )[^;]*/, '$1X')
      .replace(/^.*?((: tx parse error){2})/s, (all, end: string) => (/type URL/.test(all) ? all : `X${end}`))
      .replace(/\[[\w./@-]+\.go:\d+\] /g, '')
      .replace(/\d[\d.]*/g, '#')
  );
}

/** Of each field its type; a list has the shape of its first element. */
function shapeOf(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value === null ? 'null' : typeof value;
  if (Array.isArray(value)) return value.length === 0 ? [] : [shapeOf(value[0])];
  return Object.fromEntries(
    Object.entries(value)
      // What modules say at a block's end is of the modules.
      .filter(([key]) => key !== 'finalize_block_events')
      .map(([key, one]): [string, unknown] => [key, shapeOf(one)])
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

function refusalOf(side: Side, reply: RpcReply): Outcome | null {
  const response = (reply.result as { response?: Outcome } | undefined)?.response;
  return response ? outcomeOf(side, response) : null;
}

const DAY_S = 86_400n;
const CASES: Record<string, Make> = {
  'a send': () => ({}),
  'a send of nothing': ({ signer, other }) => ({ messages: [send(signer.address, other.address, 0n)] }),
  'a send to no address': ({ signer }) => ({ messages: [send(signer.address, 'akash1wrong', 5n)] }),
  'a send of more than there is': ({ signer, other }) => ({
    messages: [send(signer.address, other.address, 10n ** 18n)],
  }),
  'a send of ACT': ({ signer, other }) => ({ messages: [send(signer.address, other.address, 5n, 'uact')] }),
  'another chain': () => ({ chainId: 'akashnet-2' }),
  'another account number': () => ({ accountNumber: 99n }),
  'a sequence too high': ({ sequence }) => ({ sequence: sequence + 5n }),
  'the key of another': ({ signer, other }) => ({ wallet: other, messages: [send(signer.address, other.address, 5n)] }),
  'a stranger': ({ stranger, other }) => ({ wallet: stranger, messages: [send(stranger.address, other.address, 5n)] }),
  'a fee too small': () => ({ feeUakt: 10n }),
  'no fee': () => ({ feeUakt: 0n }),
  'a fee in another coin': () => ({ feeDenom: 'uact' }),
  'a fee that is more than there is': () => ({ feeUakt: 10n ** 18n }),
  'no gas': () => ({ gas: 0n }),
  'gas for less than the checks': () => ({ gas: 5_000n }),
  'a memo too long': () => ({ memo: 'm'.repeat(300) }),
  'no message': () => ({ messages: [] }),
  'a message of a module that is not there': ({ signer }) => ({
    messages: [{ ...send(signer.address, signer.address, 1n), typeUrl: '/cosmos.gov.v1.MsgVoteX' }],
  }),
  'bytes that are none': () => new Uint8Array([1, 2, 3]),
  'a height that is over': () => ({ timeoutHeight: 1n }),
  'unordered without a time-out': () => ({ sequence: 0n, timeoutNs: null }),
  'unordered in the past': (_side, nowNs) => ({ sequence: 0n, timeoutNs: nowNs - 10_000_000_000n }),
  'unordered too late': (_side, nowNs) => ({ sequence: 0n, timeoutNs: nowNs + 700_000_000_000n }),
  'unordered with a sequence': (_side, nowNs) => ({ sequence: 3n, timeoutNs: nowNs + 60_000_000_000n }),
  unordered: (_side, nowNs) => ({ sequence: 0n, timeoutNs: nowNs + 60_000_000_000n }),
  'an allowance': ({ signer, other }) => ({ messages: [grantFees(signer.address, other.address, { uakt: 50_000n })] }),
  'an allowance again': ({ signer, other }) => ({
    messages: [grantFees(signer.address, other.address, { uakt: 50_000n })],
  }),
  'a fee from it': (side) => asOther(side),
  'a fee above it': (side) => ({ ...asOther(side), feeUakt: 60_000n }),
  'a fee from a stranger': (side) => ({ ...asOther(side), granter: side.stranger.address }),
  'an allowance revoked': ({ signer, other }) => ({ messages: [revokeFees(signer.address, other.address)] }),
  'an allowance revoked again': ({ signer, other }) => ({ messages: [revokeFees(signer.address, other.address)] }),
  'an allowance to oneself': ({ signer }) => ({ messages: [grantFees(signer.address, signer.address, { uakt: 5n })] }),
  'an allowance in the past': ({ signer, stranger }) => ({
    messages: [grantFees(signer.address, stranger.address, { uakt: 5n, untilS: 5n })],
  }),
  'an allowance for no message': ({ signer, other }) => ({
    messages: [grantFees(signer.address, other.address, { uakt: 5n, messages: [] })],
  }),
  'an allowance of nothing': ({ signer, other }) => ({
    messages: [grantFees(signer.address, other.address, { uakt: 0n })],
  }),
  'an allowance for other messages': ({ signer, other }) => ({
    messages: [grantFees(signer.address, other.address, { uakt: 50_000n, messages: ['/cosmos.gov.v1.MsgVote'] })],
  }),
  'a fee for a message that it does not allow': (side) => asOther(side),
  'a grant of deposits': ({ signer, other }, nowNs) => ({
    messages: [grantDeposits(signer.address, other.address, 5n, nowNs / 1_000_000_000n + DAY_S)],
  }),
  'a grant of deposits to oneself': ({ signer }, nowNs) => ({
    messages: [grantDeposits(signer.address, signer.address, 5n, nowNs / 1_000_000_000n + DAY_S)],
  }),
  'a grant of deposits in the past': ({ signer, other }, nowNs) => ({
    messages: [grantDeposits(signer.address, other.address, 5n, nowNs / 1_000_000_000n - DAY_S)],
  }),
  'a grant revoked that is not there': ({ signer, stranger }) => ({
    messages: [revoke(signer.address, stranger.address, '/akash.escrow.v1.MsgAccountDeposit')],
  }),
  'a second message that fails': ({ signer, other }) => ({
    messages: [send(signer.address, other.address, 5n), send(signer.address, other.address, 10n ** 18n)],
  }),
};

function asOther({ signer, other, otherNumber, otherSequence }: Side): Change {
  const messages = [send(other.address, signer.address, 5n)];
  return { wallet: other, granter: signer.address, messages, accountNumber: otherNumber, sequence: otherSequence };
}

const query = (path: string, request: Uint8Array): Ask => ({
  method: 'abci_query',
  params: { path, data: Buffer.from(request).toString('hex'), prove: false },
});

interface Ask {
  readonly method: string;
  readonly params: unknown;
}

const ASKS: Record<string, (side: Side, sent: Sent) => Ask> = {
  status: () => ({ method: 'status', params: {} }),
  'a block': (_side, { height }) => ({ method: 'block', params: { height } }),
  'the results of a block': (_side, { height }) => ({ method: 'block_results', params: { height } }),
  'a block to come': () => ({ method: 'block', params: { height: '99999' } }),
  'a transaction': (_side, { hash }) => ({ method: 'tx', params: { hash: base64(hash), prove: false } }),
  'a transaction that is not there': () => ({ method: 'tx', params: { hash: base64('AB'.repeat(32)), prove: false } }),
  'transactions by their event': (side) => ({
    method: 'tx_search',
    params: {
      query: `transfer.sender='${side.signer.address}'`,
      prove: false,
      page: '1',
      per_page: '1',
      order_by: 'asc',
    },
  }),
  'the same bytes again': (_side, { bytes }) => ({ method: 'broadcast_tx_sync', params: { tx: bytes } }),
  'the same bytes again, to a node that does not wait': (_side, { bytes }) => ({
    method: 'broadcast_tx_async',
    params: { tx: bytes },
  }),
  'a method that is none': () => ({ method: 'rent_a_gpu', params: {} }),
  'a path that is none': () => query('/cosmos.bank.v9.Query/Balance', new Uint8Array()),
  'an account': ({ signer }) => query('/cosmos.auth.v1beta1.Query/Account', address(signer)),
  'an account that is not there': ({ stranger }) => query('/cosmos.auth.v1beta1.Query/Account', address(stranger)),
  'a balance': ({ signer }) => query('/cosmos.bank.v1beta1.Query/Balance', balance(signer)),
  'a balance of nobody': ({ stranger }) => query('/cosmos.bank.v1beta1.Query/Balance', balance(stranger)),
  'an allowance': ({ signer, other }) => query('/cosmos.feegrant.v1beta1.Query/Allowance', pair(signer, other)),
  'an allowance that is not there': ({ signer, stranger }) =>
    query('/cosmos.feegrant.v1beta1.Query/Allowance', pair(signer, stranger)),
  'grants of one to another': ({ signer, other }) =>
    query('/cosmos.authz.v1beta1.Query/Grants', QueryGrantsRequest.encode(grantsOf(signer, other)).finish()),
  'grants of nobody to another': ({ stranger, other }) =>
    query('/cosmos.authz.v1beta1.Query/Grants', QueryGrantsRequest.encode(grantsOf(stranger, other)).finish()),
  'grants of somebody': ({ signer }) =>
    query('/cosmos.authz.v1beta1.Query/GranterGrants', QueryGranterGrantsRequest.encode(granter(signer)).finish()),
  'grants of nobody': ({ stranger }) =>
    query('/cosmos.authz.v1beta1.Query/GranterGrants', QueryGranterGrantsRequest.encode(granter(stranger)).finish()),
  'a simulation': (side) => simulate(side, 5n),
  'a simulation of what fails': (side) => simulate(side, 10n ** 18n),
  'a simulation with a fee that nobody allows': (side) => simulate(side, 5n, side.stranger.address),
  'a simulation of bytes that are none': () => simulateBytes(new Uint8Array([1, 2, 3])),
};

interface Sent {
  readonly hash: string;
  readonly height: string;
  readonly bytes: string;
}

const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');
const address = (wallet: Wallet): Uint8Array => QueryAccountRequest.encode({ address: wallet.address }).finish();
const balance = (wallet: Wallet): Uint8Array =>
  QueryBalanceRequest.encode({ address: wallet.address, denom: 'uakt' }).finish();
const pair = (granter: Wallet, grantee: Wallet): Uint8Array =>
  QueryAllowanceRequest.encode({ granter: granter.address, grantee: grantee.address }).finish();
const grantsOf = (from: Wallet, to: Wallet): QueryGrantsRequest =>
  QueryGrantsRequest.fromPartial({ granter: from.address, grantee: to.address });
const granter = (wallet: Wallet): QueryGranterGrantsRequest =>
  QueryGranterGrantsRequest.fromPartial({ granter: wallet.address });
const simulateBytes = (txBytes: Uint8Array): Ask =>
  query(
    '/cosmos.tx.v1beta1.Service/Simulate',
    SimulateRequest.encode(SimulateRequest.fromPartial({ txBytes })).finish(),
  );

function simulate(side: Side, amount: bigint, granter = ''): Ask {
  const { signer, other, chainId, number: accountNumber, sequence } = side;
  const messages = [send(signer.address, other.address, amount)];
  const tx = sign({ wallet: signer, chainId, accountNumber, sequence, messages, granter, gas: 0n, feeUakt: 1n });
  return simulateBytes(tx);
}

test('transactions are taken, refused and carried out with the same codes, texts, events and shapes', async (t) => {
  const sides = await bothSides();
  for (const [name, make] of Object.entries(CASES)) {
    await t.test(name, async () => {
      const [real, emulated] = await Promise.all(sides.map((side) => submit(side, make)));
      assert.deepEqual(emulated, real);
    });
  }
  const sent = await Promise.all(
    sides.map(async (side): Promise<Sent> => {
      const { signer: wallet, chainId, number: accountNumber, sequence } = side;
      const messages = [send(wallet.address, side.other.address, 5n)];
      const tx = sign({ wallet, chainId, accountNumber, sequence, messages });
      await broadcast(side.rpcUrl, tx);
      side.sequence += 1n;
      const { height } = await included(side.rpcUrl, hashOf(tx));
      return { hash: hashOf(tx), height, bytes: Buffer.from(tx).toString('base64') };
    }),
  );
  await t.test('asked by GET for a path that is none', async () => {
    const told = await Promise.all(
      sides.map(async ({ rpcUrl }) => {
        const reply = await fetch(`${rpcUrl}/rent_a_gpu`);
        return [reply.status, reply.headers.get('content-type'), await reply.text()];
      }),
    );
    assert.deepEqual(told[1], told[0]);
  });
  for (const [name, ask] of Object.entries(ASKS)) {
    await t.test(`asked for ${name}`, async () => {
      const told = await Promise.all(
        sides.map(async (side, at) => {
          const { method, params } = ask(side, sent[at] ?? assert.fail());
          const reply = await call(side.rpcUrl, method, params);
          const said = plain(side, JSON.stringify(reply.error ?? null));
          return { said, abci: refusalOf(side, reply), shape: shapeOf(reply) };
        }),
      );
      assert.deepEqual(told[1], told[0]);
    });
  }
});
