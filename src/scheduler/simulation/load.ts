import type { Seeded } from './seeded.ts';

/** Requests in the order of their arrival. Columns, because fourteen days have more than a million. */
export interface Load {
  readonly atMs: Float64Array;
  readonly inputTokens: Int32Array;
  readonly outputTokens: Int32Array;
  /** From the first moment to the end of the run. */
  readonly spanMs: number;
}

export interface LoadRow {
  readonly atMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** Sorted by arrival; prompts and answers have at least one token. */
export function loadOf(rows: readonly LoadRow[], spanMs?: number): Load {
  const sorted = rows.toSorted((a, b) => a.atMs - b.atMs);
  return {
    atMs: Float64Array.from(sorted, ({ atMs }) => atMs),
    inputTokens: Int32Array.from(sorted, ({ inputTokens }) => Math.max(1, inputTokens)),
    outputTokens: Int32Array.from(sorted, ({ outputTokens }) => Math.max(1, outputTokens)),
    spanMs: spanMs ?? (sorted.at(-1)?.atMs ?? 0) + 1,
  };
}

/** A part of a load, its first moment at 0. */
export function sliceLoad(load: Load, fromMs: number, toMs: number): Load {
  const rows: LoadRow[] = [];
  for (const [at, atMs] of load.atMs.entries()) {
    if (atMs < fromMs || atMs >= toMs) continue;
    const [inputTokens, outputTokens] = [load.inputTokens[at] ?? 1, load.outputTokens[at] ?? 1];
    rows.push({ atMs: atMs - fromMs, inputTokens, outputTokens });
  }
  return loadOf(rows, toMs - fromMs);
}

/**
 * A load like this one for another seed: each arrival moved by up to so much either way, and the token counts of neighbours
 * exchanged. A trace is one draw of what it was; its seeds show what does not hang on that draw.
 */
export function jitterLoad(load: Load, randomly: Seeded, byMs = 500): Load {
  const rows = Array.from(load.atMs, (atMs, at) => {
    const from = Math.min(load.atMs.length - 1, Math.max(0, at + Math.floor(randomly() * 21) - 10));
    return {
      atMs: Math.min(load.spanMs - 1, Math.max(0, atMs + (randomly() * 2 - 1) * byMs)),
      inputTokens: load.inputTokens[from] ?? 1,
      outputTokens: load.outputTokens[from] ?? 1,
    };
  });
  return loadOf(rows, load.spanMs);
}
