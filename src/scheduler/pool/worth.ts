import type { EpochMs, Ms, NanoUsd } from '../../units.ts';

/**
 * What a request in line is worth: not what is held for it, which its client may set as high as its credit reaches, but what
 * its account's requests usually come to of their holds.
 */

/** What an account's requests were held for and came to, what is long ago less and less. */
export interface Spending {
  readonly heldNanoUsd: number;
  readonly chargedNanoUsd: number;
  readonly atMs: EpochMs;
}

/** By time, not by requests: many small ones make good for no large one. */
const HALF_LIFE_MS: Ms = 86_400_000;
/** Of a newcomer. A prompt has a token for three to five of the bytes that are held for, and most answers end early. */
const NEWCOMERS_SHARE = 0.25;
/** Accounts that are remembered; of more, those that asked nothing for longest are newcomers again. */
const ACCOUNTS_MAX = 10_000;
/** Nothing fades within it, and nobody becomes one of the last to have asked: requests come by the thousand. */
const STEP_MS: Ms = 1000;

function faded({ heldNanoUsd, chargedNanoUsd, atMs }: Spending, nowMs: EpochMs): Spending {
  const left = 2 ** (-Math.max(0, nowMs - atMs) / HALF_LIFE_MS);
  return { heldNanoUsd: heldNanoUsd * left, chargedNanoUsd: chargedNanoUsd * left, atMs: Math.max(atMs, nowMs) };
}

/** Pure: one that is held for more than all that is known of its account is mostly a newcomer's. */
export function worthOf(spending: Spending | null, holdNanoUsd: NanoUsd, nowMs: EpochMs): NanoUsd {
  if (holdNanoUsd <= 0n) return 0n;
  const { heldNanoUsd, chargedNanoUsd } = spending ? faded(spending, nowMs) : { heldNanoUsd: 0, chargedNanoUsd: 0 };
  const hold = Number(holdNanoUsd);
  const worth = (hold * (chargedNanoUsd + NEWCOMERS_SHARE * hold)) / (heldNanoUsd + hold);
  const whole = BigInt(Math.round(worth));
  return whole < holdNanoUsd ? whole : holdNanoUsd;
}

/** Pure: what was charged beyond a hold that grew meanwhile makes good for no other. */
export function withCharge(
  spending: Spending | null,
  { holdNanoUsd, chargedNanoUsd }: { readonly holdNanoUsd: NanoUsd; readonly chargedNanoUsd: NanoUsd },
  nowMs: EpochMs,
): Spending {
  let before = spending ?? { heldNanoUsd: 0, chargedNanoUsd: 0, atMs: nowMs };
  if (nowMs - before.atMs >= STEP_MS) before = faded(before, nowMs);
  const held = Number(holdNanoUsd);
  return {
    heldNanoUsd: before.heldNanoUsd + held,
    chargedNanoUsd: before.chargedNanoUsd + Math.min(held, Number(chargedNanoUsd)),
    atMs: before.atMs,
  };
}

interface Known {
  spending: Spending;
  /** When it was put behind all others. */
  lastMs: EpochMs;
}

/** What accounts were charged lately; forgotten with the process. */
export class Worths {
  readonly #accounts = new Map<string, Known>();

  of(account: string, holdNanoUsd: NanoUsd, nowMs: EpochMs): NanoUsd {
    return worthOf(this.#accounts.get(account)?.spending ?? null, holdNanoUsd, nowMs);
  }

  note(account: string, charge: { readonly holdNanoUsd: NanoUsd; readonly chargedNanoUsd: NanoUsd }, nowMs: EpochMs) {
    const known = this.#accounts.get(account);
    const spending = withCharge(known?.spending ?? null, charge, nowMs);
    if (known) {
      known.spending = spending;
      if (nowMs - known.lastMs < STEP_MS) return;
      this.#accounts.delete(account);
    }
    this.#accounts.set(account, { spending, lastMs: nowMs });
    if (this.#accounts.size <= ACCOUNTS_MAX) return;
    const [oldest] = this.#accounts.keys();
    if (oldest !== undefined) this.#accounts.delete(oldest);
  }
}
