import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { planPool, type PlannedReplica } from '../../src/scheduler/plan.ts';
import type { ReplicaState } from '../../src/scheduler/records.ts';
import { budgetAtTurn, shareBudget, type Claim, type PoolClaims } from '../../src/scheduler/share.ts';
import { testSpec } from '../fakes/market-samples.ts';

const claim = (cost: bigint, rank: Claim['rank'] = 1): Claim => ({ costNanoUsdPerHour: cost, rank });
const pool = (name: string, change: Partial<PoolClaims> = {}): PoolClaims => {
  return { pool: name, claims: [], missing: 0, ceilingNanoUsdPerHour: 10n, waiting: 0, ...change };
};
const shares = (hour: bigint, ...pools: PoolClaims[]) =>
  Object.fromEntries(
    [...shareBudget(hour, pools)].map(([id, share]) => [id, [share.keptNanoUsdPerHour, share.moreNanoUsdPerHour]]),
  );

test('what runs comes before what is wished for, and the neediest pool is given to first', () => {
  const a = pool('a', { claims: [claim(10n)], missing: 2, waiting: 1 });
  const b = pool('b', { missing: 1, waiting: 5 });
  assert.deepEqual(shares(30n, a, b), { a: [10n, 10n], b: [0n, 10n] });
  assert.deepEqual(shares(20n, a, b), { a: [10n, 0n], b: [0n, 10n] }, 'a first replica before a second');
  assert.deepEqual(shares(100n, a, b), { a: [10n, 20n], b: [0n, 10n] });
});

test('when the budget is too small for what runs, the least useful is no longer paid for', () => {
  const a = pool('a', { claims: [claim(10n), claim(10n, 2)] });
  const b = pool('b', { claims: [claim(10n, 4), claim(10n, 0)] });
  assert.deepEqual(shares(25n, a, b), { a: [10n, 0n], b: [10n, 0n] }, 'what drains is paid in any case');
});

test('at its turn a pool may have what is free and not put by for those that come later', () => {
  const share = { keptNanoUsdPerHour: 10n, moreNanoUsdPerHour: 0n };
  const turn = { hourNanoUsd: 50n, allNanoUsdPerHour: 30n, ownNanoUsdPerHour: 10n, share, putByNanoUsdPerHour: 10n };
  assert.equal(budgetAtTurn(turn), 20n);
  assert.equal(budgetAtTurn({ ...turn, putByNanoUsdPerHour: 90n }), 10n);
  assert.equal(budgetAtTurn({ ...turn, allNanoUsdPerHour: 51n }), 10n, 'only what it keeps');
});

/** A step of a pool's life: replicas change state, then it is planned and what the plan says is done. */
const STATES: readonly ReplicaState[] = ['ordering', 'accepting', 'starting', 'ready', 'draining'];
const step = fc.record({
  pool: fc.nat(2),
  wanted: fc.nat(6),
  /** Moves some replica on: a lease that costs less than the ceiling, ready, lost, taken back. */
  change: fc.nat(30),
  what: fc.constantFrom('lease', 'ready', 'lost', 'nothing'),
  beside: fc.nat(2),
});

test('no sequence of plans takes pools above the budget of their hour, their own or the shared one', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.nat(12), fc.nat(6), (steps, sharedBy, ownBy) => {
      const [shared, own] = [BigInt(sharedBy) * 10n, BigInt(ownBy) * 10n];
      const base = testSpec({ replicas: { min: 0, max: 9 } });
      const spec = { ...base, ceilingNanoUsdPerHour: 10n, budget: { hourNanoUsd: own, dayNanoUsd: null } };
      const fleets: PlannedReplica[][] = [[], [], []];
      let made = 0;
      const cost = (fleet: readonly PlannedReplica[]): bigint =>
        fleet.reduce((sum, one) => sum + one.costNanoUsdPerHour, 0n);
      for (const { pool: at, wanted, change, what, beside } of steps) {
        const fleet = fleets[at] ?? [];
        fleets[at] = moved(fleet, change, what);
        const claims = fleets.map((all, id) =>
          pool(String(id), {
            claims: all.map((one) => claim(one.costNanoUsdPerHour, one.state === 'draining' ? 0 : 2)),
            missing: id === at ? wanted : 1,
          }),
        );
        const all = shareBudget(shared, claims);
        const share = all.get(String(at)) ?? { keptNanoUsdPerHour: 0n, moreNanoUsdPerHour: 0n };
        const hourNanoUsd = budgetAtTurn({
          ...{ hourNanoUsd: shared, allNanoUsdPerHour: cost(fleets.flat()), share, putByNanoUsdPerHour: 0n },
          ownNanoUsdPerHour: cost(fleets[at] ?? []),
        });
        // A reserve beside the machines takes of the same budget.
        const besideNanoUsdPerHour = BigInt(beside) * 5n;
        const limit = hourNanoUsd < own ? hourNanoUsd : own;
        const actions = planPool({
          ...{ spec: { ...spec, budget: { hourNanoUsd: limit, dayNanoUsd: null } }, nowMs: 0, backoffUntilMs: 0 },
          ...{ replicas: fleets[at] ?? [], scale: { wanted, reason: 'asked' }, besideNanoUsdPerHour },
          budget: { spentTodayNanoUsd: 0n },
        });
        const before = cost(fleets[at] ?? []);
        for (const action of actions) {
          if (action.type === 'order') {
            made += 1;
            fleets[at]?.push(replica(`r${made}`, 'ordering'));
          } else if ('replica' in action) {
            fleets[at] = (fleets[at] ?? []).flatMap((one) =>
              one.id !== action.replica ? [one] : action.type === 'drain' ? [{ ...one, state: 'draining' }] : [],
            );
          }
        }
        const after = cost(fleets[at] ?? []);
        if (after > before) assert.ok(after + besideNanoUsdPerHour <= limit, `${after} of ${limit}`);
        assert.ok(cost(fleets[at] ?? []) <= own && cost(fleets.flat()) <= shared);
      }
    }),
  );
});

function replica(id: string, state: ReplicaState): PlannedReplica {
  return { id, state, inFlight: 0, idleMs: 0, drainSinceMs: 0, costNanoUsdPerHour: 10n };
}

function moved(fleet: readonly PlannedReplica[], change: number, what: string): PlannedReplica[] {
  const chosen = fleet[change % Math.max(1, fleet.length)];
  return fleet.flatMap((one) => {
    if (one !== chosen || what === 'nothing') return [one];
    if (what === 'lost') return [];
    const next = STATES[Math.min(STATES.indexOf(one.state) + 1, 3)] ?? one.state;
    return one.state === 'draining'
      ? [one]
      : [{ ...one, state: next, costNanoUsdPerHour: what === 'lease' ? 7n : 10n }];
  });
}
