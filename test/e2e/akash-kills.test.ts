import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import {
  devnetConfig,
  assertAllClosed,
  assertPaidOnce,
  leasesOf,
  MODEL,
  startDevnet,
  type DevnetProcess,
} from './akash-bench.ts';
import { openSql } from '../../src/store/libsql.ts';
import { textOf } from '../../src/store/sql.ts';
import type { Call } from '../fakes/chain-door.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';
import { askStreamed } from './streamed-answer.ts';

/** kill -9 at each step of a lease's life: one life after the other over one data folder, one wallet and one chain. */

const sends = (message: string) => (call: Call) => call.method === 'broadcast_tx_sync' && call.text.includes(message);
const simulates = (message: string) => (call: Call) =>
  call.text.startsWith('/cosmos.tx.v1beta1.Service/Simulate') && call.text.includes(message);
const asksBids = (call: Call): boolean => call.text.startsWith('/akash.market.v1beta5.Query/Bids');

const WAIT_MS = 180_000;
const QUESTION = { model: MODEL, max_tokens: 400, messages: [{ role: 'user', content: 'Tell a long story.' }] };

test('kill -9 at each step: the next start pays nothing twice, forgets no lease, serves, and gives all of it back', async (t) => {
  const devnet = await startDevnet(t);
  const { door } = devnet;
  const heldBefore = await devnet.uact();
  const lives = new Lives(t, devnet);

  await lives.endAt('the order is written, not sent', door.hold(sends('MsgCreateDeployment'), 'before'));
  assert.deepEqual(await devnet.messages(), []);
  await lives.endAt('the order is sent, its fate unknown', door.hold(sends('MsgCreateDeployment'), 'after'));
  await lives.endAt('the order is recorded, no bid seen', door.hold(asksBids, 'before'));
  await lives.endAt('a bid is chosen, nothing sent', door.hold(simulates('MsgCreateLease'), 'before'));
  const [order, ...others] = await devnet.deployments();
  assert.ok(order);
  assert.deepEqual(others, [], 'orders of earlier lives were withdrawn');
  await lives.endAt('the lease is written, not sent', door.hold(sends('MsgCreateLease'), 'before'));
  assert.deepEqual(await devnet.leases('active'), []);

  // From here on it is that lease, whatever dies: its bid was chosen, so it is sent and no other.
  await devnet.fault('provider-gone', true);
  await lives.endAt('the lease is sent, its fate unknown', door.hold(sends('MsgCreateLease'), 'after'));
  let gateway = await lives.begin();
  const lease = await until('the lease is known', WAIT_MS, async () => (await leasesOf(gateway))[0] ?? null);
  await lives.end('the lease is made, its manifest not sent');
  assert.deepEqual(devnet.modelServers(), []);

  await devnet.fault('dark-provider', true);
  await devnet.fault('provider-gone', false);
  await lives.begin();
  await until('the manifest is there', WAIT_MS, () => (devnet.modelServers().length > 0 ? true : null));
  await lives.end('the model is loaded');
  await devnet.fault('dark-provider', false);

  gateway = await lives.begin();
  let id: string | undefined;
  const cut = askStreamed(gateway, { ...QUESTION, max_tokens: 1500 }, (_, ids) => ([id] = ids)).catch(() => null);
  await until('an answer is under way, with a checkpoint', WAIT_MS, () => checkpointOf(gateway, id));
  await lives.end('it serves');
  assert.equal(await cut, null);

  gateway = await lives.begin();
  const { data } = (await generation(gateway, id)) as { data: Record<string, unknown> };
  assert.deepEqual([data['status'], data['lease'], data['provider']], ['recovered', lease.id, lease.provider]);
  assert.ok(Number(data['first_token_ms']) > 0 && Number(data['tokens_completion']) > 0, JSON.stringify(data));
  const answer = await askStreamed(gateway, { ...QUESTION, max_tokens: 16 });
  assert.ok(answer.done, JSON.stringify(answer.error));
  const active = await devnet.leases('active');
  assert.deepEqual(
    active.map(({ dseq }) => dseq),
    [order],
    'the same lease still, that of the order before the crashes',
  );
  const unsent = door.hold(sends('MsgCloseDeployment'), 'before');
  await gateway.admin(`/admin/leases/${lease.id}/close`, { method: 'POST' });
  await lives.endAt('the end is written, not sent', unsent, gateway);
  await lives.endAt('the end is sent, its fate unknown', door.hold(sends('MsgCloseDeployment'), 'after'));

  gateway = await lives.begin();
  await until('everything is closed', WAIT_MS, async () => {
    const open = (await leasesOf(gateway)).filter(({ state }) => state !== 'closed');
    return open.length === 0 && (await devnet.deployments()).length === 0 ? true : null;
  });
  await assertAllClosed(gateway, devnet, { heldBefore });
  const messages = await assertPaidOnce(devnet);
  assert.equal(messages.filter(({ type }) => type === 'MsgCreateLease').length, 1, 'one lease was made');
});

/** Gateways over one data folder, each started when the one before is dead. */
class Lives {
  readonly #t: TestContext;
  readonly #config: string;
  #folder: string | null = null;
  #gateway: GatewayProcess | null = null;
  readonly #door: DevnetProcess['door'];

  constructor(t: TestContext, devnet: DevnetProcess) {
    this.#t = t;
    this.#config = configOf(devnet);
    this.#door = devnet.door;
  }

  async begin(): Promise<GatewayProcess> {
    const options = this.#folder === null ? { config: this.#config } : { folder: this.#folder };
    this.#gateway = await startGateway(this.#t, options);
    this.#folder = this.#gateway.folder;
    return this.#gateway;
  }

  async end(what: string): Promise<void> {
    const gateway = this.#gateway;
    assert.ok(gateway, what);
    gateway.child.kill('SIGKILL');
    await gateway.exited;
    this.#gateway = null;
    // What was held stays where it is, and nothing is held any more.
    this.#door.release();
  }

  /** A life in which somebody asks, until the chain is asked for something that is held: it may be held while it starts. */
  async endAt(what: string, reached: Promise<unknown>, living: GatewayProcess | null = null): Promise<void> {
    let there = false;
    void reached.then(() => (there = true));
    const begun = living === null ? this.begin() : Promise.resolve(living);
    const folder = this.#folder;
    // The first one has to be ready, or nobody knows where it is.
    if (folder === null) await begun;
    begun.then(want).catch(() => undefined);
    await until(what, WAIT_MS, () => (there ? true : null));
    process.kill(Number(readFileSync(join(this.#folder ?? '', 'data', 'gateway.pid'), 'utf8')), 'SIGKILL');
    await begun.then(({ exited }) => exited).catch(() => undefined);
    this.#gateway = null;
    this.#door.release();
  }
}

/** A question that dies with the gateway. */
function want(gateway: GatewayProcess): void {
  askStreamed(gateway, QUESTION).catch(() => undefined);
}

/** Not null once the ledger's file knows how far the answer is. */
function checkpointOf({ dataDir }: GatewayProcess, id: string | undefined): true | null {
  const sql = openSql(join(dataDir, 'ledger.db'), { readonly: true });
  try {
    const rows = sql.all('SELECT progress FROM holds WHERE request = ?', [id ?? '']);
    return rows.some((row) => /"outputTokens":[1-9]/.test(textOf(row, 'progress'))) ? true : null;
  } finally {
    sql.close();
  }
}

async function generation({ url, demoKey }: GatewayProcess, id: string | undefined): Promise<unknown> {
  const headers = { authorization: `Bearer ${demoKey}` };
  return (await fetch(`${url}/v1/generation?id=${id}`, { headers })).json();
}

const configOf = (devnet: DevnetProcess): string => devnetConfig(devnet, ['bid_window_s: 0', 'idle_s: 600']);
