import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { AppError } from '../../src/errors.ts';
import { formatReset, Limiter, type Admission } from '../../src/gateway/limits.ts';
import { until } from '../fakes/clock.ts';
import { onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { silence } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

const LIMITS = { requestsPerMinute: 60, tokensPerMinute: 6000, concurrency: 3 };
const NAMES = ['limit', 'remaining', 'reset'].flatMap((what) => [
  `x-ratelimit-${what}-requests`,
  `x-ratelimit-${what}-tokens`,
]);

test('requests are counted and come back evenly over a minute', () => {
  const limiter = new Limiter();
  for (let count = 0; count < 60; count += 1) limiter.admit('k', LIMITS, 1, 0).end(1);
  assert.equal(refusal(() => limiter.admit('k', LIMITS, 1, 0)).retryAfterS, 1);
  refusal(() => limiter.admit('k', LIMITS, 1, 999));
  limiter.admit('k', LIMITS, 1, 1000);
  refusal(() => limiter.admit('k', LIMITS, 1, 1000));
});

test('tokens are reserved by the bound and corrected at the end', () => {
  const limiter = new Limiter();
  const first = limiter.admit('k', LIMITS, 4000, 0);
  assert.equal(first.headers['x-ratelimit-remaining-tokens'], '2000');
  const { retryAfterS } = refusal(() => limiter.admit('k', LIMITS, 4000, 0));
  assert.equal(retryAfterS, 20);
  first.end(100);
  first.end(0);
  assert.equal(limiter.look('k', LIMITS, 0)['x-ratelimit-remaining-tokens'], '5900');
});

test('a request larger than the whole limit passes when the bucket is full', () => {
  const limiter = new Limiter();
  limiter.admit('k', LIMITS, 1_000_000, 0).end(9000);
  // What it used above the limit is worked off first.
  assert.equal(refusal(() => limiter.admit('k', LIMITS, 1, 0)).retryAfterS, 31);
});

test('so many at a time, and no more', () => {
  const limiter = new Limiter();
  const held = [1, 2, 3].map(() => limiter.admit('k', LIMITS, 1, 0));
  refusal(() => limiter.admit('k', LIMITS, 1, 0));
  limiter.admit('another', LIMITS, 1, 0);
  held[0]?.end(1);
  limiter.admit('k', LIMITS, 1, 0);
});

test('never lets a minute have more than its limit twice over, nor loses what was given back', () => {
  const request = fc.record({ tokens: fc.nat(3000), used: fc.nat(3000), afterMs: fc.nat(20_000) });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 60 }), (requests) => {
      const limiter = new Limiter();
      let nowMs = 0;
      const taken: { at: number; used: number }[] = [];
      for (const { tokens, used, afterMs } of requests) {
        nowMs += afterMs;
        let admission: Admission | null = null;
        try {
          admission = limiter.admit('k', LIMITS, tokens, nowMs);
        } catch {
          continue;
        }
        const charged = Math.min(used, tokens);
        admission.end(charged);
        taken.push({ at: nowMs, used: charged });
        const window = taken.filter(({ at }) => at > nowMs - 60_000);
        assert.ok(window.length <= 2 * LIMITS.requestsPerMinute);
        assert.ok(window.reduce((sum, one) => sum + one.used, 0) <= 2 * LIMITS.tokensPerMinute);
      }
      const { 'x-ratelimit-remaining-tokens': left } = limiter.look('k', LIMITS, nowMs + 60_000);
      assert.equal(left, '6000');
      for (let count = 0; count < 3; count += 1) limiter.admit('k', LIMITS, 1, nowMs + 60_000);
    }),
  );
});

const RESETS: readonly [number, string][] = [
  [0, '0ms'],
  [12, '12ms'],
  [999.2, '1s'],
  [1500, '1.5s'],
  [59_999, '59.999s'],
  [60_000, '1m0s'],
  [90_000, '1m30s'],
  [89_500, '1m30s'],
];

for (const [ms, expected] of RESETS) {
  test(`${ms} ms until a reset is written ${expected}`, () => assert.equal(formatReset(ms), expected));
}

onBothDoors('every authenticated reply tells the limits, error or not', async (t, door) => {
  const { chat, get, fetch, addKey } = await setup(t, { door });
  const { key } = await addKey({ rpm: 60, tpm: 100_000 });
  const headers = { authorization: `Bearer ${key}` };
  const replies = [
    ...[await chat({ max_tokens: 5 }), await chat({ stream: true }), await chat({ max_tokens: 0 })],
    ...[await chat({ model: 'none' }), await get('/v1/models'), await get('/v1/models/none'), await get('/v1/credits')],
    await get('/v1/key'),
  ];
  for (const reply of replies) {
    for (const name of NAMES) assert.ok(reply.headers.get(name), `${name} of ${reply.status}`);
    await reply.text();
  }
  const own = await chat({ max_tokens: 5 }, { headers });
  assert.equal(own.headers.get('x-ratelimit-limit-requests'), '60');
  assert.equal(own.headers.get('x-ratelimit-remaining-requests'), '59');
  assert.match(own.headers.get('x-ratelimit-reset-requests') ?? '', /^1s$/);
  assert.equal(own.headers.get('x-ratelimit-limit-tokens'), '100000');
  assert.ok(Number(own.headers.get('x-ratelimit-remaining-tokens')) < 100_000);
  await completionOf(own);
  const stranger = await fetch('/v1/models');
  assert.deepEqual(
    NAMES.filter((name) => stranger.headers.has(name)),
    [],
  );
});

onBothDoors('a key above its limit gets 429 with Retry-After, and holds nothing', async (t, door) => {
  const { chat, ledger } = await setup(t, { door, key: { rpm: 2 } });
  for (let count = 0; count < 2; count += 1) await completionOf(await chat({ max_tokens: 5 }));
  const response = await chat({ max_tokens: 5 });
  assert.equal(response.headers.get('retry-after'), '30');
  assert.equal(response.headers.get('x-ratelimit-remaining-requests'), '0');
  const { code, type } = await errorOf(response, 429);
  assert.deepEqual([code, type], ['rate_limit_exceeded', 'rate_limit_error']);
  assert.equal(ledger.asks('hold').length, 2);
});

onBothDoors('one at a time is one at a time, and over when the answer is, or the client has left', async (t, door) => {
  const { chat, server, ledger } = await setup(t, { door, key: { concurrency: 1 } });
  server.play(silence);
  const leave = new AbortController();
  const first = chat({ stream: true }, { signal: leave.signal }).catch(() => null);
  await server.request(0);
  assert.equal((await errorOf(await chat({ max_tokens: 5 }), 429)).code, 'rate_limit_exceeded');
  leave.abort();
  await first;
  await until('it is settled', () => ledger.settlements.length === 1);
  await streamOf(await chat({ stream: true }));
  await completionOf(await chat({ max_tokens: 5 }));
});

onBothDoors('tokens that were reserved and not used are given back', async (t, door) => {
  const { chat, get } = await setup(t, { door, key: { tpm: 10_000 } });
  await completionOf(await chat({ max_tokens: 4000 }));
  await completionOf(await chat({ max_tokens: 4000 }));
  assert.equal((await errorOf(await chat({ max_tokens: 0 }), 400)).code, 'invalid_request');
  const left = Number((await get('/v1/models')).headers.get('x-ratelimit-remaining-tokens'));
  assert.ok(left > 9900 && left <= 10_000, `${left} are left`);
});

test('a 402 gives its tokens back, too', async (t) => {
  const { chat, get } = await setup(t, { creditUsd: '0.0001', key: { tpm: 10_000, concurrency: 1 } });
  for (let count = 0; count < 3; count += 1) await errorOf(await chat({ max_tokens: 4000 }), 402);
  assert.equal((await get('/v1/models')).headers.get('x-ratelimit-remaining-tokens'), '10000');
});

function refusal(call: () => unknown): AppError {
  try {
    call();
  } catch (error) {
    assert.ok(error instanceof AppError && error.code === 'rate_limit_exceeded', String(error));
    return error;
  }
  return assert.fail('it was admitted');
}

function setup(t: TestContext, settings: GatewaySettings): Promise<Gateway> {
  return startGateway(t, settings);
}
