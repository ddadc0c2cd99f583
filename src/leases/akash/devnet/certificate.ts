import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { EpochMs } from '../../../units.ts';
import { pem, selfSigned } from '../x509.ts';

/**
 * Self-signed certificates as Akash's own tools make them (chain-sdk: go/util/tls/key_pair_manager.go): P-256, SHA-256,
 * subject = issuer = the account's address.
 */
export interface OwnCertificate {
  readonly certPem: string;
  /** "EC PUBLIC KEY", as the chain wants it. */
  readonly pubkeyPem: string;
  readonly keyPem: string;
  /** Decimal. */
  readonly serial: string;
}

export interface CertificateRequest {
  readonly address: string;
  readonly serial: bigint;
  readonly nowMs: EpochMs;
  /** Names it serves; without any it is a client's. */
  readonly hosts: readonly string[];
}

const YEAR_MS = 365 * 24 * 3_600_000;

export function createCertificate({ address, serial, nowMs, hosts }: CertificateRequest): OwnCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const dates = { fromMs: nowMs - 60_000, untilMs: nowMs + YEAR_MS };
  return {
    certPem: selfSigned({ commonName: address, serial, ...dates, hosts, privateKey }),
    pubkeyPem: pem('EC PUBLIC KEY', publicKey.export({ type: 'spki', format: 'der' })),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    serial: serial.toString(),
  };
}

export interface ReadCertificate {
  /** Decimal. */
  readonly serial: string;
  readonly commonName: string;
  /** Signed by the key that came with it. */
  readonly signed: boolean;
}

/** Throws when it is no certificate, or the public key no key. */
export function readCertificate(cert: Uint8Array, pubkey: Uint8Array): ReadCertificate {
  const x509 = new X509Certificate(Buffer.from(cert));
  const der = Buffer.from(
    Buffer.from(pubkey)
      .toString('latin1')
      .replaceAll(/-----[^-]+-----|\s/g, ''),
    'base64',
  );
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  return {
    serial: BigInt(`0x${x509.serialNumber}`).toString(),
    commonName: commonNameOf(x509.subject),
    signed: x509.verify(key),
  };
}

export function commonNameOf(subject: string): string {
  return /^CN=(.*)$/m.exec(subject)?.[1] ?? '';
}

/** True when the PEM key belongs to the PEM certificate. */
export function isPair(certPem: string, keyPem: string): boolean {
  return new X509Certificate(certPem).checkPrivateKey(createPrivateKey(keyPem));
}
