import { z } from 'zod';
import type { Ms } from '../units.ts';

const DAY_S = 86_400;
const windowS = z
  .number()
  .int()
  .min(1)
  .max(90 * DAY_S);

export const disputeWindowsSchema = z
  .strictObject({
    answer_s: windowS
      .default(DAY_S)
      .describe('how long a provider may answer a dispute; without an answer it is upheld'),
    judge_s: windowS
      .default(14 * DAY_S)
      .describe('how long an answered dispute waits for a judgement; without one the answer stands'),
  })
  .prefault({})
  .describe('how long disputes wait');

export function parseDisputeWindows(input: z.output<typeof disputeWindowsSchema>): {
  readonly answerMs: Ms;
  readonly judgeMs: Ms;
} {
  return { answerMs: input.answer_s * 1000, judgeMs: input.judge_s * 1000 };
}
