import type { EpochMs, Tokens } from '../../units.ts';

/** Tokens an hour. */
export interface TokenRate {
  readonly input: number;
  readonly output: number;
}

const MINUTE_MS = 60_000;
const MINUTES = 60;
/** A rate of less time would be that of a single request. */
const LEAST_MINUTES = 10;
/** What requests are like changes with the time of day; fewer than so many are no mean. */
const LATELY_MINUTES = 10;
const LATELY_LEAST = 100;

interface Minute {
  at: number;
  requests: number;
  input: Tokens;
  output: Tokens;
}

/** What a pool's replicas were asked and made in the last hour, by the minute. */
export class TokenMeter {
  readonly #minutes: Minute[] = Array.from({ length: MINUTES }, () => ({ at: -1, requests: 0, input: 0, output: 0 }));
  #sinceMs: EpochMs | null = null;

  /** @param requests that these tokens are of */
  add(nowMs: EpochMs, input: Tokens, output: Tokens, requests = 1): void {
    this.#sinceMs ??= nowMs;
    const at = Math.floor(nowMs / MINUTE_MS);
    const minute = this.#minutes[at % MINUTES];
    if (!minute) return;
    if (minute.at !== at) Object.assign(minute, { at, requests: 0, input: 0, output: 0 });
    minute.requests += requests;
    minute.input += input;
    minute.output += output;
  }

  /** Over the last hour, or the time since the first request, of so many minutes at most. */
  rate(nowMs: EpochMs, minutes = MINUTES): TokenRate {
    const { input, output } = this.#sum(nowMs, minutes);
    const known = this.#sinceMs === null ? 0 : Math.max(0, nowMs - this.#sinceMs) / MINUTE_MS;
    const over = Math.min(minutes, Math.max(Math.min(LEAST_MINUTES, minutes), known));
    return { input: (input * 60) / over, output: (output * 60) / over };
  }

  /** Of a request in the last hour; null when there was none. */
  average(nowMs: EpochMs): TokenRate | null {
    const { requests, input, output } = this.#sum(nowMs, MINUTES);
    return requests === 0 ? null : { input: input / requests, output: output / requests };
  }

  /** Attempts that ended lately, and what they were on the mean: in the last minutes if they were many, else in the last hour. */
  means(nowMs: EpochMs): TokenRate & { readonly requests: number } {
    const lately = this.#sum(nowMs, LATELY_MINUTES);
    const { requests, input, output } = lately.requests >= LATELY_LEAST ? lately : this.#sum(nowMs, MINUTES);
    const each = Math.max(1, requests);
    return { requests, input: input / each, output: output / each };
  }

  #sum(nowMs: EpochMs, minutes: number): Omit<Minute, 'at'> {
    const now = Math.floor(nowMs / MINUTE_MS);
    const sum = { requests: 0, input: 0, output: 0 };
    for (const { at, requests, input, output } of this.#minutes) {
      if (at <= now - minutes || at > now) continue;
      sum.requests += requests;
      sum.input += input;
      sum.output += output;
    }
    return sum;
  }
}
