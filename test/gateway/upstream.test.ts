import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createFetchUpstream } from '../../src/gateway/fetch-upstream.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { readWhole, type Upstream, type UpstreamCall } from '../../src/gateway/upstream.ts';
import { until } from '../fakes/clock.ts';
import { endless, events, json, reset, silence } from '../fakes/model-replies.ts';
import { startModelServer, type FakeModelServer } from '../fakes/model-server.ts';

/** Both ways to a model server keep the same promises. */
const KINDS = { undici: openUndici, fetch: () => createFetchUpstream((...call) => fetch(...call)) };
const REQUEST = { path: '/v1/x', method: 'POST' as const, headers: { authorization: 'Bearer k' }, body: '{"a":"ü"}' };

for (const [kind, create] of Object.entries(KINDS)) {
  const check = (name: string, body: (t: TestContext, parts: Parts) => Promise<void>): void => {
    test(`${kind}: ${name}`, async (t) => {
      const server = await startModelServer(t, json(200, { ok: true }));
      const upstream = create();
      t.after(() => upstream.close());
      await body(t, { server, upstream });
    });
  };

  check('sends what it is told and gives status, headers and bytes', async (_t, { server, upstream }) => {
    server.play(json(418, { tea: 'ü' }, { 'x-kind': 'pot' }));
    const { status, headers, text } = await readWhole(upstream, { url: server.url, ...REQUEST }, { ...LIMITS });
    assert.deepEqual([status, headers['x-kind'], text], [418, 'pot', '{"tea":"ü"}']);
    const [turn] = server.requests;
    assert.deepEqual([turn?.path, turn?.text, turn?.headers.authorization], ['/v1/x', REQUEST.body, 'Bearer k']);
  });

  check('an address may have a path and end in slashes', async (_t, { server, upstream }) => {
    for (const suffix of ['', '/', '/api', '/api/v9//']) {
      await readWhole(upstream, { url: `${server.url}${suffix}`, ...REQUEST }, { ...LIMITS });
    }
    assert.deepEqual(
      server.requests.map(({ path }) => path),
      ['/v1/x', '/v1/x', '/api/v1/x', '/api/v9/v1/x'],
    );
  });

  check('a redirect is an answer and is not followed', async (_t, { server, upstream }) => {
    server.play(json(302, {}, { location: '/elsewhere' }));
    const { status } = await readWhole(upstream, { url: server.url, ...REQUEST }, { ...LIMITS });
    assert.deepEqual([status, server.requests.length], [302, 1]);
  });

  check('a reset, a refused connection and a broken address are each one error', async (_t, { server, upstream }) => {
    server.usually(reset);
    await assert.rejects(readWhole(upstream, { url: server.url, ...REQUEST }, { ...LIMITS }));
    await server.stop();
    await assert.rejects(readWhole(upstream, { url: server.url, ...REQUEST }, { ...LIMITS }));
  });

  check('a reply above the limit is refused and the server told', async (_t, { server, upstream }) => {
    server.play(endless('x'.repeat(10_000)));
    await assert.rejects(readWhole(upstream, { url: server.url, ...REQUEST }, { ...LIMITS }), RangeError);
    await server.requests[0]?.left;
  });

  check('a signal ends the request, before and after it was sent', async (_t, { server, upstream }) => {
    server.usually(silence);
    const done = AbortSignal.abort(new Error('too late'));
    await assert.rejects(readWhole(upstream, { url: server.url, ...REQUEST }, { ...LIMITS, signal: done }), /too late/);
    const leave = new AbortController();
    const reply = readWhole(upstream, { url: server.url, ...REQUEST }, { ...LIMITS, signal: leave.signal });
    await until('it was sent', () => server.requests.some(({ hasLeft }) => !hasLeft));
    leave.abort(new Error('changed my mind'));
    await assert.rejects(reply, /changed my mind/);
    await until('the server knows', () => server.requests.every(({ hasLeft }) => hasLeft));
  });

  check('an aborted call says nothing more', async (_t, { server, upstream }) => {
    server.play(endless('data: x\n\n'));
    const seen = watch(upstream, server.url);
    await until('bytes come', () => seen.bytes > 0);
    seen.call.abort();
    const { bytes } = seen;
    await server.requests[0]?.left;
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.deepEqual([seen.bytes, seen.ends, seen.errors], [bytes, 0, 0]);
  });

  check('a paused call holds its server back, a resumed one goes on', async (_t, { server, upstream }) => {
    server.play(endless('x'.repeat(100_000)));
    const seen = watch(upstream, server.url);
    await until('bytes come', () => seen.bytes > 0);
    seen.call.pause();
    await still(() => server.requests[0]?.bytesWritten ?? 0);
    const { bytes } = seen;
    assert.ok((server.requests[0]?.bytesWritten ?? 0) < 30_000_000);
    seen.call.resume();
    await until('more comes', () => seen.bytes > bytes + 1_000_000);
    seen.call.abort();
    await server.requests[0]?.left;
  });

  check(
    'a call that is paused before anything came gives nothing until it is resumed',
    async (_t, { server, upstream }) => {
      server.play(events(['data: a\n\n', 'data: b\n\n']));
      const seen = watch(upstream, server.url);
      seen.call.pause();
      await server.request(0);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.deepEqual([seen.bytes, seen.ends], [0, 0]);
      seen.call.resume();
      await until('all came', () => seen.ends === 1);
      assert.equal(seen.bytes, 18);
    },
  );
}

interface Parts {
  readonly server: FakeModelServer;
  readonly upstream: Upstream;
}

const LIMITS = { bytesMax: 100_000, signal: new AbortController().signal };

function openUndici(): Upstream {
  return createUndiciUpstream({ connectMs: 2000, connectionsMax: 4, headerBytesMax: 16_384 });
}

function watch(upstream: Upstream, url: string) {
  const seen = { bytes: 0, ends: 0, errors: 0 };
  const call: UpstreamCall = upstream.send(
    { url, ...REQUEST },
    {
      onHead: () => undefined,
      onData: (bytes) => (seen.bytes += bytes.length),
      onEnd: () => (seen.ends += 1),
      onError: () => (seen.errors += 1),
    },
  );
  return Object.assign(seen, { call });
}

async function still(figure: () => number): Promise<void> {
  let last = -1;
  let same = 0;
  await until('nothing moves any more', async () => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    same = figure() === last ? same + 1 : 0;
    last = figure();
    return same >= 5;
  });
}
