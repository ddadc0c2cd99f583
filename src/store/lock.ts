import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'libsql';
import type { Clock } from '../clock.ts';
import { AppError } from '../errors.ts';
import type { Ms } from '../units.ts';

/** How often a lock that another process has is tried again. */
const TRY_MS: Ms = 200;

/**
 * The writer's lock of a data folder: an exclusive lock of the operating system on a small database file, so it falls
 * with its process however that dies, and no stale file has to be judged.
 */
export function lockDataFolder(dataDir: string): () => void {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const database = new Database(join(dataDir, 'writer.lock'), { timeout: 0 });
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE');
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (!(error instanceof Error && 'code' in error && error.code === 'SQLITE_BUSY')) throw error;
    throw new AppError(
      'data_in_use',
      `another underbid process is using the data folder ${dataDir}: add --standby to wait for it`,
    );
  }
  let held = true;
  return () => {
    if (!held) return;
    held = false;
    database.exec('ROLLBACK');
    database.close();
  };
}

/** The same lock when whoever has it is gone. Rejects when `signal` ends the wait. */
export async function awaitDataFolder(dataDir: string, clock: Clock, signal: AbortSignal): Promise<() => void> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return lockDataFolder(dataDir);
    } catch (error) {
      if (!(error instanceof AppError && error.code === 'data_in_use')) throw error;
    }
    await clock.sleep(TRY_MS, signal);
  }
}
