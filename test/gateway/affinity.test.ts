import assert from 'node:assert/strict';
import { onBothDoors, startGateway, type Gateway } from '../fakes/gateway.ts';

const LONG = 'All the world is a stage, and all the men and women merely players. '.repeat(20);
const first = [{ role: 'user', content: `${LONG} Who said this?` }];
const next = [...first, { role: 'assistant', content: 'Jaques.' }, { role: 'user', content: 'In which play?' }];
const other = [{ role: 'user', content: `Something else: ${LONG}` }];

/** How many requests each model server has had. */
const counts = ({ servers }: Gateway): number[] => servers.map(({ requests }) => requests.length);

onBothDoors('a conversation goes on where it began, others go where there is less to do', async (t, door) => {
  const gateway = await startGateway(t, { door, servers: 3 });
  assert.equal((await gateway.chat({ messages: other })).status, 200);
  // With nothing at work the first replica is as good as any.
  assert.deepEqual(counts(gateway), [1, 0, 0]);
  const held = gateway.router.tryTake();
  await gateway.chat({ messages: first });
  held?.release('served');
  assert.deepEqual(counts(gateway), [1, 1, 0]);
  await gateway.chat({ messages: next });
  await gateway.chat({ messages: next });
  assert.deepEqual(counts(gateway), [1, 3, 0]);
  await gateway.chat({ messages: [{ role: 'user', content: 'short' }] });
  assert.deepEqual(counts(gateway), [2, 3, 0]);
});

onBothDoors('a session named by the client stays on its replica', async (t, door) => {
  const gateway = await startGateway(t, { door, servers: 2 });
  for (const named of [{ prompt_cache_key: 'chat-7' }, { headers: { 'x-underbid-session': 'chat-7' } }]) {
    const ask = async (content: string): Promise<Response> => {
      const { headers, ...fields } = { headers: {}, ...named };
      return gateway.chat({ messages: [{ role: 'user', content }], ...fields }, { headers });
    };
    const held = gateway.router.tryTake();
    await ask('one');
    held?.release('served');
    await ask('two');
  }
  assert.deepEqual(counts(gateway), [0, 4]);
});

onBothDoors('another account’s same prompt shows nothing of where the first went', async (t, door) => {
  const gateway = await startGateway(t, { door, servers: 2 });
  const held = gateway.router.tryTake();
  await gateway.chat({ messages: first });
  held?.release('served');
  assert.deepEqual(counts(gateway), [0, 1]);
  const { key } = await gateway.addKey({}, 'acct-2');
  const grant = { id: 'grant-2', customer: 'acct-2', kind: 'paid' as const, amount: 10n ** 9n, expiresMs: null };
  await gateway.ledger.ask({ op: 'grant', ...grant, actor: 'test', reason: 'credit for a test', atMs: 0 });
  const headers = { authorization: `Bearer ${key}` };
  await gateway.chat({ messages: first }, { headers });
  assert.deepEqual(counts(gateway), [1, 1]);
});
