import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { Clock } from '../../../clock.ts';
import { describeError } from '../../../errors.ts';
import { commonNameOf, type OwnCertificate } from './certificate.ts';
import type { Chain } from './chain.ts';
import { leaseStatus } from './container.ts';
import { closeServer, listen, readBody, sendJson, sendText } from './http.ts';
import {
  allows,
  AMBIGUOUS,
  checkToken,
  isFault,
  UNAUTHORIZED,
  type Claims,
  type TokenFault,
  type TokenScope,
} from './jwt.ts';
import type { ProviderLeases } from './provider-leases.ts';
import { streamLease } from './provider-streams.ts';
import { bidKey } from './state.ts';
import { refuseUpgrade } from './websocket.ts';

/** A provider's gateway: provider-services gateway/rest, on one loopback port with TLS 1.3. */
export interface GatewayOptions {
  readonly provider: string;
  readonly chain: Chain;
  readonly clock: Clock;
  readonly leases: ProviderLeases;
  readonly certificate: OwnCertificate;
}

const MANIFEST_MAX = 1024 * 1024;

export class ProviderGateway {
  readonly #options: GatewayOptions;
  readonly #server: Server;
  #port = 0;

  constructor(options: GatewayOptions) {
    this.#options = options;
    const { certPem: cert, keyPem: key } = options.certificate;
    // A client's certificate is asked for, and judged by the chain's list of them.
    const tls = { cert, key, minVersion: 'TLSv1.3', requestCert: true, rejectUnauthorized: false } as const;
    this.#server = createServer(tls, (request, response) => {
      this.#respond(request, response).catch((error: unknown) => sendText(response, 500, describeError(error)));
    });
    this.#server.on('upgrade', (request, socket) => this.#upgrade(request, socket));
    this.#server.on('tlsClientError', () => undefined);
  }

  get hostUri(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    if (!this.#server.listening) this.#port = await listen(this.#server, this.#port);
  }

  async stop(): Promise<void> {
    if (this.#server.listening) await closeServer(this.#server);
  }

  /** From the next handshake on. */
  show({ certPem: cert, keyPem: key }: OwnCertificate): void {
    this.#server.setSecureContext({ cert, key, minVersion: 'TLSv1.3' });
  }

  async #respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', 'https://provider').pathname;
    if (request.method === 'GET' && path === '/status') return sendJson(response, 200, this.#status());
    if (request.method === 'GET' && path === '/address') {
      return sendJson(response, 200, { address: this.#options.provider });
    }
    if (request.method === 'GET' && path === '/version') {
      return sendJson(response, 200, { akash: { name: 'provider-services', version: 'underbid-devnet' }, kube: null });
    }
    const claims = this.#authenticate(request);
    if (isFault(claims)) return refuse(response, claims);
    const manifest = /^\/deployment\/(\d{1,20})\/manifest$/.exec(path);
    if (manifest && request.method === 'PUT') {
      return this.#putManifest(request, response, claims, BigInt(manifest[1] ?? '0'));
    }
    const lease = LEASE_PATH.exec(path);
    if (lease && request.method === 'GET') return this.#leaseRoute(response, claims, lease);
    sendText(response, 404, '404 page not found');
  }

  #status(): unknown {
    const { provider, leases } = this.#options;
    return {
      cluster: { leases: leases.count, inventory: {} },
      bidengine: { orders: 0 },
      manifest: { deployments: leases.withManifest },
      cluster_public_hostname: '127.0.0.1',
      address: provider,
    };
  }

  #authenticate(request: IncomingMessage): Claims | TokenFault {
    const { chain, clock, provider } = this.#options;
    const header = request.headers.authorization;
    const owner = this.#clientCertificate(request);
    const match = /^bearer\s+(\S+)$/i.exec(header ?? '');
    if (header !== undefined && !match) return { status: 400, message: 'invalid authorization header' };
    if (owner !== null && match) return AMBIGUOUS;
    const nowS = Math.floor(clock.now() / 1000);
    if (owner !== null) {
      return { iss: owner, iat: nowS, nbf: nowS, exp: nowS + 900, version: 'v1', leases: { access: 'full' } };
    }
    if (!match) return UNAUTHORIZED;
    const claims = checkToken(
      match[1] ?? '',
      clock.now(),
      (address) => chain.state.accounts.get(address)?.pubkey ?? null,
    );
    if (isFault(claims)) return claims;
    const { leases } = claims;
    const here = leases.access !== 'granular' || leases.permissions.some((one) => one.provider === provider);
    return here ? claims : UNAUTHORIZED;
  }

  /** The owner of the certificate that the client showed, when the chain knows it as valid. */
  #clientCertificate({ socket }: IncomingMessage): string | null {
    const shown = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
    if (shown === undefined) return null;
    const owner = commonNameOf(shown.subject);
    const known = this.#options.chain.state.certificates
      .values()
      .some(
        (one) =>
          one.owner === owner &&
          one.state === 'valid' &&
          Buffer.from(one.cert).toString('latin1').replaceAll(/\s/g, '') === shown.toString().replaceAll(/\s/g, ''),
      );
    return known ? owner : null;
  }

  async #putManifest(request: IncomingMessage, response: ServerResponse, claims: Claims, dseq: bigint): Promise<void> {
    const { provider, leases } = this.#options;
    if (!allows(claims, { provider, dseq }, 'send-manifest')) return refuse(response, UNAUTHORIZED);
    const body = await readBody(request, MANIFEST_MAX);
    if (body === null) return sendText(response, 413, 'the manifest is too large');
    const fault = leases.submit(claims.iss, dseq, body.toString('utf8'), provider);
    if (fault !== null) return sendText(response, fault.status, fault.message);
    response.writeHead(200);
    response.end();
  }

  #leaseRoute(response: ServerResponse, claims: Claims, match: RegExpExecArray): void {
    const route = ROUTES[match[4] ?? ''];
    if (route === undefined) return sendText(response, 404, '404 page not found');
    const { provider, leases } = this.#options;
    const [dseq, gseq, oseq] = [BigInt(match[1] ?? '0'), Number(match[2]), Number(match[3])];
    if (!allows(claims, { provider, dseq, gseq, oseq }, route)) return refuse(response, UNAUTHORIZED);
    const running = leases.find(bidKey({ owner: claims.iss, dseq, gseq, oseq, provider }));
    const found = running?.manifest ?? null;
    if (running === undefined || found === null) {
      response.writeHead(404);
      response.end();
      return;
    }
    sendJson(response, 200, route === 'status' ? leaseStatus(running.services) : found);
  }

  #upgrade(request: IncomingMessage, socket: Duplex): void {
    socket.on('error', () => socket.destroy());
    const url = new URL(request.url ?? '/', 'https://provider');
    const match = LEASE_PATH.exec(url.pathname);
    const claims = this.#authenticate(request);
    const refused = (fault: TokenFault): void =>
      refuseUpgrade(socket, fault.status, JSON.stringify({ message: fault.message }));
    if (isFault(claims)) return refused(claims);
    const what = match?.[4];
    if (!match || (what !== 'logs' && what !== 'kubeevents')) return refused({ status: 404, message: 'not found' });
    const { provider, leases, clock } = this.#options;
    const [dseq, gseq, oseq] = [BigInt(match[1] ?? '0'), Number(match[2]), Number(match[3])];
    const scope: TokenScope = what === 'logs' ? 'logs' : 'events';
    if (!allows(claims, { provider, dseq, gseq, oseq }, scope)) return refused(UNAUTHORIZED);
    const running = leases.find(bidKey({ owner: claims.iss, dseq, gseq, oseq, provider }));
    streamLease({ request, socket, what, query: url.searchParams, running, clock });
  }
}

const LEASE_PATH = /^\/lease\/(\d{1,20})\/(\d{1,10})\/(\d{1,10})\/(\w+)$/;
const ROUTES: Readonly<Record<string, TokenScope>> = { status: 'status', manifest: 'get-manifest' };

function refuse(response: ServerResponse, { status, message }: TokenFault): void {
  sendJson(response, status, { message });
}
