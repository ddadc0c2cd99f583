import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { systemClock } from '../../src/clock.ts';
import { openSql } from '../../src/store/libsql.ts';
import { bigintOf, textOf } from '../../src/store/sql.ts';
import { assertCharges, withBooks } from './books.ts';
import { startStandby, until, type GatewayProcess, type StandbyProcess } from './gateway-process.ts';
import { startLoad, type Told } from './load.ts';

/** Two gateways and more over one data folder: one leads, the others wait; processes, the embedded market, real kills. */

/** More by hand: UNDERBID_TEST_KILLS=200. */
const KILLS = Number(process.env['UNDERBID_TEST_KILLS'] ?? 20);
/** However slow the machine is: rounds end then. */
const ROUNDS_MS = KILLS * 2200;
const WAIT_MS = 60_000;
const CLIENTS = 8;

test('the leader is killed again and again under load: the next one takes over, and no need has two leases', async (t) => {
  const seed = Date.now() % 2 ** 31;
  const delays = fc.sample(fc.integer({ min: 0, max: 600 }), { seed, numRuns: KILLS });
  const folder = newFolder(t);
  const house = new House(t, folder);
  // At the same instant.
  await Promise.all([house.add(), house.add(), house.add()]);
  let leader = await house.leader();
  const book = watchBook(t, join(folder, 'data'));
  const load = startLoad({
    url: () => house.anyUrl(),
    key: leader.demoKey,
    model: 'tiny',
    clients: CLIENTS,
    fieldsOf: (client, count) =>
      client % 2 === 0 ? { max_tokens: 1 + (count % 4) } : { ...STREAM, max_tokens: 2 + client * 4 },
  });
  t.after(() => load.stop());
  const endMs = systemClock.monotonic() + ROUNDS_MS;
  let epoch = epochOf(await leader.admin('/admin/leader'));
  let [kills, retried] = [0, 0];
  for (const delayMs of delays) {
    if (systemClock.monotonic() > endMs) break;
    const where = `kill ${kills + 1}, seed ${seed}`;
    const before = load.told.length;
    await until(`answers come (${where})`, WAIT_MS, () => (load.told.slice(before).some(isAnswered) ? true : null));
    await systemClock.sleep(delayMs);
    await house.kill(leader);
    kills += 1;
    // Its place is taken by a new one, beside the takeover.
    const coming = house.add();
    leader = await house.leader();
    const next = epochOf(await leader.admin('/admin/leader'));
    assert.ok(next > epoch, `${where}: the epoch rises, ${epoch} to ${next}`);
    epoch = next;
    retried += load.told.slice(before).filter(({ status }) => status === 503).length;
    await coming;
  }
  await load.stop();
  const strange = load.told.map(({ status }) => status).filter((status) => ![0, 200, 503].includes(status));
  assert.deepEqual(strange, [], 'a retry is all that a client needs');
  await house.stop();
  const { seen, most } = book.stop();
  assert.ok(most <= 1, `${most} leases at a time`);
  assert.ok(seen.size > kills / 2, `${seen.size} leases over ${kills} kills: the market's book was read`);
  assert.ok(kills >= Math.min(KILLS, 2) && retried > 0, `${kills} kills, ${retried} retries`);
  assertBooks(folder, load.told, `seed ${seed}`);
  t.diagnostic(`${kills} kills, ${load.told.filter(isAnswered).length} answers, ${seen.size} leases, epoch ${epoch}`);
});

test('a standby says what it is, takes nothing, and leads within seconds once the leader has ended', async (t) => {
  const folder = newFolder(t);
  const house = new House(t, folder);
  await house.add();
  const leader = await house.leader();
  const standby = await house.add();
  const get = (path: string, init?: RequestInit): Promise<Response> => fetch(`${standby.url}${path}`, init);
  assert.equal((await get('/healthz')).status, 200);
  const readiness = await get('/readyz');
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

const STREAM = { stream: true, stream_options: { include_usage: true } };
const isAnswered = ({ acknowledged }: Told): boolean => acknowledged !== null;
const epochOf = (leader: unknown): number => (leader as { epoch: number }).epoch;

/** All gateways of one folder, all started alike: whoever gets the lock leads. */
class House {
  readonly #t: TestContext;
  readonly #folder: string;
  readonly #members = new Set<StandbyProcess>();
  #turn = 0;

  constructor(t: TestContext, folder: string) {
    this.#t = t;
    this.#folder = folder;
  }

  async add(): Promise<StandbyProcess> {
    const member = await startStandby(this.#t, { folder: this.#folder });
    this.#members.add(member);
    void member.exited.then(() => this.#members.delete(member));
    return member;
  }

  /** As a client that knows them all and goes on to the next one. */
  anyUrl(): string | null {
    const all = [...this.#members];
    this.#turn += 1;
    return all[this.#turn % Math.max(1, all.length)]?.url ?? null;
  }

  leader(): Promise<GatewayProcess> {
    return Promise.race([...this.#members].map(({ ready }) => ready.catch(() => new Promise<never>(() => undefined))));
  }

  async kill({ child, exited }: GatewayProcess): Promise<void> {
    for (const member of this.#members) if (member.child === child) this.#members.delete(member);
    child.kill('SIGKILL');
    await exited;
  }

  /** Those that wait first, or each would take over. */
  async stop(): Promise<void> {
    const leader = await this.leader();
    const all = [...this.#members];
    for (const { child, exited, stderr } of all) {
      if (child === leader.child) continue;
      child.kill('SIGTERM');
      assert.equal(await exited, 0, stderr());
    }
    leader.child.kill('SIGTERM');
    assert.equal(await leader.exited, 0, leader.stderr());
  }
}

interface Book {
  /** Orders of leases that are open now. */
  readonly open: () => string[];
  readonly stop: () => { readonly seen: ReadonlySet<string>; readonly most: number };
}

/** Looks into the embedded market's own book all the time. */
function watchBook(t: TestContext, dataDir: string): Book {
  const sql = openSql(join(dataDir, 'underbid.db'), { readonly: true });
  const seen = new Set<string>();
  let most = 0;
  const open = (): string[] =>
    sql.all(`SELECT order_id FROM market_leases WHERE state <> 'closed'`).map((row) => textOf(row, 'order_id'));
  const timer = setInterval(() => {
    const now = open();
    for (const order of now) seen.add(order);
    most = Math.max(most, now.length);
  }, 20);
  t.after(() => clearInterval(timer));
  const stop = (): ReturnType<Book['stop']> => {
    clearInterval(timer);
    sql.close();
    return { seen, most };
  };
  return { open, stop };
}

/** Everybody has ended: what was told is charged, nothing is held, every lease is closed and its deposit accounted for. */
function assertBooks(folder: string, told: readonly Told[], where: string): void {
  withBooks(join(folder, 'data', 'ledger.db'), (sql) => {
    assertCharges(sql, told, where);
    assert.deepEqual(sql.all(`SELECT request FROM holds WHERE state = 'pending'`), [], `${where}: a hold is left`);
    const escrows = sql.all(`SELECT name, posted FROM accounts WHERE name LIKE 'escrow:%'`);
    assert.ok(escrows.length > 0);
    for (const row of escrows) assert.equal(bigintOf(row, 'posted'), 0n, `${where}: ${textOf(row, 'name')}`);
  });
  withBooks(join(folder, 'data', 'underbid.db'), (sql) => {
    assert.deepEqual(sql.all(`SELECT id FROM market_leases WHERE state <> 'closed'`), [], `${where}: a lease is open`);
    assert.deepEqual(sql.all(`SELECT id FROM replicas WHERE state <> 'closed'`), [], `${where}: a replica is open`);
  });
}

async function ask({ url, demoKey }: GatewayProcess): Promise<void> {
  const reply = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny', max_tokens: 2, messages: [{ role: 'user', content: 'Count.' }] }),
  });
  assert.equal(reply.status, 200, await reply.text());
}

function newFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'underbid-standby-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const server = fileURLToPath(new URL('../fakes/llama-server.py', import.meta.url));
  // The stand-in reads no model, but the file has to be there.
  const config = `pools:
  tiny:
    engine: llama.cpp
    model: any
    context: 4096
    resume: off
    price: { input: "1.00", output: "2.00" }
    replicas: { min: 0, max: 1 }
    slots: 16
    ceiling_usd_per_hour: "0.10"
    idle_s: 3600
    bid_window_s: 0
markets:
  local: { block_ms: 100, llama_server: ${server}, model_path: ${server} }
limits: { key_requests_per_minute: 1000000, key_tokens_per_minute: 1000000000 }
`;
  writeFileSync(join(folder, 'underbid.yaml'), config);
  return folder;
}
