import type { Clock } from '../clock.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName } from '../spec.ts';
import type { EpochMs } from '../units.ts';
import { reserveOf, specialOf } from './failures.ts';
import type { Fleet } from './fleet.ts';
import { Observations, observePool } from './observation.ts';
import type { Action } from './plan.ts';
import { planWhole } from './pool-plan.ts';
import type { Pool } from './pool/pools.ts';
import type { PoolRouter } from './pool/router.ts';
import type { ReplicaRecord } from './records.ts';
import { hasOutgrown, planReserve, type ReserveAction } from './reserve.ts';

export interface PlannerOptions {
  readonly clock: Clock;
  readonly markets: ReadonlyMap<MarketName, Market>;
}

/** Of these the load is taken by which a price per token is compared with one per hour. */
const LOAD_MINUTES = 10;

/** Looks at a pool and asks the pure functions what to do about it. */
export class Planner {
  readonly #options: PlannerOptions;
  readonly #fleet: Fleet;
  /** When this process began. */
  readonly #sinceMs: EpochMs;
  readonly #observations = new Observations();

  constructor(options: PlannerOptions, fleet: Fleet) {
    this.#options = options;
    this.#fleet = fleet;
    this.#sinceMs = options.clock.now();
  }

  plan({ router }: Pool): (Action | ReserveAction)[] {
    const { spec, stats } = router;
    const nowMs = this.#options.clock.now();
    const all = this.#fleet.ofPool(spec.id);
    // One that drains ends like any other.
    const reserves = all.filter((record) => record.state !== 'draining' && this.#isReserve(record, router, nowMs));
    const own = all.filter((record) => !reserves.includes(record));
    const { failures, rollouts } = this.#fleet;
    const known = this.#fleet.book.pool(spec.id);
    if (known.startMs !== null) router.expectStart(known.startMs);
    const times = { nowMs, sinceMs: this.#sinceMs };
    const budget = { spentTodayNanoUsd: this.#fleet.spentToday(spec.id) };
    const actions = planWhole({
      ...{
        router,
        records: own,
        budget,
        ...times,
        learned: this.#observations.learn(router, known, nowMs),
      },
      backoffUntilMs: failures.backoffUntil(spec.id),
      specialBackoffUntilMs: failures.backoffUntil(specialOf(spec.id)),
      rolloutPaused: rollouts.paused(spec),
    });
    const { demand, replicas } = observePool(router, own, times);
    const reserve = planReserve({
      spec,
      offered: this.#options.markets.has('api') && (spec.markets?.includes('api') ?? true),
      demand,
      waitedMs: nowMs - (stats.waitingSinceMs ?? nowMs),
      replicas,
      reserves: observePool(router, reserves, times).replicas,
      spentTodayNanoUsd: budget.spentTodayNanoUsd,
      backoffUntilMs: failures.backoffUntil(reserveOf(spec.id)),
      nowMs,
    });
    return [...actions, ...reserve];
  }

  /** Forgets pools that are gone. */
  keep(pools: readonly Pool[]): void {
    this.#observations.keep(new Set(pools.map(({ router }) => router.spec.id)));
  }

  /** What won its pool's auction by the token stops counting once machines are cheaper at today's load. */
  #isReserve({ id, market }: ReplicaRecord, { spec, meter }: PoolRouter, nowMs: EpochMs): boolean {
    const notes = this.#fleet.notes(id);
    const { tokenPrice, rivalNanoUsdPerHour } = notes;
    if (market !== 'api' || notes.reserve || tokenPrice === null) return notes.reserve;
    const rate = meter.rate(nowMs, LOAD_MINUTES);
    notes.reserve = hasOutgrown(spec, tokenPrice, { rate, rivalNanoUsdPerHour });
    return notes.reserve;
  }
}
