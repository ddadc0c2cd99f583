import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from './gateway-process.ts';
import { ask, assertBooks, epochOf, House, newFolder, WAIT_MS, watchBook } from './standby-bench.ts';

/** Two gateways over one data folder: one leads, the other waits. (d) of the acceptance tests kills them. */

test('a standby says what it is, takes nothing, and leads within seconds once the leader has ended', async (t) => {
  const folder = newFolder(t);
  const house = new House(t, folder);
  await house.add();
  const leader = await house.leader();
  const standby = await house.add();
  const get = (path: string, init?: RequestInit): Promise<Response> => fetch(`${standby.url}${path}`, init);
  assert.equal((await get('/healthz')).status, 200);
  const readiness = await get('/readyz');
  assert.equal(readiness.headers.get('retry-after'), '1');
  assert.equal(readiness.status, 503);
  const said = (await readiness.json()) as { status: string; leader: { epoch: number } };
  assert.deepEqual([said.status, said.leader.epoch], ['standby', epochOf(await leader.admin('/admin/leader'))]);
  for (const path of ['/v1/models', '/v1/chat/completions', '/admin/pools', '/provider/v1/offer']) {
    const reply = await get(path, path.includes('chat') ? { method: 'POST', body: '{}' } : {});
    const { error } = (await reply.json()) as { error: { code: string; message: string } };
    assert.deepEqual([reply.status, reply.headers.get('retry-after'), error.code], [503, '1', 'no_capacity'], path);
    assert.match(error.message, /stands by while another one leads/);
  }
  assert.equal(Number(readFileSync(join(folder, 'data', 'gateway.pid'), 'utf8')), leader.child.pid);
  leader.child.kill('SIGTERM');
  assert.equal(await leader.exited, 0);
  const next = await standby.ready;
  assert.equal(next.url, standby.url);
  assert.equal((await get('/readyz')).status, 200);
  assert.equal((await get('/v1/models', { headers: { authorization: `Bearer ${leader.demoKey}` } })).status, 200);
  assert.equal(Number(readFileSync(join(folder, 'data', 'gateway.pid'), 'utf8')), next.child.pid);
  const waiting = await house.add();
  waiting.child.kill('SIGTERM');
  assert.equal(await waiting.exited, 0, 'one that waits ends at once');
  await house.stop();
});

test('a leader that is stopped keeps its place, and goes on when it wakes', async (t) => {
  const house = new House(t, newFolder(t));
  await house.add();
  const leader = await house.leader();
  const standby = await house.add();
  leader.child.kill('SIGSTOP');
  await until('the standby says how long it is silent', WAIT_MS, async () => {
    const { leader: seen } = (await (await fetch(`${standby.url}/readyz`)).json()) as { leader: { seen_s: number } };
    return seen.seen_s >= 4 ? true : null;
  });
  assert.equal((await fetch(`${standby.url}/v1/models`)).status, 503);
  leader.child.kill('SIGCONT');
  await ask(leader);
  assert.equal((await fetch(`${standby.url}/readyz`)).status, 503);
  await house.stop();
});

test('where the lock fails, the later gateway leads, and the earlier one may write nothing and ends', async (t) => {
  const folder = newFolder(t);
  const house = new House(t, folder);
  await house.add();
  const first = await house.leader();
  const book = watchBook(t, join(folder, 'data'));
  await ask(first);
  // What a network's file system may do: two processes that both have it.
  rmSync(join(folder, 'data', 'writer.lock'));
  const second = await (await house.add()).ready;
  assert.equal(await first.exited, 70, first.stderr());
  assert.match(first.stderr(), /another gateway has taken over|fenced off/);
  await ask(second);
  const open = await until('one lease', WAIT_MS, () => (book.open().length === 1 ? book.open() : null));
  const { epoch } = (await second.admin('/admin/leader')) as { epoch: number };
  assert.match(open[0] ?? '', new RegExp(`ord-${epoch}-`), 'ids of orders carry the epoch');
  assert.ok(book.stop().most <= 1);
  await house.stop();
  assertBooks(folder, [], 'after the fence');
});
