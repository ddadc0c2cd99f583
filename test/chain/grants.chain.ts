import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { Grants, type GrantOptions } from '../../src/leases/akash/grants.ts';
import { until } from '../fakes/clock.ts';
import { FUNDS, startCosmosChain, type CosmosChain } from './cosmos-chain.ts';
import { deposits, openTenant, paysFees, show, type Tenant } from './tenant.ts';

/** A treasury that lets wallets pay which hold nothing, by the authz and feegrant modules of a real chain. */

let node: CosmosChain;

before(async () => {
  node = await startCosmosChain(10);
});

after(() => node.stop());

test('the treasury grants a pool deposits and fees in one transaction, once', async (t) => {
  const tenant = await openTenant(t, node);
  const { chain, wallet, keyring } = tenant;
  const pool = keyring.wallet(1);
  const lines: string[] = [];
  await new Grants(chain, rules(tenant, { deposits: 50_000_000n, log: (line) => lines.push(line) })).renew();
  assert.deepEqual(lines, [`pool tiny pays from ${pool.address}, out of grants of the treasury's`]);
  assert.equal(await deposits(chain, wallet.address, pool.address), 50_000_000n);
  assert.equal(await paysFees(chain, wallet.address, pool.address), true);
  const left = await chain.balanceUakt(wallet.address);
  assert.ok(left < FUNDS && left > FUNDS - 20_000n, `${FUNDS - left} uakt of fees`);
  await new Grants(chain, rules(tenant, { deposits: 50_000_000n, log: (line) => lines.push(line) })).renew();
  assert.equal(lines.length, 1, 'grants that stand are left alone');
  assert.equal(await chain.balanceUakt(wallet.address), left);
  await new Grants(chain, rules(tenant, { deposits: 200_000_000n })).renew();
  assert.equal(await deposits(chain, wallet.address, pool.address), 200_000_000n, 'more replaces less');
  assert.equal(await paysFees(chain, wallet.address, pool.address), true);
  await new Grants(chain, rules(tenant, { deposits: 200_000_000n, feesUakt: 20_000_000n })).renew();
  const fees = await chain.feeGrant(wallet.address, pool.address);
  assert.equal(fees?.amount, 20_000_000n, 'revoked and granted in one transaction');
});

test("a pool's wallet pays with the treasury's allowance for deployments alone", async (t) => {
  const tenant = await openTenant(t, node);
  const { chain, wallet, keyring } = tenant;
  await new Grants(chain, rules(tenant, {})).renew();
  const noted: unknown[] = [];
  const pool = keyring.wallet(1);
  const ends = { from: pool.address, to: keyring.wallet(2).address, untilMs: systemClock.now() + 3_600_000 };
  const request = { wallet: pool, note: (tx: unknown) => Promise.resolve(void noted.push(tx)) };
  const orders = [{ type: 'grant_fees', ...ends, uakt: 5n }] as const;
  const leaked = await chain.send({ ...request, orders, feeGranter: wallet.address });
  assert.ok(leaked.kind === 'refused' && /message not allowed/.test(leaked.reason), show(leaked));
  const alone = await chain.send({ ...request, orders });
  assert.ok(alone.kind === 'refused' && /insufficient funds/.test(alone.reason), show(alone));
  assert.deepEqual(noted, []);
});

test('fees come from whoever allows them, and the wallet that signs holds nothing', async (t) => {
  const { chain, wallet, keyring, allowAny } = await openTenant(t, node);
  const pool = keyring.wallet(1);
  await allowAny(pool.address, 100_000n);
  const before = await chain.balanceUakt(wallet.address);
  const ends = { from: pool.address, to: keyring.wallet(2).address, untilMs: systemClock.now() + 3_600_000 };
  const sent = await chain.send({
    wallet: pool,
    orders: [{ type: 'grant_deposits', ...ends, amount: 7n }],
    feeGranter: wallet.address,
    note: () => Promise.resolve(),
  });
  assert.ok(sent.kind === 'done', show(sent));
  assert.equal(await chain.balanceUakt(wallet.address), before - sent.tx.feeUakt);
  assert.equal(await chain.balanceUakt(pool.address), 0n);
  assert.equal(await deposits(chain, pool.address, keyring.wallet(2).address), 7n);
});

test('grants end with their date', async (t) => {
  const tenant = await openTenant(t, node);
  const { chain, wallet, keyring } = tenant;
  const pool = keyring.wallet(1).address;
  // Long enough to be seen on a slow machine, as the chain refuses a date that is over.
  const lines: string[] = [];
  const log = (line: string): void => void lines.push(line);
  await new Grants(chain, rules(tenant, { lifeMs: 25_000, log })).renew();
  assert.match(lines.join(), /out of grants of the treasury's/);
  await until(
    'both grants are gone',
    async () => {
      const [left, fees] = [await deposits(chain, wallet.address, pool), await paysFees(chain, wallet.address, pool)];
      return left === null && !fees;
    },
    90_000,
  );
  await new Grants(chain, rules(tenant, { log })).renew();
  assert.equal(lines.length, 2, 'and are made again');
  assert.equal(await paysFees(chain, wallet.address, pool), true);
});

function rules({ wallet, keyring }: Tenant, change: Partial<GrantOptions>): GrantOptions {
  return {
    ...{ treasury: wallet, pools: [{ pool: 'tiny', wallet: keyring.wallet(1) }], clock: systemClock },
    ...{ deposits: 50_000_000n, feesUakt: 5_000_000n, lifeMs: 3_600_000, log: () => undefined },
    ...change,
  };
}
