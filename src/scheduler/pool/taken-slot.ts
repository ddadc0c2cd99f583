import type { EpochMs, Ms, NanoUsd, Tokens } from '../../units.ts';
import { sumFlights, type Outcome, type Replica, type Slot, type Target } from './slot.ts';
import type { SpeedMeter } from './speed-meter.ts';
import type { TokenMeter } from './token-meter.ts';

/** A slot that is taken; what happens to it goes to its replica, and its end to the router. */
export class TakenSlot implements Slot {
  readonly waitedMs: Ms;
  readonly cold: boolean;
  readonly #replica: Replica;
  readonly #onRead: () => void;
  readonly #onRelease: (replica: Replica, outcome: Outcome, busyMs: Ms) => void;
  readonly #clock: { now(): EpochMs };
  readonly #meter: TokenMeter;
  readonly #speeds: SpeedMeter;
  readonly #onBegun: (ttftMs: Ms, cold: boolean) => void;
  readonly #takenMs: EpochMs;
  readonly #flightsMs: number;
  #begunMs: EpochMs | null = null;
  #unread: number;
  #held = true;
  #heldBack = false;
  readonly #request: string | undefined;
  readonly #atWorkNoMore: (() => void) | undefined;

  /** @param taken `unread`: blocks of its request that the replica has not read before */
  constructor(
    replica: Replica,
    taken: {
      readonly waitedMs: Ms;
      readonly cold: boolean;
      readonly unread: number;
      readonly request?: string | undefined;
    },
    router: {
      readonly clock: { now(): EpochMs };
      readonly meter: TokenMeter;
      readonly speeds: SpeedMeter;
      readonly onBegun: (ttftMs: Ms, cold: boolean) => void;
      /** It has room for the next prompt. */
      readonly onRead: () => void;
      readonly onRelease: (replica: Replica, outcome: Outcome, busyMs: Ms) => void;
    },
  ) {
    const { waitedMs, cold, unread, request } = taken;
    this.#replica = replica;
    this.#request = request;
    this.#atWorkNoMore = request === undefined ? undefined : replica.requests.taken(request);
    this.waitedMs = waitedMs;
    this.cold = cold;
    this.#unread = unread;
    replica.unread += unread;
    this.#clock = router.clock;
    if (replica.inFlight === 1) replica.busySinceMs = this.#clock.now();
    this.#meter = router.meter;
    this.#speeds = router.speeds;
    this.#onBegun = router.onBegun;
    this.#onRead = router.onRead;
    this.#onRelease = router.onRelease;
    this.#takenMs = router.clock.now();
    this.#flightsMs = sumFlights(replica, this.#takenMs);
  }

  get target(): Target {
    return this.#replica.target;
  }

  get lost(): boolean {
    return this.#replica.lost;
  }

  onLost(listener: () => void): () => void {
    return this.#replica.onLost.add(listener);
  }

  used(input: Tokens, output: Tokens, paidNanoUsd: NanoUsd): void {
    const replica = this.#replica;
    const nowMs = this.#clock.now();
    replica.paid += paidNanoUsd;
    this.#meter.add(nowMs, input, output);
    if (this.#heldBack) return;
    const tookMs = Math.max(1, nowMs - this.#takenMs);
    const streams = Math.max(1, (sumFlights(replica, nowMs) - this.#flightsMs) / tookMs);
    const times = { takenMs: this.#takenMs, begunMs: this.#begunMs, endMs: nowMs };
    this.#speeds.add({ replica: replica.target.id, ...times, streams, outputTokens: output });
  }

  heldBack(): void {
    this.#heldBack = true;
  }

  overclaimed(tokens: number): void {
    this.#replica.overclaimed += tokens;
  }

  alive(): void {
    this.#replica.circuit.alive(this.#clock.now());
    if (this.#unread === 0) return;
    this.#read();
    this.#onRead();
  }

  began(): void {
    if (this.#begunMs !== null || !this.#held) return;
    this.#begunMs = this.#clock.now();
    this.#replica.begun += 1;
    this.#onBegun(this.waitedMs + this.#begunMs - this.#takenMs, this.cold);
    this.alive();
  }

  release(outcome: Outcome, busyMs: Ms = 0): void {
    if (!this.#held) return;
    this.#held = false;
    this.#read();
    this.#noteEnd(outcome);
    if (this.#begunMs !== null) this.#replica.begun -= 1;
    // Of an answer in one piece no more is known than how long it waited.
    else if (outcome === 'served') this.#onBegun(this.waitedMs, this.cold);
    if (this.#replica.inFlight === 1) this.#replica.busyMs += this.#clock.now() - this.#replica.busySinceMs;
    this.#onRelease(this.#replica, outcome, busyMs);
  }

  #noteEnd(outcome: Outcome): void {
    this.#atWorkNoMore?.();
    const { requests, circuit } = this.#replica;
    if (this.#request !== undefined && outcome === 'failed') requests.failed(this.#request, circuit.suspectMs === null);
  }

  /** Its prompt is read, or nobody wants it any more. */
  #read(): void {
    this.#replica.unread -= this.#unread;
    this.#unread = 0;
  }
}
