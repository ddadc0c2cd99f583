import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { adminOf } from '../fakes/admin.ts';
import { until } from '../fakes/clock.ts';
import {
  CUSTOMER,
  MODEL,
  onBothDoors,
  startGateway,
  type Door,
  type Gateway,
  type GatewaySettings,
} from '../fakes/gateway.ts';
import { json } from '../fakes/model-replies.ts';
import { completionOf, errorOf, streamOf } from '../fakes/reply.ts';

/** Who may have a prompt: trust, region and provider, as the pool, the key and the request ask. */

const NOW = { 'x-underbid-max-wait': '0' };

onBothDoors('a key that demands a level gets machines of that level, or a refusal that says why', async (t, door) => {
  const { as, gateway, servers } = await setup(t, door);
  const audited = as((await gateway.addKey({ trust: 'audited' })).key);
  const { provider } = await served(audited, {});
  assert.equal(provider, 'provider-of-checked');
  assert.equal(servers.plain?.requests.length, 0, 'not even to count its tokens');
  const tee = as((await gateway.addKey({ trust: 'tee' })).key);
  const error = await errorOf(await tee({}, NOW), 503);
  assert.equal(error.code, 'no_capacity');
  assert.match(error.message, /no machine is free now that meets trust tee/);
});

onBothDoors('of regions and providers, too', async (t, door) => {
  const { as, gateway } = await setup(t, door);
  const keyed = async (settings: Parameters<Gateway['addKey']>[0]): Promise<string | null> =>
    (await served(as((await gateway.addKey(settings)).key), {})).provider;
  assert.equal(await keyed({ regions: ['eu', 'uk'] }), 'provider-of-plain');
  assert.equal(await keyed({ providers: ['provider-of-checked'] }), 'provider-of-checked');
  const nowhere = as((await gateway.addKey({ regions: ['mars'], providers: ['provider-of-plain'] })).key);
  const { message } = await errorOf(await nowhere({}, NOW), 503);
  assert.match(message, /that meets region mars, provider provider-of-plain/);
});

onBothDoors('a request may ask for more by its headers, and never for less', async (t, door) => {
  const { as, gateway } = await setup(t, door);
  const plain = as(gateway.key);
  assert.equal((await served(plain, { 'x-underbid-trust': 'audited' })).provider, 'provider-of-checked');
  assert.equal((await served(plain, { 'x-underbid-region': 'us' })).provider, 'provider-of-checked');
  assert.equal((await served(plain, { 'x-underbid-provider': 'a, provider-of-plain' })).provider, 'provider-of-plain');
  const strict = as((await gateway.addKey({ trust: 'audited', regions: ['us'] })).key);
  assert.equal((await served(strict, { 'x-underbid-trust': 'any' })).provider, 'provider-of-checked');
  const against = await errorOf(await strict({}, { 'x-underbid-region': 'eu' }), 403);
  assert.deepEqual([against.code, against.param], ['permission_denied', 'model']);
  for (const [name, value] of [
    ['x-underbid-trust', 'total'],
    ['x-underbid-region', ''],
    ['x-underbid-provider', 'a,,b'],
  ] as const) {
    const { code, param } = await errorOf(await plain({}, { [name]: value }), 400);
    assert.deepEqual([code, param], ['invalid_request', name]);
  }
});

onBothDoors('the pool’s own level holds for machines of before it was raised', async (t, door) => {
  const { as, gateway, servers } = await setup(t, door);
  const { router } = gateway;
  router.update({ ...router.spec, trust: 'audited' });
  for (let count = 0; count < 6; count += 1) await served(as(gateway.key), {});
  assert.equal(servers.plain?.requests.length, 0);
});

onBothDoors('what no market of the pool can ever give is refused at once', async (t, door) => {
  const reach: GatewaySettings['reach'] = (spec, { trust }) =>
    trust === 'tee' ? `nobody has it for ${spec.id}` : null;
  const { as, gateway } = await setup(t, door, { reach });
  const { code, message } = await errorOf(await as(gateway.key)({}, { 'x-underbid-trust': 'tee' }), 403);
  assert.equal(code, 'permission_denied');
  assert.equal(message, `${MODEL} cannot be had with trust tee: nobody has it for ${MODEL}`);
});

onBothDoors('a request waits for a machine that meets it while others are served', async (t, door) => {
  const { as, gateway } = await setup(t, door);
  gateway.router.remove('checked');
  const pending = as(gateway.key)({}, { 'x-underbid-trust': 'audited' });
  await until('it waits', () => gateway.router.stats.waiting === 1);
  assert.equal((await served(as(gateway.key), {})).provider, 'provider-of-plain');
  gateway.addReplica(gateway.server, { id: 'late', trust: 'audited' });
  assert.equal((await pending).headers.get('x-underbid-provider'), 'provider-of-late');
});

onBothDoors('one that fails is replaced by another that meets it, not by any', async (t, door) => {
  const { as, gateway, servers } = await setup(t, door);
  gateway.addReplica(gateway.server, { id: 'second', trust: 'audited' });
  servers.checked?.usually(json(500, {}));
  for (let count = 0; count < 3; count += 1) {
    const { provider } = await served(as(gateway.key), { 'x-underbid-trust': 'audited' });
    assert.equal(provider, 'provider-of-second');
  }
});

onBothDoors('every answer names its provider, a stream by its look-up', async (t, door) => {
  const { as, gateway } = await setup(t, door);
  const stream = await streamOf(await as(gateway.key)({ stream: true }, { 'x-underbid-trust': 'audited' }));
  const { id } = stream.chunks[0] as { id: string };
  const { data } = (await (await gateway.get(`/v1/generation?id=${id}`)).json()) as { data: Record<string, unknown> };
  assert.equal(data['provider'], 'provider-of-checked');
});

onBothDoors('keys are made with what they demand, show it, and keep it when they are rotated', async (t, door) => {
  const { gateway } = await setup(t, door);
  const admin = adminOf(gateway);
  const demands = { trust: 'audited', regions: ['us', 'eu'], providers: ['provider-of-checked'] };
  const { id } = await admin.ask('POST', `/admin/accounts/${CUSTOMER}/keys`, { name: 'strict', ...demands }, 201);
  const { key } = await admin.ask('POST', `/admin/keys/${String(id)}/rotate`, {}, 201);
  const shown = await gateway.fetch('/v1/key', { headers: { authorization: `Bearer ${String(key)}` } });
  const { data } = (await shown.json()) as { data: Record<string, unknown> };
  assert.deepEqual({ trust: data['trust'], regions: data['regions'], providers: data['providers'] }, demands);
  const { data: listed } = await admin.ask('GET', `/admin/accounts/${CUSTOMER}/keys`);
  assert.deepEqual((listed as Record<string, unknown>[]).filter(({ trust }) => trust === 'audited').length, 2);
  for (const wrong of [{ trust: 'total' }, { regions: [] }, { providers: ['a,b'] }, { regions: ['a b'] }]) {
    await admin.ask('POST', `/admin/accounts/${CUSTOMER}/keys`, { name: 'wrong', ...wrong }, 400);
  }
});

onBothDoors('texts to embed go where they may, too', async (t, door) => {
  const { gateway, servers } = await setup(t, door, { pool: { kind: 'embeddings' } });
  servers.checked?.usually(json(200, EMBEDDED));
  const body = JSON.stringify({ model: MODEL, input: ['secret'] });
  const headers = { authorization: `Bearer ${gateway.key}`, 'content-type': 'application/json' };
  const ask = (trust: string): Promise<Response> =>
    gateway.fetch('/v1/embeddings', {
      method: 'POST',
      body,
      headers: { ...headers, ...NOW, 'x-underbid-trust': trust },
    });
  const response = await ask('audited');
  assert.equal(response.status, 200, await response.text());
  assert.equal(response.headers.get('x-underbid-provider'), 'provider-of-checked');
  assert.equal((await errorOf(await ask('tee'), 503)).code, 'no_capacity');
  assert.equal(servers.plain?.requests.length, 0);
});

const EMBEDDED = {
  object: 'list',
  data: [{ object: 'embedding', index: 0, embedding: [0.5, 0.25] }],
  usage: { prompt_tokens: 2, total_tokens: 2 },
};

type Chat = (fields?: Record<string, unknown>, headers?: Record<string, string>) => Promise<Response>;

async function served(chat: Chat, headers: Record<string, string>): Promise<{ provider: string | null }> {
  const response = await chat({}, headers);
  const provider = response.headers.get('x-underbid-provider');
  await completionOf(response);
  return { provider };
}

/** Two machines: anybody's in eu, and an audited one in us. */
async function setup(
  t: TestContext,
  door: Door,
  more: GatewaySettings = {},
): Promise<{
  gateway: Gateway;
  servers: { plain: Gateway['server'] | undefined; checked: Gateway['server'] | undefined };
  as: (key: string) => Chat;
}> {
  const gateway = await startGateway(t, { door, servers: 2, slots: 8, ...more });
  const [plain, checked] = gateway.servers;
  for (const id of ['replica-0', 'replica-1']) gateway.router.remove(id);
  if (plain) gateway.addReplica(plain, { id: 'plain', region: 'eu' });
  if (checked) gateway.addReplica(checked, { id: 'checked', region: 'us', trust: 'audited' });
  const as =
    (key: string): Chat =>
    (fields, headers = {}) =>
      gateway.chat({ max_tokens: 5, ...fields }, { headers: { authorization: `Bearer ${key}`, ...headers } });
  return { gateway, servers: { plain, checked }, as };
}
