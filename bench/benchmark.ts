import { parseArgs, type ParseArgsConfig } from 'node:util';

/**
 * What every benchmark keeps, so that `run.ts` can start any of them: `bench/NAME/NAME.ts` exports
 * `benchmark: Benchmark`. `problems` are reasons not to believe or not to accept the figures; any of them makes the
 * exit code 1, but the figures are still printed and written.
 */
export interface Benchmark {
  readonly usage: string;
  run(context: BenchContext): Promise<BenchResult>;
}

export interface BenchContext {
  /** The command line after NAME, without `--json FILE`. */
  readonly argv: readonly string[];
  /** Aborted by SIGINT and SIGTERM; the benchmark then ends what it started and rejects. */
  readonly signal: AbortSignal;
  /** An empty folder on a real disk, removed when the benchmark has ended. */
  readonly folder: string;
  /** Progress, for people; goes to stderr. */
  say(line: string): void;
}

export interface BenchResult {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly rows: readonly BenchRow[];
  /** Printed as it is, for people. */
  readonly report: string;
  readonly problems: readonly string[];
}

export type BenchRow = { readonly system: string; readonly scenario: string } & Readonly<Record<string, unknown>>;

/** A mistake on the command line: exit code 2, the message and the usage. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** A benchmark's own words. @throws UsageError */
export function parseWords<O extends NonNullable<ParseArgsConfig['options']>>(argv: readonly string[], options: O) {
  try {
    return parseArgs({ args: [...argv], options, strict: true }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** @throws UsageError */
export function parseNumber(option: { text: string; least: number; most: number; name: string }): number {
  const value = Number(option.text);
  if (option.text.trim() !== '' && value >= option.least && value <= option.most) return value;
  throw new UsageError(`${option.name} is a number from ${option.least} to ${option.most}`);
}

/** Of these names, those that are asked for; `direct`, to which the others are compared, always. @throws UsageError for another one */
export function parseSystems<N extends string>(text: string | undefined, names: readonly N[]): N[] {
  const asked = (text ?? names.join(',')).split(',');
  const unknown = asked.find((one) => !names.some((name) => name === one));
  if (unknown !== undefined) throw new UsageError(`no system is called ${unknown}`);
  return names.filter((name) => name === 'direct' || asked.includes(name));
}

/** Columns padded to their widest cell: the first two to the left, figures to the right. */
export function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const lines = all.map((row) =>
    row
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  return lines.join('\n');
}

/** The middle value; of an even number of them the mean of the two in the middle; of none NaN. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
  return (upper + lower) / 2;
}
