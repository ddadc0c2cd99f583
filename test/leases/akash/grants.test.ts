import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Agent } from 'undici';
import { systemClock } from '../../../src/clock.ts';
import type { Chain } from '../../../src/leases/akash/chain.ts';
import { OwnKeyring, type Wallet } from '../../../src/leases/akash/chain-wallet.ts';
import { Grants } from '../../../src/leases/akash/grants.ts';
import { until } from '../../fakes/clock.ts';
import { openDevnet } from './devnet/setup.ts';
import { newChain } from './market-bench.ts';

/** What pools' wallets may spend, renewed before it ends. */

const RULES = { deposits: 50_000_000n, feesUakt: 5_000_000n, lifeMs: 86_400_000 };

test('grants that stand are left alone; one that is half used up is renewed, the other one not', async (t) => {
  const { chain, treasury, pool, grants, sent } = await setup(t);
  await grants.renew();
  assert.equal(sent(), 1);
  await grants.renew();
  assert.equal(sent(), 1, 'nothing to renew');
  const ends = { from: treasury.address, to: pool.address, untilMs: Date.now() + RULES.lifeMs };
  const note = (): Promise<void> => Promise.resolve();
  await chain.send({ wallet: treasury, orders: [{ type: 'grant_deposits', ...ends, amount: 24_999_999n }], note });
  const fees = await chain.feeGrant(treasury.address, pool.address);
  await grants.renew();
  assert.equal((await chain.depositGrant(treasury.address, pool.address))?.amount, RULES.deposits);
  assert.deepEqual(await chain.feeGrant(treasury.address, pool.address), fees);
});

test('grants that end soon are made anew, the fees too, which the chain grants once at a time', async (t) => {
  const { chain, treasury, pool, grants, later } = await setup(t);
  await grants.renew();
  const before = await chain.feeGrant(treasury.address, pool.address);
  later(RULES.lifeMs * 0.8);
  await grants.renew();
  const after = await chain.feeGrant(treasury.address, pool.address);
  assert.equal(after?.amount, RULES.feesUakt);
  assert.ok((after.untilMs ?? 0) - (before?.untilMs ?? 0) >= RULES.lifeMs * 0.79);
  const deposits = await chain.depositGrant(treasury.address, pool.address);
  assert.ok((deposits?.untilMs ?? 0) >= (after.untilMs ?? 0));
});

test('they are looked at while the gateway runs, not at every look at the chain', async (t) => {
  const { grants, later, sent, logs } = await setup(t);
  grants.look();
  await until('they are made', () => sent() === 1 && logs.length === 1, 60_000);
  grants.look();
  later(RULES.lifeMs * 0.8);
  grants.look();
  await until('they are renewed', () => sent() === 2, 60_000);
});

async function setup(t: TestContext): Promise<{
  readonly chain: Chain;
  readonly treasury: Wallet;
  readonly pool: Wallet;
  readonly grants: Grants;
  readonly later: (ms: number) => void;
  /** Transactions of the treasury. */
  readonly sent: () => number;
  readonly logs: string[];
}> {
  const devnet = await openDevnet(t, { blockMs: 40 });
  const stop = new AbortController();
  const dispatcher = new Agent();
  t.after(async () => {
    stop.abort(new Error('the test is over'));
    await dispatcher.destroy();
  });
  const chain = newChain(devnet, { dispatcher, signal: stop.signal, log: () => undefined });
  await chain.open();
  const keyring = await OwnKeyring.open(devnet.tenant.mnemonic);
  const [treasury, pool] = [keyring.wallet(0), keyring.wallet(1)];
  let lateMs = 0;
  const logs: string[] = [];
  const grants = new Grants(chain, {
    ...{ ...RULES, treasury, pools: [{ pool: 'tiny', wallet: pool }] },
    clock: { ...systemClock, now: () => systemClock.now() + lateMs },
    log: (line) => logs.push(line),
  });
  const before = devnet.chain.txs().length;
  return {
    ...{ chain, treasury, pool, grants, logs },
    later: (ms) => (lateMs += ms),
    sent: () => devnet.chain.txs().length - before,
  };
}
