import { maxBig, type NanoUsd } from '../units.ts';

/** Pure: one budget for all pools, shared by need. What runs comes before what is wished for, the neediest first. */

export interface Claim {
  readonly costNanoUsdPerHour: NanoUsd;
  /** Lower is kept first: 0 cannot be given back, 1 answers, 2 is ready, 3 starts, 4 is ordered. */
  readonly rank: 0 | 1 | 2 | 3 | 4;
}

export interface PoolClaims {
  readonly pool: string;
  readonly claims: readonly Claim[];
  /** Replicas that are missing for what is asked now, and what each may cost. */
  readonly missing: number;
  readonly ceilingNanoUsdPerHour: NanoUsd;
  readonly waiting: number;
}

export interface Share {
  /** Of what the pool has, what is paid for. */
  readonly keptNanoUsdPerHour: NanoUsd;
  /** For replicas that it is missing. */
  readonly moreNanoUsdPerHour: NanoUsd;
}

/** Looked at in one go; a pool that misses more asks again when these are there. */
const MISSING_MAX = 8;

/** Nobody's share is above what is asked, and all shares together are within the budget, unless what cannot be ended is above it. */
export function shareBudget(hourNanoUsd: NanoUsd, pools: readonly PoolClaims[]): Map<string, Share> {
  const wishes = pools.flatMap((of, order) => {
    const live = of.claims.filter(({ rank }) => rank > 0).length;
    const missing = Array.from({ length: Math.min(MISSING_MAX, of.missing) }, (_, at) => {
      // The first replica of a pool that has none comes before the fifth of another.
      return { of, order, cost: of.ceilingNanoUsdPerHour, rank: 5 + live + at, more: true };
    });
    const kept = of.claims.map(({ costNanoUsdPerHour: cost, rank }) => ({ of, order, cost, rank, more: false }));
    return [...kept, ...missing];
  });
  wishes.sort((a, b) => a.rank - b.rank || b.of.waiting - a.of.waiting || a.order - b.order);
  let left = hourNanoUsd;
  const shares = new Map(pools.map(({ pool }) => [pool, { keptNanoUsdPerHour: 0n, moreNanoUsdPerHour: 0n }]));
  const refused = new Set<string>();
  for (const { of, cost, rank, more } of wishes) {
    const share = shares.get(of.pool);
    if (!share || (rank > 0 && cost > left) || (more && refused.has(of.pool))) {
      if (more) refused.add(of.pool);
      continue;
    }
    left -= cost;
    if (more) share.moreNanoUsdPerHour += cost;
    else share.keptNanoUsdPerHour += cost;
  }
  return shares;
}

/**
 * What a pool may cost in an hour when its turn comes: what it keeps, and of what is free now all that is not put by for
 * those whose turn comes later.
 */
export function budgetAtTurn(turn: {
  readonly hourNanoUsd: NanoUsd;
  /** Of all pools, now; and of this one. */
  readonly allNanoUsdPerHour: NanoUsd;
  readonly ownNanoUsdPerHour: NanoUsd;
  readonly share: Share;
  readonly putByNanoUsdPerHour: NanoUsd;
}): NanoUsd {
  const { hourNanoUsd, allNanoUsdPerHour: all, ownNanoUsdPerHour: own, share, putByNanoUsdPerHour } = turn;
  if (all > hourNanoUsd) return share.keptNanoUsdPerHour;
  return own + maxBig(0n, hourNanoUsd - all - putByNanoUsdPerHour);
}
