import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { US_PER_TICK } from './machine.ts';

/** Programs the benchmarks start, each ended by its own process id, whatever happens to the benchmark. */
export interface Child {
  readonly pid: number;
  /** The line that said it is ready; empty where it was asked. */
  readonly line: string;
  /** SIGTERM, and SIGKILL after `STOP_MS`. May be called again. */
  stop(): Promise<void>;
}

export interface ChildOptions {
  /** What runs the file; default: this same Node. */
  readonly command?: string;
  readonly file: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Its stderr goes to a file here; the end of it is part of the error when it does not start. */
  readonly folder: string;
  /** A line on its stdout that says it is ready, or a question that is asked until the answer is true. */
  readonly ready: RegExp | (() => Promise<boolean>);
  readonly readyMs?: number;
  /** As taskset writes them: "0" or "0,1"; undefined leaves the choice to the kernel. */
  readonly cores?: string | undefined;
  readonly signal: AbortSignal;
}

const STOP_MS = 15_000;
const running = new Set<ChildProcess>();
// The last resort, for a benchmark that ends by an exception nobody caught.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export async function startChild(options: ChildOptions): Promise<Child> {
  options.signal.throwIfAborted();
  const log = join(options.folder, `${basename(options.file, '.ts')}-${Date.now()}.log`);
  const words = [options.command ?? process.execPath, options.file, ...(options.args ?? [])];
  if (options.cores !== undefined) words.unshift('taskset', '-c', options.cores);
  const [command = '', ...args] = words;
  const stderr = openSync(log, 'a');
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...options.env },
    stdio: ['pipe', 'pipe', stderr],
  });
  closeSync(stderr);
  running.add(child);
  child.once('exit', () => running.delete(child));
  try {
    const line = await untilReady(child, options);
    child.stdout?.resume();
    return { pid: child.pid ?? 0, line, stop: () => stopChild(child) };
  } catch (error) {
    await stopChild(child);
    const tail = readFileSync(log, 'utf8').slice(-2000);
    throw new Error(`${options.file} did not start: ${error instanceof Error ? error.message : ''}\n${tail}`, {
      cause: error,
    });
  }
}

const ASK_MS = 250;

function untilReady(child: ChildProcess, options: ChildOptions): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const limit = AbortSignal.any([options.signal, AbortSignal.timeout(options.readyMs ?? 10_000)]);
  const { ready } = options;
  const lines = ready instanceof RegExp ? ready : undefined;
  let text = '';
  const onData = (chunk: string): void => {
    text = (text + chunk).slice(-20_000);
    const line = text.split('\n').find((line) => lines?.test(line));
    if (line !== undefined) resolve(line);
  };
  const onAbort = (): void => reject(new Error('not ready in time', { cause: limit.reason }));
  child.stdout?.setEncoding('utf8').on('data', onData);
  child.once('error', reject);
  child.once('exit', (code, signal) => reject(new Error(`ended with ${code ?? signal}`)));
  limit.addEventListener('abort', onAbort);
  let waiting = true;
  const ask = async (answer: () => Promise<boolean>): Promise<void> => {
    // One question at a time: a program that starts slowly answers slowly, too.
    while (waiting && !(await answer().catch(() => false))) await sleep(ASK_MS);
    resolve('');
  };
  if (!(ready instanceof RegExp)) void ask(ready);
  return promise.finally(() => {
    waiting = false;
    child.stdout?.off('data', onData);
    limit.removeEventListener('abort', onAbort);
  });
}

async function stopChild(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => {
    child.once('exit', resolve);
  });
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await ended;
  clearTimeout(force);
}

/** A port nobody listens on now; another program may take it before it is used. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise((resolve) => {
    server.close(resolve);
  });
  if (address === null || typeof address === 'string') throw new Error('no port to listen on');
  return address.port;
}

/** Where things run: `system` the one core of the system's main thread, `rest` that of client and mock. */
export interface Placement {
  readonly system: string;
  readonly rest: string;
  readonly all: string;
}

/** Undefined where there is no taskset or only one core: then nothing is pinned. */
export function choosePlacement(): Placement | undefined {
  try {
    const shown = execFileSync('taskset', ['-p', '-c', String(process.pid)], { encoding: 'utf8' });
    const cores = parseCores(shown.slice(shown.lastIndexOf(':') + 1).trim());
    const [system, rest] = cores;
    if (system === undefined || rest === undefined) return undefined;
    return { system: String(system), rest: String(rest), all: cores.join(',') };
  } catch {
    return undefined;
  }
}

function parseCores(list: string): number[] {
  return list.split(',').flatMap((part) => {
    const [from = 0, to = from] = part.split('-').map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

export function pinSelf(placement: Placement): void {
  execFileSync('taskset', ['-a', '-p', '-c', placement.rest, String(process.pid)], { stdio: 'ignore' });
}

/**
 * The main thread (its id is the process id) on the system's core; every other thread (V8's and libuv's helpers, a
 * ledger's worker) on the client's, so that what one core does is what is measured; those of a program whose threads all
 * serve wherever the kernel likes. To be repeated: a thread inherits the cores of the one that starts it.
 */
export function pinSystem(pid: number, placement: Placement, others: 'rest' | 'all' = 'rest'): void {
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const cores = thread === String(pid) ? placement.system : placement[others];
    try {
      execFileSync('taskset', ['-p', '-c', cores, thread], { stdio: 'ignore' });
    } catch {
      // The thread has ended since it was listed.
    }
  }
}

export interface CpuUse {
  readonly processUs: number;
  readonly mainThreadUs: number;
}

/** User and system time so far, from the kernel's ticks of 10 ms; zeros where there is no /proc. */
export function readCpu(pid: number): CpuUse {
  return {
    processUs: readTicks(`/proc/${pid}/stat`) * US_PER_TICK,
    mainThreadUs: readTicks(`/proc/${pid}/task/${pid}/stat`) * US_PER_TICK,
  };
}

function readTicks(path: string): number {
  let stat: string;
  try {
    stat = readFileSync(path, 'latin1');
  } catch {
    return 0;
  }
  // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field after it (man 5 proc).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}
