import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { jitterLoad, type Load } from '../../src/scheduler/simulation/load.ts';
import { seeded } from '../../src/scheduler/simulation/seeded.ts';
import { steady, drawLoad } from '../../src/scheduler/simulation/synthetic.ts';
import { drawServeGen, readTrace } from '../../src/scheduler/simulation/traces.ts';
import { UsageError } from '../benchmark.ts';
import { caseOfTrace, HOUR_MS, type Case } from './scenarios.ts';

/** ServeGen's clients have hundreds of requests a second together; scaled to so many, their fourteen days can be simulated. */
const SERVEGEN_PER_S = 0.6;

/**
 * The cases in a file, in a folder of ServeGen's clients, or in a folder of both.
 * @throws UsageError when there is nothing to read at this path
 */
export function readCases(path: string): Case[] {
  if (!existsSync(path)) throw new UsageError(`there is no ${path}`);
  if (statSync(path).isFile()) return [fileCase(path)];
  const entries = readdirSync(path).toSorted();
  const files = entries.map((entry) => join(path, entry)).filter((one) => /\.(csv|jsonl)$/.test(one));
  const folders = entries.map((entry) => join(path, entry)).filter((one) => statSync(one).isDirectory());
  if (files.length > 0 && files.every(isClient)) return [serveGenCase(path, files)];
  const cases = [...files.map(fileCase), ...folders.flatMap(readCases)];
  if (cases.length === 0) throw new UsageError(`there are no traces in ${path}`);
  return cases;
}

/** A client's lines are numbers from the first one on. */
function isClient(file: string): boolean {
  return /^[\d.]+,[\d.]+,/.test(readFileSync(file, 'utf8').slice(0, 100));
}

function fileCase(file: string): Case {
  const recorded = read(file);
  // The first seed is the trace as it was recorded.
  const load = (seed: number): Load => (seed === 1 ? recorded : jitterLoad(recorded, seeded(seed, 'jitter')));
  return caseOfTrace(basename(file, extname(file)), load);
}

function read(file: string): Load {
  try {
    return readTrace(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UsageError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function serveGenCase(folder: string, files: readonly string[]): Case {
  const clients = files.map((file) => readFileSync(file, 'utf8'));
  const sizes = sizesBeside(folder);
  const loads = new Map<number, Load>();
  const load = (seed: number): Load => {
    const known = loads.get(seed) ?? drawServeGen(clients, sizes, SERVEGEN_PER_S, seeded(seed, 'servegen'));
    loads.clear();
    loads.set(seed, known);
    return known;
  };
  return caseOfTrace(basename(folder), load);
}

/** ServeGen's files have no token counts: those of a conversation beside them, else made-up ones. */
function sizesBeside(folder: string): Load {
  const beside = join(dirname(folder), 'azure-llm-2023-conversation.csv');
  if (existsSync(beside)) return read(beside);
  const shape = { spanMs: HOUR_MS, rate: steady(3), mostPerS: 3, inputTokens: 1150, outputTokens: 210 };
  return drawLoad(shape, seeded(1, 'sizes'));
}
