import type { AppError } from '../../errors.ts';
import type { Engine } from '../../spec.ts';
import type { EpochMs, Ms } from '../../units.ts';

/** A replica that takes requests: a model server that has answered a real probe. */
export interface Target {
  readonly id: string;
  /** Without `/v1`. */
  readonly url: string;
  readonly apiKey: string | null;
  readonly engine: Engine;
  readonly slots: number;
  readonly market: string;
  readonly provider: string;
  readonly leaseId: string;
}

/** A replica as its router knows it. */
export interface Replica {
  readonly target: Target;
  readonly onLost: Set<() => void>;
  lost: boolean;
  inFlight: number;
  draining: boolean;
  lastUsedMs: EpochMs;
  served: number;
  failed: number;
}

/** A place on a replica. Give it back exactly once; a second time does nothing. */
export interface Slot {
  readonly target: Target;
  /** Time spent in line. */
  readonly waitedMs: Ms;
  /** There was no ready replica when the request came. */
  readonly cold: boolean;
  /** The replica is gone: whoever streams from it moves on. */
  readonly lost: boolean;
  /** Called once when that happens; the returned function takes the listener off. */
  onLost(listener: () => void): () => void;
  release(outcome: 'served' | 'failed' | 'cancelled'): void;
}

export interface TakeOptions {
  readonly account: string;
  readonly maxWaitMs: Ms;
  readonly signal: AbortSignal;
  /** Replicas that failed this request already. */
  readonly exclude?: ReadonlySet<string>;
}

export interface RouterStats {
  readonly waiting: number;
  readonly inFlight: number;
  readonly ready: number;
  readonly arrivals: number;
  /** When the pool last had a request in line or at work. */
  readonly lastUsedMs: EpochMs;
  /** The oldest request in line, or null. */
  readonly waitingSinceMs: EpochMs | null;
}

export interface ReplicaLoad {
  readonly inFlight: number;
  readonly lastUsedMs: EpochMs;
  readonly draining: boolean;
  readonly served: number;
  readonly failed: number;
}

/** A request in line. */
export interface Waiter {
  readonly account: string;
  readonly sinceMs: EpochMs;
  readonly exclude: ReadonlySet<string> | undefined;
  readonly give: (replica: Replica) => void;
  readonly fail: (error: AppError) => void;
}
