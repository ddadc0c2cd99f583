import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../errors.ts';
import { lockDataFolder } from '../store/lock.ts';
import { runCheck } from './client.ts';
import type { CheckReport } from './operations.ts';

/**
 * The check while no gateway runs: takes the writer's lock itself, so that none starts meanwhile.
 * @throws AppError `data_in_use` when one runs, `not_found` when there is no ledger.
 */
export async function checkLedger(dataDir: string): Promise<CheckReport> {
  if (!existsSync(join(dataDir, 'ledger.db'))) throw new AppError('not_found', `there is no ledger in ${dataDir}`);
  const unlock = lockDataFolder(dataDir);
  try {
    return await runCheck(dataDir);
  } finally {
    unlock();
  }
}
