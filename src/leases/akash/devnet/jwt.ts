import { z } from 'zod';
import { isAddress } from './address.ts';
import { verifies } from './tx.ts';

/** Akash's tokens (AEP-64) as a provider checks them: chain-sdk go/util/jwt, provider gateway/utils. */

const SCOPES = [
  'send-manifest',
  'get-manifest',
  'logs',
  'shell',
  'events',
  'status',
  'restart',
  'hostname-migrate',
  'ip-migrate',
  'attestation',
] as const;
export type TokenScope = (typeof SCOPES)[number];

const address = z.string().refine(isAddress);
const unique = (list: readonly string[]): boolean => new Set(list).size === list.length;
const scope = z.array(z.enum(SCOPES)).min(1).refine(unique);
const seconds = z.number().int().min(0);
const sequence = z.number().int().min(0);

const deployment = z
  .strictObject({
    dseq: z.number().int().min(1),
    scope,
    services: z.array(z.string().min(1)).min(1).refine(unique),
    gseq: sequence.optional(),
    oseq: sequence.optional(),
  })
  .refine(({ gseq = 0, oseq = 0 }) => oseq === 0 || gseq > 0);

const permission = z.discriminatedUnion('access', [
  z.strictObject({ access: z.literal('full'), provider: address }),
  z.strictObject({ access: z.literal('scoped'), provider: address, scope }),
  z.strictObject({ access: z.literal('granular'), provider: address, deployments: z.array(deployment).min(1) }),
]);

const leases = z.discriminatedUnion('access', [
  z.strictObject({ access: z.literal('full') }),
  z.strictObject({ access: z.literal('scoped'), scope }),
  z.strictObject({
    access: z.literal('granular'),
    permissions: z
      .array(permission)
      .min(1)
      .refine((list) => unique(list.map(({ provider }) => provider))),
  }),
]);

const claims = z.strictObject({
  iss: address,
  iat: seconds,
  nbf: seconds,
  exp: seconds,
  version: z.literal('v1'),
  jti: z.string().min(1).optional(),
  leases,
});
export type Claims = z.infer<typeof claims>;

const header = z.object({ alg: z.enum(['ES256K', 'ES256KADR36']), typ: z.string().optional() });

export interface TokenFault {
  readonly status: number;
  readonly message: string;
}

const INVALID: TokenFault = { status: 401, message: 'JWT is invalid' };
/** Of the time-outs too: the gateway looks for this fault first, and golang-jwt puts both into one error. */
const INVALID_CLAIMS: TokenFault = { status: 400, message: 'JWT has invalid claims' };

export const UNAUTHORIZED: TokenFault = { status: 401, message: 'unauthorized access' };
export const AMBIGUOUS: TokenFault = {
  status: 400,
  message: 'auth: ambiguous authentication. may not use mTLS and JWT at the same time',
};

/** Whether the token is signed by that account, in one of the two ways. */
export function isSignedBy(token: string, issuer: string, pubkey: Uint8Array): boolean {
  const parts = token.split('.');
  const [head = '', body = '', signature = ''] = parts;
  const read = header.safeParse(decodePart(head));
  if (parts.length !== 3 || !read.success) return false;
  const signed = Buffer.from(`${head}.${body}`);
  const document = read.data.alg === 'ES256K' ? signed : adr36Document(issuer, signed);
  return verifies(Buffer.from(signature, 'base64url'), document, pubkey);
}

/** The claims of a token whose signature is right, at this moment; or what the provider answers. */
export function checkToken(
  token: string,
  nowMs: number,
  pubkeyOf: (address: string) => Uint8Array | null,
): Claims | TokenFault {
  const raw = decodePart(token.split('.')[1] ?? '');
  const issuer = z.object({ iss: address }).safeParse(raw);
  const pubkey = issuer.success ? pubkeyOf(issuer.data.iss) : null;
  if (!issuer.success || pubkey === null || !isSignedBy(token, issuer.data.iss, pubkey)) return INVALID;
  const parsed = claims.safeParse(raw);
  if (!parsed.success) return INVALID_CLAIMS;
  const { exp, nbf } = parsed.data;
  return nowMs / 1000 >= exp || nowMs / 1000 < nbf ? INVALID_CLAIMS : parsed.data;
}

export const isFault = (result: Claims | TokenFault): result is TokenFault => 'status' in result;

function decodePart(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
  } catch {
    return null;
  }
}

/** What a browser's wallet signs instead of the text: an amino document around it, keys sorted. */
export function adr36Document(signer: string, data: Uint8Array): Uint8Array {
  const document = {
    account_number: '0',
    chain_id: '',
    fee: { amount: [], gas: '0' },
    memo: '',
    msgs: [{ type: 'sign/MsgSignData', value: { data: Buffer.from(data).toString('base64'), signer } }],
    sequence: '0',
  };
  return Buffer.from(JSON.stringify(document));
}

export interface Target {
  readonly provider: string;
  readonly dseq: bigint;
  readonly gseq?: number;
  readonly oseq?: number;
}

/** Whether the token's holder may do that there. The owner is always the issuer: paths name none. */
export function allows({ leases: granted }: Claims, target: Target, wanted: TokenScope): boolean {
  if (granted.access === 'full') return true;
  if (granted.access === 'scoped') return granted.scope.includes(wanted);
  const own = granted.permissions.find(({ provider }) => provider === target.provider);
  if (own === undefined) return false;
  if (own.access === 'full') return true;
  if (own.access === 'scoped') return own.scope.includes(wanted);
  const fits = (has: number | undefined, asked: number | undefined): boolean =>
    (has ?? 0) === 0 || asked === undefined || has === asked;
  return own.deployments.some(
    (one) =>
      BigInt(one.dseq) === target.dseq &&
      fits(one.gseq, target.gseq) &&
      fits(one.oseq, target.oseq) &&
      one.scope.includes(wanted),
  );
}
