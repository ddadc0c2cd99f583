import type { PoolSpec } from '../../spec.ts';
import type { Ms, NanoUsd } from '../../units.ts';
import type { Action, PlannedReplica } from '../plan.ts';
import type { Offer } from '../choice.ts';

/** What a policy may see: what a gateway and a scheduler of its kind know, never the load to come. */
export interface PolicyView {
  readonly nowMs: number;
  readonly spec: PoolSpec;
  readonly replicas: readonly SeenReplica[];
  readonly waiting: number;
  readonly inFlight: number;
  /** Requests that came so far. */
  readonly arrivals: number;
  /** Requests at work and in line, summed over time so far: differences make means. */
  readonly requestMs: number;
  /** The oldest in line waits so long. */
  readonly oldestWaitMs: Ms;
  /** Tokens of the prompts that came so far. */
  readonly askedTokens: number;
  /** Tokens read and written so far by answers that ended, and how many of them there are. */
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly ended: number;
  /** Requests whose first token came too late, so far, and those whose first token came at all. */
  readonly late: number;
  readonly begun: number;
  readonly spentTodayNanoUsd: NanoUsd;
}

export interface SeenReplica extends PlannedReplica {
  readonly provider: string | null;
  readonly orderedMs: number;
  readonly leasedMs: number | null;
  readonly readyMs: number | null;
}

/** How a system's gateway treats requests whose replica goes away, and how soon it sees that. */
export interface GatewayTraits {
  /** Without a ready replica requests wait; else they are refused. */
  readonly holdsAtZero: boolean;
  /** A request that had no token yet goes to another replica. */
  readonly retriesUnbegun: boolean;
  /** An answer that was cut goes on at another replica. */
  readonly resumes: boolean;
  /** Who is late already makes room for those who can still be in time. */
  readonly lateYields: boolean;
  /** At which it knows replicas to read: none is given prompts that it could not read in time. Null: it does not look. */
  readonly prefillTokensPerS: number | null;
  /** Until a replica that takes requests and answers none is seen for what it is. Infinity: never. */
  readonly darkMs: Ms;
  /** What a closing replica may still answer for. */
  readonly drainMs: Ms;
  /** It is paid for so long after it was told to stop, idle or not. */
  readonly drainLeastMs: Ms;
}

export interface Policy {
  readonly name: string;
  readonly traits: GatewayTraits;
  /** Between two decisions. */
  readonly tickMs: Ms;
  /** Decides at once when a request finds no replica. */
  readonly wakes: boolean;
  decide(view: PolicyView): readonly Action[];
  /** Takes one of these bids; null for none. */
  choose(offers: readonly Offer[], view: PolicyView): Offer | null;
  /** A start-up or a lease of this provider failed, or a start-up went well. */
  told?(event: { readonly provider: string; readonly ok: boolean; readonly nowMs: number }): void;
}

const LIVE: ReadonlySet<string> = new Set(['ordering', 'accepting', 'starting', 'ready']);

export function liveReplicas({ replicas }: PolicyView): SeenReplica[] {
  return replicas.filter(({ state }) => LIVE.has(state));
}

export function readyCount({ replicas }: PolicyView): number {
  return replicas.filter(({ state }) => state === 'ready').length;
}

/** Orders or gives up replicas until there are as many as wanted, for systems that know a number only. */
export function moveTowards(view: PolicyView, wanted: number, first: 'newest' | 'idlest' = 'newest'): Action[] {
  const live = liveReplicas(view);
  const { replicasMin, replicasMax } = view.spec;
  const target = Math.min(replicasMax, Math.max(replicasMin, wanted));
  if (live.length < target) {
    return Array.from({ length: target - live.length }, () => ({ type: 'order', reason: '' }) as const);
  }
  const rank = ({ state }: SeenReplica): number => ['ordering', 'starting', 'ready'].indexOf(state);
  return live
    .filter(({ state }) => state !== 'accepting')
    .toSorted((a, b) => {
      const order = first === 'newest' ? b.orderedMs - a.orderedMs : a.inFlight - b.inFlight || b.idleMs - a.idleMs;
      return rank(a) - rank(b) || order;
    })
    .slice(0, live.length - target)
    .map(({ id, state }) => ({ type: state === 'ready' ? 'drain' : 'withdraw', replica: id, reason: '' }) as const);
}

/** What a system without an auction of its own takes: the cheapest that is under the ceiling. */
export function cheapest(offers: readonly Offer[], view: PolicyView): Offer | null {
  const perHour = ({ bid, terms }: Offer): bigint => (bid.priceNanoUsdPerBlock * 3_600_000n) / BigInt(terms.blockMs);
  let best: Offer | null = null;
  for (const offer of offers) {
    if (perHour(offer) > view.spec.ceilingNanoUsdPerHour) continue;
    if (!best || perHour(offer) < perHour(best)) best = offer;
  }
  return best;
}
