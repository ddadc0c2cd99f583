import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../../src/clock.ts';
import { RemoteKeyring } from '../../../src/leases/akash/chain-signer.ts';
import { OwnKeyring } from '../../../src/leases/akash/chain-wallet.ts';
import { akashOrder, openAkash } from './market-bench.ts';

/** Keys held by another program: what is signed there is as good as here, and nothing else is taken for it. */

const MNEMONIC =
  'addict worth drip violin note olive final pelican perfect feel goat game horror brass fence deposit dutch improve setup stuff frost spirit smart alien';

test('a signer gives the same account and signatures as the key itself, over a port and over a socket', async (t) => {
  const own = await OwnKeyring.open(MNEMONIC);
  const folder = mkdtempSync(join(tmpdir(), 'underbid-signer-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const at of [0, join(folder, 's.sock')]) {
    const signer = await openSigner(t, own, { at });
    const remote = await open(t, { url: signer.url, key: 'sesame', indexes: [5] });
    for (const index of [0, 5]) {
      const wallet = remote.wallet(index);
      assert.equal(wallet.address, own.wallet(index).address);
      const bytes = Buffer.from('to be signed');
      assert.deepEqual(await wallet.sign(bytes), own.wallet(index).sign(bytes));
    }
    assert.throws(() => remote.wallet(6), /was not asked for/);
    assert.ok(signer.seen.every(({ authorization }) => authorization === 'Bearer sesame'));
  }
});

test('what a signer says is checked: a signature of another key, of the wrong size, or none in time', async (t) => {
  const own = await OwnKeyring.open(MNEMONIC);
  const bytes = Buffer.from('to be signed');
  for (const [mode, why] of [
    ['wrong', /does not fit its key/],
    ['short', /not 64 bytes/],
    ['refuse', /refused \(403\)/],
    ['silent', /within 0.3 s/],
    ['endless', /more than 4096 bytes/],
  ] as const) {
    const signer = await openSigner(t, own, { mode });
    const remote = await open(t, {
      url: signer.url,
      key: null,
      indexes: [],
      timeoutMs: mode === 'silent' ? 300 : 30_000,
    });
    await assert.rejects(
      async () => remote.wallet(0).sign(bytes),
      (error: Error) => {
        assert.match(error.message, why);
        assert.doesNotMatch(error.message, new RegExp(`${bytes.toString('base64')}|sesame`));
        return true;
      },
    );
  }
  await assert.rejects(open(t, { url: 'http://127.0.0.1:1', key: 'sesame', indexes: [] }), /the signer: /);
});

test('a market whose key is elsewhere wins a lease and sends its manifest', async (t) => {
  const bench = await openAkash(t);
  await bench.market.stop();
  const signer = await openSigner(t, await OwnKeyring.open(bench.devnet.tenant.mnemonic), {});
  const keyring = await open(t, { url: signer.url, key: null, indexes: [] });
  const market = await bench.again({ keyring });
  assert.equal((await market.tender(akashOrder('o1'))).kind, 'done');
  await bench.until('a bid comes', async () => ((await market.order('o1'))?.bids.length ?? 0) > 0);
  const [bid] = (await market.order('o1'))?.bids ?? [];
  const accepted = await market.accept('o1', bid?.id ?? '', 1_000_000_000n);
  assert.ok(accepted.kind === 'done');
  await bench.until('it runs', async () => (await market.status(accepted.value.id))?.delivery.state === 'running');
  signer.server.close();
  signer.server.closeAllConnections();
  const closing = await market.close(accepted.value.id, 'tenant');
  assert.ok(closing.kind === 'unknown' && /the signer/.test(closing.reason), 'nothing happens without it');
});

type Mode = 'right' | 'wrong' | 'short' | 'refuse' | 'silent' | 'endless';

interface Signer {
  readonly url: string;
  readonly server: Server;
  readonly seen: { readonly path: string; readonly authorization: string }[];
}

/** The protocol of the README, as short as a signer can be. */
async function openSigner(
  t: TestContext,
  keyring: OwnKeyring,
  { at = 0, mode = 'right' }: { readonly at?: number | string; readonly mode?: Mode },
): Promise<Signer> {
  const seen: Signer['seen'] = [];
  const sign = (index: number, bytes: Buffer): Uint8Array =>
    mode === 'short' ? Buffer.alloc(63) : keyring.wallet(mode === 'wrong' ? index + 1 : index).sign(bytes);
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://signer');
    seen.push({ path: url.pathname, authorization: request.headers.authorization ?? '' });
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      if (url.pathname === '/account') {
        const { publicKey } = keyring.wallet(Number(url.searchParams.get('index')));
        return response.end(JSON.stringify({ public_key: Buffer.from(publicKey).toString('base64') }));
      }
      if (mode === 'silent') return undefined;
      if (mode === 'endless') return response.end('x'.repeat(100_000));
      const { index, bytes } = JSON.parse(Buffer.concat(parts).toString()) as { index: number; bytes: string };
      if (mode === 'refuse') return response.writeHead(403).end(`will not sign ${bytes}`);
      const signature = Buffer.from(sign(index, Buffer.from(bytes, 'base64'))).toString('base64');
      return response.end(JSON.stringify({ signature }));
    });
  });
  await new Promise<void>((done) =>
    typeof at === 'string' ? server.listen(at, done) : server.listen(0, '127.0.0.1', done),
  );
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = typeof at === 'string' ? `unix:${at}` : `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, server, seen };
}

async function open(
  t: TestContext,
  options: Omit<Parameters<typeof RemoteKeyring.open>[0], 'clock'>,
): Promise<RemoteKeyring> {
  const remote = await RemoteKeyring.open({ clock: systemClock, ...options });
  t.after(() => remote.close());
  return remote;
}
