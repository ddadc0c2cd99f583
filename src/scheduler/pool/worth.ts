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
  const before = faded(spending ?? { heldNanoUsd: 0, chargedNanoUsd: 0, atMs: nowMs }, nowMs);
  const [held, charged] = [Number(holdNanoUsd), Number(chargedNanoUsd)];
  return {
    ...before,
    heldNanoUsd: before.heldNanoUsd + held,
    chargedNanoUsd: before.chargedNanoUsd + Math.min(held, charged),
  };
}

/** What accounts were charged lately; forgotten with the process. */
export class Worths {
  readonly #spending = new Map<string, Spending>();

  of(account: string, holdNanoUsd: NanoUsd, nowMs: EpochMs): NanoUsd {
    return worthOf(this.#spending.get(account) ?? null, holdNanoUsd, nowMs);
  }

  note(account: string, charge: { readonly holdNanoUsd: NanoUsd; readonly chargedNanoUsd: NanoUsd }, nowMs: EpochMs) {
    const spending = withCharge(this.#spending.get(account) ?? null, charge, nowMs);
    this.#spending.delete(account);
    this.#spending.set(account, spending);
    if (this.#spending.size <= ACCOUNTS_MAX) return;
    const [oldest] = this.#spending.keys();
    if (oldest !== undefined) this.#spending.delete(oldest);
  }
}
