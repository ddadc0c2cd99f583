import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../errors.ts';
import { LEDGER_SCHEMA_VERSION } from '../store/ledger-schema.ts';
import { openSql } from '../store/libsql.ts';
import { lockDataFolder } from '../store/lock.ts';
import { runCheck } from './client.ts';
import { LEDGER_FILE } from './journal-file.ts';
import { readVersion } from './migrate.ts';
import type { CheckReport } from './operations.ts';

/**
 * The check while no gateway runs: takes the writer's lock itself, so that none starts meanwhile.
 * @throws AppError `data_in_use` when one runs, `not_found` when there is no ledger, `setup_failed` when it is of another
 * version.
 */
export async function checkLedger(dataDir: string): Promise<CheckReport> {
  if (!existsSync(join(dataDir, LEDGER_FILE))) throw new AppError('not_found', `there is no ledger in ${dataDir}`);
  const unlock = lockDataFolder(dataDir);
  try {
    requireVersion(join(dataDir, LEDGER_FILE));
    return await runCheck(dataDir);
  } finally {
    unlock();
  }
}

/** The check reads what this version writes; it does not itself bring a file up to date. */
function requireVersion(path: string): void {
  const sql = openSql(path, { readonly: true });
  try {
    const version = readVersion(sql);
    if (version === String(LEDGER_SCHEMA_VERSION)) return;
    const older = Number(version) < LEDGER_SCHEMA_VERSION;
    const advice = older ? 'start the gateway once, which brings it up to date' : 'use the version that wrote it';
    const what = `the ledger's file has schema ${version}, this version speaks ${LEDGER_SCHEMA_VERSION}`;
    throw new AppError('setup_failed', `${what}: ${advice}`);
  } finally {
    sql.close();
  }
}
