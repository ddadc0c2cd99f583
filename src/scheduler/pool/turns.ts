import type { EpochMs, Ms, Tokens } from '../../units.ts';

/**
 * Pure: whose turn it is where more wait than can be served in time. First come, first served makes everybody late as soon as
 * the line is longer than the promise, and until it has been worked off; so who is late already makes room for those who can
 * still be in time. Nobody is left standing: some turns are the longest waiting one's, and many once its time runs out.
 */

export interface InLine {
  readonly sinceMs: EpochMs;
  /** Until then a slot is in time for what its pool promises. */
  readonly dueMs: EpochMs;
  /** It leaves then. */
  readonly untilMs: EpochMs;
}

/** Of the promised time, the part that may go by in line: the rest is for reading, and for those that are read before. */
const LINE_SHARE = 0.8;
/** Each so manyth turn is the longest waiting one's, by the share of its time that is over: at last all are, so that it is served. */
const OLDEST_EVERY = [
  { share: 0.75, every: 1 },
  { share: 0.5, every: 2 },
  { share: 0, every: 16 },
] as const;

/** @param coldMs what a cold start adds to the promise; 0: there was a machine */
export function dueMs(sinceMs: EpochMs, promisedMs: Ms, coldMs: Ms): EpochMs {
  return sinceMs + LINE_SHARE * promisedMs + coldMs;
}

/**
 * Whether only those who can be in time are asked first at this turn.
 * @param turn how many were given a slot from this line before
 * @param oldest the one that waits longest
 */
export function isForThoseInTime(turn: number, oldest: InLine | undefined, nowMs: EpochMs): boolean {
  if (!oldest || oldest.dueMs > nowMs) return true;
  const over = (nowMs - oldest.sinceMs) / Math.max(1, oldest.untilMs - oldest.sinceMs);
  const every = OLDEST_EVERY.find(({ share }) => over >= share)?.every ?? 1;
  return turn % every !== every - 1;
}

/**
 * Tokens of prompts that may be unread on a replica while it is given another. A model server reads them one after the other,
 * so who is handed over early waits there, behind long ones, while another replica may be done; from the line whoever can be
 * in time goes where there is room first.
 * @param tokensPerS at which a replica reads; null: that is not known
 */
export function unreadMost(tokensPerS: number | null, promisedMs: Ms): Tokens {
  return tokensPerS === null ? Infinity : Math.max(UNREAD_LEAST, ((1 - LINE_SHARE) * promisedMs * tokensPerS) / 1000);
}

/** What a model server reads at a time. */
const UNREAD_LEAST: Tokens = 2048;

export function isInTime(one: InLine, nowMs: EpochMs): boolean {
  return one.dueMs > nowMs;
}
