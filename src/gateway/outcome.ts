import type { UsageDetail } from '../ledger/operations.ts';
import type { TokenCounts } from '../ledger/pricing.ts';
import type { Slot } from '../scheduler/pool/slot.ts';
import type { EpochMs, Ms, Tokens } from '../units.ts';
import type { Leg } from './leg.ts';

export const NO_TOKENS: TokenCounts = { inputTokens: 0, cachedTokens: 0, outputTokens: 0 };

export function outputOf(legs: readonly Leg[]): Tokens {
  let sum = 0;
  for (const leg of legs) sum += leg.counts.output;
  return sum;
}

/** What an answer has used: the prompt counts once, however many choices were made of it. */
export function tokensOf(
  legs: readonly Leg[],
  bounds: { readonly inputLeast: Tokens; readonly outputHeld: Tokens },
): TokenCounts {
  let input = 0;
  let cached = 0;
  for (const { counts } of legs) {
    if (counts.input <= input) continue;
    input = counts.input;
    cached = counts.cached;
  }
  const output = outputOf(legs);
  // A client that reads the answer and hangs up before the usage is told has had its prompt worked on all the same.
  if (input === 0 && output > 0) input = bounds.inputLeast;
  return { inputTokens: input, cachedTokens: cached, outputTokens: Math.min(output, bounds.outputHeld) };
}

/** When an answer came, as far as it has. */
export class Timings {
  readonly createdMs: EpochMs;
  firstTokenMs: EpochMs | null = null;
  waitedMs: Ms = 0;
  coldStartMs: Ms = 0;

  constructor(createdMs: EpochMs) {
    this.createdMs = createdMs;
  }

  waited({ waitedMs, cold }: Pick<Slot, 'waitedMs' | 'cold'>): void {
    this.waitedMs = Math.max(this.waitedMs, waitedMs);
    if (cold) this.coldStartMs = Math.max(this.coldStartMs, waitedMs);
  }
}

/** What the look-up by id shows of an answer. */
export function detailOf(answer: {
  readonly stream: boolean;
  readonly finish: string | null;
  /** Tokens claimed beyond the bounds. */
  readonly refused: Tokens;
  readonly target: Slot['target'] | null;
  readonly resumed: number;
  /** Of all machines that worked on it. */
  readonly leases: ReadonlySet<string>;
  readonly error: string | null;
  readonly slowClient?: boolean;
  readonly timings: Timings;
  readonly nowMs: EpochMs;
}): UsageDetail {
  const { stream, finish, refused, target, resumed, leases, error, slowClient = false, timings, nowMs } = answer;
  const { createdMs, firstTokenMs, waitedMs, coldStartMs } = timings;
  const detail = {
    stream,
    lease: target?.leaseId ?? null,
    provider: target?.provider ?? null,
    market: target?.market ?? null,
    finish,
    error,
    coldStartMs,
    waitedMs,
    firstTokenMs: firstTokenMs === null ? null : firstTokenMs - createdMs,
    totalMs: nowMs - createdMs,
  };
  const alone = leases.size === 0 || (leases.size === 1 && target !== null && leases.has(target.leaseId));
  if (alone && !slowClient && refused === 0 && resumed === 0) return detail;
  const before = [...leases].filter((lease) => lease !== target?.leaseId);
  return {
    ...detail,
    ...(slowClient ? { slowClient } : {}),
    ...(refused > 0 ? { refusedTokens: refused } : {}),
    ...(resumed > 0 ? { resumed } : {}),
    ...(before.length > 0 ? { before } : {}),
  };
}
