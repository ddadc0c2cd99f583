import assert from 'node:assert/strict';
import { AttemptFailure } from '../../src/gateway/attempt.ts';
import { outcomeOf } from '../../src/gateway/attempts.ts';
import { until } from '../fakes/clock.ts';
import { onBothDoors, startGateway } from '../fakes/gateway.ts';
import { deltaEvent, events, eventsOf, json, stallAfter, wholeOf } from '../fakes/model-replies.ts';
import { errorOf, StreamReader } from '../fakes/reply.ts';

/** Requests and model servers that want more than was paid for. */

onBothDoors('a request for more choices by a model server’s own name is refused', async (t, door) => {
  const { chat, server } = await startGateway(t, { door });
  for (const field of ['n_cmpl', 'best_of', 'n_predict']) {
    const error = await errorOf(await chat({ [field]: 4 }), 400);
    assert.equal(error.param, field);
  }
  assert.equal(server.requests.length, 0);
});

onBothDoors('a model server that sends several choices where one was asked is at fault', async (t, door) => {
  const { chat, server, ledger } = await startGateway(t, { door });
  const [choice] = wholeOf()['choices'] as unknown[];
  server.usually(json(200, { ...wholeOf(), choices: [choice, choice] }));
  await errorOf(await chat({ max_tokens: 5 }), 502);
  server.usually(events([deltaEvent({ content: 'x' }).replace('"index":0', '"index":1'), ...eventsOf()]));
  await errorOf(await chat({ stream: true }), 502);
  assert.deepEqual([...new Set(ledger.settlements.map(({ charged }) => charged))], [0n]);
});

onBothDoors('an answer that is larger than is kept is made once, and no fault of the machine’s', async (t, door) => {
  const { chat, servers, ledger } = await startGateway(t, { door, servers: 3, limits: { replyBytes: 20_000 } });
  const large = { ...wholeOf({ pieces: ['x'.repeat(30_000)] }) };
  for (const server of servers) server.usually(json(200, large));
  const response = await chat({ max_tokens: 5 });
  assert.equal(response.headers.get('x-should-retry'), 'false');
  assert.match((await errorOf(response, 502)).message, /larger than this gateway keeps/);
  assert.equal(servers.flatMap(({ requests }) => requests).length, 1);
  assert.equal(outcomeOf(new AttemptFailure('large', { cause: null }), true), 'refused');
  assert.equal(ledger.settlements[0]?.charged, 0n);
});

onBothDoors('who reads an answer and leaves before the usage is told pays for the prompt too', async (t, door) => {
  const { chat, server, ledger } = await startGateway(t, { door });
  const silent = eventsOf({ shape: 'openai' }).slice(0, 3);
  server.usually(stallAfter(silent));
  const messages = [{ role: 'user', content: 'word '.repeat(160) }];
  const reader = new StreamReader(await chat({ stream: true, messages }));
  await reader.until(' wor');
  await reader.leave();
  await until('it is settled', () => ledger.settlements.length > 0);
  assert.equal(ledger.settlements[0]?.tokens.inputTokens, 100);
});

onBothDoors('what a model server says of a request hides its key and address', async (t, door) => {
  const { chat, server } = await startGateway(t, { door });
  const { host } = new URL(server.url);
  server.usually((turn) => {
    const key = turn.headers['authorization'] ?? '';
    return json(400, { error: { message: `${server.url} got ${key} at ${host}` } })(turn);
  });
  const error = await errorOf(await chat({ max_tokens: 5 }), 400);
  assert.doesNotMatch(error.message, new RegExp(host.replaceAll('.', '\\.')));
  assert.match(error.message, /\[hidden\] got Bearer \[hidden\]/);
});
