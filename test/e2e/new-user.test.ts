import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import OpenAI, { type APIError } from 'openai';
import { parseUsd } from '../../src/units.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

/** The embedded default, but idle after three seconds and with blocks of a fifth of a second, so that rent is seen. */
const CONFIG = `
pools:
  smollm2-135m:
    engine: llama.cpp
    model: smollm2-135m
    context: 2048
    price: { input: "0.02", cached_input: "0.01", output: "0.05" }
    replicas: { min: 0, max: 2 }
    slots: 4
    ceiling_usd_per_hour: "0.10"
    idle_s: 3
    runway_s: 600
markets:
  local: { block_ms: 200 }
`;

interface LeaseView {
  readonly id: string;
  readonly state: string;
  readonly provider: string;
  readonly deposit_usd: string;
  readonly rent_usd: string;
  readonly take_fee_usd: string;
  readonly refund_usd: string;
  readonly steps: readonly Record<string, unknown>[];
}

test('a new user gets answers from a machine won at auction, pays exactly for the tokens, and the machine is returned', async (t) => {
  const gateway = await startGateway(t, { config: CONFIG });
  const client = new OpenAI({ apiKey: gateway.demoKey, baseURL: `${gateway.url}/v1`, maxRetries: 0 });
  assert.equal(statSync(join(gateway.dataDir, 'demo.key')).mode & 0o777, 0o600);

  const cold = await streamed(client, 'Name three colours.');
  assert.ok(cold.text.length > 0);
  assert.match(gateway.stdout(), new RegExp(`curl -N ${gateway.url}/v1/chat/completions`));
  assert.ok(cold.usage.completion_tokens > 0);
  const warm = await client.chat.completions
    .create({ model: 'smollm2-135m', max_tokens: 12, messages: [{ role: 'user', content: 'And three animals.' }] })
    .withResponse();
  assert.equal(warm.response.headers.get('x-underbid-cold-start-ms'), '0');
  assert.ok(warm.response.headers.get('x-underbid-provider'));
  const { usage } = warm.data;
  assert.ok(usage);
  // The model may have said all before.
  assert.ok(usage.completion_tokens > 0 && usage.completion_tokens <= 12, `${usage.completion_tokens} tokens`);

  await assertRefused(gateway);
  const spent = priceOf(cold.usage) + priceOf(usage);
  const account = (await gateway.admin('/admin/accounts/demo')) as Record<string, string>;
  assert.equal(
    parseUsd(account['balance_usd'] ?? ''),
    parseUsd('5.00') - spent,
    'credit less the exact price of the tokens',
  );
  assert.equal(account['held_usd'], '0.00');
  await assertGeneration(gateway, warm.data.id, usage);

  const [open] = ((await gateway.admin('/admin/leases')) as { data: LeaseView[] }).data;
  assert.ok(open);
  assert.equal(open.state, 'active');
  await assertSteps(gateway, open.id);
  const closed = await until('the lease is closed after its idle time', 30_000, async () => {
    const lease = (await gateway.admin(`/admin/leases/${open.id}`)) as LeaseView;
    return lease.state === 'closed' ? lease : null;
  });
  const [deposit, rent, fee, refund] = [
    closed.deposit_usd,
    closed.rent_usd,
    closed.take_fee_usd,
    closed.refund_usd,
  ].map(parseUsd);
  assert.ok(rent !== undefined && rent > 0n, 'rent was drawn');
  assert.ok(fee !== undefined && fee > 0n, 'and the take fee with it');
  assert.equal(rent + fee + (refund ?? 0n), deposit);
  const check = (await gateway.admin('/admin/ledger/check')) as { ok: boolean };
  assert.equal(check.ok, true, JSON.stringify(check));

  gateway.child.kill('SIGTERM');
  assert.equal(await gateway.exited, 0);
});

async function streamed(client: OpenAI, content: string): Promise<{ text: string; usage: OpenAI.CompletionUsage }> {
  const stream = await client.chat.completions.create({
    model: 'smollm2-135m',
    stream: true,
    max_tokens: 24,
    stream_options: { include_usage: true },
    messages: [{ role: 'user', content }],
  });
  let text = '';
  let usage: OpenAI.CompletionUsage | null = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.ok(usage);
  return { text, usage };
}

/** Nano-USD: 20 a token, 10 a cached one, 50 an output token. */
function priceOf(usage: OpenAI.CompletionUsage): bigint {
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  return BigInt((usage.prompt_tokens - cached) * 20 + cached * 10 + usage.completion_tokens * 50);
}

async function assertRefused(gateway: GatewayProcess): Promise<void> {
  const baseURL = `${gateway.url}/v1`;
  const ask = (apiKey: string): Promise<unknown> =>
    new OpenAI({ apiKey, baseURL, maxRetries: 0 }).chat.completions.create({
      model: 'smollm2-135m',
      messages: [{ role: 'user', content: 'Hello' }],
    });
  await assert.rejects(
    ask('sk-ub-no-such-key'),
    (error: APIError) => error.status === 401 && error.code === 'invalid_api_key',
  );
  const { id } = (await gateway.admin('/admin/accounts', { method: 'POST', body: { name: 'empty' } })) as {
    id: string;
  };
  const made = (await gateway.admin(`/admin/accounts/${id}/keys`, { method: 'POST', body: { name: 'k' } })) as {
    key: string;
  };
  await assert.rejects(
    ask(made.key),
    (error: APIError) => error.status === 402 && error.code === 'insufficient_credits',
  );
}

async function assertGeneration(gateway: GatewayProcess, id: string, usage: OpenAI.CompletionUsage): Promise<void> {
  const headers = { authorization: `Bearer ${gateway.demoKey}` };
  const reply = await fetch(`${gateway.url}/v1/generation?id=${id}`, { headers });
  const { data } = (await reply.json()) as { data: Record<string, unknown> };
  assert.equal(data['tokens_completion'], usage.completion_tokens);
  assert.equal(data['cancelled'], false);
  assert.equal(Math.round(Number(data['total_cost']) * 1e9), Number(priceOf(usage)));
  assert.ok(data['lease']);
}

async function assertSteps(gateway: GatewayProcess, id: string): Promise<void> {
  const lease = (await gateway.admin(`/admin/leases/${id}`)) as LeaseView;
  assert.deepEqual(
    lease.steps.map(({ step }) => step),
    ['offer', 'order', 'bids', 'deposit and lease', 'delivery', 'rent'],
  );
  const bids = lease.steps[2]?.['bids'] as { provider: string; usd_per_hour: string }[];
  assert.ok(bids.length >= 2, 'several providers bid');
  assert.match(String(lease.steps[2]?.['choice']), new RegExp(`^${lease.provider} at .* eligible bids`));
  const cheapest = bids.toSorted((a, b) => Number(a.usd_per_hour) - Number(b.usd_per_hour))[0];
  assert.equal(cheapest?.provider, lease.provider, 'the best value won');
  assert.equal(lease.steps[4]?.['state'], 'running');
  for (const step of lease.steps) assert.ok(step['at'], `${String(step['step'])} has its time`);
}
