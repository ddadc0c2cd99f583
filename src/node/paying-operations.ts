import { AppError } from '../errors.ts';
import type { FleetOperations } from '../gateway/deps.ts';
import type { Scheduler } from '../scheduler/loop.ts';
import type { Pools } from '../scheduler/pool/pools.ts';
import { found } from './lease-view.ts';
import { viewPool } from './views.ts';

export interface PayingDeps {
  readonly pools: Pools;
  readonly scheduler: Scheduler;
}

type PayingOperations = Pick<FleetOperations, 'pausePool' | 'resumePool' | 'wakeAllowance' | 'setWakeAllowance'>;

/** Pools that an operator pauses, and what accounts may have of them without paying. */
export function payingOperations({ pools, scheduler }: PayingDeps): PayingOperations {
  const viewAllowance = (account: string): unknown => ({
    account,
    per_day: scheduler.allowances.of(account),
    pools: pools.list().flatMap(({ router: { spec } }) => {
      if (!spec.wake?.needs.includes('allowance')) return [];
      const { perDay, used } = scheduler.allowances.stateOf(account, spec);
      return [{ pool: spec.id, per_day: perDay, used_today: used }];
    }),
  });
  return {
    pausePool: async (id, reason) => {
      const pool = found(pools.get(id), `there is no pool ${id}`);
      await scheduler.pauses.on(id, reason);
      scheduler.wake();
      return viewPool(pool, scheduler);
    },
    resumePool: async (id) => {
      const pool = found(pools.get(id), `there is no pool ${id}`);
      await scheduler.pauses.off(id);
      scheduler.wake();
      if (!pool.router.spec.paused) return viewPool(pool, scheduler);
      const where = pool.source === 'file' ? 'in the configuration file' : 'in its description';
      throw new AppError('pool_read_only', `the pool ${id} says paused: true ${where}: change it there`);
    },
    wakeAllowance: viewAllowance,
    setWakeAllowance: async (account, perDay) => {
      await scheduler.allowances.set(account, perDay);
      scheduler.wake();
      return viewAllowance(account);
    },
  };
}
