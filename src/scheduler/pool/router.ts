import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { PoolSpec } from '../../spec.ts';
import { poolNeeds, type Needs } from '../../spec/trust.ts';
import type { EpochMs, Ms, NanoUsd } from '../../units.ts';
import { Line } from './line.ts';
import { needsOfLine, type LineNeeds } from './line-needs.ts';
import { refusal, whyNone } from './refusal.ts';
import {
  countsOf,
  firstOf,
  isExcluded,
  loadOf,
  meets,
  newReplica,
  TakenSlot,
  type Outcome,
  type Replica,
  type ReplicaLoad,
  type RouterStats,
  type Slot,
  type TakeOptions,
  type Target,
  type Waiter,
} from './slot.ts';
import { TokenMeter } from './token-meter.ts';
import { waitInLine } from './waiting.ts';
import { wakeCost } from './wake-offer.ts';

/** When somebody who was turned away by a shut pool may look again. */
const SHUT_MS: Ms = 60_000;

/**
 * Requests of one pool and the replicas that serve them: the least loaded ready replica is taken at once, else the
 * request waits in line and is woken the moment a slot is free.
 */
export class PoolRouter {
  readonly #clock: Clock;
  readonly #onDemand: () => void;
  readonly #replicas = new Map<string, Replica>();
  readonly #line = new Line<Waiter>();
  readonly #since = new Set<Waiter>();
  readonly #phaseListeners = new Set<(phase: string) => void>();
  /** What its replicas were asked and made. */
  readonly meter = new TokenMeter();
  #spec: PoolSpec;
  #arrivals = 0;
  #lastUsedMs: EpochMs = 0;
  #phase = 'asleep';
  #startMs: Ms | null = null;
  #costNanoUsdPerHour: NanoUsd | null = null;
  #shut: string | null = null;
  #resumes = false;
  /** Wakes the line when a replica that was left alone may be tried again. */
  #cancelWake: (() => void) | null = null;
  readonly #release = {
    clock: { now: (): EpochMs => this.#clock.now() },
    meter: this.meter,
    onRelease: (replica: Replica, outcome: Outcome, busyMs: Ms): void => this.#released(replica, outcome, busyMs),
  };
  /** Replicas that failed are probed and dead ones taken away: waiting for that makes sense. */
  readonly supervised: boolean;

  constructor(spec: PoolSpec, clock: Clock, onDemand: () => void, supervised = false) {
    this.supervised = supervised;
    this.#spec = spec;
    this.#clock = clock;
    this.#onDemand = onDemand;
  }

  get spec(): PoolSpec {
    return this.#spec;
  }

  /** What a cold pool is doing, for people who wait: 'order placed', 'bid won', 'loading model'. */
  get phase(): string {
    return this.#phase;
  }

  /** What start-ups took lately, or null before the first. */
  get expectedStartMs(): Ms | null {
    return this.#startMs;
  }

  /** What waking it is expected to cost. */
  get wakeCostNanoUsd(): NanoUsd {
    return wakeCost(this.#spec, { startMs: this.#startMs, costNanoUsdPerHour: this.#costNanoUsdPerHour });
  }

  get stats(): RouterStats {
    const counts = { ...countsOf(this.#replicas.values()), waiting: this.#line.size, arrivals: this.#arrivals };
    return { ...counts, lastUsedMs: this.#lastUsedMs, waitingSinceMs: firstOf(this.#since) };
  }

  load(id: string): ReplicaLoad | null {
    const replica = this.#replicas.get(id);
    return replica ? loadOf(replica) : null;
  }

  /** Whether this pool's model servers were seen to go on with an answer that another had begun. */
  get resumes(): boolean {
    return this.#resumes;
  }

  setResumes(proven: boolean): void {
    this.#resumes = proven;
  }

  update(spec: PoolSpec): void {
    const { engine, model, image, resume } = this.#spec;
    const same = spec.engine === engine && spec.model === model && spec.image === image && spec.resume === resume;
    if (!same) this.#resumes = false;
    this.#spec = spec;
  }

  /** It has answered a probe: what was held against it is forgotten. */
  verified(id: string): void {
    this.#replicas.get(id)?.circuit.verified(this.#clock.now());
    this.#serveLine();
  }

  setPhase(phase: string): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    for (const listener of this.#phaseListeners) listener(phase);
  }

  onPhase(listener: (phase: string) => void): () => void {
    this.#phaseListeners.add(listener);
    return () => this.#phaseListeners.delete(listener);
  }

  add(target: Target, startMs: Ms): void {
    this.#replicas.set(target.id, newReplica(target, this.#clock.now()));
    // Half of the old expectation, half of the new: one slow start does not frighten every client away.
    if (!target.tokenPrice) {
      this.#startMs = Math.round(((this.#startMs ?? startMs) + startMs) / 2);
      this.#costNanoUsdPerHour = target.costNanoUsdPerHour ?? this.#costNanoUsdPerHour;
    }
    this.#serveLine();
  }

  /** No new requests; those at work go on. */
  drain(id: string): void {
    const replica = this.#replicas.get(id);
    if (replica) replica.draining = true;
  }

  /** The replica is gone: requests at work on it are told. */
  remove(id: string): void {
    const replica = this.#replicas.get(id);
    if (!replica) return;
    this.#replicas.delete(id);
    replica.lost = true;
    for (const listener of [...replica.onLost]) listener();
  }

  /** A slot when one is free now, else null. */
  tryTake(exclude?: ReadonlyMap<string, EpochMs>, needs?: Needs): Slot | null {
    const free = this.#leastLoaded(exclude, needs);
    if (!free) return null;
    this.#arrivals += 1;
    this.#lastUsedMs = this.#clock.now();
    return this.#occupy(free, 0, false);
  }

  /** Whether some ready replica, busy or not, is none of these. */
  hasOther(exclude: ReadonlyMap<string, EpochMs>): boolean {
    for (const replica of this.#replicas.values()) if (!replica.draining && !isExcluded(replica, exclude)) return true;
    return false;
  }

  /**
   * A slot, now or when one is free.
   * @throws AppError `queue_full` when the line is full, `no_capacity` when nothing was free in time, `client_closed`.
   */
  take(options: TakeOptions): Promise<Slot> {
    const { maxWaitMs, signal, exclude, needs } = options;
    this.#arrivals += 1;
    this.#lastUsedMs = this.#clock.now();
    const cold = this.targetFor(needs) === null;
    const free = this.#leastLoaded(exclude, needs);
    if (free) return Promise.resolve(this.#occupy(free, 0, cold));
    const none = (message: string): AppError =>
      refusal('no_capacity', whyNone(message, needs, this.#phase), this.#startMs);
    if (this.#shut !== null) return Promise.reject(refusal('no_capacity', this.#shut, SHUT_MS));
    if (maxWaitMs <= 0) return Promise.reject(none('no machine is free now'));
    if (this.#line.size >= this.#spec.limits.waitingMax) {
      return Promise.reject(refusal('queue_full', 'too many requests are waiting for this model', this.#startMs));
    }
    if (signal.aborted) return Promise.reject(new AppError('client_closed', 'the client has gone'));
    const slot = waitInLine(options, {
      ...{ clock: this.#clock, line: this.#line, since: this.#since },
      give: (replica, waitedMs) => this.#occupy(replica, waitedMs, cold),
      tooLate: () => none('no machine could be had in time'),
      onLeave: () => (this.#since.size === 0 ? this.#planWake() : undefined),
    });
    this.#planWake();
    this.#onDemand();
    return slot;
  }

  /** Turns everybody in line away: the pool was deleted or the gateway stops. */
  close(error: AppError): void {
    for (const waiter of this.#line.drain()) waiter.fail(error);
  }

  /** Those in line, the first to come first. */
  get waiters(): readonly Waiter[] {
    return [...this.#since];
  }

  refuse(waiter: Waiter, error: AppError): void {
    if (this.#line.remove(waiter.account, waiter)) waiter.fail(error);
  }

  /** Takes no requests from now on, and says why; null: it does again. */
  shut(why: string | null): void {
    if (this.#shut === why) return;
    this.#shut = why;
    this.setPhase(why ?? 'asleep');
    if (why !== null) this.close(refusal('no_capacity', why, SHUT_MS));
  }

  /** One that answers, or null: to be asked what takes no slot. What is in a prompt goes to no other than its request. */
  targetFor(needs?: Needs): Target | null {
    for (const replica of this.#replicas.values())
      if (!replica.draining && meets(replica, needs)) return replica.target;
    return null;
  }

  /** What those in line need whom no replica here may serve, and what all in line need alike; null: nothing special. */
  get needs(): LineNeeds {
    return needsOfLine(this.waiters, poolNeeds(this.#spec), (needs) => this.targetFor(needs) !== null);
  }

  #leastLoaded(exclude: ReadonlyMap<string, EpochMs> | undefined, needs: Needs | undefined): Replica | undefined {
    const nowMs = this.#clock.now();
    let best: Replica | undefined;
    for (const replica of this.#shut === null ? this.#replicas.values() : []) {
      const { target, inFlight, draining, circuit } = replica;
      if (draining || inFlight >= target.slots || !circuit.admits(nowMs)) continue;
      if ((exclude && isExcluded(replica, exclude)) || !meets(replica, needs)) continue;
      if (!best || inFlight / target.slots < best.inFlight / best.target.slots) best = replica;
    }
    return best;
  }

  #occupy(replica: Replica, waitedMs: Ms, cold: boolean): Slot {
    replica.inFlight += 1;
    replica.lastUsedMs = this.#clock.now();
    replica.circuit.taken();
    return new TakenSlot(replica, { waitedMs, cold }, this.#release);
  }

  #released(replica: Replica, outcome: Outcome, busyMs: Ms): void {
    const nowMs = this.#clock.now();
    const { circuit } = replica;
    replica.inFlight -= 1;
    replica.lastUsedMs = nowMs;
    this.#lastUsedMs = nowMs;
    if (outcome === 'served') {
      replica.served += 1;
      circuit.served();
    } else if (outcome === 'failed' || outcome === 'refused') {
      replica.failed += 1;
      if (outcome === 'refused' && this.supervised) circuit.refused(nowMs);
      else circuit.failed(nowMs);
    } else if (outcome === 'busy') circuit.busy(nowMs, busyMs);
    else circuit.cancelled();
    this.#serveLine();
    if ((circuit.suspectMs !== null && this.supervised) || (replica.draining && replica.inFlight === 0))
      this.#onDemand();
  }

  #planWake(): void {
    this.#cancelWake?.();
    this.#cancelWake = null;
    if (this.#line.size === 0) return;
    const nowMs = this.#clock.now();
    let next = Infinity;
    for (const { draining, circuit } of this.#replicas.values()) {
      if (!draining) next = Math.min(next, circuit.admitsAtMs(nowMs) ?? Infinity);
    }
    if (next !== Infinity) this.#cancelWake = this.#clock.timer(next - nowMs, () => this.#serveLine());
  }

  #serveLine(): void {
    while (this.#line.size > 0 && this.#leastLoaded(undefined, undefined)) {
      let replica: Replica | undefined;
      const waiter = this.#line.shift(({ exclude, needs }) => {
        replica = this.#leastLoaded(exclude, needs);
        return replica !== undefined;
      });
      if (!waiter || !replica) break;
      waiter.give(replica);
    }
    this.#planWake();
  }
}
