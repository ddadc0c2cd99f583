/** What is known of a provider; of the market's record and of our own leases with it. */
export interface ProviderHistory {
  readonly leases: number;
  readonly failures: number;
  readonly disputes: number;
}

export interface Score {
  /** Chance that the next lease fails, 0 to 1. */
  readonly failureChance: number;
  readonly reason: string;
}

/** A newcomer is taken to fail once in twenty: the prior weighs as much as twenty leases. */
const PRIOR_LEASES = 20;
const PRIOR_FAILURES = 1;
/** A dispute tells more than a failure: somebody looked. */
const DISPUTE_WEIGHT = 3;

/** A provider's record as a chance of failure: its own counts, pulled towards the prior while they are few. */
export function scoreProvider({ leases, failures, disputes }: ProviderHistory): Score {
  const bad = PRIOR_FAILURES + failures + DISPUTE_WEIGHT * disputes;
  const failureChance = Math.min(1, bad / (PRIOR_LEASES + Math.max(leases, failures + disputes)));
  const share = `${Math.round(failureChance * 1000) / 10} % risk`;
  if (leases + failures + disputes === 0) return { failureChance, reason: `new here: ${share}` };
  return { failureChance, reason: `${leases} leases, ${failures} failed, ${disputes} disputed: ${share}` };
}

/** How long a provider that just failed is passed over: 30 s, doubled with each further failure, at most an hour. */
export function quarantineMs(failuresInRow: number): number {
  return failuresInRow <= 0 ? 0 : Math.min(3_600_000, 30_000 * 2 ** (failuresInRow - 1));
}
