import { AppError } from '../errors.ts';
import { counted, type EpochMs, type Ms, type Tokens } from '../units.ts';

/** Limits of one key, per minute and at a time. */
export interface RateLimits {
  readonly requestsPerMinute: number;
  readonly tokensPerMinute: Tokens;
  readonly concurrency: number;
}

/** A token bucket: full at first, refilled evenly over a minute. */
interface Bucket {
  level: number;
  atMs: EpochMs;
}

interface KeyState {
  readonly requests: Bucket;
  readonly tokens: Bucket;
  inFlight: number;
}

const MINUTE_MS = 60_000;
/** Keys idle for so long are forgotten: their buckets are full again anyway. */
const FORGET_MS = 2 * MINUTE_MS;
const SWEEP_EVERY = 10_000;

export interface Admission {
  /** `x-ratelimit-*` as they stand after this request was counted. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Reserves more tokens, once the body says how many.
   * @throws AppError `rate_limit_exceeded`
   */
  reserve(tokens: Tokens, nowMs: EpochMs): void;
  /** Corrects the tokens reserved to those used, and ends the request's concurrency. Once. */
  end(tokensUsed: Tokens): void;
}

/**
 * Requests and tokens a minute and requests at a time, per key. Tokens are reserved by the bound of the request and
 * corrected when it ends, so a thousand at once cannot pass a limit that each alone would respect.
 */
export class Limiter {
  readonly #keys = new Map<string, KeyState>();
  #count = 0;

  /** @throws AppError `rate_limit_exceeded` with Retry-After; nothing is counted then */
  admit(key: string, limits: RateLimits, tokens: Tokens, nowMs: EpochMs): Admission {
    const state = this.#state(key, limits, nowMs);
    const { requestsPerMinute, tokensPerMinute, concurrency } = limits;
    refill(state.requests, requestsPerMinute, nowMs);
    refill(state.tokens, tokensPerMinute, nowMs);
    if (state.inFlight >= concurrency)
      throw exceeded(`this API key may have ${counted(concurrency, 'request')} at a time`, 1000);
    if (state.requests.level < 1) {
      const waitMs = ((1 - state.requests.level) * MINUTE_MS) / requestsPerMinute;
      throw exceeded(`this API key may make ${counted(requestsPerMinute, 'request')} a minute`, waitMs);
    }
    const admitted = new Admitted(state, limits);
    admitted.reserve(tokens, nowMs);
    state.requests.level -= 1;
    state.inFlight += 1;
    return admitted;
  }

  /** `x-ratelimit-*` without counting a request. */
  look(key: string, limits: RateLimits, nowMs: EpochMs): Record<string, string> {
    const state = this.#state(key, limits, nowMs);
    refill(state.requests, limits.requestsPerMinute, nowMs);
    refill(state.tokens, limits.tokensPerMinute, nowMs);
    return headersOf(state, limits);
  }

  #state(key: string, limits: RateLimits, nowMs: EpochMs): KeyState {
    this.#count += 1;
    if (this.#count % SWEEP_EVERY === 0) this.#sweep(nowMs);
    const known = this.#keys.get(key);
    if (known) return known;
    const bucket = (level: number): Bucket => ({ level, atMs: nowMs });
    const state = { requests: bucket(limits.requestsPerMinute), tokens: bucket(limits.tokensPerMinute), inFlight: 0 };
    this.#keys.set(key, state);
    return state;
  }

  #sweep(nowMs: EpochMs): void {
    for (const [key, { requests, inFlight }] of this.#keys) {
      if (inFlight === 0 && nowMs - requests.atMs > FORGET_MS) this.#keys.delete(key);
    }
  }
}

class Admitted implements Admission {
  readonly #state: KeyState;
  readonly #limits: RateLimits;
  #reserved: Tokens = 0;
  #over = false;

  constructor(state: KeyState, limits: RateLimits) {
    this.#state = state;
    this.#limits = limits;
  }

  get headers(): Record<string, string> {
    return headersOf(this.#state, this.#limits);
  }

  reserve(tokens: Tokens, nowMs: EpochMs): void {
    const { tokensPerMinute } = this.#limits;
    const bucket = this.#state.tokens;
    refill(bucket, tokensPerMinute, nowMs);
    // A request larger than the whole bucket waits for a full one: otherwise it could never be made.
    const wanted = Math.min(tokens, tokensPerMinute);
    if (bucket.level < wanted) {
      const waitMs = ((wanted - bucket.level) * MINUTE_MS) / tokensPerMinute;
      throw exceeded(`this API key may use ${tokensPerMinute} tokens a minute`, waitMs);
    }
    bucket.level -= wanted;
    this.#reserved += wanted;
  }

  end(tokensUsed: Tokens): void {
    if (this.#over) return;
    this.#over = true;
    this.#state.inFlight -= 1;
    const bucket = this.#state.tokens;
    bucket.level = Math.min(this.#limits.tokensPerMinute, bucket.level + this.#reserved - tokensUsed);
  }
}

function refill(bucket: Bucket, perMinute: number, nowMs: EpochMs): void {
  const passed = Math.max(0, nowMs - bucket.atMs);
  bucket.level = Math.min(perMinute, bucket.level + (passed * perMinute) / MINUTE_MS);
  bucket.atMs = nowMs;
}

function headersOf({ requests, tokens }: KeyState, limits: RateLimits): Record<string, string> {
  const { requestsPerMinute, tokensPerMinute } = limits;
  const reset = (level: number, most: number): string => formatReset(((most - level) * MINUTE_MS) / most);
  return {
    'x-ratelimit-limit-requests': String(requestsPerMinute),
    'x-ratelimit-limit-tokens': String(tokensPerMinute),
    'x-ratelimit-remaining-requests': String(Math.max(0, Math.floor(requests.level))),
    'x-ratelimit-remaining-tokens': String(Math.max(0, Math.floor(tokens.level))),
    'x-ratelimit-reset-requests': reset(requests.level, requestsPerMinute),
    'x-ratelimit-reset-tokens': reset(tokens.level, tokensPerMinute),
  };
}

/** As OpenAI writes them: `12ms`, `1.5s`, `1m30s`. */
export function formatReset(ms: Ms): string {
  const whole = Math.max(0, Math.ceil(ms));
  if (whole < 1000) return `${whole}ms`;
  if (whole < MINUTE_MS) return `${whole / 1000}s`;
  const seconds = Math.ceil(whole / 1000);
  return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}

function exceeded(message: string, waitMs: Ms): AppError {
  return new AppError('rate_limit_exceeded', message, { retryAfterS: Math.max(1, Math.ceil(waitMs / 1000)) });
}
