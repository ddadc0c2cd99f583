import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { WakeOffer, type Asking } from '../../src/scheduler/pool/wake-offer.ts';
import { decideWake, refusedAskers, splitByWeight, type WakeInput } from '../../src/scheduler/wake.ts';
import { ANYBODY_WAKES, WAKE_WAYS, type Wake } from '../../src/spec/wake.ts';

test('a pool that asks for nothing is woken by anybody, and it is put down to those who wait', () => {
  const asking = [asks('ann', { value: 30n }), asks('bob', { value: 10n })];
  const { replicas, cause } = decide({ wake: ANYBODY_WAKES, asking });
  assert.equal(replicas, Infinity);
  assert.deepEqual([cause?.way, cause?.shares], ['free', [share('ann', 30n), share('bob', 10n)]]);
  const idle = decide({ wake: ANYBODY_WAKES, asking: [asks('ann', { value: 0n }), asks('bob', { value: 0n })] });
  assert.deepEqual(idle.cause?.shares, [share('ann', 1n), share('bob', 1n)], 'worth nothing: alike');
});

test('queued value wakes as many machines as it is worth, and a part of a request counts once', () => {
  const wake = needs('value');
  const one = asks('ann', { value: 60n });
  assert.equal(decide({ wake, asking: [one, { ...one }] }).replicas, 0, 'two choices of one answer');
  assert.equal(decide({ wake, asking: [one, asks('bob', { value: 40n })] }).replicas, 1);
  assert.equal(decide({ wake, asking: [one, asks('bob', { value: 240n })] }).replicas, 3);
  assert.equal(decide({ wake, asking: [one, asks('bob', { value: 240n })], coming: 2 }).replicas, 1);
  assert.equal(decide({ wake, asking: [one, asks('bob', { value: 240n })], coming: 3 }).replicas, 0);
});

test('who leaves before a machine can be there pays for none', () => {
  const wake = needs('value', 'allowance', 'fee');
  const short = asks('ann', { value: 500n, fee: 100n, patienceMs: 59_999 });
  assert.equal(decide({ wake, asking: [short] }).replicas, 0);
  assert.equal(decide({ wake, asking: [{ ...short, patienceMs: 60_000 }] }).replicas, 5);
  assert.equal(decide({ wake, asking: [short], maxWaitMs: 50_000 }).cause?.way, 'value', 'nobody may wait longer here');
});

test('the first in line with a wake left pays by its allowance, before a fee is taken', () => {
  const wake = needs('allowance', 'fee');
  const asking = [asks('ann', { fee: 100n }), asks('bob', { fee: 100n })];
  const left: Record<string, number> = { ann: 0, bob: 1 };
  const { replicas, cause } = decide({ wake, asking, allowanceOf: (account) => left[account] ?? 0 });
  assert.deepEqual([replicas, cause?.way, cause?.shares, cause?.fee], [1, 'allowance', [share('bob', 1n)], null]);
});

test('a fee is taken from one request, and not while a machine comes already', () => {
  const wake = needs('fee');
  const asking = [asks('ann'), asks('bob', { fee: 100n }), asks('cid', { fee: 90n })];
  const { replicas, cause } = decide({ wake, asking });
  assert.deepEqual(
    [replicas, cause?.way, cause?.fee],
    [1, 'fee', { request: asking[1]?.offer?.request, nanoUsd: 100n }],
  );
  assert.equal(decide({ wake, asking, coming: 1 }).replicas, 0);
  assert.equal(decide({ wake, asking: [asks('ann')] }).replicas, 0);
});

test('another machine is owed for one that failed, and to a fee that is due already', () => {
  const wake = needs('fee');
  assert.equal(decide({ wake, asking: [{ ...asks('ann'), owed: true }] }).cause?.way, 'owed');
  const paid = asks('ann', { fee: 5n });
  paid.offer?.follow('leased');
  assert.equal(decide({ wake, asking: [paid] }).cause?.way, 'owed');
  assert.equal(decide({ wake, asking: [], outgrown: true }).cause?.way, 'cheaper');
});

test('those who waited for others in vain are refused, those who are owed a machine are not', () => {
  const asking = [
    asks('ann', { waitedMs: 5000 }),
    asks('bob', { waitedMs: 4999 }),
    { ...asks('c', { waitedMs: 9000 }), owed: true },
  ];
  assert.deepEqual(refusedAskers(needs('value'), asking), [0]);
});

test('nothing is woken beyond its worth, nobody pays above an offer, and shares add up', () => {
  const asker = fc.record({
    account: fc.constantFrom('ann', 'bob', 'cid'),
    value: fc.bigInt(0n, 300n),
    fee: fc.bigInt(0n, 50n),
    patienceMs: fc.nat(120_000),
  });
  const ways = fc.uniqueArray(fc.constantFrom(...WAKE_WAYS), { minLength: 1 });
  fc.assert(
    fc.property(ways, fc.array(asker, { maxLength: 6 }), fc.nat(3), fc.bigInt(1n, 200n), (of, made, coming, cost) => {
      const asking = made.map(({ account, ...more }) => asks(account, more));
      const wake = needs(...of);
      const left = 1;
      const { replicas, cause } = decide({ wake, asking, coming, costNanoUsd: cost, allowanceOf: () => left });
      const patient = asking.filter(({ patienceMs }) => patienceMs >= 60_000);
      const value = patient.reduce((sum, { offer }) => sum + (offer?.valueNanoUsd ?? 0n), 0n);
      assert.equal(replicas > 0, cause !== null);
      if (replicas === 0) return;
      assert.ok(patient.length > 0);
      if (cause?.way === 'value') assert.ok(BigInt(coming + replicas) * cost <= value);
      else assert.deepEqual([replicas, coming], [1, 0]);
      if (cause?.fee) {
        const payer = asking.find(({ offer }) => offer?.request === cause.fee?.request);
        assert.equal(payer?.offer?.feeNanoUsd, cause.fee.nanoUsd);
        assert.ok(of.includes('fee'));
      }
      const parts = splitByWeight(cost, cause?.shares ?? []);
      assert.equal(
        [...parts.values()].reduce((sum, part) => sum + part, 0n),
        cost,
      );
    }),
  );
});

let requests = 0;

function asks(
  account: string,
  of: { value?: bigint; fee?: bigint; waitedMs?: number; patienceMs?: number } = {},
): Asking {
  const { value = 1n, fee = 0n, waitedMs = 0, patienceMs = 300_000 } = of;
  requests += 1;
  const offer = new WakeOffer({ request: `r${requests}`, valueNanoUsd: value, feeNanoUsd: fee });
  return { account, offer, waitedMs, patienceMs, owed: false };
}

const share = (account: string, weight: bigint) => ({ account, weight });
const needs = (...ways: Wake['needs'][number][]): Wake => ({ ...ANYBODY_WAKES, needs: ways });

function decide(change: Partial<WakeInput>): ReturnType<typeof decideWake> {
  return decideWake({
    ...{ wake: ANYBODY_WAKES, asking: [], coming: 0, startMs: 60_000, costNanoUsd: 100n, maxWaitMs: 300_000 },
    ...{ allowanceOf: () => Infinity, outgrown: false },
    ...change,
  });
}
