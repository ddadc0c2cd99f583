import type { Clock } from '../../clock.ts';
import type { Ms } from '../../units.ts';
import { spawnGuarded } from './guard.ts';
import { Tail } from './tail.ts';

export interface RunContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

export interface BoundedRun extends RunContext {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd?: string | undefined;
  readonly timeoutMs: Ms;
  readonly onOutput?: (text: string) => void;
}

export interface RunResult {
  readonly ok: boolean;
  readonly timedOut: boolean;
  readonly stdout: string;
  /** Both streams as they came, the last 32 KiB. */
  readonly output: string;
}

const OUTPUT_BYTES_MAX = 32_768;

/** Runs a program to its end, or to the end of its time. Rejects with the signal's reason when aborted. */
export async function runBounded(run: BoundedRun): Promise<RunResult> {
  run.signal.throwIfAborted();
  const guarded = spawnGuarded(run);
  guarded.stdin.end();
  const stdout = new Tail(OUTPUT_BYTES_MAX).read(guarded.stdout);
  const output = new Tail(OUTPUT_BYTES_MAX).read(guarded.stdout).read(guarded.stderr);
  if (run.onOutput !== undefined) {
    const { onOutput } = run;
    guarded.stdout.on('data', (chunk: Buffer) => onOutput(chunk.toString()));
  }
  let timedOut = false;
  const stop = (): void => void guarded.end(0);
  const cancelTimer = run.clock.timer(run.timeoutMs, () => {
    timedOut = true;
    stop();
  });
  run.signal.addEventListener('abort', stop, { once: true });
  try {
    const exit = await guarded.exited;
    run.signal.throwIfAborted();
    return {
      ok: exit.code === 0 && !timedOut,
      timedOut,
      stdout: stdout.text(),
      output: exit.error ?? output.text(),
    };
  } finally {
    cancelTimer();
    run.signal.removeEventListener('abort', stop);
  }
}
