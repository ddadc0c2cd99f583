import { JwtTokenManager } from '@akashnetwork/chain-sdk';
import * as v1 from '@akashnetwork/chain-sdk/private-types/akash.v1';
import { Secp256k1HdWallet } from '@cosmjs/amino';
import { Secp256k1, sha256 } from '@cosmjs/crypto';
import { Client } from 'undici';
import type { Devnet } from '../../../../src/leases/akash/devnet/network.ts';

/** A tenant's side of the provider's API, written for the tests: chain-sdk's tokens, undici, the chain's certificate. */

type Leases = Parameters<JwtTokenManager['generateToken']>[0]['leases'];
export interface TokenOptions {
  readonly leases?: NonNullable<Leases>;
  readonly nowS?: number;
  readonly lifeS?: number;
  readonly extra?: Record<string, unknown>;
}

/** ES256KADR36, as chain-sdk makes it. */
export async function walletToken(mnemonic: string, options: TokenOptions = {}): Promise<string> {
  const wallet = await Secp256k1HdWallet.fromMnemonic(mnemonic, { prefix: 'akash' });
  const [account] = await wallet.getAccounts();
  const nowS = options.nowS ?? Math.floor(Date.now() / 1000) - 5;
  return new JwtTokenManager(wallet as never).generateToken({
    version: 'v1',
    iss: account?.address ?? '',
    iat: nowS,
    nbf: nowS,
    exp: nowS + (options.lifeS ?? 900),
    leases: options.leases ?? { access: 'full' },
  });
}

/** ES256K, by hand. */
export function rawToken(devnet: Devnet, options: TokenOptions = {}, key = devnet.tenant.privateKey): string {
  const nowS = options.nowS ?? Math.floor(Date.now() / 1000) - 5;
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = {
    iss: devnet.tenant.address,
    iat: nowS,
    nbf: nowS,
    exp: nowS + (options.lifeS ?? 900),
    version: 'v1',
    leases: options.leases ?? { access: 'full' },
    ...options.extra,
  };
  const text = `${encode({ alg: 'ES256K', typ: 'JWT' })}.${encode(claims)}`;
  const signature = Secp256k1.createSignature(sha256(Buffer.from(text)), key);
  return `${text}.${Buffer.from([...signature.r(32), ...signature.s(32)]).toString('base64url')}`;
}

export function chainCertificate(devnet: Devnet, owner: string): string {
  const found = devnet.chain.state.certificates.values().find((one) => one.owner === owner && one.state === 'valid');
  return Buffer.from(found?.cert ?? []).toString('utf8');
}

export interface Reply {
  readonly status: number;
  readonly text: string;
}

export async function askProvider(
  devnet: Devnet,
  { address, hostUri }: { readonly address: string; readonly hostUri: string },
  call: { method: 'GET' | 'PUT'; path: string; token?: string | null; body?: string; tls?: Record<string, unknown> },
): Promise<Reply> {
  const ca = chainCertificate(devnet, address);
  const client = new Client(hostUri, { connect: { ca, ...call.tls } });
  try {
    const reply = await client.request({
      method: call.method,
      path: call.path,
      headers: call.token === undefined || call.token === null ? {} : { authorization: `Bearer ${call.token}` },
      body: call.body ?? null,
    });
    return { status: reply.statusCode, text: await reply.body.text() };
  } finally {
    await client.destroy();
  }
}

export { v1 };
