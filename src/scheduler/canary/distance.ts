/**
 * Pure: how far two answers to one question at temperature 0 are apart, by the log-probabilities of their first tokens. A
 * position counts as long as what came before it was the same in both.
 */

export interface Candidate {
  readonly token: string;
  readonly logprob: number;
}

export interface Position {
  /** What was chosen. */
  readonly token: string;
  /** The likeliest tokens, with their log-probabilities. */
  readonly top: readonly Candidate[];
}

/** Nats at most that one token adds: a token that one of them has not among its likeliest says no more than that. */
const GAP_MAX = 3;
/** Below this neither list says much: what engines round differently weighs most there. */
const LOGPROB_MIN = -8;

/** Mean gap in nats; null when they have no position in common. */
export function distance(answer: readonly Position[], reference: readonly Position[]): number | null {
  const gaps: number[] = [];
  for (const [at, mine] of answer.entries()) {
    const theirs = reference[at];
    if (!theirs || mine.top.length === 0 || theirs.top.length === 0) break;
    gaps.push(gap(mine, theirs));
    if (mine.token !== theirs.token) break;
  }
  return gaps.length === 0 ? null : gaps.reduce((sum, one) => sum + one, 0) / gaps.length;
}

/** Over all tokens that either has among its likeliest, and what the choice itself costs by the other's list. */
function gap(mine: Position, theirs: Position): number {
  const tokens = new Set([...mine.top, ...theirs.top].map(({ token }) => token));
  let [sum, count] = [0, 0];
  for (const token of tokens) {
    const [a, b] = [logprobOf(mine, token), logprobOf(theirs, token)];
    if (Math.max(a, b) <= LOGPROB_MIN) continue;
    sum += Math.min(GAP_MAX, Math.abs(a - b));
    count += 1;
  }
  const best = Math.max(LOGPROB_MIN, ...theirs.top.map(({ logprob }) => logprob));
  // At temperature 0 the likeliest is chosen: another choice is a tie that fell the other way, or no temperature 0.
  const choice = mine.token === theirs.token ? 0 : Math.min(GAP_MAX, best - logprobOf(theirs, mine.token));
  return (count === 0 ? 0 : sum / count) + choice;
}

/** One that is not listed is at most as likely as the least that is. */
function logprobOf({ top }: Position, token: string): number {
  const found = top.find((one) => one.token === token);
  const least = Math.min(...top.map(({ logprob }) => logprob));
  return Math.max(LOGPROB_MIN, found?.logprob ?? least);
}
