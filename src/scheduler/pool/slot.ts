import type { AppError } from '../../errors.ts';
import type { Engine, Price } from '../../spec.ts';
import { shortfall, type Needs, type Trust } from '../../spec/trust.ts';
import type { EpochMs, Ms, NanoUsd, Tokens } from '../../units.ts';
import { Bag } from './bag.ts';
import { Circuit } from './circuit.ts';
import { NamedRequests } from './named-requests.ts';
import { Remembered, type Opening } from './opening.ts';
import type { InLine } from './turns.ts';
import type { WakeOffer } from './wake-offer.ts';

/** A replica that takes requests: a model server that has answered a real probe. */
export interface Target {
  readonly id: string;
  /** Without `/v1`. */
  readonly url: string;
  readonly apiKey: string | null;
  /** PEM: whoever shows another certificate gets no request. */
  readonly certificate?: string | null;
  readonly engine: Engine;
  readonly slots: number;
  /** Where requests are paid by tokens, at this price. */
  readonly tokenPrice?: Price | null;
  readonly market: string;
  readonly provider: string;
  readonly leaseId: string;
  /** Where it runs; left out: trust `any`, and no region. */
  readonly trust?: Trust;
  readonly region?: string | null;
  /** What its model server calls the model, where its pool may say something else by now. */
  readonly model?: string;
  /** What it costs in an hour, where that is known. */
  readonly costNanoUsdPerHour?: NanoUsd | null;
  /** Of the description that it was started by: replicas of different versions do not go on with each other's answers. */
  readonly version?: string | null;
}

/** A replica as its router knows it. */
export interface Replica {
  readonly target: Target;
  readonly onLost: Bag<() => void>;
  lost: boolean;
  inFlight: number;
  draining: boolean;
  lastUsedMs: EpochMs;
  served: number;
  failed: number;
  overclaimed: number;
  paid: NanoUsd;
  /** How long it has had something to do, and when it last began to. */
  busyMs: Ms;
  busySinceMs: EpochMs;
  /** How fast it was measured to be, to the pool's others: 1 while nothing is known. */
  pace: number;
  readonly remembered: Remembered;
  /** Blocks that requests without a first token so far have to have read, what it has read before left out. */
  unread: number;
  /** Requests at work whose first token has come. */
  begun: number;
  /** Requests at work, summed over time up to `flightsAtMs`: a difference makes a mean. */
  flightsMs: number;
  flightsAtMs: EpochMs;
  readonly circuit: Circuit;
  readonly requests: NamedRequests;
}

/** Before the number of requests at work changes, or to read their sum. */
export function sumFlights(replica: Replica, nowMs: EpochMs): number {
  replica.flightsMs += replica.inFlight * Math.max(0, nowMs - replica.flightsAtMs);
  replica.flightsAtMs = nowMs;
  return replica.flightsMs;
}

/**
 * `busy`: it asked to come back later, and is no worse for it. `refused`: it answered, with a status of its own fault; what
 * one client can bring about with a bad request does not take a machine away from the others before it was probed.
 */
export type Outcome = 'served' | 'failed' | 'refused' | 'cancelled' | 'busy';

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
  /** Tokens come from it. */
  alive(): void;
  /** Its first token has come; a second call does nothing. */
  began(): void;
  /** It waits for its client, or for money: the time that it takes is not its machine's. */
  heldBack(): void;
  /** What an attempt on it was asked and made, and what was paid for that, where it is paid by tokens. */
  used(input: Tokens, output: Tokens, paidNanoUsd: NanoUsd): void;
  /** It claimed so many tokens more than it can have made. */
  overclaimed(tokens: number): void;
  /** @param busyMs with `busy`: for how long */
  release(outcome: Outcome, busyMs?: Ms): void;
}

/** What a request asks of its replica. */
export interface Wish {
  /** Replicas that failed it, and when. */
  readonly exclude?: ReadonlyMap<string, EpochMs> | undefined;
  readonly needs?: Needs | undefined;
  readonly opening?: Opening | undefined;
  /** Its id: evidence, where its machine fails it. */
  readonly request?: string | undefined;
}

export interface TakeOptions extends Wish {
  readonly account: string;
  readonly maxWaitMs: Ms;
  readonly signal: AbortSignal;
  /** It goes on with an answer that its client has the beginning of. */
  readonly begun?: boolean;
  /** What it is worth, and pays, to have the pool woken. */
  readonly wake?: WakeOffer | undefined;
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
  /** Attempts that got their first token so far, and those that got it too late for what the pool promises. */
  readonly begun: number;
  readonly late: number;
}

export interface ReplicaLoad {
  readonly inFlight: number;
  /** Of those, the ones whose first token has come. */
  readonly begun: number;
  readonly lastUsedMs: EpochMs;
  readonly draining: boolean;
  readonly served: number;
  readonly failed: number;
  /** Tokens that it claimed beyond what it can have made; never charged. */
  readonly overclaimed: number;
  /** What was paid for tokens from it. */
  readonly paidNanoUsd: NanoUsd;
  /** How long it has had something to do, without what is at work now. */
  readonly busyMs: Ms;
  /** Since when it is under suspicion, and when it last sent tokens. */
  readonly suspectMs: EpochMs | null;
  readonly aliveMs: EpochMs;
  /** Ids of requests that are at work on it, or that it failed since it is under suspicion. */
  readonly hit: () => readonly string[];
}

/** Of those that take requests, and of all that have some. */
export function countsOf(replicas: Iterable<Replica>): { ready: number; inFlight: number } {
  const counts = { ready: 0, inFlight: 0 };
  for (const { inFlight, draining } of replicas) {
    counts.inFlight += inFlight;
    if (!draining) counts.ready += 1;
  }
  return counts;
}

/** What an attempt's end says of its replica. */
export function noteOutcome(
  replica: Replica,
  outcome: Outcome,
  { nowMs, busyMs, supervised }: { readonly nowMs: EpochMs; readonly busyMs: Ms; readonly supervised: boolean },
): void {
  const { circuit } = replica;
  if (outcome === 'served') {
    replica.served += 1;
    circuit.served();
  } else if (outcome === 'failed' || outcome === 'refused') {
    replica.failed += 1;
    if (outcome === 'refused' && supervised) circuit.refused(nowMs);
    else circuit.failed(nowMs);
  } else if (outcome === 'busy') circuit.busy(nowMs, busyMs);
  else circuit.cancelled();
}

/** When the first of those that are left alone may be tried again; Infinity: none is. */
export function nextAdmission(replicas: Iterable<Replica>, nowMs: EpochMs): EpochMs {
  let next = Infinity;
  for (const { draining, circuit } of replicas) {
    if (!draining) next = Math.min(next, circuit.admitsAtMs(nowMs) ?? Infinity);
  }
  return next;
}

/** A request in line. */
export interface Waiter extends InLine {
  readonly account: string;
  readonly wake: WakeOffer | undefined;
  readonly wish: Wish;
  readonly needs: Needs | undefined;
  readonly give: (replica: Replica) => void;
  readonly fail: (error: AppError) => void;
  /** Turns it away, if it is still in line. */
  readonly refuse: (error: AppError) => void;
}

/** @param remembered blocks of openings that its cache may hold */
export function newReplica(target: Target, nowMs: EpochMs, remembered: number): Replica {
  const counts = {
    inFlight: 0,
    served: 0,
    failed: 0,
    overclaimed: 0,
    paid: 0n,
    busyMs: 0,
    busySinceMs: 0,
    lastUsedMs: nowMs,
    pace: 1,
    unread: 0,
    ...{ begun: 0, flightsMs: 0, flightsAtMs: nowMs },
  };
  const own = { onLost: new Bag<() => void>(), remembered: new Remembered(remembered), circuit: new Circuit() };
  const requests = new NamedRequests();
  return { target, lost: false, draining: false, ...counts, ...own, requests };
}

export function loadOf(replica: Replica): ReplicaLoad {
  const { inFlight, begun, lastUsedMs, draining, served, failed, overclaimed, paid, circuit } = replica;
  const { suspectMs, aliveMs } = circuit;
  const counts = { inFlight, begun, lastUsedMs, draining, served, failed, overclaimed };
  const hit = (): readonly string[] => replica.requests.hit(suspectMs !== null);
  return { ...counts, paidNanoUsd: paid, busyMs: replica.busyMs, suspectMs, aliveMs, hit };
}

/** Whether a request that these replicas have failed may not have this one. */
export function isExcluded({ target, circuit }: Replica, exclude: ReadonlyMap<string, EpochMs>): boolean {
  const failedMs = exclude.get(target.id);
  return failedMs !== undefined && !circuit.readmits(failedMs);
}

/** Whether a request that needs this may be handed the replica. */
export function meets({ target }: Pick<Replica, 'target'>, needs: Needs | undefined): boolean {
  return needs === undefined || shortfall(target, needs) === null;
}
