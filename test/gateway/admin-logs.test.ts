import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import type { LeaseLogs, LogLine } from '../../src/gateway/deps.ts';
import { adminKey, adminOf, emptyFleet, type AdminCaller } from '../fakes/admin.ts';
import { until } from '../fakes/clock.ts';
import { startGateway } from '../fakes/gateway.ts';
import { errorOf } from '../fakes/reply.ts';

/** A lease's log over the admin API: line by line, to operators alone, never more than they can read. */

const PATH = '/admin/leases/l1/logs';

test('lines come as lines of JSON, with what was asked for handed on', async (t) => {
  const asked: LeaseLogs[] = [];
  const admin = await open(t, async function* (request) {
    asked.push(request);
    yield { source: 'server-0', text: 'loading\nmodel' };
    yield { source: 'server-0', text: 'ready' };
  });
  const response = await admin.send('GET', `${PATH}?follow&tail=7&service=server`);
  assert.match(response.headers.get('content-type') ?? '', /x-ndjson/);
  assert.ok(response.headers.has('x-request-id'));
  assert.equal(
    await response.text(),
    '{"source":"server-0","text":"loading\\nmodel"}\n{"source":"server-0","text":"ready"}\n',
  );
  await (await admin.send('GET', `${PATH}?events=true`)).text();
  assert.deepEqual(asked, [
    { what: 'logs', follow: true, tail: 7, service: 'server' },
    { what: 'events', follow: false, tail: 200, service: null },
  ]);
});

test('an error of the provider is the last line; what is wrong with the request is its answer', async (t) => {
  const admin = await open(t, async function* () {
    yield { source: 's', text: 'one' };
    throw new Error('the provider closed the stream (4000): no running pods');
  });
  const lines = (await (await admin.send('GET', PATH)).text()).trim().split('\n');
  assert.deepEqual(JSON.parse(lines[1] ?? ''), { error: 'the provider closed the stream (4000): no running pods' });
  await errorOf(await admin.send('GET', `${PATH}?tail=100000`), 400);
  const reader = adminOf(admin.gateway, (await adminKey(admin, 'read-only')).key);
  assert.equal((await errorOf(await reader.send('GET', PATH), 403)).code, 'permission_denied');
});

test('a log that never ends is cut at its limit, and says so', async (t) => {
  let made = 0;
  const admin = await open(t, async function* () {
    for (;;) {
      made += 1;
      yield { source: 's', text: 'x'.repeat(1_000_000) };
    }
  });
  const text = await (await admin.send('GET', PATH)).text();
  assert.ok(text.length < 17_000_000, `${text.length}`);
  assert.match(text.slice(-200), /"error":"more than 16000000 bytes/);
  assert.ok(made < 20);
});

test('of many readers at once no more pass than may read', async (t) => {
  const admin = await open(t, async function* (_request, signal) {
    yield { source: 's', text: 'one' };
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  });
  const all = await Promise.all(Array.from({ length: 20 }, () => admin.send('GET', `${PATH}?follow=1`)));
  assert.equal(all.filter(({ status }) => status === 200).length, 8);
  for (const response of all) await response.body?.cancel();
});

test('eight may read at a time; one who goes makes room, and its log ends', async (t) => {
  const ended: string[] = [];
  const admin = await open(t, async function* (_request, signal) {
    try {
      yield { source: 's', text: 'one' };
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    } finally {
      ended.push('one');
    }
  });
  const readers = await Promise.all(Array.from({ length: 8 }, () => admin.send('GET', `${PATH}?follow=1`)));
  const refused = await admin.send('GET', PATH);
  assert.equal((await errorOf(refused, 503)).code, 'queue_full');
  await readers[0]?.body?.cancel();
  await until('its log ended', () => ended.length === 1, 60_000);
  const next = await admin.send('GET', `${PATH}?follow=1`);
  assert.equal(next.status, 200);
  for (const response of [...readers.slice(1), next]) await response.body?.cancel();
  await until('all ended', () => ended.length === 9, 60_000);
});

async function open(
  t: TestContext,
  logs: (request: LeaseLogs, signal: AbortSignal) => AsyncIterable<LogLine>,
): Promise<AdminCaller & { readonly gateway: Awaited<ReturnType<typeof startGateway>> }> {
  const fleet = {
    ...emptyFleet,
    leaseLogs: (_id: string, request: LeaseLogs, signal: AbortSignal) => Promise.resolve(logs(request, signal)),
  };
  const gateway = await startGateway(t, { door: 'web', fleet });
  return { ...adminOf(gateway), gateway };
}
