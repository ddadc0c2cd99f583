import type { EpochMs, Ms } from '../../units.ts';

/** Failures in a row that open a circuit, how long it stays open at first, and at most. */
const STRIKES_MAX = 3;
const OPEN_MS = 1000;
const OPEN_MAX_MS = 30_000;

/**
 * What a router has seen of one replica. After three failures in a row it is left alone for a while, then one request at a
 * time may try it; an answer, or a probe that was answered, closes the circuit. A replica that said "later" is left alone
 * until then and is no worse for it.
 */
export class Circuit {
  #strikes = 0;
  #openUntilMs: EpochMs = 0;
  #busyUntilMs: EpochMs = 0;
  #trying = false;
  #suspectMs: EpochMs | null = null;
  #verifiedMs: EpochMs = -Infinity;
  #hushed = false;
  #aliveMs: EpochMs = -Infinity;

  /** When its first failure was that no answer has made up for. */
  get suspectMs(): EpochMs | null {
    return this.#suspectMs;
  }

  /** When it last sent tokens. */
  get aliveMs(): EpochMs {
    return this.#aliveMs;
  }

  /** Whether it may be sent a request now. */
  admits(nowMs: EpochMs): boolean {
    if (this.#hushed || nowMs < this.#busyUntilMs) return false;
    return this.#strikes < STRIKES_MAX || (!this.#trying && nowMs >= this.#openUntilMs);
  }

  /** When it may be sent one again; null where that hangs on something else than time. */
  admitsAtMs(nowMs: EpochMs): EpochMs | null {
    const open = this.#strikes >= STRIKES_MAX;
    if (this.#hushed || (open && this.#trying)) return null;
    const at = Math.max(this.#busyUntilMs, open ? this.#openUntilMs : 0);
    return at > nowMs ? at : null;
  }

  /** Whether a request that failed here at that time may come back: not to a dead one twice. */
  readmits(failedMs: EpochMs): boolean {
    return this.#verifiedMs > failedMs;
  }

  taken(): void {
    this.#trying = this.#strikes >= STRIKES_MAX;
  }

  alive(nowMs: EpochMs): void {
    this.#aliveMs = nowMs;
  }

  served(): void {
    this.#hushed = false;
    this.#strikes = 0;
    this.#trying = false;
    this.#suspectMs = null;
  }

  cancelled(): void {
    this.#trying = false;
  }

  busy(nowMs: EpochMs, ms: Ms): void {
    this.#trying = false;
    this.#busyUntilMs = nowMs + ms;
  }

  /** It answered, but not as it should: a probe will tell. */
  refused(nowMs: EpochMs): void {
    this.#trying = false;
    this.#suspectMs ??= nowMs;
  }

  /** It left a question unanswered that was put to it without any request: nobody is sent there until it is known why. */
  hushed(nowMs: EpochMs): void {
    this.#hushed = true;
    this.#suspectMs ??= nowMs;
  }

  failed(nowMs: EpochMs): void {
    this.#trying = false;
    this.#strikes += 1;
    this.#suspectMs ??= nowMs;
    const doublings = Math.min(10, this.#strikes - STRIKES_MAX);
    if (doublings >= 0) this.#openUntilMs = nowMs + Math.min(OPEN_MAX_MS, OPEN_MS * 2 ** doublings);
  }

  /** It has answered a probe. */
  verified(nowMs: EpochMs): void {
    this.served();
    this.#verifiedMs = nowMs;
  }
}
