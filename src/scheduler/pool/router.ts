import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { PoolSpec } from '../../spec.ts';
import { poolNeeds, type Needs } from '../../spec/trust.ts';
import type { EpochMs, Ms, NanoUsd } from '../../units.ts';
import { chooseReplica, setPace, unreadOf } from './affinity.ts';
import { needsOfLine, type LineNeeds } from './line-needs.ts';
import { rememberedMax } from './opening.ts';
import { refusal, whyNone } from './refusal.ts';
import { countsOf, isExcluded, loadOf, meets, newReplica, sumFlights, nextAdmission, noteOutcome } from './slot.ts';
import type { Outcome, Replica, ReplicaLoad, RouterStats, Slot, TakeOptions, Target, Waiter, Wish } from './slot.ts';
import { SpeedMeter } from './speed-meter.ts';
import { TakenSlot } from './taken-slot.ts';
import { TokenMeter } from './token-meter.ts';
import { unreadMost } from './turns.ts';
import { Waiting } from './waiting.ts';
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
  readonly #waiting: Waiting;
  readonly #phaseListeners = new Set<(phase: string) => void>();
  /** What its replicas were asked and made. */
  readonly meter = new TokenMeter();
  readonly speeds = new SpeedMeter();
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
  readonly #coldMs = (cold: boolean): Ms => (cold ? (this.#startMs ?? 0) : 0);
  readonly #release = {
    clock: { now: (): EpochMs => this.#clock.now() },
    meter: this.meter,
    speeds: this.speeds,
    onBegun: (ttftMs: Ms, cold: boolean): void => this.speeds.begin(ttftMs, this.#spec.slo.ttftMs + this.#coldMs(cold)),
    onRead: (): void => this.#serveLine(),
    onRelease: (replica: Replica, outcome: Outcome, busyMs: Ms): void => this.#released(replica, outcome, busyMs),
  };
  /** Replicas that failed are probed and dead ones taken away: waiting for that makes sense. */
  readonly supervised: boolean;

  constructor(spec: PoolSpec, clock: Clock, onDemand: () => void, supervised = false) {
    this.supervised = supervised;
    this.#spec = spec;
    this.#clock = clock;
    this.#waiting = new Waiting(clock);
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
    return {
      ...countsOf(this.#replicas.values()),
      ...{ waiting: this.#waiting.size, waitingSinceMs: this.#waiting.sinceMs },
      arrivals: this.#arrivals,
      lastUsedMs: this.#lastUsedMs,
      ...{ begun: this.speeds.begun, late: this.speeds.late },
    };
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

  /** How fast it was measured to be, to the pool's others: what it takes is counted by that. */
  paced(id: string, pace: number): void {
    const replica = this.#replicas.get(id);
    if (replica) setPace(replica, pace);
  }

  /** It has answered a probe: what was held against it is forgotten. */
  verified(id: string): void {
    this.#replicas.get(id)?.circuit.verified(this.#clock.now());
    this.#serveLine();
  }

  /** It does not answer a question: requests wait, or go elsewhere, until it has or is gone. */
  hush(id: string): void {
    this.#replicas.get(id)?.circuit.hushed(this.#clock.now());
  }

  expectStart(ms: Ms): void {
    this.#startMs ??= ms;
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
    const remembered = rememberedMax(target.slots, this.#spec.contextTokens);
    this.#replicas.set(target.id, newReplica(target, this.#clock.now(), remembered));
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
    replica.onLost.each((listener) => listener());
  }

  /** A slot when one is free now, else null. */
  tryTake(wish: Wish = {}): Slot | null {
    const free = this.#choose(wish, this.#clock.now());
    if (!free) return null;
    this.#arrivals += 1;
    this.#lastUsedMs = this.#clock.now();
    return this.#occupy(free, wish, { waitedMs: 0, cold: false });
  }

  /** Whether some ready replica, busy or not, is none of these. */
  hasOther(exclude: ReadonlyMap<string, EpochMs>): boolean {
    return [...this.#replicas.values()].some((one) => !one.draining && !isExcluded(one, exclude));
  }

  /**
   * A slot, now or when one is free.
   * @throws AppError `queue_full` when the line is full, `no_capacity` when nothing was free in time, `client_closed`.
   */
  take(options: TakeOptions): Promise<Slot> {
    const { maxWaitMs, signal, needs } = options;
    const nowMs = this.#clock.now();
    this.#arrivals += 1;
    this.#lastUsedMs = nowMs;
    const cold = this.targetFor(needs) === null;
    const free = this.#choose(options, nowMs, maxWaitMs > 0);
    if (free) return Promise.resolve(this.#occupy(free, options, { waitedMs: 0, cold }));
    const none = (message: string): AppError =>
      refusal('no_capacity', whyNone(message, needs, this.#phase), this.#startMs);
    if (this.#shut !== null) return Promise.reject(refusal('no_capacity', this.#shut, SHUT_MS));
    if (maxWaitMs <= 0) return Promise.reject(none('no machine is free now'));
    if (this.#waiting.size >= this.#spec.limits.waitingMax) {
      return Promise.reject(refusal('queue_full', 'too many requests are waiting for this model', this.#startMs));
    }
    if (signal.aborted) return Promise.reject(new AppError('client_closed', 'the client has gone'));
    const given = this.#waiting.join(options, {
      ...{ promisedMs: this.#spec.slo.ttftMs, coldMs: this.#coldMs(cold) },
      give: (replica, waitedMs) => this.#occupy(replica, options, { waitedMs, cold }),
      refuse: () => none('no machine could be had in time'),
      left: () => void (this.#waiting.size > 0 || this.#planWake(nowMs)),
    });
    this.#planWake(nowMs);
    this.#onDemand();
    return given;
  }

  /** Turns everybody in line away: the pool was deleted or the gateway stops. */
  close(error: AppError): void {
    this.#waiting.close(error);
  }

  /** Those in line, the first to come first. */
  get waiters(): readonly Waiter[] {
    return this.#waiting.all();
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
    return needsOfLine(this.#waiting.all(), poolNeeds(this.#spec), (needs) => this.targetFor(needs) !== null);
  }

  #choose(wish: Wish, nowMs: EpochMs, mayWait = true): Replica | undefined {
    const most = mayWait ? unreadMost(this.speeds.prefillTokensPerS, this.#spec.slo.ttftMs) : Infinity;
    return this.#shut === null ? chooseReplica(this.#replicas.values(), wish, nowMs, most) : undefined;
  }

  #occupy(replica: Replica, { opening, request }: Wish, waited: { waitedMs: Ms; cold: boolean }): Slot {
    const nowMs = this.#clock.now();
    sumFlights(replica, nowMs);
    replica.inFlight += 1;
    replica.lastUsedMs = nowMs;
    replica.circuit.taken();
    const unread = opening ? unreadOf(replica, opening) : 0;
    if (opening) replica.remembered.note(opening);
    return new TakenSlot(replica, { ...waited, unread, request }, this.#release);
  }

  #released(replica: Replica, outcome: Outcome, busyMs: Ms): void {
    const nowMs = this.#clock.now();
    const { circuit } = replica;
    sumFlights(replica, nowMs);
    replica.inFlight -= 1;
    replica.lastUsedMs = nowMs;
    this.#lastUsedMs = nowMs;
    noteOutcome(replica, outcome, { nowMs, busyMs, supervised: this.supervised });
    this.#serveLine();
    if ((circuit.suspectMs !== null && this.supervised) || (replica.draining && replica.inFlight === 0))
      this.#onDemand();
  }

  /** @param nowMs when nobody was found to be free: a moment later somebody may be, whom no timer would wake the line for */
  #planWake(nowMs: EpochMs): void {
    this.#cancelWake?.();
    this.#cancelWake = null;
    if (this.#waiting.size === 0) return;
    const next = nextAdmission(this.#replicas.values(), nowMs);
    if (next !== Infinity) this.#cancelWake = this.#clock.timer(next - nowMs, () => this.#serveLine());
  }

  #serveLine(): void {
    const nowMs = this.#clock.now();
    while (this.#waiting.size > 0 && this.#choose({}, nowMs)) {
      let replica: Replica | undefined;
      const waiter = this.#waiting.shift(({ wish }) => {
        replica = this.#choose(wish, nowMs);
        return replica !== undefined;
      });
      if (!waiter || !replica) break;
      waiter.give(replica);
    }
    this.#planWake(nowMs);
  }
}
