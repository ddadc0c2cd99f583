import type { Ms } from '../units.ts';

/** What is known of a provider; of the market's record and of our own leases with it. */
export interface ProviderHistory {
  readonly leases: number;
  readonly failures: number;
  readonly disputes: number;
}

/** What is expected of a provider's next lease. */
export interface ProviderScore {
  /** Chance that it fails in its start-up or within an hour, 0 to 1. */
  readonly failureChance: number;
  /** From the lease to the first answer, as this pool's start-ups took there; null: none was seen. */
  readonly startMs: Ms | null;
  /** Tokens in a second against what its GPU promises: 1 as promised, 0.5 half of it. */
  readonly speed: number;
  readonly reason: string;
}

/** A newcomer is taken to fail once in twenty: the prior weighs as much as twenty leases. */
const PRIOR_LEASES = 20;
const PRIOR_FAILURES = 1;
/** A dispute tells more than a failure: somebody looked. */
const DISPUTE_WEIGHT = 3;

/** A provider's record as a chance of failure: its own counts, pulled towards the prior while they are few. */
export function scoreProvider({ leases, failures, disputes }: ProviderHistory): ProviderScore {
  const bad = PRIOR_FAILURES + failures + DISPUTE_WEIGHT * disputes;
  const failureChance = Math.min(1, bad / (PRIOR_LEASES + Math.max(leases, failures + disputes)));
  const share = `${Math.round(failureChance * 1000) / 10} % risk`;
  const unmeasured = { startMs: null, speed: 1 };
  if (leases + failures + disputes === 0) return { failureChance, ...unmeasured, reason: `new here: ${share}` };
  return {
    failureChance,
    ...unmeasured,
    reason: `${leases} leases, ${failures} failed, ${disputes} disputed: ${share}`,
  };
}

/** How long a provider that just failed is passed over: 30 s, doubled with each further failure, at most an hour. */
export function quarantineMs(failuresInRow: number): number {
  return failuresInRow <= 0 ? 0 : Math.min(3_600_000, 30_000 * 2 ** (failuresInRow - 1));
}
