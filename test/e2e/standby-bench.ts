import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TestContext } from 'node:test';
import { openSql } from '../../src/store/libsql.ts';
import { bigintOf, textOf } from '../../src/store/sql.ts';
import { assertCharges, withBooks } from './books.ts';
import { startStandby, type GatewayProcess, type StandbyProcess } from './gateway-process.ts';
import type { Told } from './load.ts';

/** Gateways over one data folder, with the embedded market and model servers that cost nothing. */

/** For what takes a second where nothing else runs. */
export const WAIT_MS = 60_000;

export const epochOf = (leader: unknown): number => (leader as { epoch: number }).epoch;

/** All gateways of one folder, all started alike: whoever gets the lock leads. */
export class House {
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

export interface Book {
  /** Orders of leases that are open now. */
  readonly open: () => string[];
  readonly stop: () => { readonly seen: ReadonlySet<string>; readonly most: number };
}

/** Looks into the embedded market's own book all the time. */
export function watchBook(t: TestContext, dataDir: string): Book {
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
export function assertBooks(folder: string, told: readonly Told[], where: string): void {
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

export async function ask({ url, demoKey }: GatewayProcess): Promise<void> {
  const reply = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny', max_tokens: 2, messages: [{ role: 'user', content: 'Count.' }] }),
  });
  assert.equal(reply.status, 200, await reply.text());
}

export function newFolder(t: TestContext): string {
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
