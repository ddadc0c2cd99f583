import type { Clock } from '../clock.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import type { EpochMs } from '../units.ts';
import type { Allowances } from './allowances.ts';
import { Advising } from './advising.ts';
import { reserveOf, specialOf } from './failures.ts';
import type { Fleet } from './fleet.ts';
import { Inventory } from './inventory.ts';
import { planMove, type Movable, type Move } from './moving.ts';
import { Observations, observePool } from './observation.ts';
import type { Decide } from './parts.ts';
import { poolNow, type Pauses, type PoolNow } from './pauses.ts';
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
  readonly decide: Decide;
  readonly log: (line: string) => void;
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
  readonly #inventory: Inventory;
  readonly #shared: SharedBudget;
  /** What pools bring in and cost. */
  readonly advising: Advising;

  constructor(options: PlannerOptions, fleet: Fleet) {
    this.#options = options;
    this.#fleet = fleet;
    this.#sinceMs = options.clock.now();
    this.advising = new Advising(options, fleet);
    this.#inventory = new Inventory(options.markets, fleet, options.log);
    this.#shared = new SharedBudget(fleet, options.budget ?? { hourNanoUsd: null, dayNanoUsd: null });
  }

  /** All pools at once, before each is planned: what they need of what they share; those that are gone are forgotten. */
  look(pools: readonly Pool[]): void {
    this.advising.look(pools);
    this.#observations.keep(new Set(pools.map(({ router }) => router.spec.id)));
    this.#shared.look(pools.map(({ router }) => ({ router, spec: this.#now(router).spec })));
  }

  plan({ router }: Pool): (Action | ReserveAction)[] {
    const { clock, markets, allowances } = this.#options;
    const nowMs = clock.now();
    const { spec: now, shut } = this.#now(router);
    router.shut(shut);
    const spec = this.#shared.limit(now);
    const all = this.#fleet.ofPool(spec.id);
    // One that drains ends like any other.
    const reserves = all.filter((record) => record.state !== 'draining' && this.#isReserve(record, router, nowMs));
    const own = all.filter((record) => !reserves.includes(record));
    const { failures, rollouts } = this.#fleet;
    const known = this.#fleet.book.pool(spec.id);
    if (known.startMs !== null) router.expectStart(known.startMs);
    router.speeds.prefillTokensPerS = known.rates.prefillTokensPerS;
    const times = { nowMs, sinceMs: this.#sinceMs };
    const budget: Budget = { spentTodayNanoUsd: this.#fleet.spentToday(spec.id), ...this.#shared.state() };
    const standing = observePool(router, reserves, times).replicas;
    const actions = planWhole({
      ...{
        router,
        spec,
        records: own,
        budget,
        ...times,
        learned: this.#observations.learn(router, spec, { record: known, nowMs }),
      },
      besideNanoUsdPerHour: standing.reduce((sum, { costNanoUsdPerHour }) => sum + costNanoUsdPerHour, 0n),
      wake: {
        allowanceOf: (account) => allowances.left(account, spec),
        reserves: reserves.length,
        outgrown: reserves.some((one) => one.state === 'ready' && this.#hasOutgrown(one, router, nowMs)),
      },
      backoffUntilMs: failures.backoffUntil(spec.id),
      specialBackoffUntilMs: failures.backoffUntil(specialOf(spec.id)),
      rolloutPaused: rollouts.paused(spec),
      move: this.#move(router, own),
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

  /** Where one of these replicas would be cheaper. A pool with one that is not ready, or is paid by the token, is left alone. */
  #move({ spec, expectedStartMs }: PoolRouter, own: readonly ReplicaRecord[]): Move | null {
    const nowMs = this.#options.clock.now();
    this.#inventory.refresh(nowMs);
    if (this.#fleet.moves.paused(spec.id) || own.length === 0) return null;
    const replicas: Movable[] = [];
    for (const { id, state, market, provider, costNanoUsdPerHour, readyMs, orderedMs } of own) {
      if (state !== 'ready' || market === 'api' || provider === null || costNanoUsdPerHour === null) return null;
      replicas.push({
        id,
        provider,
        costNanoUsdPerHour,
        readyMs: readyMs ?? nowMs,
        startMs: (readyMs ?? nowMs) - orderedMs,
      });
    }
    const candidates = this.#inventory.candidates(spec, nowMs);
    const lifeMs = this.#fleet.expectedLifeMs(spec, own[0]?.id);
    return planMove({ spec, replicas, candidates, lifeMs, startMs: expectedStartMs ?? START_GUESS_MS, nowMs });
  }

  #now(router: PoolRouter): PoolNow {
    const { clock, pauses } = this.#options;
    const startMs = router.expectedStartMs ?? START_GUESS_MS;
    return poolNow(router.spec, pauses.of(router.spec.id), { nowMs: clock.now(), startMs });
  }

  /** What won its pool's auction by the token stops counting once machines are cheaper at today's load. */
  #isReserve(record: ReplicaRecord, router: PoolRouter, nowMs: EpochMs): boolean {
    const notes = this.#fleet.notes(record.id);
    if (record.market !== 'api' || notes.reserve || notes.tokenPrice === null) return notes.reserve;
    notes.reserve = this.#hasOutgrown(record, router, nowMs);
    return notes.reserve;
  }

  #hasOutgrown({ id }: ReplicaRecord, { spec, meter }: PoolRouter, nowMs: EpochMs): boolean {
    const { tokenPrice, rivalNanoUsdPerHour } = this.#fleet.notes(id);
    const rate = meter.rate(nowMs, LOAD_MINUTES);
    return tokenPrice !== null && hasOutgrown(spec, tokenPrice, { rate, rivalNanoUsdPerHour });
  }
}
