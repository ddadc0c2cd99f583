import type { Workload } from '../market.ts';
import type { LeaseSecrets } from './lease-secrets.ts';
import { sortedJson } from './sdl.ts';

/**
 * Pure: a manifest as it is kept has marks where the one that is sent has secrets: the lease's own key, the token of its
 * weights, the password of its registry. So none of them is ever in our database, and each can be changed outside.
 */

/** The lease's key. */
export const KEY_MARK = '{{lease-key}}';
/** The key of the certificate that its model server shows. */
export const TLS_KEY_MARK = '{{lease-tls-key}}';

/** What a secret's name (`env:NAME`, `file:PATH`) stands for now; null: it cannot be read. */
export type SecretOf = (reference: string) => string | null;

/** Shorter texts may stand in a manifest by chance. */
export const SECRET_LENGTH_MIN = 8;

function markOf(reference: string): string {
  return `{{secret ${reference.replaceAll(/[^A-Za-z0-9:._/-]/g, '_')}}}`;
}

export function referencesOf({ weights, registry }: Pick<Workload, 'weights' | 'registry'>): string[] {
  return [weights?.secret, registry?.password].filter((one) => typeof one === 'string');
}

export function maskManifest(manifest: string, secrets: ReadonlyMap<string, string>): string {
  let text = manifest;
  for (const [mark, secret] of secrets) text = text.replaceAll(inJson(secret), mark);
  return text;
}

export function fillManifest(masked: string, secrets: ReadonlyMap<string, string>): string {
  let text = masked;
  for (const [mark, secret] of secrets) text = text.replaceAll(mark, () => inJson(secret));
  return text;
}

/** By mark: the key of a lease and what its workload's references stand for, as far as they can be read. */
export function secretsOf(
  { apiKey, tlsKey }: LeaseSecrets,
  workload: Pick<Workload, 'weights' | 'registry'> | null,
  secretOf: SecretOf,
): Map<string, string> {
  const secrets = new Map([
    [KEY_MARK, apiKey],
    [TLS_KEY_MARK, tlsKey],
  ]);
  for (const reference of workload ? referencesOf(workload) : []) {
    const secret = secretOf(reference);
    if (secret !== null) secrets.set(markOf(reference), secret);
  }
  return secrets;
}

/** Whether it holds secrets that may have been changed since it was sent. */
export function hasOtherSecrets(masked: string): boolean {
  return masked.includes('{{secret ');
}

/** As it stands between quotes. */
function inJson(secret: string): string {
  return sortedJson(secret).slice(1, -1);
}
