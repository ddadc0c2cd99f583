import { createECDH, createPrivateKey, hkdfSync, type KeyObject } from 'node:crypto';
import type { EpochMs } from '../../units.ts';
import { selfSigned } from './x509.ts';

/**
 * A lease's model server on a port or an address of its own speaks TLS with a certificate that we made for that lease, and
 * requests go to whoever shows that very certificate and to nobody else. Its key follows from the lease's secret, so it is
 * stored nowhere; the certificate, which is no secret, stays with the order. The host of the container can read the key, as
 * it can read everything else in there: what is kept out is whoever stands between.
 */
export interface LeaseTls {
  /** PEM. */
  readonly certificate: string;
  /** PEM. */
  readonly key: string;
}

/** A lease is over long before. */
const LIFE_MS = 366 * 24 * 3_600_000;
/** Clocks differ. */
const BACKDATED_MS = 24 * 3_600_000;
/** Engines that ask themselves whether they are up do so by these names. */
const HOSTS = ['localhost', '127.0.0.1'];
const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** @param secret the lease's, of its own for this purpose */
export function newLeaseTls(secret: string, nowMs: EpochMs): LeaseTls {
  const privateKey = privateKeyOf(secret);
  const certificate = selfSigned({
    commonName: 'underbid lease',
    serial: BigInt(`0x01${derived(secret, 'serial', 15)}`),
    fromMs: nowMs - BACKDATED_MS,
    untilMs: nowMs + LIFE_MS,
    hosts: HOSTS,
    privateKey,
  });
  return { certificate, key: pemOf(privateKey) };
}

/** That of an order that was made before. */
export function leaseTlsKey(secret: string): string {
  return pemOf(privateKeyOf(secret));
}

/** A number between 1 and the order of the curve, from 64 bits more than it has: none is likelier than another. */
function privateKeyOf(secret: string): KeyObject {
  const scalar = (BigInt(`0x${derived(secret, 'p-256', 40)}`) % (P256_ORDER - 1n)) + 1n;
  const d = Buffer.from(scalar.toString(16).padStart(64, '0'), 'hex');
  const curve = createECDH('prime256v1');
  curve.setPrivateKey(d);
  const point = curve.getPublicKey();
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((one) => one.toString('base64url'));
  const jwk = { kty: 'EC', crv: 'P-256', d: d.toString('base64url'), x: x ?? '', y: y ?? '' };
  return createPrivateKey({ key: jwk, format: 'jwk' });
}

/** Hex. */
function derived(secret: string, purpose: string, bytes: number): string {
  return Buffer.from(hkdfSync('sha256', secret, '', `underbid lease tls ${purpose}`, bytes)).toString('hex');
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}
