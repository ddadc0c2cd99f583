import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import type { WakeOffer } from '../../src/scheduler/pool/wake-offer.ts';
import { adminOf } from '../fakes/admin.ts';
import { until } from '../fakes/clock.ts';
import { MODEL, onBothDoors, startGateway, type Door, type Gateway } from '../fakes/gateway.ts';
import { answer, json } from '../fakes/model-replies.ts';
import { startModelServer, type Script } from '../fakes/model-server.ts';

/** A request that accepts a fee for a wake: held, charged when the pool was woken for it, told, and never above its word. */

const HEADER = 'x-underbid-wake-fee-max';

onBothDoors('a fee is held with the tokens, charged when the pool was woken, and told everywhere', async (t, door) => {
  const { gateway, offer, serve } = await setup(t, door);
  const asked = gateway.chat({ max_tokens: 8 }, { headers: { [HEADER]: '0.06' } });
  const { feeNanoUsd, valueNanoUsd } = await offer();
  assert.equal(feeNanoUsd, 50_000_000n, "the pool's fee, not all that was accepted");
  const [hold] = gateway.ledger.asks('hold');
  assert.deepEqual([hold?.wakeFee, hold?.amount], [50_000_000n, 50_000_000n + 4n * valueNanoUsd]);
  await serve();
  const response = await asked;
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('x-underbid-wake-fee-usd'), '0.05');
  const { id, usage } = (await response.json()) as { id: string; usage: Usage };
  assert.equal(response.headers.get('x-underbid-cost-usd'), String(usage.cost));
  assert.deepEqual(usage.cost_details, { tokens: Number((usage.cost - 0.05).toFixed(9)), wake_fee: 0.05 });
  const generation = (await (await gateway.get(`/v1/generation?id=${id}`)).json()) as { data: Record<string, unknown> };
  assert.deepEqual([generation.data['wake_fee'], generation.data['total_cost']], [0.05, usage.cost]);
  const account = await gateway.ledger.ask({ op: 'account', name: `revenue:wake:${MODEL}` });
  assert.equal(account?.posted, 50_000_000n);
});

onBothDoors('a stream tells the fee in its last usage', async (t, door) => {
  const { gateway, offer, serve } = await setup(t, door);
  const asked = gateway.chat(
    { stream: true, stream_options: { include_usage: true } },
    { headers: { [HEADER]: '0.05' } },
  );
  await offer();
  await serve();
  assert.match(await (await asked).text(), /"cost_details":\{"tokens":[\d.e-]+,"wake_fee":0.05\}/);
});

test('who accepts less than the fee offers none, and a request says it before its key', async (t) => {
  const { gateway, offer, serve } = await setup(t, 'node');
  const { key } = await gateway.addKey({ wakeFeeMax: 60_000_000n });
  const ask = (headers: Record<string, string>): Promise<Response> => gateway.chat({ max_tokens: 8 }, { headers });
  const cases = [
    [{ [HEADER]: '0.049' }, 0n],
    [{}, 0n],
    [{ authorization: `Bearer ${key}` }, 50_000_000n],
    [{ authorization: `Bearer ${key}`, [HEADER]: '0' }, 0n],
  ] as const;
  const asked = [];
  for (const [headers, fee] of cases) {
    asked.push(ask({ ...headers }));
    assert.equal((await offer(asked.length)).feeNanoUsd, fee);
  }
  await serve();
  for (const response of await Promise.all(asked)) await response.text();
  const bad = await ask({ [HEADER]: 'much' });
  assert.deepEqual([bad.status, await codeOf(bad)], [400, 'invalid_request']);
});

test('a fee that does not fit the credit is a 402 which names it', async (t) => {
  const { gateway } = await setup(t, 'node', '0.04');
  const response = await gateway.chat({ max_tokens: 8 }, { headers: { [HEADER]: '0.05' } });
  assert.equal(response.status, 402);
  const { error } = (await response.json()) as { error: { metadata: Record<string, unknown> } };
  assert.equal(error.metadata['wake_fee_usd'], '0.05');
});

test('a warm pool takes no fee, nor does a request that another one woke it for', async (t) => {
  const { gateway, offer, serve } = await setup(t, 'node');
  const both = [1, 2].map(() => gateway.chat({ max_tokens: 8 }, { headers: { [HEADER]: '0.05' } }));
  await offer(2);
  await serve();
  for (const asked of both) assert.equal((await asked).status, 200);
  const third = await gateway.chat({ max_tokens: 8 }, { headers: { [HEADER]: '0.05' } });
  assert.equal(third.headers.get('x-underbid-wake-fee-usd'), null);
  const account = await gateway.ledger.ask({ op: 'account', name: `revenue:wake:${MODEL}` });
  assert.equal(account?.posted, 50_000_000n, 'one fee for one wake');
});

test('who leaves once a machine was leased for it pays, who is failed does not', async (t) => {
  const { gateway, offer } = await setup(t, 'node');
  const gone = new AbortController();
  const left = gateway.chat({ max_tokens: 8 }, { headers: { [HEADER]: '0.05' }, signal: gone.signal });
  (await offer()).follow('leased');
  gone.abort();
  await assert.rejects(left);
  await until('it is settled', () => gateway.ledger.settlements.length === 1);
  assert.deepEqual(
    gateway.ledger.settlements.map(({ wakeFee }) => wakeFee),
    [50_000_000n],
  );
  const failed = gateway.chat({ max_tokens: 8 }, { headers: { [HEADER]: '0.05', 'x-underbid-max-wait': '0.3' } });
  (await offer()).follow('leased');
  assert.equal((await failed).status, 503);
  assert.equal(gateway.ledger.settlements[1]?.charged, 0n);
});

onBothDoors('who woke a machine for a request that its model server refuses pays for the wake', async (t, door) => {
  const { gateway, offer, serve } = await setup(t, door);
  const asked = gateway.chat({ max_tokens: 8 }, { headers: { [HEADER]: '0.05' } });
  await offer();
  await serve(json(422, { error: { message: 'temperature: too hot' } }));
  assert.equal((await asked).status, 400);
  assert.deepEqual(
    gateway.ledger.settlements.map(({ charged, wakeFee }) => [charged, wakeFee]),
    [[50_000_000n, 50_000_000n]],
  );
});

test('what a request is worth for a wake is what its account is usually charged, not what it asks to be held', async (t) => {
  const { gateway, offer } = await setup(t, 'node');
  const worth = async (): Promise<number> => {
    const gone = new AbortController();
    const asked = gateway.chat({ max_tokens: 8 }, { signal: gone.signal });
    const { valueNanoUsd } = await offer();
    const { amount } = gateway.ledger.asks('hold').at(-1) ?? assert.fail('nothing was held');
    gone.abort();
    await assert.rejects(asked);
    await until('it is settled', () => gateway.ledger.settlements.length === gateway.ledger.asks('hold').length);
    return Number(valueNanoUsd) / Number(amount);
  };
  const refused = await gateway.chat({ max_tokens: 8 }, { headers: { 'x-underbid-max-wait': '0' } });
  assert.equal(refused.status, 503);
  assert.equal(await worth(), 0.25, 'a newcomer: what we did not serve says nothing of it');
  const share = await worth();
  assert.ok(share < 0.13, `${share}: it left, and was charged nothing`);
  gateway.addReplica(await startModelServer(t, answer({ prompt: 60, claims: 8 })), { id: 'warm' });
  for (let n = 0; n < 8; n += 1) assert.equal((await gateway.chat({ max_tokens: 8 })).status, 200);
  gateway.router.remove('warm');
  assert.ok((await worth()) > share, 'it was charged for answers since');
});

test('GET /v1/models says what wakes a model, and a key shows what it accepts', async (t) => {
  const { gateway } = await setup(t, 'node');
  const models = (await (await gateway.get('/v1/models')).json()) as { data: Record<string, unknown>[] };
  assert.deepEqual([models.data[0]?.['wakes_for'], models.data[0]?.['wake_fee_usd']], [['fee'], '0.05']);
  const admin = adminOf(gateway);
  const made = await admin.ask('POST', '/admin/accounts/acct-1/keys', { name: 'w', wake_fee_max_usd: '0.10' }, 201);
  const headers = { authorization: `Bearer ${String(made['key'])}` };
  const own = (await (await gateway.fetch('/v1/key', { headers })).json()) as { data: Record<string, unknown> };
  assert.equal(own.data['wake_fee_max'], 0.1);
});

interface Usage {
  readonly cost: number;
  readonly cost_details?: unknown;
}

async function codeOf(response: Response): Promise<string> {
  return ((await response.json()) as { error: { code: string } }).error.code;
}

/** A cold pool that wakes for five cents; `serve` is the machine that the first in line has leased. */
async function setup(t: TestContext, door: Door, creditUsd = '5.00') {
  const wake = { needs: ['fee' as const], fee_usd: '0.05' };
  const gateway: Gateway = await startGateway(t, { door, servers: 0, pool: { wake }, creditUsd });
  const offer = async (count = 1): Promise<WakeOffer> => {
    await until('it is in line', () => gateway.router.waiters.length === count);
    const last = gateway.router.waiters.at(-1)?.wake;
    assert.ok(last);
    return last;
  };
  const serve = async (says: Script = answer()): Promise<void> => {
    gateway.router.waiters[0]?.wake?.follow('leased');
    gateway.addReplica(await startModelServer(t, says), { id: 'woken' });
  };
  return { gateway, offer, serve };
}
