import type { EpochMs, Ms } from '../units.ts';

/**
 * Pure: how many answers each number of replicas would have had too late, and so what one replica more is worth. For each
 * number a line fills with the work that comes and empties as fast as that many replicas work; it does not hang on how many
 * there really are, so a line that grows while machines start orders no more of them. Bounded: a few numbers for each
 * replica that the pool may have, and one for each half hour of the day.
 */

/** What came since the last sample. */
export interface Arrived {
  readonly tookMs: Ms;
  readonly requests: number;
  /** As time of one replica at its best; of it the reading of prompts, which goes before everything else. */
  readonly workMs: Ms;
  readonly promptMs: Ms;
  /** Replicas that the work of the last minutes keeps busy. */
  readonly busy: number;
  /** What was late in truth with so many replicas, where a lack of them does not explain it. */
  readonly seen: { readonly ready: number; readonly late: number } | null;
}

export interface LatenessRules {
  readonly replicasMax: number;
  /** A first token may come so long after its request. */
  readonly ttftMs: Ms;
  /** Work that may lie on a replica without a first token coming too late: some of it is answers in the batch. */
  readonly slackMs: Ms;
  /** From an order to the first answer. */
  readonly startMs: Ms;
}

/** The line of one number of replicas, and what one replica more would have had fewer late. */
interface Line {
  readonly workMs: Ms;
  readonly promptMs: Ms;
  /** In this spell, and in the one before. */
  readonly now: number;
  readonly before: number;
  /** In an hour: bursts, which the work of the last minutes did not explain. */
  readonly slow: number;
}

export interface Lateness {
  readonly sinceMs: EpochMs;
  /** Spells are about as long as a start-up. */
  readonly spell: { readonly sinceMs: EpochMs; readonly beforeMs: Ms };
  /** The first entry is for one replica. */
  readonly lines: readonly Line[];
  /** For each half hour of the day what one replica more has fewer late in an hour; empty where nothing was seen yet. */
  readonly seasons: readonly (readonly number[])[];
  /** The half hour that is now: what has been summed of it. */
  readonly part: { readonly index: number; readonly sinceMs: EpochMs; readonly fewer: readonly number[] };
}

const DAY_MS: Ms = 86_400_000;
const HOUR_MS: Ms = 3_600_000;
const PARTS = 48;
/** A day counts as much as all days before it. */
const SEASON_KEEP = 0.5;
/** A burst is remembered for about so long; for longer while it is not known what this part of other days was like. */
const SLOW_MS: Ms = 1_800_000;
const SLOW_YOUNG_MS: Ms = 14_400_000;
/** A spell, as a share of a start-up, and at least. */
const SPELL_SHARE = 1;
const SPELL_LEAST_MS: Ms = 120_000;
/** One more costs its start-up and is used for as long at least: what was late in less says nothing of that. */
const USE_STARTS = 2;
/** From this share of its time on a replica is busy with what comes anyway, and lateness tells of no burst. */
const FULL = 0.8;

export function newLateness(atMs: EpochMs): Lateness {
  const part = { index: partOf(atMs), sinceMs: atMs, fewer: [] };
  return { sinceMs: atMs, spell: { sinceMs: atMs, beforeMs: 0 }, lines: [], seasons: [], part };
}

export function foldLateness(before: Lateness, arrived: Arrived, rules: LatenessRules, atMs: EpochMs): Lateness {
  const { tookMs, busy, seen } = arrived;
  const counts = Array.from({ length: rules.replicasMax }, (_, at) => at + 1);
  const lates = counts.map((count) => lateOf(before.lines[count - 1], arrived, rules, count));
  const fewer = lates.map((late, at) => Math.max(0, late - (lates[at + 1] ?? 0)));
  const spellMs = atMs - before.spell.sinceMs;
  const over = spellMs >= Math.max(SPELL_LEAST_MS, SPELL_SHARE * rules.startMs);
  const slowMs = memoryMs(before, atMs);
  const keepSlow = Math.exp(-tookMs / slowMs);
  const lines = counts.map((count, at) => {
    const { workMs = 0, promptMs = 0, now = 0, before: last = 0, slow = 0 } = before.lines[at] ?? {};
    const spared = fewer[at] ?? 0;
    // The lines are a model; what it missed counts like a burst.
    const missed = seen?.ready === count ? Math.max(0, seen.late - (lates[at] ?? 0)) : 0;
    // Longer it does not get: who is late waits aside, until there is nothing else to do.
    const most = count * rules.slackMs;
    const left = (line: Ms, came: Ms): Ms => Math.min(most, Math.max(0, line + came - count * tookMs));
    return {
      workMs: left(workMs, arrived.workMs),
      promptMs: left(promptMs, arrived.promptMs),
      now: (over ? 0 : now) + spared + missed,
      before: over ? now : last,
      slow: slow * keepSlow + ((busy > FULL * count ? missed : spared + missed) * HOUR_MS) / slowMs,
    };
  });
  const spell = over ? { sinceMs: atMs, beforeMs: spellMs } : before.spell;
  return { sinceMs: before.sinceMs, spell, lines, ...foldSeasons(before, fewer, atMs) };
}

/** How many fewer would be late in an hour with one replica more than `count`, by what was seen lately and on other days. */
export function fewerLate(lateness: Lateness, count: number, rules: LatenessRules, atMs: EpochMs): number {
  const line = lateness.lines[count - 1];
  if (!line) return 0;
  const { spell, seasons, sinceMs } = lateness;
  const spellsMs = Math.max(SPELL_LEAST_MS, USE_STARTS * rules.startMs, atMs - spell.sinceMs + spell.beforeMs);
  const lately = ((line.now + line.before) * HOUR_MS) / spellsMs;
  const seenMs = Math.max(SPELL_LEAST_MS, atMs - sinceMs);
  const bursts = line.slow / (1 - Math.exp(-seenMs / memoryMs(lateness, atMs)));
  // What is ordered now works in the part of the day that a start-up ends in.
  const season = [atMs, atMs + rules.startMs].map((then) => seasons[partOf(then)]?.[count - 1] ?? 0);
  return Math.max(lately, bursts, ...season);
}

/** Who is late already yields to those who are not, so of a line that is too long no more are late than what it is too long by. */
function memoryMs({ seasons }: Lateness, atMs: EpochMs): Ms {
  return (seasons[partOf(atMs)]?.length ?? 0) > 0 ? SLOW_MS : SLOW_YOUNG_MS;
}

function lateOf(line: Line | undefined, arrived: Arrived, rules: LatenessRules, count: number): number {
  const doneMs = count * arrived.tookMs;
  const prompts = shareLate(line?.promptMs ?? 0, arrived.promptMs, doneMs + count * rules.ttftMs);
  const work = shareLate(line?.workMs ?? 0, arrived.workMs, doneMs + count * rules.slackMs);
  return arrived.requests * Math.max(prompts, work);
}

/** Of what comes, the share that is neither done nor may wait. */
function shareLate(lineMs: Ms, cameMs: Ms, inTimeMs: Ms): number {
  return cameMs <= 0 ? 0 : Math.min(1, Math.max(0, (lineMs + cameMs - inTimeMs) / cameMs));
}

function foldSeasons(before: Lateness, fewer: readonly number[], atMs: EpochMs): Pick<Lateness, 'seasons' | 'part'> {
  const { part, seasons } = before;
  const index = partOf(atMs);
  if (index === part.index) {
    return { seasons, part: { ...part, fewer: fewer.map((one, at) => one + (part.fewer[at] ?? 0)) } };
  }
  const tookMs = Math.max(1, atMs - part.sinceMs);
  const known = seasons[part.index];
  const folded = part.fewer.map((sum, at) => {
    const perHour = (sum * HOUR_MS) / tookMs;
    const was = known?.[at];
    return was === undefined ? perHour : was * SEASON_KEEP + perHour * (1 - SEASON_KEEP);
  });
  const next = Array.from({ length: PARTS }, (_, at) => (at === part.index ? folded : (seasons[at] ?? [])));
  return { seasons: next, part: { index, sinceMs: atMs, fewer } };
}

const partOf = (atMs: EpochMs): number => Math.max(0, Math.floor((atMs % DAY_MS) / (DAY_MS / PARTS)));
