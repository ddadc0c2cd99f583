import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import {
  devnetConfig,
  assertAllClosed,
  assertPaidOnce,
  leasesOf,
  MODEL,
  startDevnet,
  UNHURRIED,
  type DevnetProcess,
} from './akash-bench.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';
import { askStreamed, type Answer } from './streamed-answer.ts';

/** An empty gateway on the Akash market, from the first call to the last uact of the refund; its machines die on the way. */

const QUESTION = {
  model: MODEL,
  temperature: 0,
  seed: 7,
  max_tokens: 120,
  messages: [{ role: 'user' as const, content: 'Tell a story of a fox.' }],
};

test('one call wins a machine on Akash; machines die or fall silent in mid-answer, the answer does not; then all is given back', async (t) => {
  const devnet = await startDevnet(t, UNHURRIED);
  const heldBefore = await devnet.uact();
  const gateway = await startGateway(t, { config: configOf(devnet) });
  assert.deepEqual(await devnet.deployments(), [], 'nothing is rented before somebody asks');

  const first = await firstCall(gateway);
  assert.ok(first.length > 100);
  await assertBestTaken(gateway, devnet);
  await until('the pool is seen to resume', 180_000, async () => {
    const no = await decided(gateway, 'pool.does_not_resume');
    assert.deepEqual(no, []);
    return (await decided(gateway, 'pool.resumes')).length > 0 ? true : null;
  });

  const killed = await interrupted(gateway, () => {
    const [server] = devnet.modelServers();
    assert.ok(server);
    process.kill(server, 'SIGKILL');
  });
  await assertUnbroken(gateway, killed, first);
  await assertPassedOver(gateway, devnet, 'prairie');

  // The whole provider: connections are taken, its own gateway says that all is well, and no token comes any more.
  const darkened = await interrupted(gateway, () => devnet.fault('dark-provider=fjord', true));
  await assertUnbroken(gateway, darkened, first);
  await assertPassedOver(gateway, devnet, 'fjord');
  const { data } = (await gateway.admin('/admin/providers')) as { data: { id: string; disputes: number }[] };
  assert.equal(data.find(({ id }) => id === devnet.providers.get('fjord'))?.disputes, 1, 'it stays on its record');

  await until('everything is closed', 120_000, async () => {
    const open = (await leasesOf(gateway)).filter(({ state }) => state !== 'closed');
    return open.length === 0 && (await devnet.deployments()).length === 0 ? true : null;
  });
  await assertAllClosed(gateway, devnet, { heldBefore });
  const messages = await assertPaidOnce(devnet);
  assert.deepEqual(
    messages.filter(({ type }) => type === 'MsgCreateLease').length,
    (await leasesOf(gateway)).length,
    'three machines, three leases',
  );
  assert.equal((await leasesOf(gateway)).length, 3);
});

/** As any client of OpenAI's has it. */
async function firstCall(gateway: GatewayProcess): Promise<string> {
  const client = new OpenAI({ apiKey: gateway.demoKey, baseURL: `${gateway.url}/v1`, maxRetries: 0 });
  const stream = await client.chat.completions.create({ ...QUESTION, stream: true });
  let text = '';
  let chunks = 0;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? '';
    chunks += 1;
  }
  assert.ok(chunks > 20, 'it came token by token');
  return text;
}

/** An answer in whose middle something happens to its machine. */
async function interrupted(gateway: GatewayProcess, strike: () => unknown): Promise<Answer & { charged: bigint }> {
  const before = await used(gateway);
  let struck: unknown = null;
  const answer = await askStreamed(gateway, QUESTION, (soFar) => {
    if (soFar.length >= 60) struck ??= strike() ?? true;
  });
  await struck;
  assert.notEqual(struck, null);
  return { ...answer, charged: (await used(gateway)) - before };
}

async function assertUnbroken(
  gateway: GatewayProcess,
  answer: Answer & { charged: bigint },
  whole: string,
): Promise<void> {
  assert.ok(answer.done, JSON.stringify(answer.error));
  assert.equal(answer.ids.size, 1, 'one answer');
  assert.equal(answer.text, whole, 'nothing doubled, nothing lost');
  assert.equal(answer.charged, nanoOf(answer.usage?.cost ?? 0), 'one charge');
  const headers = { authorization: `Bearer ${gateway.demoKey}` };
  const reply = await fetch(`${gateway.url}/v1/generation?id=${[...answer.ids][0]}`, { headers });
  const { data } = (await reply.json()) as { data: Record<string, unknown> };
  assert.deepEqual([data['resumed'], data['status'], data['market']], [1, 'done', 'akash']);
}

interface OrderLine {
  readonly choice: {
    readonly reason: string;
    readonly table: readonly { readonly provider: string; readonly score: number | null; readonly note: string }[];
  } | null;
  readonly bids: readonly { readonly provider: string; readonly usd_per_block: string }[];
}

async function lastOrder(gateway: GatewayProcess): Promise<OrderLine> {
  const { data } = (await gateway.admin('/admin/orders')) as { data: OrderLine[] };
  assert.ok(data[0]);
  return data[0];
}

async function assertBestTaken(gateway: GatewayProcess, devnet: DevnetProcess): Promise<void> {
  const [lease] = await leasesOf(gateway);
  assert.equal(lease?.provider, devnet.providers.get('prairie'), 'the cheapest of three');
  const { choice, bids } = await lastOrder(gateway);
  assert.equal(bids.length, 3, JSON.stringify(bids));
  assert.match(
    choice?.reason ?? '',
    new RegExp(`^${lease?.provider} at .* of 3 eligible bids, next ${devnet.providers.get('fjord')}`),
  );
  assert.deepEqual(await devnet.leases('active').then((all) => all.map(({ provider }) => provider)), [lease?.provider]);
}

/** Another provider has the lease now, and the order says why this one has not. */
async function assertPassedOver(gateway: GatewayProcess, devnet: DevnetProcess, name: string): Promise<void> {
  const failed = devnet.providers.get(name);
  const open = (await leasesOf(gateway)).filter(({ state }) => state !== 'closed');
  assert.equal(open.length, 1);
  assert.notEqual(open[0]?.provider, failed);
  const { choice } = await lastOrder(gateway);
  const row = choice?.table.find(({ provider }) => provider === failed);
  assert.deepEqual([row?.score, row?.note], [null, 'failed a moment ago'], JSON.stringify(choice));
}

async function decided(gateway: GatewayProcess, kind: string): Promise<readonly unknown[]> {
  const { data } = (await gateway.admin('/admin/decisions?limit=1000')) as { data: { kind: string }[] };
  return data.filter((one) => one.kind === kind);
}

const nanoOf = (usd: number): bigint => BigInt(Math.round(usd * 1e9));

async function used(gateway: GatewayProcess): Promise<bigint> {
  const account = (await gateway.admin('/admin/accounts/demo')) as Record<string, string>;
  return nanoOf(Number(account['used_usd']));
}

/** Bids are gathered until the slowest provider's has come; a machine stays until it has shown that it resumes, and goes soon then. */
const configOf = (devnet: DevnetProcess): string =>
  devnetConfig(devnet, ['bid_window_s: 9', 'idle_s: 30', 'limits: { first_token_s: 5, between_tokens_s: 5 }']);
