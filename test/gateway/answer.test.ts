import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { MODEL, onBothDoors, startGateway, type Door, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { answer, events, eventsOf, json, PIECES, silence, wholeOf, type Answer } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

onBothDoors('answers in one piece, with what it cost and who served it', async (t, door) => {
  const { chat, server } = await setup(t, { door });
  server.play(answer({ prompt: 12, cached: 4 }));
  const response = await chat({ max_tokens: 20 });
  const { headers } = response;
  const { id, created, ...rest } = await completionOf(response);
  assert.match(id, /^chatcmpl-/);
  assert.ok(Math.abs(created - Date.now() / 1000) < 10);
  assert.deepEqual(rest, {
    object: 'chat.completion',
    model: MODEL,
    choices: [
      {
        index: 0,
        message: { role: 'assistant', content: 'Hello world!', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ],
    usage: {
      prompt_tokens: 12,
      completion_tokens: 4,
      total_tokens: 16,
      prompt_tokens_details: { cached_tokens: 4, audio_tokens: 0 },
      completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0 },
      cost: 0.000018,
    },
  });
  assert.equal(headers.get('content-type'), 'application/json');
  assert.equal(headers.get('x-underbid-cost-usd'), '0.000018');
  assert.equal(headers.get('x-underbid-cold-start-ms'), '0');
  assert.equal(headers.get('x-underbid-provider'), 'provider-of-replica-0');
  assert.match(headers.get('x-request-id') ?? '', /^req-/);
});

test('charges exactly what the tokens cost and gives the rest of the hold back', async (t) => {
  const { chat, server, ledger } = await setup(t);
  server.play(answer({ prompt: 101, cached: 40, claims: 9 }));
  const { id } = await completionOf(await chat({ max_tokens: 20 }));
  const [settled] = ledger.settlements;
  assert.equal(settled?.request, id);
  assert.equal(settled?.charged, 61n * 1000n + 40n * 500n + 9n * 2000n);
  const balance = await ledger.ask({ op: 'balance', customer: 'acct-1' });
  assert.deepEqual([balance?.used, balance?.held], [settled?.charged, 0n]);
});

test('the hold covers every byte of the body as a token, the template and the whole maximum', async (t) => {
  const { chat, ledger } = await setup(t);
  const body = JSON.stringify({ model: MODEL, max_tokens: 20, messages: [{ role: 'user', content: 'Grüße' }] });
  await completionOf(await chat({}, { body }));
  const [hold] = ledger.asks('hold');
  assert.equal(hold?.amount, BigInt(Buffer.byteLength(body) + 16) * 1000n + 20n * 2000n);
});

const RENDERED: readonly Record<string, unknown>[] = [
  { tools: [{ type: 'function', function: { name: 'look' } }] },
  { functions: [{ name: 'look' }] },
  { response_format: { type: 'json_schema', json_schema: { name: 'a', schema: {} } } },
];

for (const fields of RENDERED) {
  test(`the hold covers the whole context when the template writes more than it reads: ${Object.keys(fields)[0]}`, async (t) => {
    const { chat, ledger } = await setup(t);
    await completionOf(await chat({ ...fields, max_tokens: 1 }));
    assert.equal(ledger.asks('hold')[0]?.amount, 4096n * 1000n + 2000n);
  });
}

onBothDoors('a maximum above a slice is streamed from the model server and put together', async (t, door) => {
  const { chat, server } = await setup(t, { door });
  const pieces = Array.from({ length: 100 }, (_, at) => `w${at} `);
  server.play(answer({ pieces, prompt: 20 }));
  const { choices, usage } = await completionOf(await chat({ max_tokens: 500 }));
  const [choice] = choices;
  assert.equal(server.requests[0]?.body['stream'], true);
  assert.deepEqual(choice?.message, { role: 'assistant', content: pieces.join(''), refusal: null });
  assert.deepEqual([choice?.finish_reason, usage?.completion_tokens, usage?.prompt_tokens], ['stop', 100, 20]);
});

test('within a slice the model server is asked for one piece: a stream costs more', async (t) => {
  const { chat, server } = await setup(t);
  await completionOf(await chat({ max_tokens: 64 }));
  assert.equal(server.requests[0]?.body['stream'], false);
  assert.ok(!('stream_options' in (server.requests[0]?.body ?? {})));
});

test('puts streamed tool calls and log-probabilities together', async (t) => {
  const { chat, server } = await setup(t);
  const part = (text: string): object => ({ tool_calls: [{ index: 0, id: null, function: { arguments: text } }] });
  const opening = { tool_calls: [{ index: 0, id: 'c1', type: 'function', function: { name: 'look', arguments: '' } }] };
  const deltas = [opening, part('{"a"'), part(':1}')] as Answer['deltas'];
  const logprobs = [undefined, { token: '{"a"', logprob: -1 }, { token: ':1}', logprob: -2 }];
  server.play(answer({ finish: 'tool_calls', logprobs, ...(deltas ? { deltas } : {}) }));
  const { choices } = await completionOf(await chat({ max_tokens: 500 }));
  assert.deepEqual(choices[0], {
    index: 0,
    message: {
      role: 'assistant',
      content: null,
      refusal: null,
      tool_calls: [{ id: 'c1', type: 'function', function: { name: 'look', arguments: '{"a":1}' } }],
    },
    logprobs: { content: [logprobs[1], logprobs[2]] },
    finish_reason: 'tool_calls',
  });
});

for (const stream of [false, true]) {
  test(`three choices are three requests, their tokens summed, the prompt counted once: ${stream ? 'stream' : 'whole'}`, async (t) => {
    const { chat, server, ledger } = await setup(t);
    const said = [1, 2, 3].map((count) => Array.from({ length: count }, () => `${count}.`));
    // Replicas may count one and the same prompt differently: the largest count stands, once.
    server.play(...said.map((pieces, at) => answer({ pieces, prompt: 30 - at })));
    const response = await chat({
      n: 3,
      max_tokens: 10,
      stream,
      stream_options: stream ? { include_usage: true } : null,
    });
    const { texts, usage } = stream ? await readStream(response) : await readWhole(response);
    assert.deepEqual(texts.toSorted(), ['1.', '2.2.', '3.3.3.']);
    assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens, usage?.total_tokens], [30, 6, 36]);
    assert.equal(ledger.asks('hold').length, 1);
    assert.equal(ledger.settlements[0]?.charged, 30n * 1000n + 6n * 2000n);
    assert.deepEqual(
      server.requests.map(({ body }) => body['n']),
      [undefined, undefined, undefined],
    );
  });
}

test('a hold for three choices covers three maxima', async (t) => {
  const { chat, ledger } = await setup(t);
  const body = JSON.stringify({ model: MODEL, n: 3, max_tokens: 10, messages: [{ role: 'user', content: 'a' }] });
  await completionOf(await chat({}, { body }));
  assert.equal(ledger.asks('hold')[0]?.amount, BigInt(body.length + 16) * 1000n + 30n * 2000n);
});

test('each choice gets a seed of its own, or all would be the same answer', async (t) => {
  const { chat, server } = await setup(t);
  const rest = `"model":"${MODEL}","n":3,"max_tokens":5,"messages":[{"role":"user","content":"a"}]}`;
  await completionOf(await chat({}, { body: `{"seed":9007199254740993,${rest}` }));
  const seeds = server.requests.map(({ text }) => /"seed":(\d+)/.exec(text)?.[1]);
  assert.deepEqual(seeds.toSorted(), ['9007199254740993', '9007199254740994', '9007199254740995']);
});

test('choices wait for slots of the same replica and all come', async (t) => {
  const { chat, server } = await setup(t, { slots: 1 });
  const { choices } = await completionOf(await chat({ n: 4, max_tokens: 5 }));
  assert.deepEqual(
    choices.map(({ index, message }) => [index, message.content]),
    [0, 1, 2, 3].map((index) => [index, PIECES.join('')]),
  );
  assert.equal(server.requests.length, 4);
});

test('when one choice is refused the others end with it, also one that was about to start', async (t) => {
  const { chat, server } = await setup(t, { slots: 1 });
  server.play(json(400, { message: 'no' }), silence);
  const started = performance.now();
  assert.equal((await errorOf(await chat({ n: 2, max_tokens: 5 }), 400)).code, 'invalid_request');
  assert.ok(performance.now() - started < 4000, 'nobody waits for an answer that is not wanted any more');
});

test('fields that a server left out or invented make the same shape', async (t) => {
  const { chat, server } = await setup(t);
  const message = { content: 'a', reasoning_content: 'b', role: 'model' };
  server.play(json(200, { choices: [{ message, stop_reason: 3 }], usage: { prompt_tokens: 3, completion_tokens: 1 } }));
  const { choices } = await completionOf(await chat({ max_tokens: 5 }));
  const expected = { role: 'assistant', content: 'a', reasoning_content: 'b', refusal: null };
  assert.deepEqual(choices, [{ index: 0, message: expected, logprobs: null, finish_reason: 'stop' }]);
});

test("a provider's name in a header is visible ASCII, whatever the provider calls itself", async (t) => {
  const { chat, server, router, addReplica } = await setup(t);
  router.drain('replica-0');
  addReplica(server, { id: 'odd', provider: 'Ünder\r\nx-evil: 1' });
  const response = await chat({ max_tokens: 5 });
  assert.equal(response.headers.get('x-underbid-provider'), '_nder__x-evil: 1');
  assert.equal(response.headers.get('x-evil'), null);
  await completionOf(response);
});

test('an answer whose usage is missing is charged by what was seen', async (t) => {
  const { chat, server, ledger } = await setup(t);
  const { usage: _usage, ...whole } = wholeOf();
  server.play(json(200, whole));
  await completionOf(await chat({ max_tokens: 5 }));
  server.play(events(eventsOf({ shape: 'openai' }).filter((event) => !event.includes('"usage":{'))));
  await streamOf(await chat({ stream: true }));
  assert.deepEqual(
    ledger.settlements.map(({ tokens }) => tokens.outputTokens),
    [1, PIECES.length],
  );
});

async function readStream(response: Response): Promise<{ texts: readonly string[]; usage: Usage }> {
  const { texts, chunks, done } = await streamOf(response);
  assert.equal(done, true);
  return { texts, usage: chunks.at(-1)?.usage };
}

async function readWhole(response: Response): Promise<{ texts: readonly string[]; usage: Usage }> {
  const { choices, usage } = await completionOf(response);
  return { texts: choices.map(({ message }) => message.content ?? ''), usage };
}

type Usage = Awaited<ReturnType<typeof completionOf>>['usage'];

function setup(t: TestContext, settings: GatewaySettings & { door?: Door } = {}): Promise<Gateway> {
  return startGateway(t, settings);
}
