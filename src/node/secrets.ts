import { createHmac, randomBytes } from 'node:crypto';
import { chmodSync, closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Files with secrets in the data folder: readable by their owner only, whole or not there. */

export function writeSecret(path: string, text: string): void {
  const partial = `${path}.partial`;
  const file = openSync(partial, 'w', 0o600);
  writeSync(file, text);
  fsyncSync(file);
  closeSync(file);
  chmodSync(partial, 0o600);
  renameSync(partial, path);
}

export function readSecret(path: string): string | null {
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : null;
}

/** The secret in a file, made when it is not there yet. */
export function secretFile(path: string, make: () => string): { readonly value: string; readonly made: boolean } {
  const known = readSecret(path);
  if (known !== null && known !== '') return { value: known, made: false };
  const value = make();
  writeSecret(path, `${value}\n`);
  return { value, made: true };
}

/**
 * Each lease's model server gets a key of its own, derived from the data folder's secret and the lease's id: it need not be
 * stored, and a restart knows it.
 */
export function leaseKeys(dataDir: string): (leaseId: string) => string {
  const { value } = secretFile(join(dataDir, 'secret.key'), () => randomBytes(32).toString('hex'));
  return (leaseId) => `lk-${createHmac('sha256', value).update(`lease-key:${leaseId}`).digest('hex').slice(0, 48)}`;
}
