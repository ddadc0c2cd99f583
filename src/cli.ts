#!/usr/bin/env node
import process from 'node:process';
import { adviseOnNode } from './cli/node-version.ts';
import type { ServeCommand } from './cli/terminal.ts';

// Everything else is imported late: an old Node shall say that it is old, not stumble over what it cannot read.
const advice = adviseOnNode(process.versions.node);
if (advice === null) {
  process.exitCode = await main(process.argv.slice(2));
} else {
  console.error(advice);
  process.exitCode = 1;
}

async function main(args: readonly string[]): Promise<number> {
  const { systemClock } = await import('./clock.ts');
  const { systemRandom } = await import('./random.ts');
  const { runCommand } = await import('./cli/program.ts');
  // `underbid orders | head` closes the pipe early, which is no failure of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  return runCommand(args, {
    env: process.env,
    cwd: process.cwd(),
    clock: systemClock,
    random: systemRandom,
    out: (text) => console.log(text),
    err: (text) => console.error(text),
    prompt,
    serve: startGateway,
  });
}

async function startGateway(options: ServeCommand): Promise<void> {
  const { serve } = await import('./node.ts');
  process.exit(await serve(process.env, options));
}

async function prompt(question: string): Promise<string | null> {
  if (!process.stdin.isTTY) return null;
  const { createInterface } = await import('node:readline/promises');
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await terminal.question(question);
  } finally {
    terminal.close();
  }
}
