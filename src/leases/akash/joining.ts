import type { Clock } from '../../clock.ts';
import { describeError } from '../../errors.ts';
import type { EpochMs, Ms } from '../../units.ts';
import type { Chain } from './chain.ts';

export interface JoiningOptions {
  readonly chain: Chain;
  readonly clock: Clock;
  /** What has to be known of the chain before anything is posted there; asked for again until it went through. */
  readonly prepare: () => Promise<void>;
  readonly onChange: () => void;
  readonly log: (line: string) => void;
}

/** Between two tries, doubled each time. */
const AGAIN_MS: Ms = 1000;
const AGAIN_MS_MAX: Ms = 60_000;

/**
 * The way to the chain, and back to it: a gateway starts without it and serves what it can, and the market joins when a
 * node answers. Later silence (no node, no blocks) is told the same way, and ends by itself.
 */
export class Joining {
  readonly #options: JoiningOptions;
  #why = 'the chain was not asked yet';
  #joined = false;
  #failures = 0;
  #nextMs: EpochMs = 0;
  #told: string | null = null;

  constructor(options: JoiningOptions) {
    this.#options = options;
  }

  get joined(): boolean {
    return this.#joined;
  }

  /** Why nothing can be posted on the chain now; null: it can. */
  problem(): string | null {
    return this.#joined ? this.#options.chain.silence() : this.#why;
  }

  /** Tries to join, when it is time to. Never rejects. */
  async attempt(): Promise<void> {
    const { chain, clock, prepare } = this.#options;
    if (this.#joined || clock.now() < this.#nextMs) return;
    try {
      await chain.open();
      const silence = chain.silence();
      if (silence !== null) throw new Error(silence);
      await prepare();
      this.#joined = true;
    } catch (error) {
      this.#why = describeError(error).slice(0, 1000);
      this.#nextMs = clock.now() + Math.min(AGAIN_MS_MAX, AGAIN_MS * 2 ** Math.min(this.#failures, 10));
      this.#failures += 1;
    }
    this.tell();
  }

  /** Forgets the pause between two tries: the first question of a run gets a second chance at once. */
  hurry(): void {
    this.#nextMs = 0;
  }

  /** Says once when the chain falls silent, and once when it is back. */
  tell(): void {
    const { chain, onChange, log } = this.#options;
    const problem = this.problem();
    if (problem === null) {
      if (this.#told !== null) log(`the Akash market is back: ${chain.head?.chainId}, block ${chain.head?.height}`);
    } else if (this.#told === null || !sameCause(this.#told, problem)) {
      log(`the Akash market takes no orders: ${problem}; leases that run are served, other markets too`);
    }
    const changed = (problem === null) !== (this.#told === null);
    this.#told = problem;
    if (changed) onChange();
  }
}

/** Numbers in it count on while it lasts. */
function sameCause(a: string, b: string): boolean {
  const bare = (text: string): string => text.replaceAll(/\d+/g, '');
  return bare(a) === bare(b);
}
