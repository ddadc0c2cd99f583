import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { goesWithin } from '../fakes/processes.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

/** What a stop and a crash may cost: nothing, and at most the last second. Real model servers, real kill -9. */

test('a hundred chats at once on a cold pool are all answered or clearly refused', async (t) => {
  const gateway = await startGateway(t);
  const replies = await Promise.all(
    Array.from({ length: 100 }, (_, n) =>
      chat(gateway, { max_tokens: 4, messages: [{ role: 'user', content: `Say ${n}.` }] }),
    ),
  );
  const statuses = new Map<number, number>();
  for (const { status, body } of replies) {
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    if (status !== 200) assert.ok([402, 429, 503].includes(status), `${status}: ${body}`);
    else assert.ok((JSON.parse(body) as { choices: unknown[] }).choices.length === 1);
  }
  assert.ok((statuses.get(200) ?? 0) >= 90, `answered: ${JSON.stringify([...statuses])}`);
  const orders = (await gateway.admin('/admin/orders')) as { data: unknown[] };
  assert.ok(orders.data.length <= 2, 'one order for each replica, not for each request');
  await assertBooks(gateway);
  const account = (await gateway.admin('/admin/accounts/demo')) as Record<string, string>;
  assert.equal(account['held_usd'], '0.00');
});

test('SIGTERM lets streams end, settles them, and leaves no model server', async (t) => {
  const gateway = await startGateway(t);
  await chat(gateway, { max_tokens: 1, messages: [{ role: 'user', content: 'Wake up.' }] });
  const servers = descendants(gateway);
  assert.ok(servers.length > 0);
  const streams = Array.from({ length: 3 }, (_, n) =>
    chat(gateway, { max_tokens: 60, stream: true, messages: [{ role: 'user', content: `Tell story ${n}.` }] }),
  );
  await until('streams are under way', 30_000, () => inFlight(gateway, 3));
  gateway.child.kill('SIGTERM');
  for (const { status, body } of await Promise.all(streams)) {
    assert.equal(status, 200);
    assert.ok(body.endsWith('data: [DONE]\n\n'), body.slice(-300));
  }
  assert.equal(await gateway.exited, 0);
  for (const pid of servers) assert.ok(await goesWithin(pid, 5000), 'no model server is left');
  const next = await startGateway(t, { folder: gateway.folder });
  await assertBooks(next);
  await assertLeasesClosed(next, 'shutdown');
});

test('a second SIGTERM ends at once, and what was delivered is charged', async (t) => {
  const gateway = await startGateway(t);
  await chat(gateway, { max_tokens: 1, messages: [{ role: 'user', content: 'Wake up.' }] });
  const before = (await gateway.admin('/admin/accounts/demo')) as Record<string, string>;
  const stream = chat(gateway, {
    max_tokens: 1500,
    stream: true,
    messages: [{ role: 'user', content: 'Tell a long story.' }],
  });
  const over = stream.catch(() => null);
  await until('the stream is under way', 30_000, () => inFlight(gateway, 1));
  await new Promise((resolve) => setTimeout(resolve, 500));
  gateway.child.kill('SIGTERM');
  await new Promise((resolve) => setTimeout(resolve, 200));
  gateway.child.kill('SIGTERM');
  assert.equal(await gateway.exited, 0);
  await over;
  const next = await startGateway(t, { folder: gateway.folder });
  const after = (await next.admin('/admin/accounts/demo')) as Record<string, string>;
  assert.ok(Number(after['used_usd']) > Number(before['used_usd']), 'the delivered tokens are charged');
  assert.equal(after['held_usd'], '0.00');
  await assertBooks(next);
});

test('kill -9 in the middle of streams leaves no model server, and the next start brings the books together', async (t) => {
  const gateway = await startGateway(t);
  await chat(gateway, { max_tokens: 1, messages: [{ role: 'user', content: 'Wake up.' }] });
  const acknowledged = (await gateway.admin('/admin/accounts/demo')) as Record<string, string>;
  const servers = descendants(gateway);
  assert.ok(servers.length > 0);
  const streams = Array.from({ length: 3 }, (_, n) =>
    chat(gateway, { max_tokens: 1500, stream: true, messages: [{ role: 'user', content: `Story ${n}.` }] }).catch(
      () => null,
    ),
  );
  await until('streams are under way', 30_000, () => inFlight(gateway, 3));
  // Long enough that the holds are in the journal with their progress.
  await new Promise((resolve) => setTimeout(resolve, 2500));
  gateway.child.kill('SIGKILL');
  await Promise.all(streams);
  for (const pid of servers) assert.ok(await goesWithin(pid, 5000), 'no model server is left');
  const next = await startGateway(t, { folder: gateway.folder });
  await assertBooks(next);
  const after = (await next.admin('/admin/accounts/demo')) as Record<string, string>;
  assert.equal(after['held_usd'], '0.00');
  assert.ok(Number(after['used_usd']) > Number(acknowledged['used_usd']), 'the checkpoints of the streams are charged');
  await assertLeasesClosed(next, 'market_restart');
  const again = await chat(next, { max_tokens: 2, messages: [{ role: 'user', content: 'Still there?' }] });
  assert.equal(again.status, 200);
});

async function chat(gateway: GatewayProcess, body: Record<string, unknown>): Promise<{ status: number; body: string }> {
  const reply = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'smollm2-135m', ...body }),
  });
  return { status: reply.status, body: await reply.text() };
}

async function inFlight(gateway: GatewayProcess, count: number): Promise<true | null> {
  const { data } = (await gateway.admin('/admin/pools')) as { data: { state: { in_flight: number } }[] };
  return data[0]?.state.in_flight === count ? true : null;
}

async function assertBooks(gateway: GatewayProcess): Promise<void> {
  const check = (await gateway.admin('/admin/ledger/check')) as { ok: boolean };
  assert.equal(check.ok, true, JSON.stringify(check));
}

async function assertLeasesClosed(gateway: GatewayProcess, reason: string): Promise<void> {
  const { data } = (await gateway.admin('/admin/leases')) as { data: Record<string, string>[] };
  assert.ok(data.length > 0);
  for (const lease of data) {
    assert.equal(lease['state'], 'closed');
    assert.equal(lease['close_reason'], reason);
    assert.equal(lease['escrow_usd'], '0.00');
  }
}

/** Every process below the gateway: the model servers and their guards. */
function descendants(gateway: GatewayProcess): number[] {
  const found: number[] = [];
  const visit = (pid: number): void => {
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim();
      for (const child of children === '' ? [] : children.split(' ').map(Number)) {
        found.push(child);
        visit(child);
      }
    }
  };
  visit(gateway.child.pid ?? 0);
  return found;
}
