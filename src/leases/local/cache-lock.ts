import { randomBytes } from 'node:crypto';
import { open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { z } from 'zod';
import type { Clock } from '../../clock.ts';
import { AppError } from '../../errors.ts';
import type { Ms } from '../../units.ts';

/**
 * One process prepares, the others wait for it. The lock only saves double work: what is prepared is moved into place in
 * one step and checked before use, so a lock wrongly taken for stale costs a download and nothing else.
 */
export interface CacheLock {
  /** Ours, unique: names what we prepare until it is moved into place. */
  readonly token: string;
  /** The token of a holder that died, whose leftovers may go. */
  readonly left: string | null;
  release(): Promise<void>;
}

export interface CacheLockOptions {
  readonly path: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly waitMaxMs: Ms;
  readonly onWait: () => void;
}

const POLL_MS = 100;
const BEAT_MS = 5_000;
/** A holder that has not shown itself for so long is gone, whatever its process id says (it may be another's by now). */
const STALE_MS = 30_000;

const recordSchema = z.object({ pid: z.number().int().positive(), host: z.string(), token: z.string() });
type LockRecord = z.infer<typeof recordSchema>;

export async function takeCacheLock(options: CacheLockOptions): Promise<CacheLock> {
  const token = randomBytes(8).toString('hex');
  const startedAtMs = options.clock.monotonic();
  let left: string | null = null;
  for (;;) {
    options.signal.throwIfAborted();
    if (await writeNew(options.path, token)) break;
    const holder = await readHolder(options.path, options.clock);
    if (holder === 'none') continue;
    if (holder.stale) {
      left = holder.record?.token ?? left;
      await takeAway(options.path, token);
      continue;
    }
    if (options.clock.monotonic() - startedAtMs > options.waitMaxMs) {
      throw new AppError(
        'setup_failed',
        'Another process has been preparing the model server for too long: end it and start again.',
      );
    }
    options.onWait();
    await options.clock.sleep(POLL_MS, options.signal);
  }
  const stopBeat = beat(options.path, options.clock);
  const release = async (): Promise<void> => {
    stopBeat();
    const record = await readRecord(options.path);
    if (record?.token === token) await rm(options.path, { force: true });
  };
  return { token, left, release };
}

async function writeNew(path: string, token: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    const record: LockRecord = { pid: process.pid, host: hostname(), token };
    try {
      await file.writeFile(JSON.stringify(record));
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

async function readHolder(path: string, clock: Clock): Promise<'none' | { stale: boolean; record: LockRecord | null }> {
  const found = await stat(path).catch(() => null);
  if (found === null) return 'none';
  // Just made and not written yet, or broken: only its age counts.
  const record = await readRecord(path);
  const silent = clock.now() - found.mtimeMs > STALE_MS;
  const dead = record !== null && record.host === hostname() && !isAlive(record.pid);
  return { stale: silent || dead, record };
}

async function readRecord(path: string): Promise<LockRecord | null> {
  try {
    return recordSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return null;
  }
}

/** Two may find the same lock stale; a rename succeeds for one of them. */
async function takeAway(path: string, token: string): Promise<void> {
  const aside = `${path}.${token}`;
  await rename(path, aside).catch(() => {});
  await rm(aside, { force: true });
}

function beat(path: string, clock: Clock): () => void {
  let cancel = clock.timer(BEAT_MS, function again() {
    const now = clock.now() / 1000;
    utimes(path, now, now).catch(() => {});
    cancel = clock.timer(BEAT_MS, again);
  });
  return () => cancel();
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
