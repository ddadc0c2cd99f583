import type { Clock } from '../clock.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import type { EpochMs } from '../units.ts';
import type { Allowances } from './allowances.ts';
import { reserveOf, specialOf } from './failures.ts';
import type { Fleet } from './fleet.ts';
import { Observations, observePool } from './observation.ts';
import { openingOf, type Pauses } from './pauses.ts';
import type { Action, Budget } from './plan.ts';
import { planWhole } from './pool-plan.ts';
import type { Pool } from './pool/pools.ts';
import type { PoolRouter } from './pool/router.ts';
import { START_GUESS_MS } from './pool/wake-offer.ts';
import type { ReplicaRecord } from './records.ts';
import { hasOutgrown, planReserve, type ReserveAction } from './reserve.ts';
import { SharedBudget } from './shared-budget.ts';

export interface PlannerOptions {
  readonly clock: Clock;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly pauses: Pauses;
  readonly allowances: Allowances;
  /** Of all pools together. */
  readonly budget?: PoolSpec['budget'] | undefined;
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
  readonly #shared: SharedBudget;

  constructor(options: PlannerOptions, fleet: Fleet) {
    this.#options = options;
    this.#fleet = fleet;
    this.#sinceMs = options.clock.now();
    this.#shared = new SharedBudget(fleet, options.budget ?? { hourNanoUsd: null, dayNanoUsd: null });
  }

  /** All pools at once, before each is planned: what they need of what they share; those that are gone are forgotten. */
  look(pools: readonly Pool[]): void {
    this.#observations.keep(new Set(pools.map(({ router }) => router.spec.id)));
    this.#shared.look(pools.map(({ router }) => ({ router, spec: this.#opening(router).spec })));
  }

  plan({ router }: Pool): (Action | ReserveAction)[] {
    const { clock, markets, allowances } = this.#options;
    const nowMs = clock.now();
    const { spec: open, shut } = this.#opening(router);
    router.shut(shut);
    const spec = this.#shared.limit(open);
    const all = this.#fleet.ofPool(spec.id);
    // One that drains ends like any other.
    const reserves = all.filter((record) => record.state !== 'draining' && this.#isReserve(record, router, nowMs));
    const own = all.filter((record) => !reserves.includes(record));
    const { failures, rollouts } = this.#fleet;
    const times = { nowMs, sinceMs: this.#sinceMs };
    const budget: Budget = { spentTodayNanoUsd: this.#fleet.spentToday(spec.id), ...this.#shared.state() };
    const standing = observePool(router, reserves, times).replicas;
    const actions = planWhole({
      ...{ router, spec, records: own, budget, ...times, learned: this.#observations.learn(router, spec, nowMs) },
      besideNanoUsdPerHour: standing.reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n),
      wake: {
        allowanceOf: (account) => allowances.left(account, spec),
        reserves: reserves.length,
        outgrown: this.#isDear(reserves, router, nowMs),
      },
      backoffUntilMs: failures.backoffUntil(spec.id),
      specialBackoffUntilMs: failures.backoffUntil(specialOf(spec.id)),
      rolloutPaused: rollouts.paused(spec),
    });
    const { demand, replicas } = observePool(router, own, times);
    const reserve = planReserve({
      spec,
      offered: shut === null && markets.has('api') && (spec.markets?.includes('api') ?? true),
      demand,
      waitedMs: nowMs - (router.stats.waitingSinceMs ?? nowMs),
      replicas,
      orders: actions.filter(({ type }) => type === 'order').length,
      reserves: standing,
      spentTodayNanoUsd: budget.spentTodayNanoUsd,
      exhausted: budget.exhausted ?? null,
      backoffUntilMs: failures.backoffUntil(reserveOf(spec.id)),
      nowMs,
    });
    return [...actions, ...reserve];
  }

  #opening(router: PoolRouter): ReturnType<typeof openingOf> {
    const { clock, pauses } = this.#options;
    const startMs = router.expectedStartMs ?? START_GUESS_MS;
    return openingOf(router.spec, pauses.of(router.spec.id), { nowMs: clock.now(), startMs });
  }

  /** What won its pool's auction by the token stops counting once machines are cheaper at today's load. */
  #isReserve(record: ReplicaRecord, router: PoolRouter, nowMs: EpochMs): boolean {
    const notes = this.#fleet.notes(record.id);
    if (record.market !== 'api' || notes.reserve || notes.tokenPrice === null) return notes.reserve;
    notes.reserve = this.#hasOutgrown(record, router, nowMs);
    return notes.reserve;
  }

  /** Whether what requests are served by meanwhile costs more than a machine would. */
  #isDear(reserves: readonly ReplicaRecord[], router: PoolRouter, nowMs: EpochMs): boolean {
    return reserves.some((record) => record.state === 'ready' && this.#hasOutgrown(record, router, nowMs));
  }

  #hasOutgrown({ id }: ReplicaRecord, { spec, meter }: PoolRouter, nowMs: EpochMs): boolean {
    const { tokenPrice, rivalNanoUsdPerHour } = this.#fleet.notes(id);
    const rate = meter.rate(nowMs, LOAD_MINUTES);
    return tokenPrice !== null && hasOutgrown(spec, tokenPrice, { rate, rivalNanoUsdPerHour });
  }
}
