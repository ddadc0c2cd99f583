import { describeError } from '../errors.ts';
import type { FleetOperations } from '../gateway/deps.ts';
import { AkashMarket } from '../leases/akash/market.ts';
import type { Market } from '../leases/market.ts';
import { treasury } from '../ledger/accounts.ts';
import type { Ledger } from '../ledger/operations.ts';
import type { Scheduler } from '../scheduler/loop.ts';
import type { SchedulerRecords } from '../scheduler/records.ts';
import type { MarketName } from '../spec.ts';
import { formatUsd } from '../units.ts';
import { viewAkashTreasury } from './treasury-view.ts';
import { iso } from './views.ts';

export interface MoneyDeps {
  readonly scheduler: Scheduler;
  readonly records: SchedulerRecords;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly ledger: Ledger;
}

type MoneyOperations = Pick<FleetOperations, 'treasury' | 'panic' | 'startPanic' | 'endPanic'>;

/** What leases are paid from, and the button that ends them all. */
export function moneyOperations(deps: MoneyDeps): MoneyOperations {
  const { scheduler } = deps;
  return {
    treasury: async () => {
      const data = await Promise.all([...deps.markets.values()].map((market) => viewTreasury(deps, market)));
      return { data };
    },
    panic: () => viewPanic(deps),
    startPanic: async (reason) => {
      await scheduler.panic.on(reason);
      scheduler.sweepAgain();
      return viewPanic(deps);
    },
    endPanic: async () => {
      await scheduler.panic.off();
      scheduler.wake();
      return viewPanic(deps);
    },
  };
}

async function viewTreasury({ ledger }: MoneyDeps, market: Market): Promise<unknown> {
  if (market instanceof AkashMarket) return viewAkashTreasury(await market.treasury());
  const account = await ledger.ask({ op: 'account', name: treasury(market.name).name });
  return { market: market.name, balance_usd: account ? formatUsd(account.posted) : null };
}

interface OpenLease {
  readonly market: MarketName | null;
  readonly lease: string | null;
  readonly replica: string | null;
  readonly pool: string | null;
  readonly state: string;
  readonly why: string;
}

/** Every lease that is not closed, as the scheduler and the markets know them. */
async function viewPanic(deps: MoneyDeps): Promise<unknown> {
  const { scheduler, markets } = deps;
  const { stop } = scheduler.panic;
  const open: OpenLease[] = scheduler.replicas().map(({ id, leaseId, market, pool, state, reason }) => {
    return { market, lease: leaseId, replica: id, pool, state, why: scheduler.whyOpen(id) ?? reason };
  });
  const known = new Set(open.map(({ lease }) => lease));
  for (const market of markets.values()) {
    for (const stranger of await strangers(market)) if (!known.has(stranger.lease)) open.push(stranger);
  }
  return {
    stopped: stop !== null,
    since: iso(stop?.sinceMs ?? null),
    reason: stop?.reason ?? null,
    // Markets that were not yet looked through for leases of nobody here.
    unchecked: stop === null ? [] : scheduler.unswept(),
    done: stop !== null && open.length === 0 && scheduler.unswept().length === 0,
    open,
    abandoned: await abandoned(deps),
  };
}

const DECISIONS_SEEN = 1000;

/** Leases that nobody here can close, because their market is not in the configuration any more. */
async function abandoned({
  records,
}: MoneyDeps): Promise<readonly { readonly lease: unknown; readonly why: string }[]> {
  const decisions = await records.listDecisions({ limit: DECISIONS_SEEN });
  return decisions
    .filter(({ kind }) => kind === 'lease.abandoned')
    .map(({ detail, reason }) => ({ lease: detail['lease'] ?? null, why: reason }));
}

async function strangers(market: Market): Promise<OpenLease[]> {
  const base = { market: market.name, replica: null };
  try {
    const { leases } = await market.list();
    return leases
      .filter(({ lease }) => lease.state !== 'closed')
      .map(({ lease }) => ({
        ...base,
        lease: lease.id,
        pool: lease.pool,
        state: lease.state,
        why: 'no replica has it',
      }));
  } catch (error) {
    const why = `the market could not be asked: ${describeError(error)}`;
    return [{ ...base, lease: null, pool: null, state: 'unknown', why }];
  }
}
