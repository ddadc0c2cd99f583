import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { onBothDoors, startGateway, type Door, type Gateway } from '../fakes/gateway.ts';
import { answer, cutAfter, deltaEvent, events, eventsOf, json, stallAfter } from '../fakes/model-replies.ts';
import { startModelServer, type Script } from '../fakes/model-server.ts';
import { streamOf, StreamReader } from '../fakes/reply.ts';

/** Answers that are whole but for the words that they are over: nobody goes on with them. */

const STREAM = { stream: true, stream_options: { include_usage: true }, max_tokens: 50 };
const WHOLE = 'Hello world!';
const FINISHED = eventsOf({}).slice(0, -2);
const FINISH = FINISHED.at(-1) ?? '';

const FAULTS: Readonly<Record<string, Script>> = {
  'a stall': stallAfter(FINISHED),
  'an error event': stallAfter([...FINISHED, 'data: {"error":{"message":"out of memory"}}\n\n']),
  'a malformed chunk': stallAfter([...FINISHED, 'data: {"choices":[\n\n']),
  'words without end': async (turn) => {
    turn.streamHead();
    for (const event of FINISHED) await turn.write(event);
    for (let left = 1000; left > 0; left -= 1) {
      await turn.write(deltaEvent({ content: ' more' }));
      await turn.sleep(20);
    }
  },
};

for (const [name, fault] of Object.entries(FAULTS)) {
  onBothDoors(`${name} after the finish_reason does not show, and nobody goes on`, async (t, door) => {
    const { chat, servers, ledger } = await setup(t, door);
    servers[0]?.usually(fault);
    servers[1]?.usually(answer({ pieces: [' Again', '.'] }));
    const { texts, done, error, chunks } = await streamOf(await chat(STREAM));
    assert.deepEqual([texts, done, error], [[WHOLE], true, null]);
    assert.equal(chunks.filter(({ choices }) => choices[0]?.finish_reason).length, 1);
    assert.equal(servers[1]?.requests.length, 0);
    assert.deepEqual([ledger.settlements.length, ledger.settlements[0]?.tokens.outputTokens], [1, 4]);
  });
}

onBothDoors('a machine that is taken away after the finish_reason is not missed', async (t, door) => {
  const { chat, servers, router } = await setup(t, door);
  servers[0]?.usually(stallAfter(FINISHED));
  const { status, headers, body } = await chat(STREAM);
  const [seen, kept] = body?.tee() ?? assert.fail('no body');
  await new StreamReader(new Response(seen)).until('"finish_reason":"stop"');
  router.remove('replica-0');
  const { texts, finishes, done } = await streamOf(new Response(kept, { status, headers }));
  assert.deepEqual([texts, finishes, done], [[WHOLE], ['stop'], true]);
  assert.equal(servers[1]?.requests.length, 0);
});

onBothDoors('what comes after the finish_reason is no part of the answer, streamed or whole', async (t, door) => {
  const { chat, server } = await setup(t, door);
  server.usually(events([...FINISHED, FINISH, deltaEvent({ content: 'late' }), FINISH, ...eventsOf({}).slice(-2)]));
  const { texts, done, chunks } = await streamOf(await chat(STREAM));
  assert.deepEqual([texts, done], [[WHOLE], true]);
  assert.equal(chunks.filter(({ choices }) => choices[0]?.finish_reason).length, 1);
});

test('what a server refuses of an answer that was begun elsewhere is not told as a fault of the request', async (t) => {
  const { chat, servers } = await setup(t, 'node');
  servers[0]?.usually(cutAfter(eventsOf({}).slice(0, 3)));
  servers[1]?.usually(json(400, { error: { message: 'exceeds the context size' } }));
  const { texts, done, error } = await streamOf(await chat(STREAM));
  assert.deepEqual([texts, done, error?.code], [['Hello wor'], false, 'upstream_error']);
  const third = await startModelServer(t, answer({ pieces: ['ld', '!'] }));
  const gateway = await setup(t, 'node');
  const more = gateway.servers;
  more[0]?.usually(cutAfter(eventsOf({}).slice(0, 3)));
  more[1]?.usually(json(400, { error: { message: 'exceeds the context size' } }));
  gateway.addReplica(third, { id: 'replica-third' });
  const reply = await streamOf(await gateway.chat(STREAM));
  assert.deepEqual([reply.texts, reply.done], [[WHOLE], true]);
});

for (const change of [{ model: 'another' }, { image: 'another' }, { resume: 'off' }] as const) {
  test(`no other model goes on with an answer that waited (${Object.keys(change)[0]})`, async (t) => {
    const { chat, server, router, addReplica, ledger } = await setup(t, 'node', 1);
    server.usually(stallAfter(eventsOf({}).slice(0, 3)));
    const reply = chat(STREAM).then(streamOf);
    await (await server.request(0)).sleep(50);
    router.remove('replica-0');
    await server.requests[0]?.left;
    router.update({ ...router.spec, ...change });
    // Another model was seen to resume its own answers.
    if ('model' in change) router.setResumes(true);
    addReplica(server, { id: 'replica-new' });
    const { texts, done, error } = await reply;
    assert.deepEqual([texts, done, error?.code], [['Hello wor'], false, 'upstream_error']);
    assert.deepEqual([server.requests.length, ledger.settlements.length], [1, 1]);
  });
}

test('a text that ends in half a character is not gone on with', async (t) => {
  const { chat, servers } = await setup(t, 'node');
  servers[0]?.usually(
    cutAfter([...eventsOf({}).slice(0, 1), 'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n']),
  );
  const { done, error } = await streamOf(await chat(STREAM));
  assert.deepEqual([done, error?.code, servers[1]?.requests.length], [false, 'upstream_error', 0]);
});

async function setup(t: TestContext, door: Door, servers = 2): Promise<Gateway> {
  const limits = { first_token_s: 10, between_tokens_s: 0.5 };
  const gateway = await startGateway(t, { door, servers, pool: { limits } });
  gateway.router.setResumes(true);
  return gateway;
}
