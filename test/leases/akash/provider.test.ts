import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { TLSSocket } from 'node:tls';
import { JwtValidator } from '@akashnetwork/chain-sdk';
import { systemClock } from '../../../src/clock.ts';
import { isPrivateAddress } from '../../../src/leases/akash/address.ts';
import { createCertificate, type OwnCertificate } from '../../../src/leases/akash/devnet/certificate.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import type { ShownCertificate } from '../../../src/leases/akash/provider-connect.ts';
import { Provider, type ProviderOptions } from '../../../src/leases/akash/provider.ts';

const MNEMONIC =
  'addict worth drip violin note olive final pelican perfect feel goat game horror brass fence deposit dutch improve setup stuff frost spirit smart alien';
const OWNER = 'akash1qufa3xzrf34qvwyejkhvnc4psf49fftaw0asmh';
const AT = { dseq: 77n, gseq: 1, oseq: 1 };
const YEAR_MS = 365 * 24 * 3_600_000;

test('sends the very manifest, with a token for this provider, this deployment and this alone', async (t) => {
  const site = await openSite(t, (_request, response) => response.end());
  const text = '[{"name":"a"}]';
  assert.deepEqual(await site.provider().putManifest(AT, text), { kind: 'done' });
  const [request] = site.requests;
  assert.ok(request);
  assert.ok(site.bytes > text.length, 'what arrives is counted');
  assert.deepEqual([request.method, request.url, request.body], ['PUT', '/deployment/77/manifest', text]);
  const token = request.authorization.replace(/^Bearer /, '');
  const [head = '', body = ''] = token.split('.');
  assert.deepEqual(decode(head), { alg: 'ES256K', typ: 'JWT' });
  const claims = decode(body) as { iat: number; nbf: number; exp: number };
  const now = Math.floor(Date.now() / 1000);
  assert.ok(claims.nbf <= now - 30 && claims.exp > now + 60 && claims.exp <= now + 900, 'backdated, for minutes');
  assert.deepEqual(
    { ...claims, iat: 0, nbf: 0, exp: 0 },
    {
      ...{ iss: OWNER, iat: 0, nbf: 0, exp: 0, version: 'v1' },
      leases: {
        access: 'granular',
        permissions: [
          {
            provider: OWNER,
            access: 'granular',
            deployments: [{ dseq: 77, scope: ['send-manifest'], services: ['server'] }],
          },
        ],
      },
    },
  );
  const { isValid, errors } = new JwtValidator().validateToken(token);
  assert.equal(isValid, true, JSON.stringify(errors));
});

test('reads the status of a lease with null maps, and none where the provider knows none', async (t) => {
  const replies = [
    {
      services: { server: { available: 1, uris: null } },
      forwarded_ports: { server: [{ host: 'h', port: 1, externalPort: 2 }] },
      ips: null,
    },
    { services: null, forwarded_ports: null },
  ];
  const site = await openSite(t, (_request, response) => {
    const reply = replies.shift();
    response.writeHead(reply ? 200 : 404).end(JSON.stringify(reply ?? {}));
  });
  const provider = site.provider();
  assert.deepEqual(await provider.leaseStatus(AT), {
    available: true,
    uris: [],
    ports: [{ host: 'h', port: 1, externalPort: 2 }],
    addresses: [],
  });
  assert.deepEqual(await provider.leaseStatus(AT), { available: false, uris: [], ports: [], addresses: [] });
  assert.equal(await provider.leaseStatus(AT), null);
});

test('asks again while the provider does not see the lease yet, and not when it refuses the manifest', async (t) => {
  const replies = [
    [404, 'no lease for deployment'],
    [500, 'no lease for deployment'],
    [200, ''],
    [422, 'manifest version validation failed'],
    [401, 'unauthorized'],
  ] as const;
  let at = 0;
  const site = await openSite(t, (_request, response) => {
    const [status, text] = replies[at] ?? [200, ''];
    at += 1;
    response.writeHead(status).end(text);
  });
  assert.equal((await site.provider().putManifest(AT, '[]')).kind, 'done');
  assert.equal(at, 3);
  const refused = await site.provider().putManifest(AT, '[]');
  assert.ok(refused.kind === 'refused' && /version validation/.test(refused.reason));
  assert.equal((await site.provider().putManifest(AT, '[]')).kind, 'refused');
  assert.equal(at, 5);
});

for (const [what, wrong] of Object.entries<(own: OwnCertificate) => Wrong>({
  'another certificate of the same name than the one on the chain': () => ({ onChain: [certify().certPem] }),
  'no certificate on the chain at all': () => ({ onChain: [] }),
  'one that has expired': () => ({ serves: certify({ nowMs: Date.now() - 2 * YEAR_MS }) }),
  'one that is not valid yet': () => ({ serves: certify({ nowMs: Date.now() + YEAR_MS }) }),
  "one in another's name": () => ({ serves: certify({ address: 'akash1stranger' }) }),
})) {
  test(`sends not a byte to a provider that shows ${what}`, async (t) => {
    const site = await openSite(t, (_request, response) => response.end(), wrong);
    await assert.rejects(site.provider().leaseStatus(AT));
    const outcome = await site.provider().putManifest(AT, '[]');
    assert.equal(outcome.kind, 'unknown');
    assert.ok(site.connections > 0, 'it was connected to');
    assert.equal(site.bytes, 0);
    assert.deepEqual(site.requests, []);
  });
}

test('a certificate of a public authority is taken for the host that it names, and for no other', async (t) => {
  const [root, certPem, keyPem] = ['ca', 'provider', 'provider.key'].map((name) =>
    readFileSync(new URL(`../../fixtures/akash/authority/${name}.pem`, import.meta.url), 'utf8'),
  );
  assert.ok(root && certPem && keyPem);
  const serves = { ...certify(), certPem, keyPem };
  // On the chain stands another one, as it does for a provider that has both.
  const site = await openSite(
    t,
    (_request, response) => response.end('{}'),
    (own) => ({ serves, onChain: [own.certPem] }),
  );
  const { port } = site;
  const resolve = (): Promise<{ address: string; family: number }[]> =>
    Promise.resolve([{ address: '127.0.0.1', family: 4 }]);
  const at = (host: string, roots: readonly string[]): Provider =>
    site.provider({ hostUri: `https://${host}:${port}`, resolve, roots });
  const shown: ShownCertificate[] = [];
  const right = site.provider({
    ...{ hostUri: `https://provider.example:${port}`, resolve, roots: [root] },
    onCertificate: (certificate) => shown.push(certificate),
  });
  assert.deepEqual(await right.leaseStatus(AT), { available: false, uris: [], ports: [], addresses: [] });
  assert.deepEqual([shown.length, shown[0]?.by], [1, 'authority']);
  assert.match(site.requests[0]?.authorization ?? '', /^Bearer /);
  const before = site.bytes;
  await assert.rejects(at('other.example', [root]).leaseStatus(AT), /altnames|other\.example/i);
  await assert.rejects(at('provider.example', []).leaseStatus(AT), /certificate|issuer/i);
  // Node's own authorities know nothing of this one.
  const plain = site.provider({ hostUri: `https://provider.example:${port}`, resolve });
  await assert.rejects(plain.leaseStatus(AT), /certificate|issuer/i);
  assert.equal(site.bytes, before, 'no byte went to any of them');
});

test('an earlier good connection opens no door: each one has its certificate checked', async (t) => {
  const site = await openSite(t, (_request, response) => response.end('{}'));
  const provider = site.provider();
  await provider.leaseStatus(AT);
  const seen = site.requests.length;
  site.show(certify());
  await assert.rejects(provider.leaseStatus(AT));
  assert.equal(site.requests.length, seen);
});

test('reaches no private address unless it is allowed to', async (t) => {
  const site = await openSite(t, (_request, response) => response.end('{}'));
  await assert.rejects(site.provider({ allowPrivate: false }).leaseStatus(AT), /private address/);
  const resolve = (): Promise<{ address: string; family: number }[]> =>
    Promise.resolve([
      { address: '93.184.216.34', family: 4 },
      { address: '10.0.0.1', family: 4 },
    ]);
  const named = site.provider({ allowPrivate: false, resolve, hostUri: 'https://provider.example:8443' });
  await assert.rejects(named.leaseStatus(AT), /private address/);
  await assert.rejects(site.provider({ hostUri: 'http://provider.example' }).leaseStatus(AT), /https/);
  assert.equal(site.connections, 0);
});

test('knows private addresses in every spelling', () => {
  for (const address of [
    '127.0.0.1',
    '10.1.2.3',
    '172.31.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '::1',
    '::',
    'fe80::1',
    'fd00::1',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '64:ff9b::7f00:1',
    '224.0.0.1',
    '255.255.255.255',
    'fe80::1%eth0',
    'localhost',
    '',
  ]) {
    assert.equal(isPrivateAddress(address), true, address);
  }
  for (const address of ['8.8.8.8', '93.184.216.34', '172.32.0.1', '2606:4700::1111', '::ffff:8.8.8.8']) {
    assert.equal(isPrivateAddress(address), false, address);
  }
});

test('an answer is limited in size and in time', async (t) => {
  const site = await openSite(t, (request, response) => {
    if (request.url?.includes('/1/2/')) return;
    response.end(Buffer.alloc(2_000_000, 'a'));
  });
  await assert.rejects(site.provider().leaseStatus(AT), /more than 1000000 bytes/);
  const silent = site.provider({ timeoutMs: 100 }).leaseStatus({ ...AT, gseq: 1, oseq: 2 });
  await assert.rejects(silent, /within 0.1 s|abort/i);
});

interface Wrong {
  readonly serves?: OwnCertificate;
  readonly onChain?: readonly string[];
}

function certify(change: { nowMs?: number; address?: string } = {}): OwnCertificate {
  const { nowMs = Date.now(), address = OWNER } = change;
  return createCertificate({
    address,
    serial: BigInt(Math.floor(Math.random() * 1e12)) + 1n,
    nowMs,
    hosts: ['127.0.0.1'],
  });
}

interface Site {
  readonly requests: { method: string; url: string; authorization: string; body: string }[];
  /** Of application data. */
  readonly bytes: number;
  readonly connections: number;
  readonly port: number;
  readonly provider: (change?: Partial<ProviderOptions>) => Provider;
  readonly show: (certificate: OwnCertificate) => void;
}

async function openSite(
  t: TestContext,
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  wrong: (own: OwnCertificate) => Wrong = () => ({}),
): Promise<Site> {
  const own = certify();
  const { serves = own, onChain = [serves.certPem] } = wrong(own);
  const requests: Site['requests'] = [];
  let [bytes, connections] = [0, 0];
  const { certPem: cert, keyPem: key } = serves;
  const server = createServer({ cert, key, minVersion: 'TLSv1.3' }, (request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const { method = '', url = '', headers } = request;
      requests.push({ method, url, authorization: headers.authorization ?? '', body: Buffer.concat(parts).toString() });
      answer(request, response);
    });
  });
  server.on('connection', () => (connections += 1));
  // Decrypted bytes, before anything reads them as HTTP.
  server.on('secureConnection', (socket) => {
    if (socket instanceof TLSSocket) socket.on('data', (part: Buffer) => (bytes += part.length));
  });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  const stop = new AbortController();
  t.after(() => {
    stop.abort(new Error('the test is over'));
    server.closeAllConnections();
    server.close();
  });
  const wallet = (await OwnKeyring.open(MNEMONIC)).wallet(0);
  const provider = (change: Partial<ProviderOptions> = {}): Provider =>
    new Provider({
      hostUri: `https://127.0.0.1:${port}`,
      tenant: wallet,
      trust: { owner: OWNER, certificates: onChain },
      allowPrivate: true,
      resolve: () => Promise.reject(new Error('no DNS here')),
      clock: systemClock,
      signal: stop.signal,
      retryMs: 5,
      ...change,
    });
  return {
    requests,
    get bytes() {
      return bytes;
    },
    get connections() {
      return connections;
    },
    port,
    provider,
    show: ({ certPem, keyPem }) => server.setSecureContext({ cert: certPem, key: keyPem, minVersion: 'TLSv1.3' }),
  };
}

function decode(part: string): unknown {
  return JSON.parse(Buffer.from(part, 'base64url').toString());
}
