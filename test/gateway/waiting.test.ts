import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { FakeClock, until } from '../fakes/clock.ts';
import { onBothDoors, startGateway, type Door, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { eventsOf, silence, steered } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf, StreamReader } from '../fakes/reply.ts';

/** Cold pools and full ones, under a clock that the test moves. */

const STREAM = { stream: true };

onBothDoors('nothing is sent before a bid is won; then comments until the answer comes', async (t, door) => {
  const { chat, clock, router, wake, waits } = await setup(t, { door });
  const pending = watched(chat(STREAM));
  await waits(1);
  for (const phase of ['order placed', 'no machine: too dear', 'order placed']) {
    router.setPhase(phase);
    await clock.advance(2500);
  }
  assert.equal(pending.over, false);
  router.setPhase('bid won');
  const reader = new StreamReader(await pending.promise);
  assert.equal(await reader.next(), ': waiting: bid won');
  router.setPhase('loading model');
  assert.equal(await reader.next(), ': waiting: loading model');
  for (let count = 0; count < 3; count += 1) {
    await clock.advance(5000);
    assert.equal(await reader.next(), ': waiting: loading model');
  }
  wake();
  const first = await reader.until('data: ');
  assert.match(first, /"delta":\{"role":"assistant"/);
  await reader.until('data: [DONE]');
});

onBothDoors('once a machine is had, nothing is said of waiting any more', async (t, door) => {
  const { chat, clock, router, wake, waits, server } = await setup(t, { door });
  const { script, say, end } = steered();
  server.play(script);
  const pending = chat(STREAM);
  await waits(1);
  router.setPhase('bid won');
  const reader = new StreamReader(await pending);
  wake();
  const list = eventsOf({ pieces: ['a', 'b'] });
  say(list[1] ?? '');
  await reader.until('"content":"a"');
  router.setPhase('ready');
  await clock.advance(9000);
  for (const event of list.slice(2)) say(event);
  end();
  assert.match((await reader.next()) ?? '', /"content":"b"/);
  await reader.until('data: [DONE]');
});

onBothDoors(
  'after ten seconds without a bid the headers go out, with a comment at least every five',
  async (t, door) => {
    const { chat, clock, router, wake, waits } = await setup(t, { door });
    const pending = watched(chat(STREAM));
    await waits(1);
    router.setPhase('order placed');
    await clock.advance(9900);
    assert.equal(pending.over, false);
    await clock.advance(100);
    const response = await pending.promise;
    assert.match(response.headers.get('x-request-id') ?? '', /^req-/);
    assert.equal(response.headers.get('x-ratelimit-limit-requests'), '100000');
    const reader = new StreamReader(response);
    for (let count = 0; count < 3; count += 1) {
      assert.equal(await reader.next(), ': waiting: order placed');
      await clock.advance(5000);
    }
    wake();
    await reader.until('data: [DONE]');
  },
);

onBothDoors('an early refusal is a true 503 with what start-ups took', async (t, door) => {
  const { chat, clock, router, wake, waits, ledger } = await setup(t, { door });
  wake();
  router.remove('replica-new');
  router.setPhase('order placed');
  const pending = chat(STREAM, { headers: { 'x-underbid-max-wait': '8.5' } });
  await waits(1);
  await clock.advance(8500);
  const response = await pending;
  assert.equal(response.headers.get('retry-after'), '2');
  assert.equal(response.headers.get('x-should-retry'), null);
  const { code, type, message } = await errorOf(response, 503);
  assert.deepEqual([code, type], ['no_capacity', 'api_error']);
  assert.equal(message, 'no machine could be had in time (order placed)');
  assert.deepEqual(
    ledger.settlements.map(({ charged, status }) => [charged, status]),
    [[0n, 'failed']],
  );
});

onBothDoors('once headers are out, the refusal is an error event without [DONE]', async (t, door) => {
  const { chat, clock, waits, ledger } = await setup(t, { door });
  const pending = chat(STREAM);
  await waits(1);
  for (let passed = 0; passed < 30_000; passed += 5000) await clock.advance(5000);
  const { error, comments, chunks, done } = await streamOf(await pending);
  assert.deepEqual([error?.code, chunks, done], ['no_capacity', [], false]);
  assert.ok(comments.length >= 4);
  assert.equal(ledger.settlements[0]?.charged, 0n);
});

onBothDoors('a request for one piece waits in silence and is told how long', async (t, door) => {
  const { chat, clock, wake, waits, ledger } = await setup(t, { door });
  const pending = watched(chat({ max_tokens: 5 }));
  await waits(1);
  await clock.advance(20_000);
  assert.equal(pending.over, false);
  wake();
  const response = await pending.promise;
  assert.equal(response.headers.get('x-underbid-cold-start-ms'), '20000');
  const { choices } = await completionOf(response);
  assert.equal(choices[0]?.message.content, 'Hello world!');
  const { detail } = ledger.settlements[0] ?? assert.fail('not settled');
  assert.deepEqual([detail.coldStartMs, detail.waitedMs], [20_000, 20_000]);
});

onBothDoors('x-underbid-max-wait: 0 takes only a machine that is free now', async (t, door) => {
  const { chat, wake, router, server } = await setup(t, { door });
  const now = { headers: { 'x-underbid-max-wait': '0' } };
  assert.equal((await errorOf(await chat(STREAM, now), 503)).code, 'no_capacity');
  wake();
  server.play(silence);
  const leave = new AbortController();
  const busy = chat(STREAM, { ...now, signal: leave.signal }).catch(() => null);
  await server.request(0);
  assert.equal((await errorOf(await chat({ max_tokens: 5 }, now), 503)).code, 'no_capacity');
  leave.abort();
  await busy;
  await until('the slot is free', () => router.stats.inFlight === 0);
  await completionOf(await chat({ max_tokens: 5 }, now));
});

for (const header of ['', ' ', 'soon', '-1', 'NaN', 'Infinity', '1e999']) {
  test(`x-underbid-max-wait: ${JSON.stringify(header)} is no number of seconds`, async (t) => {
    const { chat } = await setup(t, {});
    const { param } = await errorOf(await chat({}, { headers: { 'x-underbid-max-wait': header } }), 400);
    assert.equal(param, 'x-underbid-max-wait');
  });
}

test("the pool's wait is the longest there is", async (t) => {
  const { chat, clock, waits } = await setup(t, {});
  const pending = chat({ max_tokens: 5 }, { headers: { 'x-underbid-max-wait': '86400' } });
  await waits(1);
  await clock.advance(30_000);
  assert.equal((await errorOf(await pending, 503)).code, 'no_capacity');
});

onBothDoors('a full line refuses at once, with Retry-After', async (t, door) => {
  const { chat, wake, waits } = await setup(t, { door });
  const waiting = [chat(STREAM), chat(STREAM)];
  await waits(2);
  const response = await chat(STREAM);
  assert.equal(response.headers.get('retry-after'), '10');
  assert.equal((await errorOf(response, 503)).code, 'queue_full');
  wake();
  for (const reply of waiting) assert.equal((await streamOf(await reply)).done, true);
});

test('above a minute Retry-After comes with x-should-retry: false, or clients would come back at once', async (t) => {
  const { chat, router, server, waits, wake } = await setup(t, {});
  for (const id of ['slow', 'slower']) {
    router.add({ ...TARGET, id, url: server.url }, 180_000);
    router.remove(id);
  }
  const now = await chat({}, { headers: { 'x-underbid-max-wait': '0' } });
  const waiting = [chat(STREAM), chat(STREAM)];
  await waits(2);
  const full = await chat(STREAM);
  for (const [response, code] of [
    [now, 'no_capacity'],
    [full, 'queue_full'],
  ] as const) {
    assert.equal(response.headers.get('retry-after'), '180');
    assert.equal(response.headers.get('x-should-retry'), 'false');
    assert.equal((await errorOf(response, 503)).code, code);
  }
  wake();
  for (const reply of waiting) await streamOf(await reply);
});

onBothDoors('a pool that is removed turns those who wait away', async (t, door) => {
  const { chat, pools, waits } = await setup(t, { door });
  const pending = chat(STREAM);
  await waits(1);
  pools.remove('org/tiny');
  assert.equal((await errorOf(await pending, 404)).code, 'model_not_found');
  assert.equal((await errorOf(await chat(STREAM), 404)).code, 'model_not_found');
});

test('three choices of a cold pool wait as one and are told once', async (t) => {
  const { chat, clock, router, wake, waits } = await setup(t, { pool: { limits: { max_wait_s: 30, waiting_max: 5 } } });
  const pending = chat({ stream: true, n: 3, max_tokens: 9 });
  await waits(3);
  router.setPhase('bid won');
  const reader = new StreamReader(await pending);
  assert.equal(await reader.next(), ': waiting: bid won');
  await clock.advance(4000);
  assert.equal(await reader.next(), ': waiting: bid won');
  wake();
  assert.match((await reader.next()) ?? '', /^data: /);
  await reader.until('data: [DONE]');
});

const PLACE = { market: 'owned', provider: 'p', leaseId: 'l', apiKey: null };
const TARGET = { engine: 'llama.cpp' as const, slots: 1, ...PLACE };

interface Cold extends Gateway {
  readonly clock: FakeClock;
  /** A replica with one slot becomes ready. */
  wake(): void;
  waits(count: number): Promise<void>;
}

function watched<T>(promise: Promise<T>): { readonly promise: Promise<T>; readonly over: boolean } {
  let over = false;
  void promise.finally(() => {
    over = true;
  });
  return {
    promise,
    get over() {
      return over;
    },
  };
}

async function setup(t: TestContext, settings: GatewaySettings & { door?: Door }): Promise<Cold> {
  const clock = new FakeClock();
  const limits = { max_wait_s: 30, waiting_max: 2 };
  const gateway = await startGateway(t, { servers: 0, clock, ...settings, pool: { limits, ...settings.pool } });
  const { router, server } = gateway;
  // The watch's timer may be one.
  t.after(() => assert.ok(clock.pending <= 1, `${clock.pending} timers were left`));
  return {
    ...gateway,
    clock,
    wake: () => gateway.addReplica(server, { id: 'replica-new', slots: 1 }),
    waits: (count) => until(`${count} in line`, () => router.stats.waiting === count),
  };
}
