import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startChild } from '../../bench/child.ts';
import { chatBody, chatRequest, checkChat } from '../../bench/overhead/chat.ts';
import { Histogram } from '../../bench/overhead/histogram.ts';
import { runLoad, type LoadResult } from '../../bench/overhead/load.ts';
import { ANSWER, ANSWER_BYTES, STREAM_EVENTS, STREAM_WRITES } from '../../bench/overhead/mock-replies.ts';
import { ResponseReader } from '../../bench/overhead/response-reader.ts';
import { summarise, type Measure } from '../../bench/overhead/summary.ts';

void test('answers and streams pass the dispatch proxy without a failure', async (t) => {
  const { port } = await startPair(t);
  for (const stream of [false, true]) {
    assert.equal(await checkChat({ port, key: 'sk-ub-0', stream, signal: t.signal }), undefined);
    const result = await load(t, { port, stream, measureMs: 600 });
    assert.equal(result.failures, 0, result.firstFailure);
    assert.ok(result.requests > 5, `only ${result.requests} requests`);
    assert.ok(result.answered >= result.requests);
    assert.ok(result.p50Us > 0 && result.p50Us <= result.p99Us);
  }
});

void test('the request and the answer have the sizes that the figures are quoted for', () => {
  for (const stream of [false, true]) assert.ok(Math.abs(Buffer.byteLength(chatBody(stream)) - 740) < 40);
  assert.equal(ANSWER.subarray(ANSWER.indexOf('\r\n\r\n') + 4).length, ANSWER_BYTES);
  assert.equal(STREAM_WRITES.length, 23);
  assert.equal(STREAM_EVENTS, 23);
});

void test('a stream without [DONE] is a failure', async (t) => {
  const withoutDone = [...STREAM_WRITES.slice(0, -1), Buffer.from('0\r\n\r\n')];
  await assertOnlyFailures(t, { reply: Buffer.concat(withoutDone), stream: true, why: 'a stream without [DONE]' });
});

void test('a stream that lost an event is a failure', async (t) => {
  const reply = Buffer.concat(STREAM_WRITES.toSpliced(3, 1));
  await assertOnlyFailures(t, { reply, stream: true, why: `only ${STREAM_EVENTS - 1} events` });
});

void test('a status that is not 200 is a failure', async (t) => {
  const reply = Buffer.from('HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}');
  await assertOnlyFailures(t, { reply, stream: false, why: 'status 429' });
});

void test('a connection that closes before the end of the answer is a failure', async (t) => {
  const reply = ANSWER.subarray(0, -1);
  await assertOnlyFailures(t, { reply, stream: false, close: true, why: 'the connection was closed' });
});

void test('an answer cut into single bytes is read as if it came at once', () => {
  const stream = new ResponseReader({ stream: true, eventsMin: STREAM_EVENTS });
  const answer = new ResponseReader({ stream: false, eventsMin: 0 });
  for (let repeat = 0; repeat < 2; repeat++) {
    assert.deepEqual(feedBytes(stream, Buffer.concat(STREAM_WRITES)), ['ok']);
    assert.deepEqual(feedBytes(answer, ANSWER), ['ok']);
  }
});

void test('latencies come back to a thousandth of their value', () => {
  const histogram = new Histogram();
  for (let us = 1; us <= 100_000; us++) histogram.record(us);
  for (const share of [0.001, 0.5, 0.99]) {
    const expected = 100_000 * share;
    assert.ok(Math.abs(histogram.quantile(share) - expected) <= expected / 1000, String(share));
  }
});

void test('added latency is taken against direct of the same round, and failures are summed', () => {
  const measure = (system: string, round: number, p50Us: number): Measure => ({
    system,
    scenario: 'json-c1',
    round,
    p50Us,
    p99Us: 2 * p50Us,
    requests: 100,
    requestsPerS: 50,
    seconds: 2,
    answered: 100,
    failures: 1,
    firstFailure: undefined,
    cpuUs: 5000,
    mainThreadCpuUs: 4000,
    clientCpuUs: 1_000_000,
    rssMib: 80,
  });
  const rows = summarise([
    measure('direct', 0, 20),
    measure('underbid', 0, 120),
    measure('direct', 1, 200),
    measure('underbid', 1, 310),
    measure('direct', 2, 30),
    measure('underbid', 2, 120),
  ]);
  const underbid = rows.find((row) => row.system === 'underbid');
  assert.equal(underbid?.added_p50_us, 100);
  assert.equal(underbid?.added_p99_us, 200);
  assert.equal(underbid?.cpu_us_per_request, 50);
  assert.equal(underbid?.main_thread_cpu_us_per_request, 40);
  assert.equal(underbid?.failures, 3);
});

function feedBytes(reader: ResponseReader, bytes: Buffer): string[] {
  return [...bytes].flatMap((byte) => reader.feed(Buffer.of(byte)) ?? []);
}

async function assertOnlyFailures(
  t: TestContext,
  bad: { reply: Buffer; stream: boolean; why: string; close?: boolean },
): Promise<void> {
  const { port, stop } = await serveAlways(bad.reply, bad.close === true);
  try {
    const result = await load(t, { port, stream: bad.stream, measureMs: 60 });
    assert.equal(result.requests, 0);
    assert.equal(result.answered, 0);
    assert.ok(result.failures > 0);
    assert.equal(result.firstFailure, bad.why);
  } finally {
    stop();
  }
}

function load(t: TestContext, job: { port: number; stream: boolean; measureMs: number }): Promise<LoadResult> {
  const request = chatRequest({ ...job, key: 'sk-ub-0' });
  return runLoad({ ...job, request, connections: 8, eventsMin: STREAM_EVENTS, warmUpMs: 50, signal: t.signal });
}

/** A server that answers whatever comes with the same bytes. */
async function serveAlways(reply: Buffer, close: boolean): Promise<{ port: number; stop: () => void }> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('data', () => (close ? socket.end(reply) : socket.write(reply)));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const stop = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { port: address.port, stop };
}

/** The mock and the proxy before it, each a process as in the benchmark; ended after the test. */
async function startPair(t: TestContext): Promise<{ port: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-bench-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const start = async (name: string, args: readonly string[]): Promise<string> => {
    const file = fileURLToPath(new URL(`../../bench/overhead/${name}.ts`, import.meta.url));
    const child = await startChild({ file, args, folder, ready: /ready on http:/, signal: t.signal });
    t.after(() => child.stop());
    return /http:\S+/.exec(child.line)?.[0] ?? '';
  };
  const proxy = await start('dispatch-proxy', [await start('mock-server', [])]);
  return { port: Number(new URL(proxy).port) };
}
