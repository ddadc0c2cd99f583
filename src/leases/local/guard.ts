import { spawn, type ChildProcess } from 'node:child_process';
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Clock } from '../../clock.ts';
import type { Ms } from '../../units.ts';

/**
 * Starts a program whose life hangs on a pipe from us: when we die, by kill -9 too, it dies at once. A watcher in the
 * program's own process group waits for the pipe's end and then kills the group. It has to be another process than the
 * program: xllamacpp holds Python's lock for as long as it loads a model, so no thread of its own would notice.
 *
 * The shell stays as the parent and reaps both, so nothing is left to an init that a container may not have. Fd 3 is the
 * pipe; its read end is closed in the program, its write end carries CLOEXEC (Node's doing), so nobody else holds it.
 * `kill 0` names the group and not a process id, which may long be another's.
 */
const GUARD = `
exec 4<&0
"$@" <&4 3<&- 4<&- &
program=$!
exec </dev/null 4<&-
trap 'kill -TERM "$program" 2>/dev/null' TERM
trap 'kill -KILL "$program" 2>/dev/null' USR1
( trap '' TERM USR1; while read -r line <&3; do :; done; kill -KILL 0 ) >/dev/null 2>&1 &
watcher=$!
echo "$program" >&3
exec 3<&- >/dev/null 2>&1
wait "$program"; code=$?
while kill -0 "$program" 2>/dev/null; do wait "$program"; code=$?; done
kill -KILL "$watcher"; wait "$watcher"
exit "$code"
`;

export interface GuardedExit {
  readonly code: number | null;
  readonly signal: string | null;
  /** Why it never ran, where the system refused even that. */
  readonly error: string | null;
}

export interface GuardedCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string | undefined;
  readonly clock: Clock;
}

export interface Guarded {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** The program's own process id, not the guard's; null when it never ran. */
  readonly pid: Promise<number | null>;
  /** Settles when every process of it is gone and its output was read. */
  readonly exited: Promise<GuardedExit>;
  /** Asks it to end, and kills it if it has not after `graceMs`. Resolves when it is gone. */
  end(graceMs: Ms): Promise<void>;
}

const KILL_WAIT_MS = 2_000;
/** Something that left the group may hold the output open for ever. */
const OUTPUT_WAIT_MS = 2_000;

export function spawnGuarded(options: GuardedCommand): Guarded {
  const child = spawn('/bin/sh', ['-c', GUARD, 'underbid-guard', options.command, ...options.args], {
    // Its own session: Ctrl-C in a terminal reaches us alone, and we drain before we end it.
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    env: { ...options.env },
    cwd: options.cwd,
  });
  const { stdin, stdout, stderr } = child;
  const life = child.stdio[3] as Duplex;
  for (const stream of [stdin, stdout, stderr, life]) stream.on('error', () => {});
  const exited = whenGone(child, [stdout, stderr], options.clock);
  return {
    stdin,
    stdout,
    stderr,
    pid: readPid(life, exited),
    exited,
    end: (graceMs) => endGuarded({ child, exited, graceMs, clock: options.clock }),
  };
}

/** True when the promise settled within the time. */
export async function settlesWithin(promise: Promise<unknown>, ms: Ms, clock: Clock): Promise<boolean> {
  const timer = new AbortController();
  const late = clock.sleep(ms, timer.signal).then(
    () => false,
    () => true,
  );
  const soon = promise.then(
    () => true,
    () => true,
  );
  const settled = await Promise.race([soon, late]);
  timer.abort();
  return settled;
}

interface Ending {
  readonly child: ChildProcess;
  readonly exited: Promise<GuardedExit>;
  readonly graceMs: Ms;
  readonly clock: Clock;
}

async function endGuarded({ child, exited, graceMs, clock }: Ending): Promise<void> {
  if (graceMs > 0) {
    child.kill('SIGTERM');
    if (await settlesWithin(exited, graceMs, clock)) return;
  }
  // The guard kills the program and reaps it; killing the group right away would leave that to init.
  child.kill('SIGUSR1');
  if (await settlesWithin(exited, KILL_WAIT_MS, clock)) return;
  killGroup(child.pid);
  await exited;
}

async function whenGone(child: ChildProcess, output: readonly Readable[], clock: Clock): Promise<GuardedExit> {
  const exit = await new Promise<GuardedExit>((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, error: error.message }));
    child.once('exit', (code, signal) => resolve({ ...fromShell(code, signal), error: null }));
  });
  if (child.pid === undefined) return exit;
  // If the guard itself was killed, what it guarded still runs.
  killGroup(child.pid);
  for (let tries = 0; tries < 80 && groupExists(child.pid); tries += 1) await clock.sleep(25);
  const closed = Promise.all(output.map((stream) => whenClosed(stream)));
  if (!(await settlesWithin(closed, OUTPUT_WAIT_MS, clock))) for (const stream of output) stream.destroy();
  return exit;
}

/** A shell reports a program that a signal ended as 128 + the signal's number. */
function fromShell(code: number | null, signal: string | null): { code: number | null; signal: string | null } {
  const names: Record<number, string> = { 1: 'SIGHUP', 2: 'SIGINT', 4: 'SIGILL', 6: 'SIGABRT', 8: 'SIGFPE' };
  Object.assign(names, { 7: 'SIGBUS', 9: 'SIGKILL', 11: 'SIGSEGV', 13: 'SIGPIPE', 15: 'SIGTERM' });
  const name = code === null ? undefined : names[code - 128];
  return name === undefined ? { code, signal } : { code: null, signal: name };
}

async function readPid(life: Readable, exited: Promise<GuardedExit>): Promise<number | null> {
  const line = new Promise<string | null>((resolve) => {
    let text = '';
    life.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      if (text.includes('\n')) resolve(text);
    });
    life.once('close', () => resolve(null));
  });
  const text = await Promise.race([line, exited.then(() => null)]);
  const pid = Number.parseInt(text ?? '', 10);
  return Number.isSafeInteger(pid) ? pid : null;
}

function whenClosed(stream: Readable): Promise<void> {
  if (stream.closed || stream.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    stream.once('close', () => resolve());
    // A stream that nobody reads never ends.
    if (stream.readableFlowing === null) stream.resume();
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nobody is left in the group.
  }
}

function groupExists(pid: number): boolean {
  try {
    process.kill(-pid, 0);
    return true;
  } catch {
    return false;
  }
}
