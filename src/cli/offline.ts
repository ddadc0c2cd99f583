import type { Environment } from '../config/environment.ts';

export interface CheckReport {
  readonly ok: boolean;
  readonly checks: readonly { readonly name: string; readonly ok: boolean; readonly detail: string }[];
}

/** `ledger check` on the files themselves, under the writer's lock: for when no gateway runs (decision 6). */
export async function checkLedgerOffline({ dataDir }: Pick<Environment, 'dataDir'>): Promise<CheckReport> {
  // Late, so that no other command loads the database.
  const { checkLedger } = await import('../ledger/offline.ts');
  return checkLedger(dataDir);
}
