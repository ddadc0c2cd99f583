import type { Ms, Tokens } from '../units.ts';
import type { PoolRates } from './pool-record.ts';

/** Pure: requests as work, in time of one replica at its best. The scheduler and its simulation count it in the same way. */

/** What a replica of the pool was measured to do: tokens a second of prompts, and of answers with its slots taken. */
export interface MeasuredRates {
  readonly prefillTokensPerS: number;
  readonly outputTokensPerS: number;
}

/** An answer is taken for so long before enough were seen. */
const OUTPUT_GUESS: Tokens = 200;
const ENDED_LEAST = 20;
/** Of the work of a full batch, what lies on a busy replica: on the mean its answers are half written. */
const BATCH_SHARE = 0.4;
/** From here on a batch was measured for long enough. */
const MEASURED_LEAST_MS: Ms = 20_000;

export interface Came {
  /** Tokens of the prompts that came, where they are known before their answers end. */
  readonly askedTokens: Tokens | null;
  readonly arrived: number;
  readonly waiting: number;
  readonly slots: number;
  /** A first token may come so late. */
  readonly ttftMs: Ms;
  /** Requests that ended, and what they were on the mean. */
  readonly ended: number;
  readonly mean: { readonly input: Tokens; readonly output: Tokens };
}

export interface WorkSample {
  readonly workMs: Ms;
  /** Of it the reading of prompts. */
  readonly promptMs: Ms;
  /** Of what waits in line. */
  readonly lineMs: Ms;
  /** Work that may lie on a replica without a first token coming too late. */
  readonly slackMs: Ms;
}

export function sampleWork(came: Came, { prefillTokensPerS, outputTokensPerS }: MeasuredRates): WorkSample {
  const { arrived, waiting, slots, ttftMs, ended, mean } = came;
  const output = ended < ENDED_LEAST ? OUTPUT_GUESS : mean.output;
  const promptMs = ((came.askedTokens ?? arrived * mean.input) * 1000) / prefillTokensPerS;
  const answerMs = (output * 1000) / outputTokensPerS;
  const meanMs = (mean.input / prefillTokensPerS + mean.output / outputTokensPerS) * 1000;
  return {
    workMs: promptMs + arrived * answerMs,
    promptMs,
    lineMs: ended === 0 ? 0 : waiting * meanMs,
    // An answer is no later for tokens that wait behind others' in the batch: a batch of them is always in the line.
    slackMs: ttftMs + BATCH_SHARE * slots * answerMs,
  };
}

/**
 * What a full replica does, by what was measured with at least half of its slots taken: with fewer, it is not known what the
 * others would cost. Null: too little was measured.
 */
export function ratesOf({ prefillTokensPerS, batches }: PoolRates, slots: number): MeasuredRates | null {
  const full = batches.filter(({ streams, measuredMs }) => streams * 2 > slots / 2 && measuredMs >= MEASURED_LEAST_MS);
  const outputTokensPerS = Math.max(0, ...full.map(({ tokensPerS }) => tokensPerS));
  return prefillTokensPerS === null || outputTokensPerS === 0 ? null : { prefillTokensPerS, outputTokensPerS };
}
