import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { proveResumption } from '../../src/gateway/resume-probe.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { parsePool } from '../../src/spec.ts';
import { events, eventsOf, json } from '../fakes/model-replies.ts';
import { startModelServer, type Script, type Turn } from '../fakes/model-server.ts';

const WORDS = Array.from({ length: 30 }, (_, at) => ` word${at}`);

for (const engine of ['llama.cpp', 'vllm', 'sglang'] as const) {
  test(`${engine}: a server that goes on where it was cut is proven`, async (t) => {
    const { prove, server } = await setup(t, engine, (_turn, said, max) => WORDS.slice(said, said + max));
    assert.equal(await prove(), null);
    const continued = server.requests.filter(({ body }) => saidIn(body) !== '');
    assert.ok(continued.length > 0);
    for (const { body } of continued)
      assert.equal(body['continue_final_message'], engine === 'llama.cpp' ? undefined : true);
    for (const { body } of server.requests) assert.equal(body['temperature'], 0);
  });
}

test('a server that begins anew is not', async (t) => {
  const { prove } = await setup(t, 'vllm', (_turn, _said, max) => WORDS.slice(0, max));
  assert.equal(await prove(), 'it began its answer anew');
});

test('nor one that loses or doubles a word at the seam', async (t) => {
  for (const shift of [1, -1]) {
    const { prove } = await setup(t, 'llama.cpp', (_turn, said, max) => {
      const from = said === 0 ? 0 : said + shift;
      return WORDS.slice(from, from + max);
    });
    assert.equal(await prove(), 'the rest did not fit what came before it');
  }
});

test('nor one whose answers differ from one time to the next', async (t) => {
  let count = 0;
  const { prove } = await setup(t, 'vllm', (_turn, _said, max) => WORDS.slice((count += 1), count + max));
  assert.match((await prove()) ?? '', /differ from one time to the next/);
});

test('one that does not answer proves nothing either way', async (t) => {
  const { prove } = await setup(t, 'vllm', () => null);
  await assert.rejects(prove(), /500/);
});

function saidIn(body: Record<string, unknown>): string {
  const last = (body['messages'] as { role: string; content: string }[]).at(-1);
  return last?.role === 'assistant' ? last.content : '';
}

type Says = (turn: Turn, saidWords: number, maxTokens: number) => readonly string[] | null;

/** A server that makes one word a token; `says` is told how many words it has said already. */
async function setup(t: TestContext, engine: 'llama.cpp' | 'vllm' | 'sglang', says: Says) {
  const script: Script = (turn) => {
    const said = saidIn(turn.body).split(' ').length - 1;
    const words = says(turn, said, Number(turn.body['max_tokens']));
    const play = words === null ? json(500, { error: {} }) : events(eventsOf({ pieces: words, finish: 'length' }));
    return play(turn);
  };
  const server = await startModelServer(t, script);
  const upstream = createUndiciUpstream({ connectMs: 2000, connectionsMax: 4, headerBytesMax: 16_384 });
  t.after(() => upstream.close());
  const price = { input: '1', output: '1' };
  const spec = parsePool('m', { engine, model: 'm', context: 1000, price, ceiling_usd_per_hour: '1' }, 0);
  const target = { url: server.url, apiKey: 'key' };
  return { server, prove: () => proveResumption(upstream, target, spec, new AbortController().signal) };
}
