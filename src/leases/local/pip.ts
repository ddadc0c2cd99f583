import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError } from '../../errors.ts';
import { runBounded, type RunContext, type RunResult } from './bounded-run.ts';
import { requirementLines, wheelBytes, type PinnedPackage } from './packages.ts';
import type { Progress } from './progress.ts';
import { noVenv, pythonEnv, type Python } from './python.ts';
import { redact } from './tail.ts';

export interface InstallOptions extends RunContext {
  readonly python: Python;
  /** The environment's folder, empty or missing. */
  readonly folder: string;
  readonly packages: readonly PinnedPackage[];
  readonly platform: string;
  readonly progress: (progress: Progress) => void;
}

const VENV_TIMEOUT_MS = 180_000;
/** 127 MB over a slow line; what stands still is ended sooner. */
const INSTALL_TIMEOUT_MS = 3_600_000;
const STALL_MS = 600_000;
const CHECK_TIMEOUT_MS = 120_000;
const WATCH_MS = 200;
/** What the packages take unpacked, roughly: only the bar goes by it. */
const UNPACKED_RATIO = 1.6;

/** Looks the modules' folder up, and imports the one that has to load on this machine. */
const CHECK = `
import importlib, importlib.util, json, os, sys
for name in sys.argv[2:]:
    origin = importlib.util.find_spec(name).origin
if sys.argv[1]:
    importlib.import_module(sys.argv[1])
print(json.dumps({"packages": os.path.realpath(os.path.dirname(os.path.dirname(origin)))}))
`;

/** Makes a virtual environment with the packages and returns their folder. Throws `setup_failed` in one sentence. */
export async function installPackages(options: InstallOptions): Promise<string> {
  const tmp = join(options.folder, 'tmp');
  await mkdir(tmp, { recursive: true });
  const context: RunContext = { env: pythonEnv(options.env, tmp), clock: options.clock, signal: options.signal };
  options.progress({ step: 'python', doneBytes: 0, totalBytes: 0 });
  const venv = await runBounded({
    ...context,
    command: options.python.command,
    args: ['-m', 'venv', ...(options.python.pip ? ['--without-pip'] : []), options.folder],
    cwd: tmp,
    timeoutMs: VENV_TIMEOUT_MS,
  });
  if (!venv.ok) throw describeVenvFailure(venv);
  const pip = await runPip(options, context, tmp);
  if (!pip.ok) throw describePipFailure(pip, options.platform);
  options.progress({ step: 'check', doneBytes: 0, totalBytes: 0 });
  return locatePackages(options, context);
}

async function runPip(options: InstallOptions, context: RunContext, tmp: string): Promise<RunResult> {
  const requirements = join(tmp, 'requirements.txt');
  await writeFile(requirements, requirementLines(options.packages));
  const interpreter = join(options.folder, 'bin', 'python');
  const start = options.python.pip
    ? [options.python.command, '-m', 'pip', '--python', interpreter]
    : [interpreter, '-m', 'pip'];
  const [command = interpreter, ...args] = start;
  args.push('install', '--no-input', '--disable-pip-version-check', '--progress-bar', 'off');
  // Without pip's own cache: a broken download would be taken from there again, and the wheels would be kept twice.
  args.push('--no-cache-dir', '--no-deps', '--require-hashes', '--only-binary=:all:', '-r', requirements);
  const watch = watchGrowth(options, tmp);
  const signal = AbortSignal.any([options.signal, watch.stalled]);
  try {
    const onOutput = watch.onOutput;
    return await runBounded({ ...context, signal, command, args, cwd: tmp, timeoutMs: INSTALL_TIMEOUT_MS, onOutput });
  } finally {
    watch.stop();
  }
}

/** pip tells its progress to terminals only, so we look at what it writes. */
function watchGrowth(options: InstallOptions, tmp: string) {
  const stalled = new AbortController();
  const over = new AbortController();
  const download = options.packages.reduce((sum, pinned) => sum + (wheelBytes(pinned, options.platform) ?? 0), 0);
  let step: 'download' | 'install' = 'download';
  const look = async (): Promise<void> => {
    let seen = -1;
    let most = 0;
    let shown = step;
    let seenAtMs = options.clock.monotonic();
    while (!over.signal.aborted) {
      const folder = step === 'download' ? tmp : join(options.folder, 'lib');
      const doneBytes = await folderBytes(folder);
      if (over.signal.aborted) return;
      if (doneBytes !== seen) {
        seen = doneBytes;
        seenAtMs = options.clock.monotonic();
      } else if (options.clock.monotonic() - seenAtMs > STALL_MS) {
        stalled.abort(stall());
        return;
      }
      const totalBytes = step === 'download' ? download : Math.round(download * UNPACKED_RATIO);
      // pip removes its files as it ends, and a bar that runs backwards looks like a fault.
      most = step === shown ? Math.max(most, doneBytes) : doneBytes;
      shown = step;
      options.progress({ step, doneBytes: Math.min(most, totalBytes), totalBytes });
      await options.clock.sleep(WATCH_MS, over.signal).catch(() => {});
    }
  };
  // What can't be watched is not shown; pip itself says what went wrong.
  look().catch(() => {});
  return {
    stalled: stalled.signal,
    onOutput: (text: string): void => {
      if (text.includes('Installing collected packages')) step = 'install';
    },
    stop: (): void => over.abort(),
  };
}

function stall(): AppError {
  return new AppError(
    'setup_failed',
    `The download of the model server has stood still for ${STALL_MS / 60_000} minutes: check the network and start again.`,
  );
}

async function folderBytes(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    sum += (await stat(join(entry.parentPath, entry.name)).catch(() => null))?.size ?? 0;
  }
  return sum;
}

async function locatePackages(options: InstallOptions, context: RunContext): Promise<string> {
  const imported = options.packages.find((pinned) => pinned.imports)?.module ?? '';
  const modules = options.packages.map((pinned) => pinned.module);
  const result = await runBounded({
    ...context,
    command: join(options.folder, 'bin', 'python'),
    args: ['-I', '-c', CHECK, imported, ...modules],
    timeoutMs: CHECK_TIMEOUT_MS,
  });
  try {
    if (!result.ok) throw new Error('the check failed');
    return z.object({ packages: z.string().min(1) }).parse(JSON.parse(result.stdout.split('\n').at(-1) ?? '')).packages;
  } catch {
    throw failure(
      'The model server was installed but does not load on this machine: put a llama-server on PATH or name one in the configuration.',
      result,
    );
  }
}

function describeVenvFailure(result: RunResult): AppError {
  if (isDiskFull(result.output)) return diskFull(result);
  if (result.timedOut) return failure('Python took too long to make a virtual environment: start again.', result);
  if (/ensurepip|python3?[\d.]*-venv|No module named .?venv/i.test(result.output)) return noVenv(null, causeOf(result));
  return failure(
    'Python could not make a virtual environment: see the log, or try another Python 3.10 or newer.',
    result,
  );
}

function describePipFailure(result: RunResult, platform: string): AppError {
  const { output } = result;
  if (isDiskFull(output)) return diskFull(result);
  if (
    /DO NOT MATCH THE HASHES|BadZipFile|Bad zip file|is invalid|Wheel .* has an? (invalid|unexpected)|incomplete-download|IncompleteRead/i.test(
      output,
    )
  ) {
    return failure(
      'The downloaded model server is not the file it should be (its hash differs): start again, and if it stays so, check the package index or proxy in between.',
      result,
    );
  }
  if (isNetwork(output)) {
    return failure(
      "The model server could not be downloaded: the package index that pip uses was not reachable. Check the network, the proxy and the index in pip's configuration.",
      result,
    );
  }
  if (result.timedOut)
    return failure('The download of the model server took too long: check the network and start again.', result);
  if (/No matching distribution|Could not find a version|not a supported wheel/i.test(output)) {
    return failure(
      `There is no packaged model server for this platform (${platform}), or the package index in use lacks it: put a llama-server on PATH or name one in the configuration.`,
      result,
    );
  }
  return failure('pip could not install the model server: see the log, or put a llama-server on PATH.', result);
}

/** "No matching distribution" comes in the end of it too, so this is asked first. */
function isNetwork(output: string): boolean {
  return /Retrying \(Retry|ConnectionError|NewConnectionError|ConnectTimeout|ReadTimeout|timed out|ProxyError|SSLError|CERTIFICATE_VERIFY|Name or service not known|name resolution|Network is unreachable|Connection (refused|reset|aborted)|HTTP error (401|403|407|429|5\d\d)|(401|403|407|429|5\d\d) (Client|Server) Error/i.test(
    output,
  );
}

export function isDiskFull(text: string): boolean {
  return /No space left on device|Errno 28|ENOSPC|Disk quota exceeded|EDQUOT/i.test(text);
}

export function diskFull(cause: unknown): AppError {
  const reason = cause instanceof Error ? cause : causeOf(cause as RunResult);
  return new AppError(
    'setup_failed',
    'The disk is full: the model server needs 500 MB in the cache folder. Make room, or set UNDERBID_CACHE to a folder elsewhere.',
    { cause: reason },
  );
}

function failure(message: string, result: RunResult): AppError {
  return new AppError('setup_failed', message, { cause: causeOf(result) });
}

function causeOf(result: RunResult): Error {
  return new Error(redact(result.output));
}
