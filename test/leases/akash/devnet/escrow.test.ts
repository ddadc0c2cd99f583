import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { balanceOf, GasMeter, mintCoins, MODULES, type Context } from '../../../../src/leases/akash/devnet/context.ts';
import { DEC_ONE, decFromInt } from '../../../../src/leases/akash/devnet/decimal.ts';
import { Denial } from '../../../../src/leases/akash/devnet/denials.ts';
import { authorizeDeposit } from '../../../../src/leases/akash/devnet/deposit-rules.ts';
import {
  closeAccount,
  closePayment,
  createAccount,
  createPayment,
  depositToAccount,
  withdrawPayment,
} from '../../../../src/leases/akash/devnet/escrow-rules.ts';
import { emptyState, escrowKey, paymentKey } from '../../../../src/leases/akash/devnet/state.ts';

/** Escrow next to a reference that goes block by block and knows nothing of lazy settlement. */

const TENANT = 'tenant';
const XID = 'tenant/1';

interface World {
  readonly context: Context;
  at(height: number): Context;
}

function openWorld(): World {
  const state = emptyState();
  mintCoins(state, TENANT, { denom: 'uact', amount: 10n ** 15n });
  // Collateral enough for all of it.
  mintCoins(state, MODULES.bme, { denom: 'uakt', amount: 10n ** 16n });
  const at = (height: number): Context => ({
    state,
    height,
    timeS: BigInt(height),
    gas: new GasMeter(2n ** 62n),
    events: [],
    hooks: { accountClosed: () => undefined, paymentClosed: () => undefined },
    mintsHalted: false,
    mintsCanceled: false,
  });
  return { context: at(1), at };
}

const deposit = (context: Context, amount: bigint) =>
  authorizeDeposit(context, TENANT, { amount: { denom: 'uact', amount }, sources: [1] }, 'deployment');
const id = { scope: 'deployment', xid: XID } as const;
const paymentId = (xid: string) => ({ scope: 'deployment', accountXid: XID, xid }) as const;

const stepArb = fc.oneof(
  fc.record({ kind: fc.constant('blocks' as const), blocks: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('withdraw' as const), blocks: fc.constant(0) }),
  fc.record({ kind: fc.constant('deposit' as const), blocks: fc.integer({ min: 1, max: 5000 }) }),
);
/** 18 decimals, up to 100 uact a block. */
const rateArb = fc.bigInt({ min: 1n, max: 100n * DEC_ONE });

test('one payment: what is charged is what a count block by block comes to, and the rest comes back', () => {
  fc.assert(
    fc.property(
      rateArb,
      fc.integer({ min: 500, max: 20_000 }),
      fc.array(stepArb, { maxLength: 12 }),
      (rate, first, steps) => {
        const world = openWorld();
        createAccount(world.context, { ...id, owner: TENANT }, deposit(world.context, BigInt(first)));
        createPayment(world.context, paymentId('p'), 'provider', { denom: 'uact', amount: rate });
        let height = 1;
        // The reference: each block owes its rate; an event draws the whole units of what the blocks since the last one owe.
        let [owed, paid, put, dry] = [0n, 0n, BigInt(first), false];
        const draw = (): void => {
          const due = owed / DEC_ONE;
          owed = 0n;
          const take = due > put - paid ? put - paid : due;
          if (take < due) dry = true;
          paid += take;
        };
        for (const { kind, blocks } of steps) {
          const context = world.at(height);
          if (kind === 'blocks') {
            height += blocks;
            for (let block = 0; block < blocks; block += 1) owed += rate;
          } else if (kind === 'withdraw') {
            // In the same block as the last event there is nothing to find.
            if (context.state.escrows.get(escrowKey('deployment', XID))?.settledAt === height) continue;
            draw();
            withdrawPayment(context, paymentId('p'));
            if (dry) break;
          } else {
            put += BigInt(blocks);
            depositToAccount(context, id, deposit(context, BigInt(blocks)));
          }
        }
        const end = world.at(height);
        if (!dry) {
          draw();
          closeAccount(end, 'deployment', XID);
        }
        const account = end.state.escrows.get(escrowKey('deployment', XID));
        assert.equal(account?.state, dry ? 'overdrawn' : 'closed');
        assert.equal(balanceOf(end.state, 'provider', 'uact'), paid);
        assert.equal(balanceOf(end.state, TENANT, 'uact'), 10n ** 15n - paid);
        assert.equal(balanceOf(end.state, MODULES.escrow, 'uact'), 0n);
      },
    ),
    { numRuns: 400 },
  );
});

test('several payments: no coin is made or lost, and what the module holds is what accounts and payments say', () => {
  const actionArb = fc.record({
    blocks: fc.integer({ min: 0, max: 30 }),
    what: fc.constantFrom('withdraw', 'close', 'open', 'deposit'),
    which: fc.constantFrom('a', 'b', 'c'),
  });
  fc.assert(
    fc.property(
      fc.array(rateArb, { minLength: 3, maxLength: 3 }),
      fc.array(actionArb, { maxLength: 25 }),
      (rates, actions) => {
        const world = openWorld();
        createAccount(world.context, { ...id, owner: TENANT }, deposit(world.context, 3_000n));
        let height = 1;
        for (const { blocks, what, which } of actions) {
          height += blocks;
          const context = world.at(height);
          const mark = context.state.journal.mark();
          try {
            if (what === 'withdraw') withdrawPayment(context, paymentId(which));
            else if (what === 'close') closePayment(context, paymentId(which));
            else if (what === 'deposit') depositToAccount(context, id, deposit(context, 500n));
            else {
              const rate = { denom: 'uact', amount: rates['abc'.indexOf(which)] ?? 1n };
              createPayment(context, paymentId(which), `provider-${which}`, rate);
            }
          } catch (error) {
            assert.ok(error instanceof Denial);
            context.state.journal.rollback(mark);
          }
          check(context);
        }
      },
    ),
    { numRuns: 300 },
  );
  function check({ state }: Context): void {
    const account = state.escrows.get(escrowKey('deployment', XID));
    const deposits = (account?.deposits ?? []).reduce((sum, { balance }) => sum + balance.amount, 0n);
    const pending = state.payments.values().reduce((sum, { balance }) => sum + balance, 0n);
    assert.equal(decFromInt(balanceOf(state, MODULES.escrow, 'uact')), deposits + pending);
    const all = state.balances
      .entries()
      .reduce((sum, [key, amount]) => (key.endsWith(' uact') ? sum + amount : sum), 0n);
    assert.equal(all, 10n ** 15n);
    for (const { withdrawn, owner } of state.payments.values()) {
      assert.equal(balanceOf(state, owner, 'uact'), withdrawn);
    }
  }
});

test('an overdrawn account keeps the debt, a later deposit pays it and closes the account without reviving it', () => {
  const world = openWorld();
  createAccount(world.context, { ...id, owner: TENANT }, deposit(world.context, 500_000n));
  createPayment(world.context, paymentId('p'), 'provider', { denom: 'uact', amount: decFromInt(10_000n) });
  withdrawPayment(world.at(61), paymentId('p'));
  const { state } = world.context;
  const key = escrowKey('deployment', XID);
  assert.equal(state.escrows.get(key)?.state, 'overdrawn');
  assert.equal(state.escrows.get(key)?.funds[0]?.amount, decFromInt(-100_000n));
  const payment = state.payments.get(paymentKey('deployment', XID, 'p'));
  assert.equal(payment?.state, 'overdrawn');
  assert.equal(payment?.unsettled, decFromInt(100_000n));
  assert.equal(balanceOf(state, 'provider', 'uact'), 500_000n);
  const context = world.at(500);
  depositToAccount(context, id, deposit(context, 300_000n));
  assert.equal(state.escrows.get(key)?.state, 'closed');
  assert.equal(balanceOf(state, 'provider', 'uact'), 600_000n);
  assert.equal(balanceOf(state, TENANT, 'uact'), 10n ** 15n - 600_000n);
  assert.throws(() => depositToAccount(context, id, deposit(context, 1n)), /account closed/);
});

test('the grants that a deposit came from get back what is refunded', () => {
  const world = openWorld();
  const { state } = world.context;
  mintCoins(state, 'granter', { denom: 'uact', amount: 1_000_000n });
  const grant = { granter: 'granter', grantee: TENANT, scopes: [1], expiresS: null };
  state.grants.set(`granter ${TENANT}`, { ...grant, limits: [{ denom: 'uact', amount: 800_000n }] });
  const request = { amount: { denom: 'uact', amount: 600_000n }, sources: [2] };
  createAccount(
    world.context,
    { ...id, owner: TENANT },
    authorizeDeposit(world.context, TENANT, request, 'deployment'),
  );
  const left = () => state.grants.get(`granter ${TENANT}`)?.limits[0]?.amount;
  assert.equal(left(), 200_000n);
  // What a refusal left half done is undone by whoever ran it.
  const mark = state.journal.mark();
  assert.throws(() => authorizeDeposit(world.context, TENANT, request, 'deployment'), /insufficient balance/);
  state.journal.rollback(mark);
  assert.throws(() => authorizeDeposit(world.context, TENANT, request, 'bid'), /insufficient balance/);
  createPayment(world.context, paymentId('p'), 'provider', { denom: 'uact', amount: decFromInt(1_000n) });
  closeAccount(world.at(101), 'deployment', XID);
  assert.equal(balanceOf(state, 'granter', 'uact'), 900_000n);
  assert.equal(left(), 700_000n);
  assert.equal(balanceOf(state, 'provider', 'uact'), 100_000n);
});

test('AKT in an escrow pays only while mints are halted', () => {
  const run = (halted: boolean) => {
    const world = openWorld();
    const { state } = world.context;
    mintCoins(state, TENANT, { denom: 'uakt', amount: 1_000_000n });
    createAccount(world.context, { ...id, owner: TENANT }, deposit(world.context, 500_000n));
    createPayment(world.context, paymentId('p'), 'provider', { denom: 'uact', amount: decFromInt(10_000n) });
    const akt = { amount: { denom: 'uakt', amount: 400_000n }, sources: [1] };
    depositToAccount(world.at(2), id, authorizeDeposit(world.at(2), TENANT, akt, 'deployment'));
    withdrawPayment({ ...world.at(61), mintsHalted: halted }, paymentId('p'));
    return {
      account: state.escrows.get(escrowKey('deployment', XID))?.state,
      uakt: balanceOf(state, 'provider', 'uakt'),
      uact: balanceOf(state, 'provider', 'uact'),
    };
  };
  // 100,000 uact are short: 200,000 uakt at $0.50.
  assert.deepEqual(run(true), { account: 'open', uakt: 200_000n, uact: 500_000n });
  assert.deepEqual(run(false), { account: 'overdrawn', uakt: 0n, uact: 500_000n });
});
