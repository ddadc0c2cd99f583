import { spawn, type ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { systemClock } from '../../src/clock.ts';

/** True when no program runs under this id; one that only waits to be reaped runs no more. */
export async function isGone(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0);
  } catch {
    return true;
  }
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  return /^\d+ \(.*\) [ZX] /s.test(stat);
}

/** Resolves to whether it was gone within the time. */
export async function goesWithin(pid: number, ms: number): Promise<boolean> {
  return becomesTrue(() => isGone(pid), ms);
}

export async function becomesTrue(check: () => Promise<boolean> | boolean, ms: number): Promise<boolean> {
  const endMs = systemClock.monotonic() + ms;
  for (;;) {
    if (await check()) return true;
    if (systemClock.monotonic() > endMs) return false;
    await systemClock.sleep(20);
  }
}

/** Reads the process id that a script wrote into a file of its own. */
export async function readPidFile(path: string, ms: number): Promise<number> {
  let pid = Number.NaN;
  await becomesTrue(async () => {
    pid = Number.parseInt(await readFile(path, 'latin1').catch(() => ''), 10);
    return Number.isSafeInteger(pid);
  }, ms);
  if (!Number.isSafeInteger(pid)) throw new Error(`no process id in ${path} within ${ms} ms`);
  return pid;
}

/**
 * A Node process that starts a model server, so that it can be killed. It prints a line once the server answers. Besides,
 * it has a child that outlives it and that holds whatever a child inherits.
 */
export function startParent(options: Readonly<Record<string, unknown>>): {
  parent: ChildProcess;
  ready: Promise<boolean>;
} {
  const code = `
    import { spawn } from 'node:child_process';
    import { startModelServer } from '${new URL('../../src/leases/local/model-server.ts', import.meta.url).href}';
    import { systemClock as clock } from '${new URL('../../src/clock.ts', import.meta.url).href}';
    const started = startModelServer({ ...JSON.parse(process.argv[1]), clock });
    spawn('sleep', ['20'], { stdio: 'ignore', detached: true });
    const server = await started;
    console.log(server.pid);
    await server.exited;
  `;
  const args = ['--input-type=module', '--eval', code, JSON.stringify(options)];
  const parent = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ready = new Promise<boolean>((resolve) => {
    parent.stdout?.once('data', () => resolve(true));
    parent.once('exit', () => resolve(false));
  });
  return { parent, ready };
}
