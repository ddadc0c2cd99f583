import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { CountingClock, until } from '../fakes/clock.ts';
import { CUSTOMER, NANO, onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { answer, cutAfter, eventsOf, json, silence, stallAfter, type Answer } from '../fakes/model-replies.ts';
import type { Script } from '../fakes/model-server.ts';
import { completionOf, errorOf, streamOf, StreamReader } from '../fakes/reply.ts';

/** `Idempotency-Key` on POST /v1/chat/completions. */

const REPLAYED = 'x-underbid-idempotent-replay';
const KEY = '3f0c1e0a-7d0b-4a8e-9a51-1f6a6a0d9b11';
const OWN = ['content-type', 'x-underbid-cost-usd', 'x-underbid-cold-start-ms', 'x-underbid-provider'];

const ANSWERS: readonly (readonly [string, Answer, Record<string, unknown>])[] = [
  ['a short one', {}, { max_tokens: 5 }],
  ['of odd letters', { pieces: ['é', '\n\n', '日本語', '"\\\u2028😀'], prompt: 13, cached: 7 }, { max_tokens: 5 }],
  ['of two choices', {}, { n: 2, max_tokens: 5 }],
  ['put together from a stream', { pieces: Array.from({ length: 90 }, (_, at) => `w${at} `) }, {}],
  [
    'of a tool call',
    { deltas: [{ tool_calls: [{ index: 0, id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }] }] },
    {},
  ],
];
for (const [what, reply, fields] of ANSWERS) {
  onBothDoors(
    `a finished answer is replayed byte for byte, and nothing is asked or charged: ${what}`,
    async (t, door) => {
      const { once, server, ledger } = await setup(t, { door });
      server.usually(answer(reply));
      const first = await once(fields);
      const text = await first.text();
      assert.equal(first.headers.get(REPLAYED), null);
      const asked = server.requests.length;
      const [settled] = ledger.settlements;
      assert.equal((JSON.parse(text) as { usage: { cost: number } }).usage.cost, Number(settled?.charged) / 1e9);
      for (let count = 0; count < 3; count += 1) {
        const again = await once(fields);
        assert.equal(await again.text(), text);
        assert.deepEqual([again.status, again.headers.get(REPLAYED)], [200, 'true']);
        for (const name of OWN) assert.equal(again.headers.get(name), first.headers.get(name), name);
        assert.notEqual(again.headers.get('x-request-id'), first.headers.get('x-request-id'));
        assert.ok(again.headers.get('x-ratelimit-remaining-requests'));
      }
      assert.deepEqual([server.requests.length, ledger.settlements.length], [asked, 1]);
      assert.equal((await ledger.ask({ op: 'balance', customer: CUSTOMER }))?.used, settled?.charged);
    },
  );
}

onBothDoors('an answer that the money cut short is replayed with what it cost', async (t, door) => {
  const { once, server, ledger } = await setup(t, { door, creditUsd: '0.0005' });
  server.play(answer({ pieces: Array.from({ length: 500 }, (_, at) => `w${at} `), prompt: 20 }));
  const text = await (await once({})).text();
  const { choices, usage } = JSON.parse(text) as { choices: { finish_reason: string }[]; usage: { cost: number } };
  assert.equal(choices[0]?.finish_reason, 'length');
  assert.equal(usage.cost, Number(ledger.settlements[0]?.charged) / 1e9);
  const again = await once({});
  assert.equal(await again.text(), text, 'though there is no credit left for it');
  assert.equal(again.headers.get(REPLAYED), 'true');
});

onBothDoors('another body under the same key is refused, in flight and afterwards', async (t, door) => {
  const { once, server, ledger } = await setup(t, { door });
  const { script, go } = held();
  server.play(script);
  const first = once({ max_tokens: 5 });
  await server.request(0);
  const other = { max_tokens: 6 };
  assert.equal((await refusal(await once(other), 422)).code, 'idempotency_mismatch');
  go();
  await completionOf(await first);
  const { code, metadata } = await refusal(await once(other), 422);
  assert.deepEqual([code, metadata], ['idempotency_mismatch', undefined]);
  assert.deepEqual([server.requests.length, ledger.settlements.length], [1, 1]);
});

onBothDoors('a repeat while the first is running is refused with its generation id', async (t, door) => {
  const { once, server } = await setup(t, { door });
  const { script, go } = held();
  server.play(script);
  const first = once({ max_tokens: 5 });
  await server.request(0);
  const response = await once({ max_tokens: 5 });
  assert.equal(response.headers.get('retry-after'), '1');
  const { code, metadata } = await refusal(response, 409);
  assert.equal(code, 'idempotency_in_flight');
  go();
  assert.equal(metadata?.['generation_id'], (await completionOf(await first)).id);
  assert.equal(server.requests.length, 1);
});

onBothDoors(
  'of a thousand at once with one key one is sent, and all that come after it get its answer',
  async (t, door) => {
    const limits = { requestsMax: 2000, keyConcurrency: 2000 };
    const { once, server, ledger } = await setup(t, { door, limits });
    const { script, go } = held();
    server.play(script);
    const waiting = new Set<Promise<Response>>();
    const all = Array.from({ length: 1000 }, () => {
      const reply: Promise<Response> = once({ max_tokens: 5 }).finally(() => waiting.delete(reply));
      waiting.add(reply);
      return reply;
    });
    await until('all but one are answered', () => waiting.size === 1, 60_000);
    go();
    const replies = await Promise.all(all);
    const counts = new Map<number, number>();
    for (const { status } of replies) counts.set(status, (counts.get(status) ?? 0) + 1);
    assert.deepEqual(Object.fromEntries(counts), { 200: 1, 409: 999 });
    const text = await replies.find(({ status }) => status === 200)?.text();
    const repeats = await Promise.all(Array.from({ length: 200 }, () => once({ max_tokens: 5 })));
    for (const repeat of repeats) assert.equal(await repeat.text(), text);
    for (const reply of replies) if (!reply.bodyUsed) await reply.text();
    assert.deepEqual([server.requests.length, ledger.settlements.length], [1, 1]);
    const balance = await ledger.ask({ op: 'balance', customer: CUSTOMER });
    assert.deepEqual([balance?.used, balance?.held], [ledger.settlements[0]?.charged, 0n]);
  },
);

onBothDoors('a finished stream is not replayed: its repeat is told its generation id', async (t, door) => {
  const { once, server, ledger, get } = await setup(t, { door });
  const { chunks } = await streamOf(await once({ stream: true }));
  const { code, metadata } = await refusal(await once({ stream: true }), 409);
  assert.deepEqual([code, metadata], ['idempotency_completed', { generation_id: chunks[0]?.id }]);
  const shown = await get(`/v1/generation?id=${String(metadata?.['generation_id'])}`);
  const { data } = (await shown.json()) as { data: { total_cost: number } };
  assert.equal(data.total_cost, Number(ledger.settlements[0]?.charged) / 1e9);
  assert.equal(server.requests.length, 1);
});

onBothDoors('a stream that its client left is charged once: a repeat is refused', async (t, door) => {
  const { once, server, ledger } = await setup(t, { door });
  server.play(stallAfter(eventsOf().slice(0, 3)));
  const reader = new StreamReader(await once({ stream: true }));
  await reader.until(' wor');
  await reader.leave();
  await until('it is settled', () => ledger.settlements.length > 0);
  assert.equal(ledger.settlements[0]?.charged, 12n * NANO.input + 2n * NANO.output);
  const { code, metadata } = await refusal(await once({ stream: true }), 409);
  assert.deepEqual([code, metadata?.['generation_id']], ['idempotency_completed', ledger.settlements[0]?.request]);
  assert.equal(ledger.settlements.length, 1);
});

onBothDoors('a stream that broke after its first token is charged once: a repeat is refused', async (t, door) => {
  const { once, server, ledger } = await setup(t, { door });
  server.play(cutAfter(eventsOf().slice(0, 3)));
  assert.equal((await streamOf(await once({ stream: true }))).error?.code, 'upstream_error');
  assert.equal((await refusal(await once({ stream: true }), 409)).code, 'idempotency_completed');
  assert.deepEqual([server.requests.length, ledger.settlements.length], [1, 1]);
});

onBothDoors('a client that leaves before anything was made may ask again', async (t, door) => {
  const { once, server, ledger } = await setup(t, { door });
  server.play(silence);
  const leave = new AbortController();
  const gone = once({ max_tokens: 5 }, { signal: leave.signal }).catch(() => null);
  await server.request(0);
  leave.abort();
  await until('it is settled', () => ledger.settlements.length > 0);
  await gone;
  const response = await once({ max_tokens: 5 });
  assert.equal(response.headers.get(REPLAYED), null);
  await completionOf(response);
  assert.deepEqual(
    ledger.settlements.map(({ charged }) => charged > 0n),
    [false, true],
  );
});

onBothDoors('what failed without a charge frees its key', async (t, door) => {
  const { once, server, router, ledger, get } = await setup(t, { door, creditUsd: '0.05' });
  const failing = async (fields: Record<string, unknown>, status: number, init: RequestInit = {}): Promise<void> => {
    await errorOf(await once(fields, init), status);
  };
  server.play(json(500, { error: 'out of order' }));
  await failing({ max_tokens: 5 }, 502);
  await failing({ max_tokens: 5, temperature: 9 }, 400);
  await failing({ max_tokens: 5, model: 'unknown' }, 404);
  await failing({ max_tokens: 4000, n: 8 }, 402);
  const target = server.url;
  router.remove('replica-0');
  await failing({ max_tokens: 5 }, 503, { headers: { 'x-underbid-max-wait': '0' } });
  const place = { market: 'owned', provider: 'p', leaseId: 'l', apiKey: null, engine: 'llama.cpp' as const, slots: 4 };
  router.add({ id: 'replica-1', url: target, ...place }, 1500);
  const response = await once({ max_tokens: 5 });
  assert.equal(response.headers.get(REPLAYED), null);
  const { id } = await completionOf(response);
  assert.equal((await get(`/v1/generation?id=${id}`)).status, 200);
  assert.equal(ledger.settlements.filter(({ charged }) => charged > 0n).length, 1);
});

onBothDoors('a request over its rate limit leaves its key free', async (t, door) => {
  const { once, addKey } = await setup(t, { door });
  const { key } = await addKey({ tpm: 100 });
  const headers = { authorization: `Bearer ${key}` };
  await (await once({ max_tokens: 5 }, { headers: { ...headers, 'idempotency-key': 'another' } })).text();
  await errorOf(await once({ max_tokens: 5 }, { headers }), 429);
  const response = await once({ max_tokens: 5 });
  assert.equal(response.headers.get(REPLAYED), null);
  await completionOf(response);
});

onBothDoors('a key counts for its account, whichever API key is used, and for no other', async (t, door) => {
  const { once, addKey, server, ledger } = await setup(t, { door });
  const text = await (await once({ max_tokens: 5 })).text();
  const { key } = await addKey({});
  const same = await once({ max_tokens: 5 }, { headers: { authorization: `Bearer ${key}` } });
  assert.equal(await same.text(), text);
  const { key: theirs } = await addKey({}, 'acct-2');
  const grant = { id: 'g', customer: 'acct-2', kind: 'paid' as const, amount: 1_000_000_000n, expiresMs: null };
  await ledger.ask({ op: 'grant', ...grant, actor: 'test', reason: 'x', atMs: 0 });
  const other = await once({ max_tokens: 5 }, { headers: { authorization: `Bearer ${theirs}` } });
  assert.equal(other.headers.get(REPLAYED), null);
  assert.notEqual((await completionOf(other)).id, (JSON.parse(text) as { id: string }).id);
  assert.equal(server.requests.length, 2);
});

onBothDoors('an answer too large to keep is delivered, and its repeat refused', async (t, door) => {
  const { once, server } = await setup(t, { door, limits: { replayBytes: 2000 } });
  server.usually(answer({ pieces: ['x'.repeat(3000)] }));
  const { id } = await completionOf(await once({ max_tokens: 1000 }));
  const { code, metadata } = await refusal(await once({ max_tokens: 1000 }), 409);
  assert.deepEqual([code, metadata?.['generation_id']], ['idempotency_completed', id]);
  assert.equal(server.requests.length, 1);
});

onBothDoors('a key is used for 24 hours and then free', async (t, door) => {
  const clock = new ShiftedClock();
  const { once, server } = await setup(t, { door, clock });
  const { id } = await completionOf(await once({ max_tokens: 5 }));
  clock.shiftMs = 24 * 60 * 60 * 1000 - 60_000;
  assert.equal((await completionOf(await once({ max_tokens: 5 }))).id, id);
  clock.shiftMs += 120_000;
  const { id: fresh } = await completionOf(await once({ max_tokens: 6 }));
  assert.notEqual(fresh, id);
  assert.equal(server.requests.length, 2);
});

onBothDoors('a key is 1 to 255 visible characters', async (t, door) => {
  const { once, server } = await setup(t, { door });
  for (const bad of ['', 'a b', 'x'.repeat(256), 'é', 'a\tb']) {
    const { code, param } = await errorOf(await once({ max_tokens: 5 }, { headers: { 'idempotency-key': bad } }), 400);
    assert.deepEqual([code, param], ['invalid_request', 'Idempotency-Key'], JSON.stringify(bad));
  }
  assert.equal(server.requests.length, 0);
  const longest = { headers: { 'idempotency-key': '~!'.padEnd(255, 'x') } };
  const { id } = await completionOf(await once({ max_tokens: 5 }, longest));
  assert.equal((await completionOf(await once({ max_tokens: 5 }, longest))).id, id);
});

test('a replay counts as a request, but its tokens are counted once', async (t) => {
  const { once, addKey } = await setup(t, {});
  // A bucket that fills by less than a token while this test runs.
  const { key } = await addKey({ tpm: 1000, rpm: 100 });
  const headers = { authorization: `Bearer ${key}` };
  const left = async (): Promise<number[]> => {
    const response = await once({ max_tokens: 5 }, { headers });
    await completionOf(response);
    const after = await once({ max_tokens: 6 }, { headers });
    await after.text();
    return ['requests', 'tokens'].map((what) => Number(after.headers.get(`x-ratelimit-remaining-${what}`)));
  };
  const [requests = 0, tokens = 0] = await left();
  const [requestsLater = 0, tokensLater = 0] = await left();
  assert.ok(requestsLater < requests);
  assert.ok(tokensLater >= tokens, `${tokensLater} of ${tokens} tokens are left`);
});

test('without the header every request is its own', async (t) => {
  const { chat, server } = await setup(t, {});
  for (let count = 0; count < 2; count += 1) await completionOf(await chat({ max_tokens: 5 }));
  assert.equal(server.requests.length, 2);
});

test('a ledger that charged another cost than the kept reply names has it dropped, and the client told the truth', async (t) => {
  const { once, ledger } = await setup(t, {});
  ledger.change = (operation) =>
    operation.op === 'settle' ? { ...operation, tokens: { ...operation.tokens, outputTokens: 1 } } : operation;
  const { usage } = await completionOf(await once({ max_tokens: 5 }));
  assert.equal(usage?.cost, Number(ledger.settlements[0]?.charged) / 1e9);
  assert.equal((await refusal(await once({ max_tokens: 5 }), 409)).code, 'idempotency_completed');
});

class ShiftedClock extends CountingClock {
  shiftMs = 0;

  override now(): number {
    return super.now() + this.shiftMs;
  }
}

/** A whole answer when the test says so. */
function held(): { readonly script: Script; go(): void } {
  let go = (): void => undefined;
  const gate = new Promise<void>((resolve) => (go = resolve));
  const script: Script = async (turn) => {
    await gate;
    await answer()(turn);
  };
  return { script, go: () => go() };
}

async function refusal(response: Response, status: number): ReturnType<typeof errorOf> {
  assert.equal(response.headers.get('x-should-retry'), 'false');
  return errorOf(response, status);
}

interface Keyed extends Gateway {
  /** A chat under the key of this test. */
  once(fields: Record<string, unknown>, init?: RequestInit): Promise<Response>;
}

async function setup(t: TestContext, settings: GatewaySettings): Promise<Keyed> {
  const gateway = await startGateway(t, settings);
  return {
    ...gateway,
    once: (fields, init = {}) => {
      const headers = { 'idempotency-key': KEY, ...(init.headers as object) };
      return gateway.chat(fields, { ...init, headers });
    },
  };
}
