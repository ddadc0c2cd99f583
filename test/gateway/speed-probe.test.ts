import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { measureSpeed, readDevices } from '../../src/gateway/speed-probe.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { parsePool } from '../../src/spec.ts';
import { events, eventsOf, json } from '../fakes/model-replies.ts';
import { startModelServer, type Script } from '../fakes/model-server.ts';

const WORDS = Array.from({ length: 48 }, (_, at) => ` word${at}`);

test('a model server is timed by its own stream: when its first token came, and its last', async (t) => {
  const list = eventsOf({ pieces: WORDS, finish: 'length' });
  const { measure, server } = await setup(t, async (turn) => {
    turn.streamHead();
    await turn.sleep(60);
    await turn.write(list.slice(0, 10).join(''));
    await turn.sleep(60);
    await turn.write(list.slice(10).join(''));
    return turn.end();
  });
  server.tells((turn) => {
    assert.equal(turn.path, '/props');
    return json(200, { devices: [{ name: 'Tesla T4', memory_total: 16e9 }] })(turn);
  });
  const seen = await measure();
  assert.ok(seen.firstMs >= 50 && seen.totalMs - seen.firstMs >= 50, JSON.stringify(seen));
  assert.equal(seen.outputTokens, 48);
  assert.deepEqual([seen.gpu, seen.memoryBytes], ['Tesla T4', 16e9]);
  const [asked] = server.requests;
  assert.equal(asked?.body['max_tokens'], 48, 'its cost is bounded');
  assert.match(asked?.text ?? '', /nonce-1 Count/, 'no cache has its beginning');
});

test('what it claims beyond what was asked for is not believed', async (t) => {
  const list = eventsOf({ pieces: WORDS, finish: 'length' }).map((event) =>
    event
      .replace(/"completion_tokens":\d+/g, '"completion_tokens":100000')
      .replace(/"predicted_n":\d+/g, '"predicted_n":100000'),
  );
  const { measure } = await setup(t, events(list));
  assert.ok((await measure()).outputTokens <= 48);
});

test('one that refuses, or streams nothing, is not measured; one that says nothing of its machine is', async (t) => {
  const refuses = await setup(t, json(500, { error: {} }));
  await assert.rejects(refuses.measure());
  const empty = await setup(t, events(eventsOf({ pieces: [], finish: 'stop' })));
  await assert.rejects(empty.measure(), /no answer/);
  const silent = await setup(t, events(eventsOf({ pieces: WORDS, finish: 'length' })));
  const { gpu, memoryBytes } = await silent.measure();
  assert.deepEqual([gpu, memoryBytes], [null, null]);
});

test('what engines say of their machine is read where it is, and only when it is what it should be', () => {
  assert.deepEqual(readDevices({ gpu_name: 'NVIDIA L4', total_memory: 24e9 }), { gpu: 'NVIDIA L4', memoryBytes: 24e9 });
  for (const reply of [null, 'text', {}, { devices: [] }, { devices: [3] }, { gpu_name: 7, memory_total: 'much' }]) {
    assert.deepEqual(readDevices(reply), { gpu: null, memoryBytes: null });
  }
});

async function setup(t: TestContext, script: Script) {
  const server = await startModelServer(t, script);
  const upstream = createUndiciUpstream({ connectMs: 2000, connectionsMax: 4, headerBytesMax: 16_384 });
  t.after(() => upstream.close());
  const price = { input: '1', output: '1' };
  const pool = parsePool('m', { engine: 'llama.cpp', model: 'm', context: 4096, price, ceiling_usd_per_hour: '1' }, 0);
  const target = { url: server.url, apiKey: 'key' };
  const { signal } = new AbortController();
  return {
    server,
    measure: () => measureSpeed({ upstream, clock: systemClock, target, pool, nonce: 'nonce-1', signal }),
  };
}
