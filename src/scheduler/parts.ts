import type { Clock } from '../clock.ts';
import type { Market } from '../leases/market.ts';
import type { MarketName, PoolSpec } from '../spec.ts';
import type { CanaryMeans } from './canary/means.ts';
import type { Fleet } from './fleet.ts';
import type { Pools } from './pool/pools.ts';
import type { Target } from './pool/slot.ts';
import type { ReplicaRecord, SchedulerRecords } from './records.ts';
import type { Ms, Tokens } from '../units.ts';

/** Asks a model server a real question; rejects when it does not answer it. */
export type Probe = (target: Target, spec: PoolSpec, signal: AbortSignal) => Promise<void>;

/** What one question to a model server that does nothing else showed. */
export interface Measured {
  readonly inputTokens: Tokens;
  readonly outputTokens: Tokens;
  readonly firstMs: Ms;
  readonly totalMs: Ms;
  readonly gpu: string | null;
  readonly memoryBytes: number | null;
}

/** Asks a model server something of some length, at our cost, and times it. */
export type Measure = (target: Target, spec: PoolSpec, signal: AbortSignal) => Promise<Measured>;

/**
 * Asks a model server to go on with an answer of its own that was cut, and compares: null when nothing was doubled or lost at
 * the seam, else what was.
 */
export type ProveResumption = (target: Target, spec: PoolSpec, signal: AbortSignal) => Promise<string | null>;

export type Decide = (decision: {
  readonly pool: string | null;
  readonly kind: string;
  readonly reason: string;
  readonly detail?: Record<string, unknown>;
}) => Promise<void>;

/** What every step of a replica needs. */
export interface Parts {
  readonly clock: Clock;
  readonly fleet: Fleet;
  readonly pools: Pools;
  readonly markets: ReadonlyMap<MarketName, Market>;
  readonly probe: Probe;
  /** Absent where no pool's answers are resumed. */
  readonly proveResumption?: ProveResumption | undefined;
  /** Absent where no replica is asked whether it is honest. */
  readonly canary?: CanaryMeans | undefined;
  /** Absent where nothing is measured by questions. */
  readonly measure?: Measure | undefined;
  readonly decide: Decide;
  readonly newId: (prefix: string) => string;
  /** Of the gateway that leads: part of its orders' ids. */
  readonly epoch: number;
  readonly log: (line: string) => void;
  readonly signal: AbortSignal;
}

/** The market of a replica's bid; undefined before there is one, or when it is not configured any more. */
export function marketOf({ markets }: Parts, { market }: ReplicaRecord): Market | undefined {
  return market === null ? undefined : markets.get(market);
}

export type SchedulerOptions = Pick<
  Parts,
  'clock' | 'pools' | 'markets' | 'probe' | 'proveResumption' | 'canary' | 'measure' | 'newId' | 'epoch' | 'log'
> & {
  readonly records: SchedulerRecords;
  /** Of all pools together; left out: none. */
  readonly budget?: PoolSpec['budget'] | undefined;
};
