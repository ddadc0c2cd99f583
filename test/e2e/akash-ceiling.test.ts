import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { SchedulerRecords } from '../../src/scheduler/records.ts';
import { openStore } from '../../src/store/open.ts';
import { devnetConfig, MODEL, startDevnet } from './akash-bench.ts';
import { startGateway, until, type GatewayProcess } from './gateway-process.ts';

/** The price of a machine on Akash has gone up since the last order: nobody bids at the first ceiling, a step higher somebody does. */

test('an order on Akash that nobody bid for is placed again a step higher, and the orders show it', async (t) => {
  const devnet = await startDevnet(t);
  const gateway = await startGateway(t, { config: devnetConfig(devnet, ['idle_s: 600']) });
  await ask(gateway);
  const [lease] = await list<{ id: string }>(gateway, 'leases');
  assert.ok(lease);
  await gateway.admin(`/admin/leases/${lease.id}/close`, { method: 'POST' });
  await until('the lease is closed', 60_000, async () => {
    const [closed] = await list<{ state: string }>(gateway, 'leases');
    return closed?.state === 'closed' ? true : null;
  });
  gateway.child.kill('SIGTERM');
  await gateway.exited;
  await asIfCheaperThen(join(gateway.dataDir, 'underbid.db'));

  const next = await startGateway(t, { folder: gateway.folder });
  await ask(next);
  const orders = (await list<OrderLine>(next, 'orders')).toReversed();
  assert.deepEqual(
    orders.map(({ state }) => state),
    ['won', 'fell', 'won'],
  );
  const [, fell, won] = orders.map(({ markets }) => Number(markets[0]?.ceiling_usd_per_block));
  assert.ok(fell && won && won > fell * 1.15 && won < fell * 1.45, `${fell}, then ${won}`);
  assert.match(orders[2]?.markets[0]?.ceiling_from ?? '', /^three quarters of \d+ bids? seen, raised: step 1$/);
  assert.equal(orders[1]?.bids.length, 0);
  const check = (await next.admin('/admin/ledger/check')) as { ok: boolean };
  assert.equal(check.ok, true, JSON.stringify(check));
});

interface OrderLine {
  readonly state: string;
  readonly bids: readonly unknown[];
  readonly markets: readonly { readonly ceiling_usd_per_block: string; readonly ceiling_from: string }[];
}

/** The bids of the orders so far as they would have been, had all asked so much less that their best is a step away now. */
async function asIfCheaperThen(path: string): Promise<void> {
  const store = await openStore(path);
  const records = new SchedulerRecords(store);
  for (const order of await records.listOrders()) {
    const prices = order.bids.map(({ priceNanoUsdPerBlock }) => priceNanoUsdPerBlock);
    const best = prices.reduce((least, price) => (price < least ? price : least));
    // A tenth above it is the first ceiling, below what the best asks; a quarter more is above.
    const then = (best * 80n) / 100n;
    const bids = order.bids.map((bid) => ({ ...bid, priceNanoUsdPerBlock: then }));
    await records.saveOrder({ ...order, bids });
  }
  store.close();
}

async function list<T>(gateway: GatewayProcess, what: string): Promise<T[]> {
  return ((await gateway.admin(`/admin/${what}`)) as { data: T[] }).data;
}

async function ask(gateway: GatewayProcess): Promise<void> {
  const reply = await fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.demoKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: MODEL, max_tokens: 4, messages: [{ role: 'user', content: 'Hello' }] }),
  });
  assert.equal(reply.status, 200, await reply.text());
}
