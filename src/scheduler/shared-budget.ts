import type { PoolSpec } from '../spec.ts';
import { minBig, type NanoUsd } from '../units.ts';
import type { Fleet } from './fleet.ts';
import { hourlyCost } from './observation.ts';
import type { Budget } from './plan.ts';
import type { PoolRouter } from './pool/router.ts';
import type { ReplicaRecord, ReplicaState } from './records.ts';
import { budgetAtTurn, shareBudget, type Claim, type Share } from './share.ts';

const RANKS: Readonly<Record<ReplicaState, Claim['rank']>> = {
  ready: 2,
  starting: 3,
  accepting: 3,
  ordering: 4,
  draining: 0,
  closing: 0,
  closed: 0,
};

interface Looked {
  readonly router: PoolRouter;
  readonly spec: PoolSpec;
}

/** The budget of all pools together: at each look it is shared by need, then each pool's turn takes of it what is free. */
export class SharedBudget {
  readonly #fleet: Fleet;
  readonly #budget: PoolSpec['budget'];
  #specs = new Map<string, PoolSpec>();
  #shares = new Map<string, Share>();
  /** Pools whose turn is still to come. */
  #waiting = new Set<string>();

  constructor(fleet: Fleet, budget: PoolSpec['budget']) {
    this.#fleet = fleet;
    this.#budget = budget;
  }

  look(pools: readonly Looked[]): void {
    const { hourNanoUsd } = this.#budget;
    this.#specs = new Map(pools.map(({ spec }) => [spec.id, spec]));
    if (hourNanoUsd === null) return;
    this.#waiting = new Set(this.#specs.keys());
    this.#shares = shareBudget(
      hourNanoUsd,
      pools.map(({ router, spec }) => {
        const records = this.#fleet.ofPool(spec.id);
        const claims = records.map((record) => claimOf(record, router));
        const live = claims.filter(({ rank }) => rank > 0).length;
        const { waiting, inFlight } = router.stats;
        const needed = Math.min(
          spec.replicasMax,
          Math.max(spec.replicasMin, Math.ceil((waiting + inFlight) / spec.slots)),
        );
        const { id: pool, ceilingNanoUsdPerHour } = spec;
        return { pool, claims, missing: Math.max(0, needed - live), ceilingNanoUsdPerHour, waiting };
      }),
    );
  }

  /** A pool at its turn, with what it may cost in an hour. */
  limit(spec: PoolSpec): PoolSpec {
    const { hourNanoUsd } = this.#budget;
    const share = this.#shares.get(spec.id);
    if (hourNanoUsd === null || !share) return spec;
    this.#waiting.delete(spec.id);
    let putByNanoUsdPerHour = 0n;
    for (const pool of this.#waiting) putByNanoUsdPerHour += this.#shares.get(pool)?.moreNanoUsdPerHour ?? 0n;
    const allNanoUsdPerHour = [...this.#specs.values()].reduce((sum, one) => sum + this.#costOf(one), 0n);
    const ownNanoUsdPerHour = this.#costOf(spec);
    const turn = budgetAtTurn({ hourNanoUsd, allNanoUsdPerHour, ownNanoUsdPerHour, share, putByNanoUsdPerHour });
    const own = spec.budget.hourNanoUsd;
    return { ...spec, budget: { ...spec.budget, hourNanoUsd: own === null ? turn : minBig(own, turn) } };
  }

  /** What of it holds for every pool alike. */
  state(): Pick<Budget, 'exhausted' | 'shared'> {
    const { hourNanoUsd, dayNanoUsd } = this.#budget;
    const used = dayNanoUsd !== null && this.#fleet.spentTodayByAll() + this.#drainCost() >= dayNanoUsd;
    return { exhausted: used ? "the gateway's budget for the day is used up" : null, shared: hourNanoUsd !== null };
  }

  /** What all of it costs until its last answers have ended. */
  #drainCost(): NanoUsd {
    let cost = 0n;
    for (const spec of this.#specs.values()) cost += (this.#costOf(spec) * BigInt(spec.limits.drainMs)) / 3_600_000n;
    return cost;
  }

  #costOf(spec: PoolSpec): NanoUsd {
    return this.#fleet.ofPool(spec.id).reduce((sum, record) => sum + hourlyCost(record, spec), 0n);
  }
}

function claimOf(record: ReplicaRecord, router: PoolRouter): Claim {
  const busy = record.state === 'ready' && (router.load(record.id)?.inFlight ?? 0) > 0;
  return { costNanoUsdPerHour: hourlyCost(record, router.spec), rank: busy ? 1 : RANKS[record.state] };
}
