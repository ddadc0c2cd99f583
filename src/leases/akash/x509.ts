import { createPublicKey, createSign, type KeyObject } from 'node:crypto';
import type { EpochMs } from '../../units.ts';

/** Self-signed certificates over P-256 and SHA-256. Node can read X.509 but not write it, so the few DER forms are here. */
export interface CertificateForm {
  /** Subject and issuer. */
  readonly commonName: string;
  readonly serial: bigint;
  readonly fromMs: EpochMs;
  readonly untilMs: EpochMs;
  /** Names and IPv4 addresses that it serves; without any it is a client's. */
  readonly hosts: readonly string[];
  readonly privateKey: KeyObject;
}

/** PEM. Each time another one: the signature has a random part. */
export function selfSigned({ commonName, serial, fromMs, untilMs, hosts, privateKey }: CertificateForm): string {
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  const name = sequence(tlv(0x31, sequence(OID.commonName, tlv(0x0c, Buffer.from(commonName)))));
  const body = sequence(
    tlv(0xa0, tlv(0x02, Buffer.of(2))),
    integer(serial),
    sequence(OID.ecdsaWithSha256),
    name,
    sequence(generalizedTime(fromMs), generalizedTime(untilMs)),
    name,
    spki,
    tlv(0xa3, sequence(...extensions(hosts))),
  );
  const signature = createSign('sha256').update(body).sign(privateKey);
  const signed = sequence(body, sequence(OID.ecdsaWithSha256), tlv(0x03, Buffer.concat([Buffer.of(0), signature])));
  return pem('CERTIFICATE', signed);
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

export function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
