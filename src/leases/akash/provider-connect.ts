import { X509Certificate } from 'node:crypto';
import {
  checkServerIdentity,
  connect as connectTls,
  rootCertificates,
  type PeerCertificate,
  type TLSSocket,
} from 'node:tls';
import type { buildConnector } from 'undici';
import type { Clock } from '../../clock.ts';
import type { EpochMs, Ms } from '../../units.ts';
import { resolvePublic, type Resolve } from './address.ts';

export interface ProviderTrust {
  /** Its address on the chain. */
  readonly owner: string;
  /** PEM texts that are valid on the chain for that owner. */
  readonly certificates: readonly string[];
}

export interface ConnectOptions {
  readonly trust: ProviderTrust;
  readonly allowPrivate: boolean;
  readonly resolve: Resolve;
  readonly clock: Clock;
  readonly connectMs: Ms;
  readonly signal: AbortSignal;
  /** PEM texts of the public authorities; default: those that come with Node. */
  readonly roots?: readonly string[];
  /** Sees the certificate that was found to be right. */
  readonly onCertificate?: (shown: ShownCertificate) => void;
}

export interface ShownCertificate {
  /** Vouched for by a public authority, or the provider's own one from the chain. */
  readonly by: 'authority' | 'chain';
  readonly untilMs: EpochMs;
}

/**
 * Connects to a provider and hands the socket over only when its certificate is right, so no byte of ours, and no token,
 * ever goes to anybody else: either a certificate that the public authorities vouch for, for that host, or the provider's
 * own one from the chain. Verification is never switched off: with `rejectUnauthorized: false` Node does not even call
 * `checkServerIdentity`, and the token is sent. No session is resumed, because then there is no certificate to look at.
 */
export function providerConnector(options: ConnectOptions): buildConnector.connector {
  return ({ hostname, port }, callback) => {
    const give = (socket: TLSSocket): void => callback(null, socket);
    const fail = (error: unknown): void => callback(error instanceof Error ? error : new Error(String(error)), null);
    open(options, hostname, Number(port || 443)).then(give, fail);
  };
}

async function open(options: ConnectOptions, hostname: string, port: number): Promise<TLSSocket> {
  const { trust, allowPrivate, resolve, clock, connectMs, signal, roots = rootCertificates } = options;
  const { address } = await resolvePublic(hostname, resolve, allowPrivate);
  const own = ownCertificates(trust, clock.now());
  return new Promise((done, fail) => {
    const socket = connectTls({
      host: address,
      port,
      ...(/[a-z]/i.test(hostname) && !hostname.includes(':') ? { servername: hostname } : {}),
      ALPNProtocols: ['http/1.1'],
      minVersion: 'TLSv1.3',
      ca: [...roots, ...own.map(({ pem }) => pem)],
      checkServerIdentity: (_name, certificate) => judge(hostname, certificate, own),
    });
    const give = (error: Error): void => {
      end();
      socket.destroy();
      fail(error);
    };
    const cancel = clock.timer(connectMs, () =>
      give(new Error('the provider did not complete a TLS handshake in time')),
    );
    const abort = (): void => give(new Error('stopped'));
    const end = (): void => {
      cancel();
      signal.removeEventListener('abort', abort);
      socket.off('error', give);
    };
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', give);
    socket.once('secureConnect', () => {
      if (!socket.authorized) {
        give(new Error('the provider showed a certificate that is not trusted'));
        return;
      }
      end();
      options.onCertificate?.(shownBy(socket, own));
      // Whoever takes the socket listens from now on; an error in between must not end the process.
      socket.on('error', () => undefined);
      done(socket);
    });
  });
}

function shownBy(socket: TLSSocket, own: readonly OwnCertificate[]): ShownCertificate {
  const { fingerprint256, valid_to: validTo } = socket.getPeerCertificate();
  const isOwn = own.some((one) => one.fingerprint256 === fingerprint256);
  return { by: isOwn ? 'chain' : 'authority', untilMs: Date.parse(validTo) };
}

interface OwnCertificate {
  readonly pem: string;
  readonly fingerprint256: string;
}

/** Those that can be the provider's: one certificate, self-signed, in its own name, in date. */
function ownCertificates({ owner, certificates }: ProviderTrust, nowMs: EpochMs): OwnCertificate[] {
  return certificates.flatMap((pem) => {
    try {
      const certificate = new X509Certificate(pem);
      const { subject, issuer, serialNumber, fingerprint256, validFromDate, validToDate } = certificate;
      const named = commonName(subject) === owner && commonName(issuer) === owner && serialNumber !== '';
      const inDate = validFromDate.getTime() <= nowMs && nowMs < validToDate.getTime();
      const selfSigned = certificate.verify(certificate.publicKey);
      return named && inDate && selfSigned ? [{ pem: certificate.toString(), fingerprint256 }] : [];
    } catch {
      return [];
    }
  });
}

function commonName(name: string): string | null {
  const found = name.split('\n').filter((line) => line.startsWith('CN='));
  return found.length === 1 ? (found[0]?.slice(3) ?? null) : null;
}

/** Called by Node once the chain of trust holds. The provider's own certificate names no host: it is known by its print. */
function judge(hostname: string, certificate: PeerCertificate, own: readonly OwnCertificate[]): Error | undefined {
  if (own.some(({ fingerprint256 }) => fingerprint256 === certificate.fingerprint256)) return undefined;
  return checkServerIdentity(hostname, certificate);
}
