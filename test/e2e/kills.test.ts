import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { bigintOf, type Sql } from '../../src/store/sql.ts';
import { parseUsd } from '../../src/units.ts';
import { assertCharges, withBooks } from './books.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';
import { startLoad, type Told } from './load.ts';

/** The gateway dies ten times under load: what was told to a client is in the books, once, and nothing besides. */

const KILLS = 10;
const CLIENTS = 24;
const GRANTED = parseUsd('5.00');
const OUTPUT_NANO = 2000n;

test('ten kill -9 under load: no acknowledged charge is missing, none is doubled, no hold is left', async (t) => {
  const seed = Date.now() % 2 ** 31;
  // From the middle of the first answers on to well after holds have gone to disk, which they do at the age of a second.
  const delays = fc.sample(fc.integer({ min: 200, max: 2200 }), { seed, numRuns: KILLS });
  const servers = [await startModelProcess(t), await startModelProcess(t)];
  let gateway = await startGateway(t, { config: configOf(servers.map(({ url }) => url)) });
  const { folder, demoKey, dataDir } = gateway;
  let url: string | null = gateway.url;
  const load = startLoad({ url: () => url, key: demoKey, model: 'pool', clients: CLIENTS, fieldsOf });
  t.after(() => load.stop());
  const path = join(dataDir, 'ledger.db');
  let journaled = 0;
  for (const [round, delayMs] of delays.entries()) {
    const where = `kill ${round + 1} of ${KILLS}, seed ${seed}`;
    const before = load.told.length;
    await until('answers come', 20_000, () => (load.told.slice(before).some(isAnswered) ? true : null));
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    url = null;
    gateway.child.kill('SIGKILL');
    await gateway.exited;
    journaled += withBooks(path, (sql) => {
      assertCharges(sql, load.told, `${where}, before the restart`);
      return sql.all(`SELECT 1 FROM holds WHERE state = 'pending'`).length;
    });
    gateway = await startGateway(t, { folder });
    // The load goes on only when the books were looked at: from here to there nothing changes.
    const account = (await gateway.admin('/admin/accounts/demo')) as Record<string, string>;
    assert.equal(account['held_usd'], '0.00', `${where}: a hold was left`);
    withBooks(path, (sql) => {
      assertCharges(sql, load.told, where);
      assertBalance(sql, account, where);
    });
    const check = (await gateway.admin('/admin/ledger/check')) as { ok: boolean };
    assert.ok(check.ok, `${where}: ${JSON.stringify(check)}`);
    url = gateway.url;
  }
  await load.stop();
  await assertShown(gateway, load.told);
  gateway.child.kill('SIGTERM');
  assert.equal(await gateway.exited, 0);
  for (const { child } of servers) assert.equal(child.exitCode, null, 'the model servers lived on');
  assertEnough(load.told, journaled, seed);
});

/** Answers in one piece, short streams, and streams that last beyond the second at which their hold goes to disk. */
function fieldsOf(client: number, count: number): Record<string, unknown> {
  const stream = { stream: true, stream_options: { include_usage: true } };
  if (client % 3 === 0) return { max_tokens: 1 + (count % 5) };
  if (client % 3 === 1) return { ...stream, max_tokens: 2 + (count % 7) };
  return { ...stream, max_tokens: 40 + client };
}

const isAnswered = ({ acknowledged }: Told): boolean => acknowledged !== null;

function assertBalance(sql: Sql, account: Record<string, string>, where: string): void {
  const charges = sql.all('SELECT charged FROM usage').reduce((sum, row) => sum + bigintOf(row, 'charged'), 0n);
  assert.equal(parseUsd(account['balance_usd'] ?? ''), GRANTED - charges, `${where}: balance`);
  assert.equal(parseUsd(account['used_usd'] ?? ''), charges, `${where}: usage`);
}

/** What the API says of some of the answers, from the first kill to the last. */
async function assertShown(gateway: GatewayProcess, told: readonly Told[]): Promise<void> {
  const answered = told.filter(isAnswered);
  for (let at = 0; at < answered.length; at += Math.ceil(answered.length / 20)) {
    const { id, acknowledged } = answered[at] ?? {};
    const reply = await fetch(`${gateway.url}/v1/generation?id=${id}`, {
      headers: { authorization: `Bearer ${gateway.demoKey}` },
    });
    const { data } = (await reply.json()) as { data: { total_cost: number } };
    assert.equal(BigInt(Math.round(data.total_cost * 1e9)), acknowledged);
  }
}

/** A test that killed nobody at work would have proved nothing. */
function assertEnough(told: readonly Told[], journaled: number, seed: number): void {
  const answered = told.filter(isAnswered).length;
  const broken = told.filter(({ id, acknowledged }) => id !== null && acknowledged === null).length;
  const strange = told.filter(({ status }) => ![0, 200].includes(status)).map(({ status }) => status);
  assert.ok(answered > 20 * KILLS, `only ${answered} answers, seed ${seed}`);
  assert.ok(broken >= KILLS, `only ${broken} streams were cut, seed ${seed}`);
  assert.ok(journaled >= KILLS, `only ${journaled} holds were on disk at the kills, seed ${seed}`);
  assert.ok(told.some(({ acknowledged }) => acknowledged !== null && acknowledged % OUTPUT_NANO === 0n));
  assert.deepEqual(strange, [], 'nobody was refused');
}

function configOf(urls: readonly string[]): string {
  const server = (url: string): string => `      - { url: "${url}", pool: pool, slots: 64, usd_per_hour: "0.10" }\n`;
  return `pools:
  pool:
    engine: llama.cpp
    model: any
    context: 4096
    price: { input: "1.00", output: "2.00" }
    markets: [owned]
    replicas: { min: ${urls.length}, max: ${urls.length} }
    slots: 64
    ceiling_usd_per_hour: "1.00"
markets:
  owned:
    servers:
${urls.map(server).join('')}limits:
  key_requests_per_minute: 1000000
  key_tokens_per_minute: 1000000000
`;
}

async function startModelProcess(t: TestContext): Promise<{ url: string; child: ChildProcess }> {
  const file = fileURLToPath(new URL('../fakes/model-process.ts', import.meta.url));
  const child = spawn(process.execPath, [file], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const url = await new Promise<string>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the model server ended with ${code}`)));
    child.stdout.on('data', (part: Buffer) => {
      const match = /ready on (\S+)/.exec(part.toString());
      if (match?.[1]) resolve(match[1]);
    });
  });
  return { url, child };
}
