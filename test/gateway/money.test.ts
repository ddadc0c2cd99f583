import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { until } from '../fakes/clock.ts';
import { NANO, onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { answer, cutAfter, deltaEvent, events, eventsOf, resliced, steered } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf, StreamReader } from '../fakes/reply.ts';

const words = (count: number): string[] => Array.from({ length: count }, (_, at) => `w${at} `);
const STREAM = { stream: true, stream_options: { include_usage: true } };
/** The body of a request without further fields, the template's 16 tokens included. */
const INPUT_BOUND = 166n;

onBothDoors('a long stream without a maximum is held slice by slice', async (t, door) => {
  const { chat, server, ledger } = await setup(t, { door });
  server.play(answer({ pieces: words(200), prompt: 20 }));
  const { texts, finishes, done } = await streamOf(await chat(STREAM));
  assert.deepEqual([texts[0], finishes, done], [words(200).join(''), ['stop'], true]);
  const slice = 64n * NANO.output;
  const extended = ledger.asks('extend').map(({ amount }) => amount);
  assert.ok(extended.length >= 3, `${extended.length} extensions`);
  assert.ok(extended.every((amount) => amount === slice));
  assert.equal(ledger.settlements[0]?.charged, 20n * NANO.input + 200n * NANO.output);
});

for (const stream of [true, false]) {
  onBothDoors(`an answer ends with length when the money does: ${stream ? 'stream' : 'whole'}`, async (t, door) => {
    const affordable = 100n;
    const credit = INPUT_BOUND * NANO.input + affordable * NANO.output;
    const { chat, server, ledger } = await setup(t, { door, creditUsd: usd(credit) });
    server.play(answer({ pieces: words(500), prompt: 20 }));
    const fields = stream ? STREAM : {};
    const reply = await chat({}, { body: bodyOf(fields) });
    // Of the prompt's bound 20 tokens were used: what is left of it pays for more of the answer, to the last token.
    const tokens = Number(affordable + ((INPUT_BOUND - 20n) * NANO.input) / NANO.output);
    await (stream ? expectCutStream(reply, tokens) : expectCutWhole(reply, tokens));
    const [settled] = ledger.settlements;
    assert.equal(settled?.status, 'length');
    assert.equal(settled?.detail.finish, 'length');
    assert.equal(settled?.tokens.outputTokens, tokens);
    assert.ok(credit - (settled?.charged ?? 0n) < NANO.output);
    await until('the model server is told to stop', () => server.requests[0]?.hasLeft === true);
  });
}

onBothDoors('a balance below a slice gets a shorter answer, not a refusal', async (t, door) => {
  const { chat, server, ledger } = await setup(t, {
    door,
    creditUsd: usd(INPUT_BOUND * NANO.input + 20n * NANO.output),
  });
  // A server that says nothing of the prompt: its bound stays held.
  server.play(events(eventsOf({ shape: 'openai', pieces: words(60), prompt: 20 }).slice(0, 40)));
  const { choices, usage } = await completionOf(await chat({}, { body: bodyOf({}) }));
  assert.equal(choices[0]?.finish_reason, 'length');
  assert.equal(usage?.completion_tokens, 20);
  assert.equal(ledger.settlements[0]?.tokens.outputTokens, 20);
});

test('a balance for fewer than sixteen tokens is refused', async (t) => {
  const { chat, server } = await setup(t, { creditUsd: usd(INPUT_BOUND * NANO.input + 15n * NANO.output) });
  const { metadata } = await errorOf(await chat({}, { body: bodyOf({}) }), 402);
  assert.equal(metadata?.['max_affordable_tokens'], 15);
  assert.equal(server.requests.length, 0);
});

test('a named maximum is never shortened', async (t) => {
  const { chat } = await setup(t, { creditUsd: usd(200n * NANO.input + 20n * NANO.output) });
  assert.equal((await errorOf(await chat({ max_tokens: 500 }), 402)).code, 'insufficient_credits');
});

test('says in a comment why the answer ends', async (t) => {
  const { chat, server } = await setup(t, { creditUsd: '0.0002' });
  server.play(answer({ pieces: words(500), prompt: 20 }));
  const { comments, error } = await streamOf(await chat({ stream: true }));
  assert.match(comments.join(), /the credit is used up/);
  assert.equal(error, null);
});

test('an answer that is whole when the money ends keeps its own end', async (t) => {
  const { chat, server, ledger } = await setup(t, { creditUsd: usd(200n * NANO.input + 40n * NANO.output) });
  // All counts come with the finish_reason and after it, and are above what is held.
  const list = eventsOf({ shape: 'openai', pieces: words(30), prompt: 20, claims: 90 });
  server.play(events(list));
  const { finishes, chunks, done } = await streamOf(await chat({ stream: true }));
  assert.deepEqual([finishes, done], [['stop'], true]);
  assert.equal(chunks.filter(({ choices }) => choices[0]?.finish_reason).length, 1);
  assert.equal(ledger.settlements[0]?.status, 'done');
});

test('waits for its next slice rather than deliver what nobody has paid for', async (t) => {
  const { chat, server, ledger } = await setup(t, {});
  const { script, say, end } = steered();
  server.play(script);
  let allow = (): void => undefined;
  ledger.before('extend', () => new Promise((resolve) => (allow = resolve)));
  const reader = new StreamReader(await afterFirst(chat(STREAM), () => say(eventsOf({ pieces: words(64) })[1] ?? '')));
  for (const event of eventsOf({ pieces: words(64) }).slice(2, 65)) say(event);
  await reader.until('w63 ');
  say(deltaEvent({ content: 'unpaid' }, {}, 65));
  const next = reader.next();
  assert.equal(await Promise.race([next, silence(100)]), 'nothing');
  allow();
  assert.match((await next) ?? '', /unpaid/);
  for (const event of eventsOf({ pieces: words(65) }).slice(-3)) say(event);
  end();
  await reader.until('[DONE]');
  assert.equal(ledger.settlements[0]?.tokens.outputTokens, 65);
});

test('what came faster than its hold grew is paid for all the same', async (t) => {
  const { chat, server, ledger } = await setup(t, {});
  ledger.before('extend', () => new Promise((resolve) => setTimeout(resolve, 50)));
  server.play(resliced(eventsOf({ pieces: words(100), prompt: 20 }), 1_000_000));
  const { texts } = await streamOf(await chat({ stream: true }));
  assert.equal(texts[0], words(100).join(''));
  assert.equal(ledger.settlements[0]?.charged, 20n * NANO.input + 100n * NANO.output);
});

test('asks for the next slice while a quarter of the last one is left', async (t) => {
  const { chat, server, ledger } = await setup(t, {});
  const { script, say, end } = steered();
  server.play(script);
  const list = eventsOf({ pieces: words(60) });
  const reader = new StreamReader(await afterFirst(chat({ stream: true }), () => say(list[1] ?? '')));
  for (const event of list.slice(2, 48)) say(event);
  await reader.until('w46 ');
  assert.equal(ledger.asks('extend').length, 0);
  say(list[48] ?? '');
  await reader.until('w47 ');
  assert.equal(ledger.asks('extend').length, 1);
  for (const event of list.slice(49)) say(event);
  end();
  await reader.until('[DONE]');
});

test('a choice that has not begun when the money ends gets its role and its end', async (t) => {
  const { chat, server } = await setup(t, { slots: 1, creditUsd: '0.0002' });
  server.usually(answer({ pieces: words(500), prompt: 20 }));
  const { chunks, finishes, texts, done } = await streamOf(await chat({ stream: true, n: 2 }));
  assert.deepEqual([finishes, texts[1], done], [['length', 'length'], '', true]);
  const second = chunks.flatMap(({ choices }) => choices).filter(({ index }) => index === 1);
  assert.deepEqual(
    second.map(({ delta, finish_reason: finish }) => [delta, finish]),
    [
      [{ role: 'assistant', content: '', refusal: null }, null],
      [{}, 'length'],
    ],
  );
  assert.equal(server.requests.length, 1);
});

for (const shape of ['llama.cpp', 'vllm', 'openai'] as const) {
  test(`usage that lies is charged by what was seen and allowed, and noted: ${shape}`, async (t) => {
    const { chat, server, ledger, get } = await setup(t, {});
    server.play(events(eventsOf({ shape, pieces: ['abc', 'def'], prompt: 1_000_000, cached: 0, claims: 5000 })));
    const body = bodyOf({ ...STREAM, max_tokens: 100 });
    const { chunks } = await streamOf(await chat({}, { body }));
    const usage = chunks.at(-1)?.usage;
    const bound = Buffer.byteLength(body) + 16;
    // Six bytes of text and 64 tokens that may be unseen.
    assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens], [bound, 70]);
    const [settled] = ledger.settlements;
    assert.equal(settled?.detail.refusedTokens, 4930);
    assert.equal(settled?.charged, BigInt(bound) * NANO.input + 70n * NANO.output);
    const { data } = (await (await get(`/v1/generation?id=${chunks[0]?.id}`)).json()) as {
      data: { total_cost: number };
    };
    assert.equal(data.total_cost, usage?.cost);
  });
}

test('a whole answer is never charged above its maximum', async (t) => {
  const { chat, server, ledger } = await setup(t, {});
  server.play(answer({ pieces: ['x'.repeat(500)], prompt: 20, cached: 90, claims: 400 }));
  const { usage } = await completionOf(await chat({ max_tokens: 10 }));
  assert.deepEqual([usage?.completion_tokens, usage?.prompt_tokens_details.cached_tokens], [10, 20]);
  assert.equal(ledger.settlements[0]?.detail.refusedTokens, 390);
});

test('a live stream leaves checkpoints for recovery', async (t) => {
  const { chat, server, ledger } = await setup(t, {});
  const { script, say, end } = steered();
  server.play(script);
  const list = eventsOf({ pieces: ['a', 'b'], prompt: 20 });
  const reader = new StreamReader(await afterFirst(chat({ stream: true }), () => say(list[1] ?? '')));
  await until('a checkpoint', () => ledger.asks('progress').length > 0);
  assert.deepEqual(ledger.asks('progress')[0]?.tokens, { inputTokens: 20, cachedTokens: 0, outputTokens: 1 });
  for (const event of list.slice(2)) say(event);
  end();
  await reader.until('[DONE]');
});

test('a ledger that fails in the middle ends the stream with an error, not the process', async (t) => {
  const { chat, server, ledger, logs } = await setup(t, {});
  let failing = true;
  ledger.before('settle', () => (failing ? Promise.reject(new Error('disk full')) : Promise.resolve()));
  server.play(answer());
  const { error, done } = await streamOf(await chat(STREAM));
  assert.deepEqual([error?.code, error?.message, done], ['internal_error', 'an internal error happened', false]);
  assert.equal((await errorOf(await chat({ max_tokens: 5 }), 500)).code, 'internal_error');
  assert.match(logs.join(), /disk full/);
  failing = false;
  for (const { request } of ledger.asks('hold')) await ledger.ask({ ...SETTLE, request });
});

onBothDoors(
  'a ledger that fails when a broken stream is settled: the stream still ends with its error',
  async (t, door) => {
    const { chat, server, ledger, logs } = await setup(t, { door });
    ledger.before('settle', () => Promise.reject(new Error('disk full')));
    server.play(cutAfter(eventsOf().slice(0, 3)));
    const { error, texts } = await streamOf(await chat(STREAM));
    assert.deepEqual([error?.code, texts], ['upstream_error', ['Hello wor']]);
    assert.match(logs.join(), /disk full/);
    ledger.before('settle', () => Promise.resolve());
    for (const { request } of ledger.asks('hold')) await ledger.ask({ ...SETTLE, request });
  },
);

const NOTHING = { inputTokens: 0, cachedTokens: 0, outputTokens: 0 };
const SETTLE = { op: 'settle' as const, tokens: NOTHING, status: 'failed' as const, detail: {}, atMs: 0 };

function bodyOf(fields: Record<string, unknown>): string {
  const text = JSON.stringify({ model: 'org/tiny', messages: [{ role: 'user', content: 'hi' }], ...fields });
  return text.padEnd(Number(INPUT_BOUND) - 16);
}

function usd(nano: bigint): string {
  return `0.${nano.toString().padStart(9, '0')}`;
}

async function afterFirst(response: Promise<Response>, say: () => void): Promise<Response> {
  say();
  return response;
}

function silence(ms: number): Promise<string> {
  return new Promise((resolve) => setTimeout(() => resolve('nothing'), ms));
}

async function expectCutStream(reply: Response, tokens: number): Promise<void> {
  const { finishes, chunks, done, error } = await streamOf(reply);
  assert.deepEqual([finishes, done, error], [['length'], true, null]);
  assert.equal(chunks.at(-1)?.usage?.completion_tokens, tokens);
}

async function expectCutWhole(reply: Response, tokens: number): Promise<void> {
  const { choices, usage } = await completionOf(reply);
  assert.equal(choices[0]?.finish_reason, 'length');
  assert.equal(usage?.completion_tokens, tokens);
}

function setup(t: TestContext, settings: GatewaySettings): Promise<Gateway> {
  return startGateway(t, settings);
}
