import { AppError } from '../../errors.ts';
import { asksNothing, describeNeeds, type Needs } from '../../spec/trust.ts';
import type { Ms } from '../../units.ts';

/** What a request is told that gets no slot; `startMs`: what start-ups took lately. */
export function refusal(code: 'no_capacity' | 'queue_full', message: string, startMs: Ms | null): AppError {
  const retryAfterS = Math.max(1, Math.ceil((startMs ?? 10_000) / 1000));
  return new AppError(code, message, {
    retryAfterS,
    // OpenAI's clients ignore a Retry-After above 60 s and would come back at once.
    ...(retryAfterS > 60 ? { shouldRetry: false } : {}),
  });
}

/** "no machine could be had in time that meets trust audited (no machine: nobody bid)" */
export function whyNone(message: string, needs: Needs | undefined, phase: string): string {
  const which = needs === undefined || asksNothing(needs) ? '' : ` that meets ${describeNeeds(needs)}`;
  return `${message}${which} (${phase})`;
}
