import type { EpochMs } from '../../units.ts';
import { SERVICE_NAME } from './names.ts';

/**
 * Pure: tokens for a provider's API (AEP-64), signed by the tenant's own account. Each names one provider, one deployment
 * and what may be done with it, and lives for minutes: who steals one can do that and nothing else, and not for long.
 */
export type Scope = 'send-manifest' | 'get-manifest' | 'status' | 'logs' | 'events';

const LIFE_S = 300;
/** Providers configure no leeway: a clock that runs behind ours would find the token not yet valid. */
const BACKDATE_S = 60;

export interface TokenSubject {
  readonly issuer: string;
  readonly provider: string;
  readonly dseq: bigint;
  readonly scope: readonly Scope[];
  readonly nowMs: EpochMs;
}

/** What is to be signed: ES256K, that is secp256k1 over SHA-256, 64 bytes. */
export function tokenText(subject: TokenSubject): string {
  const now = Math.floor(subject.nowMs / 1000);
  const { issuer, provider, scope } = subject;
  const claims = {
    iss: issuer,
    iat: now - BACKDATE_S,
    nbf: now - BACKDATE_S,
    exp: now + LIFE_S,
    version: 'v1',
    leases: {
      access: 'granular',
      permissions: [
        {
          provider,
          access: 'granular',
          deployments: [{ dseq: Number(subject.dseq), scope: [...scope], services: [SERVICE_NAME] }],
        },
      ],
    },
  };
  return textOf({ alg: 'ES256K', typ: 'JWT' }, claims);
}

/** Both parts of a token before its signature. */
export function textOf(header: unknown, claims: unknown): string {
  return `${encode(header)}.${encode(claims)}`;
}

/** As RFC 7515 has it: both parts in base64url, the signature over their text. */
export function signedToken(text: string, signature: Uint8Array): string {
  return `${text}.${Buffer.from(signature).toString('base64url')}`;
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
