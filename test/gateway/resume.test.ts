import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import fc from 'fast-check';
import { until } from '../fakes/clock.ts';
import { MODEL, NANO, onBothDoors, startGateway, type Gateway, type GatewaySettings } from '../fakes/gateway.ts';
import { answer, cutAfter, deltaEvent, eventsOf, stallAfter, type Shape } from '../fakes/model-replies.ts';
import type { Script, Turn } from '../fakes/model-server.ts';
import { streamOf } from '../fakes/reply.ts';

const PIECES = ['One', ' two', ' three', ' four', ' fünf', ' 六', '.'];
const WHOLE = PIECES.join('');
const STREAM = { stream: true, stream_options: { include_usage: true }, max_tokens: 50 };
const LIMITS = { first_token_s: 10, between_tokens_s: 1 };

/** What each engine is asked with, and what it counts. */
const ENGINES = ['llama.cpp', 'vllm', 'sglang'] as const;

for (const engine of ENGINES) {
  onBothDoors(
    `${engine}: another replica goes on from the last token, in one stream, for one charge`,
    async (t, door) => {
      const { chat, servers, ledger, router } = await setup(t, { door, servers: 2, pool: { engine, limits: LIMITS } });
      const shape = engine === 'llama.cpp' ? 'llama.cpp' : 'vllm';
      servers[0]?.usually(cutAfter(eventsOf({ shape, pieces: PIECES }).slice(0, 4)));
      servers[1]?.usually(goingOn({ shape, pieces: PIECES }));
      const { texts, chunks, finishes, usage, done, error } = await answerOf(await chat(STREAM));
      assert.deepEqual([texts, finishes, done, error], [[WHOLE], ['stop'], true, null]);
      assert.equal(new Set(chunks.map(({ id, created }) => `${id} ${created}`)).size, 1);
      assert.equal(chunks.filter(({ choices }) => choices[0]?.delta.role).length, 1);
      assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens], [12, 7]);
      assert.equal(ledger.settlements.length, 1);
      assert.equal(ledger.settlements[0]?.charged, 12n * NANO.input + 7n * NANO.output);
      assert.deepEqual([ledger.settlements[0]?.status, ledger.settlements[0]?.detail.resumed], ['done', 1]);
      const sent = servers[1]?.requests[0]?.body;
      const messages = sent?.['messages'] as { role: string; content: string }[];
      assert.deepEqual(messages.at(-1), { role: 'assistant', content: 'One two three' });
      assert.deepEqual(messages.at(-2), { role: 'user', content: 'Say hello.' });
      const told = [sent?.['continue_final_message'], sent?.['add_generation_prompt']];
      assert.deepEqual(told, engine === 'llama.cpp' ? [undefined, undefined] : [true, false]);
      assert.equal(sent?.['max_tokens'], 47, 'the maximum shrinks by what was delivered');
      assert.deepEqual([router.load('replica-0')?.failed, router.load('replica-1')?.served], [1, 1]);
      // What a dispute of the one that failed names, and what brings credit for it.
      assert.deepEqual(router.load('replica-0')?.hit(), [ledger.settlements[0]?.request]);
      const { before, lease } = ledger.settlements[0]?.detail ?? assert.fail('not settled');
      assert.deepEqual([before, lease], [['lease-of-replica-0'], 'lease-of-replica-1']);
    },
  );
}

const FAULTS: Readonly<Record<string, (events: readonly string[]) => Script>> = {
  'a cut': cutAfter,
  'a stall': stallAfter,
  'a malformed chunk': (events) => stallAfter([...events, 'data: {"choices":[\n\n']),
  'an error event': (events) => stallAfter([...events, 'data: {"error":{"message":"out of memory"}}\n\n']),
  '[DONE] too early': (events) => stallAfter([...events, 'data: [DONE]\n\n']),
};

for (const [name, fault] of Object.entries(FAULTS)) {
  test(`${name} in mid-stream does not show`, async (t) => {
    const { chat, servers } = await setup(t, { servers: 2 });
    servers[0]?.usually(fault(eventsOf({ pieces: PIECES }).slice(0, 3)));
    servers[1]?.usually(goingOn({ pieces: PIECES }));
    const { texts, done, usage } = await answerOf(await chat(STREAM));
    assert.deepEqual([texts, done, usage?.completion_tokens], [[WHOLE], true, 7]);
  });
}

test('a machine that is taken away in mid-stream is replaced by one that comes later', async (t) => {
  const { chat, server, router, addReplica } = await setup(t, {});
  server.play(stallAfter(eventsOf({ pieces: PIECES }).slice(0, 4)), goingOn({ pieces: PIECES }));
  const reply = chat(STREAM).then(answerOf);
  await (await server.request(0)).sleep(50);
  router.remove('replica-0');
  await server.requests[0]?.left;
  await until('it is in line', () => router.waiters.length === 1);
  assert.equal(router.waiters[0]?.dueMs, Infinity, 'who has the beginning of an answer makes room for nobody');
  addReplica(server, { id: 'replica-new' });
  const { texts, done } = await reply;
  assert.deepEqual([texts, done], [[WHOLE], true]);
});

test('wherever and however often it is cut, the client sees the whole answer once, and pays for it once', async (t) => {
  const { chat, servers, ledger } = await setup(t, { servers: 4 });
  const text = fc.string({
    unit: fc.constantFrom('a', ' ', 'ü', '六', '🎉', '"', '\\', '\n'),
    minLength: 1,
    maxLength: 3,
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(text, { minLength: 1, maxLength: 12 }),
      // Three replicas in a row that bring nothing at all end a request.
      fc.array(fc.nat(5), { maxLength: 3 }).filter((cuts) => cuts.length < 3 || cuts.some((cut) => cut > 0)),
      async (pieces, cuts) => {
        // A replica cuts after that many tokens of its own; one that brings nothing is a failure like any other.
        const plays = cuts.map((cut) => goingOn({ pieces, cutAfterTokens: cut }));
        for (const server of servers) server.usually(tuned(plays, goingOn({ pieces })));
        ledger.settlements.length = 0;
        const { texts, done, usage, error } = await answerOf(await chat(STREAM));
        assert.deepEqual([texts, done, error], [[pieces.join('')], true, null]);
        assert.equal(usage?.completion_tokens, pieces.length);
        assert.equal(ledger.settlements.length, 1);
        assert.equal(ledger.settlements[0]?.charged, 12n * NANO.input + BigInt(pieces.length) * NANO.output);
        for (const id of ['replica-0', 'replica-1', 'replica-2', 'replica-3']) revive(id);
      },
    ),
    { numRuns: 60 },
  );

  function revive(id: string): void {
    gateway?.router.verified(id);
  }
});

const NOT_SAFE: Readonly<Record<string, Record<string, unknown>>> = {
  tools: { tools: [{ type: 'function', function: { name: 'f' } }] },
  'a JSON mode': { response_format: { type: 'json_object' } },
  'log-probabilities': { logprobs: true },
  'two choices': { n: 2 },
  'a grammar': { grammar: 'root ::= "a"' },
  'a last message of the assistant': { messages: [{ role: 'assistant', content: 'So' }] },
};

for (const [name, fields] of Object.entries(NOT_SAFE)) {
  test(`with ${name} the stream ends with an error event`, async (t) => {
    const { chat, servers, ledger } = await setup(t, { servers: 2 });
    for (const server of servers) server.usually(cutAfter(eventsOf({ pieces: PIECES }).slice(0, 4)));
    const { done, error } = await answerOf(await chat({ ...STREAM, ...fields }));
    assert.deepEqual([done, error?.code], [false, 'upstream_error']);
    assert.equal(ledger.settlements[0]?.status, 'failed');
  });
}

test('reasoning, and a text that ends inside a character, are not gone on with', async (t) => {
  const { chat, servers } = await setup(t, { servers: 2 });
  servers[1]?.usually(goingOn({ pieces: PIECES }));
  for (const delta of [{ reasoning_content: 'hm' }, { content: 'a\ufffd' }]) {
    servers[0]?.usually(cutAfter([...eventsOf({}).slice(0, 1), deltaEvent(delta)]));
    gateway?.router.verified('replica-0');
    const { done, error } = await answerOf(await chat(STREAM));
    assert.deepEqual([done, error?.code], [false, 'upstream_error']);
  }
});

test('a pool that was not seen to go on with answers, or may not, ends with an error event', async (t) => {
  for (const pool of [{ resume: 'off' }, { engine: 'openai' }, {}] as const) {
    const { chat, servers, router } = await setup(t, { servers: 2, pool });
    if (!('resume' in pool)) router.setResumes('engine' in pool);
    for (const server of servers) server.usually(cutAfter(eventsOf({ pieces: PIECES }).slice(0, 4)));
    const { done, error } = await answerOf(await chat(STREAM));
    assert.deepEqual([done, error?.code], [false, 'upstream_error']);
  }
});

test('what has reached its maximum, or was finished, needs nobody to go on', async (t) => {
  const { chat, servers, ledger } = await setup(t, { servers: 2 });
  const all = eventsOf({ pieces: PIECES });
  servers[0]?.usually(cutAfter(all.slice(0, 4)));
  const full = await answerOf(await chat({ ...STREAM, max_tokens: 3 }));
  assert.deepEqual([full.texts, full.finishes, full.done], [['One two three'], ['length'], true]);
  gateway?.router.verified('replica-0');
  servers[0]?.usually(cutAfter(all.slice(0, -2)));
  const finished = await answerOf(await chat(STREAM));
  assert.deepEqual([finished.texts, finished.finishes, finished.done], [[WHOLE], ['stop'], true]);
  assert.equal(servers[1]?.requests.length, 0);
  assert.deepEqual(
    ledger.settlements.map(({ charged }) => charged),
    [12n * NANO.input + 3n * NANO.output, 12n * NANO.input + 7n * NANO.output],
  );
});

test('an answer that cannot go on for want of a machine says what broke it', async (t) => {
  const { chat, server } = await setup(t, { pool: { limits: { ...LIMITS, max_wait_s: 0.2 } } });
  server.usually(cutAfter(eventsOf({ pieces: PIECES }).slice(0, 4)));
  const { texts, error, done } = await answerOf(await chat(STREAM));
  assert.deepEqual([texts, error?.code, done], [['One two three'], 'upstream_error', false]);
});

test('a server that lies about the answer before it is charged for no more than its own part', async (t) => {
  const { chat, servers, ledger } = await setup(t, { servers: 2 });
  servers[0]?.usually(cutAfter(eventsOf({ pieces: PIECES }).slice(0, 4)));
  servers[1]?.usually(goingOn({ pieces: PIECES, claims: 5000, prompt: 4000 }));
  await answerOf(await chat(STREAM));
  const [settled] = ledger.settlements;
  assert.deepEqual([settled?.tokens.inputTokens, settled?.tokens.outputTokens], [12, 50]);
  assert.ok((settled?.detail.refusedTokens ?? 0) > 4000);
  assert.ok((gateway?.router.load('replica-1')?.overclaimed ?? 0) > 4000, 'it is noted against who claimed it');
});

async function answerOf(reply: Response) {
  const stream = await streamOf(reply);
  return { ...stream, usage: stream.chunks.findLast(({ usage }) => usage)?.usage };
}

interface GoingOn {
  readonly shape?: Shape;
  readonly pieces: readonly string[];
  readonly cutAfterTokens?: number;
  readonly claims?: number;
  readonly prompt?: number;
}

/** A model server that knows one answer and goes on with it from wherever it has been brought to. */
function goingOn({ pieces, cutAfterTokens, ...more }: GoingOn): Script {
  return (turn) => {
    const rest = restOf(turn, pieces);
    const events = eventsOf({ prompt: 12 + pieces.length - rest.length, ...more, pieces: rest });
    if (cutAfterTokens === undefined || cutAfterTokens >= rest.length)
      return answer({ prompt: 12, ...more, pieces: rest })(turn);
    return cutAfter(events.slice(0, 1 + cutAfterTokens))(turn);
  };
}

function restOf({ body }: Turn, pieces: readonly string[]): readonly string[] {
  const last = (body['messages'] as { role: string; content: string }[]).at(-1);
  if (last?.role !== 'assistant') return pieces;
  let said = '';
  for (const [at, piece] of pieces.entries()) {
    if (said === last.content) return pieces.slice(at);
    said += piece;
  }
  assert.equal(said, last.content, 'the answer so far is none of this model');
  return [];
}

/** One list of scripts for several servers, in the order in which they are asked. */
function tuned(scripts: Script[], then: Script): Script {
  return (turn) => (scripts.shift() ?? then)(turn);
}

let gateway: Gateway | null = null;

async function setup(t: TestContext, settings: GatewaySettings): Promise<Gateway> {
  gateway = await startGateway(t, { ...settings, pool: { limits: LIMITS, ...settings.pool } });
  gateway.router.setResumes(true);
  assert.equal(gateway.router.spec.id, MODEL);
  return gateway;
}
