import { createPrivateKey, createPublicKey, createSign, generateKeyPairSync, X509Certificate } from 'node:crypto';
import type { EpochMs } from '../../../units.ts';

/**
 * Self-signed certificates as Akash's own tools make them (chain-sdk: go/util/tls/key_pair_manager.go): P-256, SHA-256,
 * subject = issuer = the account's address. Node can read X.509 but not write it, so the few DER forms are here.
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
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const name = sequence(tlv(0x31, sequence(OID.commonName, tlv(0x0c, Buffer.from(address)))));
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.of(2))),
    integer(serial),
    sequence(OID.ecdsaWithSha256),
    name,
    sequence(generalizedTime(nowMs - 60_000), generalizedTime(nowMs + YEAR_MS)),
    name,
    spki,
    tlv(0xa3, sequence(...extensions(hosts))),
  );
  const signature = createSign('sha256').update(body).sign(privateKey);
  const der = sequence(body, sequence(OID.ecdsaWithSha256), tlv(0x03, Buffer.concat([Buffer.of(0), signature])));
  return {
    certPem: pem('CERTIFICATE', der),
    pubkeyPem: pem('EC PUBLIC KEY', spki),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    serial: serial.toString(),
  };
}

function extensions(hosts: readonly string[]): Buffer[] {
  const usage = [OID.clientAuth, ...(hosts.length > 0 ? [OID.serverAuth] : [])];
  const names = hosts.map((host) => {
    const octets = /^\d+\.\d+\.\d+\.\d+$/.test(host) ? Buffer.from(host.split('.').map(Number)) : null;
    return octets === null ? tlv(0x82, Buffer.from(host)) : tlv(0x87, octets);
  });
  const extension = (oid: Buffer, value: Buffer, critical = false): Buffer =>
    sequence(oid, ...(critical ? [tlv(0x01, Buffer.of(0xff))] : []), tlv(0x04, value));
  return [
    // keyEncipherment and dataEncipherment, as Akash's; digitalSignature besides, without which OpenSSL refuses it.
    extension(OID.keyUsage, tlv(0x03, Buffer.of(4, 0xb0)), true),
    extension(OID.extKeyUsage, sequence(...usage)),
    extension(OID.basicConstraints, sequence(), true),
    ...(names.length > 0 ? [extension(OID.subjectAltName, sequence(...names))] : []),
  ];
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

function tlv(tag: number, ...parts: readonly Buffer[]): Buffer {
  const value = Buffer.concat(parts);
  if (value.length < 0x80) return Buffer.concat([Buffer.of(tag, value.length), value]);
  const length = Buffer.from(value.length.toString(16).padStart(value.length > 0xff ? 4 : 2, '0'), 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length), length, value]);
}

const sequence = (...parts: readonly Buffer[]): Buffer => tlv(0x30, ...parts);

function integer(value: bigint): Buffer {
  const hex = value.toString(16);
  const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  return tlv(0x02, (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), bytes]) : bytes);
}

function generalizedTime(atMs: EpochMs): Buffer {
  const text = new Date(atMs).toISOString().replaceAll(/[-:T]|\.\d+/g, '');
  return tlv(0x18, Buffer.from(text));
}

const OID = {
  commonName: tlv(0x06, Buffer.of(0x55, 0x04, 0x03)),
  ecdsaWithSha256: tlv(0x06, Buffer.of(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02)),
  keyUsage: tlv(0x06, Buffer.of(0x55, 0x1d, 0x0f)),
  subjectAltName: tlv(0x06, Buffer.of(0x55, 0x1d, 0x11)),
  basicConstraints: tlv(0x06, Buffer.of(0x55, 0x1d, 0x13)),
  extKeyUsage: tlv(0x06, Buffer.of(0x55, 0x1d, 0x25)),
  serverAuth: tlv(0x06, Buffer.of(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01)),
  clientAuth: tlv(0x06, Buffer.of(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02)),
} as const;

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
