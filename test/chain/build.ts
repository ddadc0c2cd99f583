import { chainBinary } from './binary.ts';

/** Builds the chain before its tests begin, so that none of them waits for that. */
const say = (line: string): void => void process.stderr.write(`${line}\n`);

try {
  await chainBinary({ log: say });
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
