import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { Agent } from 'undici';
import { systemClock } from '../../src/clock.ts';
import { Chain, type ChainOptions } from '../../src/leases/akash/chain.ts';
import type { Order, SendOutcome, SignedTx } from '../../src/leases/akash/chain-types.ts';
import { OwnKeyring, type Keyring, type Wallet } from '../../src/leases/akash/chain-wallet.ts';
import { systemRandom } from '../../src/random.ts';
import type { CosmosChain } from './cosmos-chain.ts';
import { grantFees } from './messages.ts';
import { broadcast, hashOf, included, openProxy, type Proxy } from './node-rpc.ts';
import { numberOf, sign, type AnyMessage } from './signing.ts';

/** Our own client of the chain, with an account that no other test has. */
export interface Tenant {
  readonly chain: Chain;
  readonly keyring: Keyring;
  readonly wallet: Wallet;
  readonly proxy: Proxy;
  /** Lets another wallet of the key's pay fees. */
  grant(index: number, note?: SignedTx[] | ((tx: SignedTx) => Promise<void>)): Promise<SendOutcome>;
  /** For any message, which no order of ours asks for. */
  allowAny(grantee: string, uakt: bigint): Promise<void>;
  /** Another client with the same key. */
  open(change: TenantOptions): Promise<Tenant>;
}

export interface TenantOptions extends Partial<Pick<ChainOptions, 'lifeMs' | 'timeoutMs' | 'chainId'>> {
  /** Its calls go through the proxy alone. */
  readonly proxied?: boolean;
  readonly rpc?: (proxyUrl: string) => readonly string[];
}

export async function openTenant(t: TestContext, node: CosmosChain, options: TenantOptions = {}): Promise<Tenant> {
  const account = node.account();
  const keyring = await OwnKeyring.open(account.mnemonic);
  const wallet = keyring.wallet(0);
  const open = async (change: TenantOptions): Promise<Tenant> => {
    const { proxied = false, rpc = (url) => [proxied ? url : node.rpcUrl], ...limits } = change;
    const proxy = await openProxy(t, node.rpcUrl);
    const chain = newChain(t, node, { ...limits, rpc: rpc(proxy.url) });
    await chain.open();
    return {
      ...{ chain, keyring, wallet, proxy, open },
      grant: (index, note = []) =>
        chain.send({
          ...{ wallet, orders: [feesTo(keyring, index)] },
          note: Array.isArray(note) ? noting(note) : note,
        }),
      allowAny: (grantee, uakt) => sendByHand(node, account, [grantFees(wallet.address, grantee, { uakt })]),
    };
  };
  return open(options);
}

export function newChain(t: TestContext, node: CosmosChain, change: Partial<ChainOptions>): Chain {
  const dispatcher = new Agent();
  const stop = new AbortController();
  t.after(async () => {
    stop.abort(new Error('the test is over'));
    await dispatcher.destroy();
  });
  return new Chain({
    ...{ rpc: [node.rpcUrl], chainId: null, denom: 'uact', gasPriceNano: 25_000_000n, feeMaxUakt: 1_000_000n },
    ...{ lifeMs: 30_000, pollMs: 100, clock: systemClock, random: systemRandom },
    ...{ dispatcher, signal: stop.signal, log: () => undefined },
    ...change,
  });
}

export function feesTo(keyring: Keyring, index: number, from = 0): Extract<Order, { type: 'grant_fees' }> {
  const untilMs = systemClock.now() + 3_600_000;
  const [granter, grantee] = [keyring.wallet(from).address, keyring.wallet(index).address];
  return { type: 'grant_fees', from: granter, to: grantee, uakt: 1_000_000n, untilMs };
}

/** The first transaction of an account, with a sequence number. */
export async function sendByHand(
  { rpcUrl, chainId }: CosmosChain,
  wallet: ReturnType<CosmosChain['account']>,
  messages: readonly AnyMessage[],
): Promise<void> {
  const tx = sign({ wallet, chainId, accountNumber: await numberOf(rpcUrl, wallet.address), messages });
  await broadcast(rpcUrl, tx);
  assert.equal((await included(rpcUrl, hashOf(tx))).tx_result.code, 0);
}

/** What one still lets the other put into deposits; null: nothing. */
export const deposits = async (chain: Chain, from: string, to: string): Promise<bigint | null> =>
  (await chain.depositGrant(from, to))?.amount ?? null;

/** Whether one pays fees of the other. */
export const paysFees = async (chain: Chain, from: string, to: string): Promise<boolean> =>
  (await chain.feeGrant(from, to)) !== null;

export function noting(noted: SignedTx[]): (tx: SignedTx) => Promise<void> {
  return (tx) => Promise.resolve(void noted.push(tx));
}

export const show = (value: unknown): string =>
  JSON.stringify(value, (_key, one: unknown) => (typeof one === 'bigint' ? String(one) : one));
