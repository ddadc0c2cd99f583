/**
 * `npm run bench -- NAME [--json FILE] [options]`: a table for people on stdout, the raw figures in FILE.
 * Exit codes: 0 measured, 1 failed or not to be believed, 2 wrong command line or no such benchmark yet, 130 stopped.
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError, type Benchmark, type BenchResult } from './benchmark.ts';
import { describeMachine, temporaryParent, type Machine } from './machine.ts';

const NAMES: readonly string[] = [
  'overhead',
  'ledger',
  'scheduler',
  'streams',
  'routing',
  'rivals',
  'start',
  'cost',
  'replay',
];
const USAGE = `usage: npm run bench -- NAME [--json FILE] [options]\nNAME: ${NAMES.join(', ')}; options: NAME --help`;

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const name = argv[0] ?? '';
  if (!NAMES.includes(name)) {
    const asked = name === '--help' || name === '-h';
    (asked ? console.log : console.error)(asked || name === '' ? USAGE : `no benchmark is called ${name}\n${USAGE}`);
    return asked ? 0 : 2;
  }
  const path = fileURLToPath(new URL(`./${name}/${name}.ts`, import.meta.url));
  if (!existsSync(path)) {
    console.error(`the benchmark ${name} is not there yet`);
    return 2;
  }
  const { benchmark } = (await import(path)) as { benchmark: Benchmark };
  if (argv.includes('--help') || argv.includes('-h')) {
    console.log(benchmark.usage);
    return 0;
  }
  const stop = new AbortController();
  const onSignal = (): void => stop.abort(new Error('stopped by a signal'));
  // Not once: a second Ctrl-C would end this process before it has ended what it started.
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    const { jsonFile, rest } = takeJsonFile(argv.slice(1));
    return await measure({ name, benchmark, argv: rest, jsonFile, signal: stop.signal });
  } catch (error) {
    if (stop.signal.aborted) {
      console.error('stopped');
      return 130;
    }
    if (!(error instanceof UsageError)) throw error;
    console.error(`${error.message}\n${benchmark.usage}`);
    return 2;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}

interface Job {
  readonly name: string;
  readonly benchmark: Benchmark;
  readonly argv: readonly string[];
  readonly jsonFile: string | undefined;
  readonly signal: AbortSignal;
}

async function measure(job: Job): Promise<number> {
  const folder = mkdtempSync(join(temporaryParent(), `underbid-bench-${job.name}-`));
  const remove = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
  process.once('exit', remove);
  try {
    const at = new Date().toISOString();
    const machine = describeMachine(folder);
    const say = (line: string): void => console.error(line);
    const result = await job.benchmark.run({ argv: job.argv, signal: job.signal, folder, say });
    print(machine, result);
    if (job.jsonFile !== undefined) {
      const { settings, rows, problems } = result;
      const content = { name: job.name, at, machine, settings, rows, problems };
      writeFileSync(job.jsonFile, `${JSON.stringify(content, null, 2)}\n`);
    }
    return result.problems.length === 0 ? 0 : 1;
  } finally {
    process.off('exit', remove);
    remove();
  }
}

function print(machine: Machine, result: BenchResult): void {
  console.log(result.report);
  console.log(
    `\n${machine.cpu_model}, ${machine.cores} cores, ${machine.memory_gib} GiB, node ${machine.node}, ` +
      `fsync p50 ${machine.fsync_p50_us} us`,
  );
  for (const problem of result.problems) console.error(`PROBLEM: ${problem}`);
}

function takeJsonFile(argv: readonly string[]): { jsonFile: string | undefined; rest: string[] } {
  const rest: string[] = [];
  let jsonFile: string | undefined;
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? '';
    if (word === '--json') jsonFile = argv[++index] ?? '';
    else if (word.startsWith('--json=')) jsonFile = word.slice('--json='.length);
    else rest.push(word);
  }
  if (jsonFile === '') throw new UsageError('--json needs a file');
  return { jsonFile, rest };
}
