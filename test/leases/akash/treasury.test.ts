import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addBalance } from '../../../src/leases/akash/devnet/context.ts';
import { decFromInt } from '../../../src/leases/akash/devnet/decimal.ts';
import { escrowKey } from '../../../src/leases/akash/devnet/state.ts';
import type { MintRules } from '../../../src/leases/akash/mint-plan.ts';
import { dseqOf } from '../../../src/leases/akash/names.ts';
import { compare } from '../../../src/leases/akash/reconciliation.ts';
import { runwayOf, urgentTopUp, wantedOf } from '../../../src/leases/akash/runway.ts';
import type { Lease, Outcome } from '../../../src/leases/market.ts';
import { akashOrder, openAkash, type AkashBench } from './market-bench.ts';

const ONE = 1_000_000n;
const DEPOSIT = 1_000_000_000n;
const MINT: MintRules = {
  on: true,
  hoursMin: 24,
  hoursMax: 72,
  leastPerHour: ONE / 2n,
  stockMax: 500n * ONE,
  spreadMaxBp: 100,
  reserveUakt: 5n * ONE,
};
/** Looks at the money are made by hand or soon. */
const SOON = { moneyMs: 60, sendingMs: 1000 };

test('every fee is in the books, and every account agrees with the chain or says why not', async (t) => {
  const bench = await openAkash(t);
  const { id } = await lease(bench, 'o1');
  await done(bench, () => bench.market.fund(id, 5000n, 'fund-1'));
  await bench.passBlocks(5);
  const running = await bench.market.treasury();
  const account = running.accounts.find((one) => one.account === `escrow:akash:${id}`);
  assert.ok(account && account.difference < 0n, 'the rent runs');
  assert.match(account.why, /^rent of blocks \d+ to \d+, booked from time to time/);
  assert.deepEqual(unexplained(running), []);
  await done(bench, () => bench.market.close(id, 'tenant'));
  const closed = await bench.market.treasury();
  assert.deepEqual(unexplained(closed), []);
  const [wallet] = closed.wallets;
  assert.ok(wallet);
  const fees = await bench.balance('expense:network-fees:akash');
  assert.ok(fees > 0n);
  assert.equal((10_000n * ONE - wallet.uakt) * 1000n, fees, 'the chain took the fees and nothing else');
  assert.equal(await bench.balance('treasury:akash:akt'), wallet.uakt * 1000n);
  const fee = closed.limits.find(({ kind }) => kind === 'fee');
  assert.equal(fee, undefined, 'no limit was set here');
});

test('what is left in an escrow is what the chain would give back, though it settles late', async (t) => {
  const bench = await openAkash(t);
  const { id } = await lease(bench, 'o1');
  await bench.passBlocks(6);
  const before = bench.devnet.chain.height;
  const [seen] = (await bench.market.treasury()).escrows;
  assert.ok(seen && seen.lease === id);
  assert.ok(seen.runway.block >= before);
  assert.ok(seen.runway.block - seen.settledAt >= 5, 'it was settled when the lease was made');
  assert.ok(seen.runway.funds < 1_000_000n);
  assert.equal(seen.wanted, 1_000_000n);
  const closed = await done(bench, () => bench.market.close(id, 'tenant'));
  assert.ok(closed.refundNanoUsd <= seen.runway.funds * 1000n);
  const blocks = (closed.closedBlock ?? 0) - seen.runway.block;
  const rent = closed.priceNanoUsdPerBlock * BigInt(blocks + 1);
  assert.ok(closed.refundNanoUsd >= seen.runway.funds * 1000n - rent, 'it fell by the rent since then');
});

test('what comes in or goes out without the gateway is named, and what is gone is an alarm', async (t) => {
  const bench = await openAkash(t);
  move(bench, 'uakt', -3n * ONE);
  move(bench, 'uact', 2n * ONE);
  const seen = await bench.market.treasury();
  assert.deepEqual(
    seen.accounts
      .filter(({ explained }) => !explained)
      .map(({ account, difference, why }) => [account, difference, why]),
    [
      ['treasury:akash', 2_000_000_000n, 'came in from outside, or was given back and is not booked yet'],
      ['treasury:akash:akt', -3_000_000_000n, 'went out without this gateway'],
    ],
  );
  const next = await bench.again();
  const booked = await next.treasury();
  assert.deepEqual(unexplained(booked), [], 'the books follow the wallet');
  assert.deepEqual(
    booked.alarms.map(({ name, reason }) => [name, /3\.00 AKT less/.test(reason)]),
    [['books.differ', true]],
  );
});

test('an escrow that would run dry before the next look is filled at once', async (t) => {
  const bench = await openAkash(t, { rules: SOON });
  const { id } = await lease(bench, 'o1');
  shrink(bench, 'o1', 20n);
  await bench.until('it is filled', async () => bench.logs.some((line) => /was about to run dry/.test(line)));
  await bench.until('it is known', async () => {
    const status = await bench.market.status(id);
    return (status?.lease.depositNanoUsd ?? 0n) > DEPOSIT;
  });
  const [escrow] = (await bench.market.treasury()).escrows;
  assert.ok(escrow && escrow.runway.funds > 900_000n && escrow.runway.funds <= 1_000_000n, 'to what it is to have');
  await bench.passBlocks(10);
  const rescues = bench.logs.filter((line) => /was about to run dry/.test(line));
  assert.equal(rescues.length, 1, 'once');
  await done(bench, () => bench.market.close(id, 'tenant'));
});

test('an escrow that runs dry and cannot be filled is an alarm, with the reason', async (t) => {
  const bench = await openAkash(t, { rules: { ...SOON, depositsPerHour: ONE } });
  const { id } = await lease(bench, 'o1');
  shrink(bench, 'o1', 20n);
  await bench.until('it is told', async () =>
    (await bench.market.treasury()).alarms.some(
      ({ name, reason }) => name === `lease.runs_dry ${id}` && /limit/.test(reason),
    ),
  );
  await done(bench, () => bench.market.close(id, 'tenant'));
  await bench.until('it is over with the lease', async () =>
    (await bench.market.treasury()).alarms.every(({ name }) => !name.startsWith('lease.runs_dry')),
  );
});

test('an empty treasury refuses orders with the reason and is an alarm until there is money again', async (t) => {
  const bench = await openAkash(t, {
    rules: SOON,
    funds: [
      { denom: 'uakt', amount: 100n * ONE },
      { denom: 'uact', amount: 400_000n },
    ],
  });
  const refusal = await bench.market.tender(akashOrder('o1'));
  assert.deepEqual(refusal, { kind: 'refused', reason: 'the treasury of the Akash market is empty' });
  assert.ok(bench.logs.some((line) => /^alarm treasury.empty: .*it has 0.40 ACT, and 0.50 ACT are needed/.test(line)));
  assert.ok((await bench.market.treasury()).alarms.some(({ name }) => name === 'treasury.empty'));
  move(bench, 'uact', ONE);
  await bench.until('the alarm is over', async () => (await bench.market.treasury()).alarms.length === 0);
  // Enough for an order, not for its lease.
  await done(bench, () => bench.market.tender(akashOrder('o2')));
  await bench.until('a bid comes', async () => ((await bench.market.order('o2'))?.bids.length ?? 0) > 0);
  const [bid] = (await bench.market.order('o2'))?.bids ?? [];
  const taken = await bench.market.accept('o2', bid?.id ?? '', 3_000_000_000n);
  assert.ok(taken.kind === 'refused' && /treasury .* is empty/.test(taken.reason), JSON.stringify(taken.kind));
  move(bench, 'uakt', -99n * ONE - 990_000n);
  const noFees = await bench.market.tender(akashOrder('o3'));
  assert.ok(noFees.kind === 'refused' && /cannot pay the network fees/.test(noFees.reason));
});

test('a stock that is too small is minted, once, and all of it is in the books', async (t) => {
  const bench = await openAkash(t, {
    rules: { ...SOON, mint: MINT },
    funds: [
      { denom: 'uakt', amount: 1000n * ONE },
      { denom: 'uact', amount: 10n * ONE },
    ],
  });
  await bench.until('it is minted', async () => ((await bench.market.treasury()).wallets[0]?.uact ?? 0n) > 30n * ONE);
  await bench.until(
    'it is booked',
    async () => !(await bench.market.treasury()).mint.recent.some(({ booked }) => !booked),
  );
  await bench.passBlocks(8);
  const { mint, wallets, accounts } = await bench.market.treasury();
  assert.deepEqual(
    mint.recent.map(({ state }) => state),
    ['executed'],
  );
  assert.ok((wallets[0]?.uact ?? 0n) >= 36n * ONE && (wallets[0]?.uact ?? 0n) < 37n * ONE);
  assert.deepEqual(unexplained({ accounts }), []);
  const [done] = mint.recent;
  assert.equal(await bench.balance('expense:mint-spread:akash'), (done?.spread ?? 0n) * 1000n);
  assert.equal(await bench.balance('exchange:akash:usd'), (done?.minted ?? 0n) * 1000n);
  assert.equal(await bench.balance('exchange:akash:akt'), -(done?.burnUakt ?? 0n) * 1000n);
  bench.devnet.setFault('mint-halted', true);
  move(bench, 'uact', -30n * ONE);
  await bench.until('the halt is told', async () =>
    (await bench.market.treasury()).alarms.some(({ name }) => name === 'mint.halted'),
  );
  assert.equal((await bench.market.treasury()).mint.recent.length, 1);
});

test('what an earlier run put into escrows counts in the limit of an hour', async (t) => {
  const bench = await openAkash(t, { rules: { depositsPerHour: 1_200_000n } });
  const { id } = await lease(bench, 'o1');
  const next = await bench.again();
  const refusal = await next.tender(akashOrder('o2'));
  assert.ok(refusal.kind === 'refused' && /limit of an hour/.test(refusal.reason));
  const { limits, alarms } = await next.treasury();
  assert.deepEqual(
    limits.map(({ setting, used, max }) => [setting, used, max]),
    [['deposits_max_usd_per_hour', 1_000_000n, 1_200_000n]],
  );
  assert.ok(alarms.some(({ name }) => name === 'limit.reached'));
  await done(bench, () => next.close(id, 'tenant'));
});

test("grants of pools' wallets are shown with what is left of them", async (t) => {
  const bench = await openAkash(t, { rules: { walletPerPool: true } });
  const { id } = await lease(bench, 'o1');
  const { wallets, accounts } = await bench.market.treasury();
  const pool = wallets.find(({ name }) => name === 'tiny');
  assert.equal(pool?.depositGrant, 49_000_000n);
  assert.ok((pool.feeGrant?.uakt ?? 0n) < 5_000_000n && (pool.feeGrant?.untilMs ?? 0) > 0);
  assert.deepEqual(unexplained({ accounts }), []);
  await done(bench, () => bench.market.close(id, 'tenant'));
});

test('real funds, runway and what is urgent are computed from the block of the last settlement', () => {
  const escrow = { state: 'open', funds: 1000n, transferred: 0n, settledAt: 100 } as const;
  assert.deepEqual(runwayOf(escrow, '2.5', 140), { funds: 900n, block: 140, blocksLeft: 360 });
  assert.deepEqual(runwayOf(escrow, '2.5', 100_000), { funds: 0n, block: 100_000, blocksLeft: 0 });
  assert.deepEqual(runwayOf(escrow, '0', 140).blocksLeft, null);
  const wanted = wantedOf({
    payments: [
      { id: 'deposit', amount: 600n },
      { id: 'deposit-lease', amount: 400n },
      { id: 'fund-1', amount: 9n },
    ],
  });
  assert.equal(wanted, 1000n);
  const soon = { urgentMs: 60_000, blockMs: 6000 };
  const at = (block: number): bigint => urgentTopUp(runwayOf(escrow, '2.5', block), wanted, '2.5', soon);
  assert.equal(at(490), 0n, 'ten blocks are left: just enough');
  assert.equal(at(491), 977n);
  const short = runwayOf({ ...escrow, funds: 20n }, '2.5', 100);
  assert.equal(urgentTopUp(short, 20n, '2.5', soon), 0n, 'meant to be short');
});

test('a difference is explained by what is expected, by rounding, by what is under way, or not at all', () => {
  const sides = { account: 'a', asset: 'USD', ledger: 1000n, chain: 900n } as const;
  assert.deepEqual(compare({ ...sides, chain: 1000n }).why, '');
  const rent = { amount: -100n, why: 'rent' };
  assert.deepEqual(compare({ ...sides, expected: [rent] }), {
    ...sides,
    difference: -100n,
    explained: true,
    why: 'rent',
  });
  assert.equal(
    compare({ ...sides, expected: [{ amount: -90n, why: 'rent' }] }).why,
    'rent; went out without this gateway',
  );
  assert.equal(compare({ ...sides, chain: 899n, expected: [rent], roundingMax: 1n }).explained, true);
  assert.equal(compare({ ...sides, moving: true }).explained, false);
});

function unexplained({ accounts }: Pick<Awaited<ReturnType<AkashBench['market']['treasury']>>, 'accounts'>): string[] {
  return accounts.filter(({ explained }) => !explained).map(({ account, why }) => `${account}: ${why}`);
}

/** Behind the gateway's back. */
function move({ devnet }: AkashBench, denom: string, amount: bigint): void {
  addBalance(devnet.chain.state, devnet.tenant.address, { denom, amount });
  devnet.chain.state.journal.forget();
}

/** All but a few blocks' rent of an escrow is gone. */
function shrink({ devnet }: AkashBench, orderId: string, uact: bigint): void {
  const { state } = devnet.chain;
  const key = escrowKey('deployment', `${devnet.tenant.address}/${dseqOf(orderId)}`);
  const account = state.escrows.get(key);
  assert.ok(account);
  const amount = decFromInt(uact);
  const [first] = account.deposits;
  assert.ok(first);
  const deposits = [{ ...first, balance: { ...first.balance, amount } }];
  state.escrows.set(key, { ...account, deposits, funds: [{ denom: 'uact', amount }] });
  state.journal.forget();
}

async function done<T>({ passBlocks }: AkashBench, call: () => Promise<Outcome<T>>): Promise<T> {
  for (let tries = 0; tries < 20; tries += 1) {
    const outcome = await call();
    if (outcome.kind === 'done') return outcome.value;
    if (outcome.kind === 'refused') throw new Error(`refused: ${outcome.reason}`);
    await passBlocks(1);
  }
  throw new Error('the outcome stays unknown');
}

async function lease(bench: AkashBench, orderId: string): Promise<Lease> {
  const { market } = bench;
  await done(bench, () => market.tender(akashOrder(orderId)));
  await bench.until('a bid comes', async () => ((await market.order(orderId))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order(orderId))?.bids ?? [];
  return done(bench, () => market.accept(orderId, bid?.id ?? '', DEPOSIT));
}
