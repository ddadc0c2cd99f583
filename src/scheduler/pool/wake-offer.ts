import type { PoolSpec } from '../../spec.ts';
import type { EpochMs, Ms, NanoUsd } from '../../units.ts';

/** Where a wake is that was granted on a request's offer. */
export type WakeStage = 'open' | 'ordered' | 'leased';

/**
 * What a request in line is worth, and what it pays for having its pool woken. All parts of a request share one, so it is
 * counted and charged once.
 */
export class WakeOffer {
  readonly request: string;
  /** What the request will likely be charged for its tokens. */
  readonly valueNanoUsd: NanoUsd;
  /** Held for a wake; 0: none is paid for. */
  readonly feeNanoUsd: NanoUsd;
  #stage: WakeStage = 'open';

  constructor(offer: Pick<WakeOffer, 'request' | 'valueNanoUsd' | 'feeNanoUsd'>) {
    this.request = offer.request;
    this.valueNanoUsd = offer.valueNanoUsd;
    this.feeNanoUsd = offer.feeNanoUsd;
  }

  get stage(): WakeStage {
    return this.#stage;
  }

  /** What became of the machine that was ordered on it. */
  follow(stage: WakeStage): void {
    this.#stage = stage;
  }

  /** A machine was leased on it, and has not failed. */
  get feeDueNanoUsd(): NanoUsd {
    return this.#stage === 'leased' ? this.feeNanoUsd : 0n;
  }
}

/** A request in line, as the decision over a wake sees it. */
export interface Asking {
  readonly account: string;
  /** Null: a request that says nothing of its worth. */
  readonly offer: WakeOffer | null;
  readonly waitedMs: Ms;
  /** How long it waits in all. */
  readonly patienceMs: Ms;
  /** It had a machine, which failed: another one is owed to it. */
  readonly owed: boolean;
}

interface InLine {
  readonly account: string;
  readonly sinceMs: EpochMs;
  readonly untilMs: EpochMs;
  readonly wish: { readonly exclude?: ReadonlyMap<string, EpochMs> | undefined };
  readonly wake: WakeOffer | undefined;
}

export function askingOf({ account, sinceMs, untilMs, wish, wake }: InLine, nowMs: EpochMs): Asking {
  const owed = (wish.exclude?.size ?? 0) > 0;
  return { account, offer: wake ?? null, waitedMs: nowMs - sinceMs, patienceMs: untilMs - sinceMs, owed };
}

/** What a start-up takes, as far as nothing is known. */
export const START_GUESS_MS: Ms = 60_000;

/** What a start-up is expected to cost: the time from order to first answer at what a replica cost last, or may at most. */
export function wakeCost(
  spec: PoolSpec,
  seen: { readonly startMs: Ms | null; readonly costNanoUsdPerHour: NanoUsd | null },
): NanoUsd {
  const hourly = seen.costNanoUsdPerHour ?? spec.ceilingNanoUsdPerHour;
  return (hourly * BigInt(Math.ceil(seen.startMs ?? START_GUESS_MS)) + 3_599_999n) / 3_600_000n;
}
