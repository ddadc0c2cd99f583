import type { EpochMs, Ms, Tokens } from '../../units.ts';

/** What one answer shows of its replica's speed. */
export interface SpeedSample {
  readonly replica: string;
  /** Answers at work there meanwhile, on the mean, this one counted. */
  readonly streams: number;
  /** Of this answer, after its first token. */
  readonly tokensPerS: number;
  /** How long that was measured. */
  readonly ms: Ms;
}

/** One answer as it was: times of its slot, and what it used. */
export interface Answered {
  readonly replica: string;
  readonly takenMs: EpochMs;
  /** Its first token; null: it came in one piece. */
  readonly begunMs: EpochMs | null;
  readonly endMs: EpochMs;
  readonly streams: number;
  readonly outputTokens: Tokens;
}

/** Of less, the time says more of the network than of the machine. */
const TOKENS_LEAST = 16;
const LEAST_MS: Ms = 200;
/** Samples between two looks: more say nothing more. */
const SAMPLES_MAX = 256;

/** Speeds of answers, until the scheduler takes them. */
export class SpeedMeter {
  /** Tokens of prompts that a replica of this pool was measured to read in a second; null: not yet. */
  prefillTokensPerS: number | null = null;
  #samples: SpeedSample[] = [];
  #begun = 0;
  #late = 0;

  /** First tokens so far, and those of them that came too late. */
  get begun(): number {
    return this.#begun;
  }

  get late(): number {
    return this.#late;
  }

  /** @param limitMs what the pool promises; a cold start comes on top, of which whoever found no machine was told */
  begin(ttftMs: Ms, limitMs: Ms): void {
    this.#begun += 1;
    if (ttftMs > limitMs) this.#late += 1;
  }

  add({ replica, begunMs, endMs, streams, outputTokens }: Answered): void {
    // Of an answer in one piece nobody knows when its prompt was read.
    if (begunMs === null || outputTokens < TOKENS_LEAST || this.#samples.length >= SAMPLES_MAX) return;
    const ms = endMs - begunMs;
    if (ms < LEAST_MS) return;
    this.#samples.push({ replica, streams, tokensPerS: ((outputTokens - 1) * 1000) / ms, ms });
  }

  /** What came since the last time. */
  take(): readonly SpeedSample[] {
    const samples = this.#samples;
    if (samples.length > 0) this.#samples = [];
    return samples;
  }
}
