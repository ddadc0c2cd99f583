import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Ledger } from '../../src/ledger/operations.ts';
import type { Lease } from '../../src/leases/market.ts';
import { turns } from '../fakes/clock.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { openLocal, provider, settled, type LocalBench } from './local-market-bench.ts';

const OPENING = 10_000_000_000n;

test('rent is drawn per block with its fees, and the books hold every nano of it', async (t) => {
  const bench = await openLocal(t, { ledger: 'file', providers: [provider('desk', 1001n)] });
  const { market, clock, balance } = bench;
  const opened = await bench.lease('o1', 100_000n);
  assert.equal(await balance('treasury:local'), OPENING - 100_000n);
  assert.equal(await balance('escrow:local:lease-o1'), 100_000n);
  await bench.passBlocks(7);
  const closed = await close(bench, 'lease-o1');
  assert.equal(closed.settledBlock - opened.openedBlock, 7);
  // 1,001 a block; a fifth of it, rounded up, is the take fee; a tenth, rounded up, comes out of it as the make fee.
  assert.deepEqual(
    [closed.rentNanoUsd, closed.takeFeeNanoUsd, closed.makeFeeNanoUsd, closed.refundNanoUsd],
    [7007n, 1407n, 707n, 100_000n - 7007n - 1407n],
  );
  assert.equal(await balance('expense:lease:tiny'), 7007n - 707n);
  assert.equal(await balance('expense:market-fees:local'), 1407n + 707n);
  assert.equal(await balance('escrow:local:lease-o1'), 0n);
  assert.equal(await balance('treasury:local'), OPENING - 7007n - 1407n);
  assert.equal(closed.closedAtMs, clock.now());
  assert.deepEqual((await market.list()).leases, []);
  const check = await bench.ledger.ask({ op: 'check' });
  assert.equal(check.ok, true, JSON.stringify(check));
});

test('rent reaches the books every five blocks, and counts from the block of the lease', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  await bench.passBlocks(4);
  assert.equal(await bench.balance('expense:lease:tiny'), 0n);
  await bench.passBlocks(1);
  assert.equal(await bench.balance('expense:lease:tiny'), 5n * 900n);
  const status = await bench.market.status('lease-o1');
  assert.equal(status?.lease.rentNanoUsd, 5000n);
});

test('an escrow that runs dry ends the lease with the last block it pays', async (t) => {
  const bench = await openLocal(t);
  // 1,000 rent and 200 fee a block: three blocks and a rest that pays for none.
  await bench.lease('o1', 3700n);
  await bench.market.deploy('lease-o1', testOrder('o1').workload);
  await bench.passBlocks(3);
  assert.equal((await bench.market.status('lease-o1'))?.lease.state, 'active');
  await bench.passBlocks(1);
  await settled('the lease is closed', async () => (await bench.market.status('lease-o1'))?.lease.state === 'closed');
  const lease = (await bench.market.status('lease-o1'))?.lease;
  assert.equal(lease?.closeReason, 'overdrawn');
  assert.deepEqual([lease.rentNanoUsd, lease.takeFeeNanoUsd, lease.refundNanoUsd], [3000n, 600n, 100n]);
  assert.equal(bench.servers.running, 0, 'its model server is gone');
  assert.equal(await bench.balance('escrow:local:lease-o1'), 0n);
  const [desk] = await bench.market.providers();
  assert.deepEqual([desk?.used, desk?.failures], [0, 0], 'the provider is free, and not to blame');
});

test('a treasury that holds too little refuses the deposit and leaves nothing in escrow', async (t) => {
  const bench = await openLocal(t, { treasuryNanoUsd: 5000n });
  const { market } = bench;
  await assert.rejects(bench.lease('o1', 5001n), /the treasury holds too little/);
  const again = await market.accept('o1', 'o1/desk', 100n);
  assert.deepEqual(again, { kind: 'refused', reason: 'the treasury holds too little for the deposit' });
  assert.equal(await bench.balance('escrow:local:lease-o1'), 0n);
  assert.equal(await bench.balance('treasury:local'), 5000n);
  const lease = (await market.status('lease-o1'))?.lease;
  assert.deepEqual([lease?.state, lease?.depositNanoUsd, lease?.refundNanoUsd], ['closed', 0n, 0n]);
  const [desk] = await market.providers();
  assert.deepEqual([desk?.used, desk?.leases], [0, 0]);
  assert.equal((await bench.lease('o2', 5000n)).state, 'active', 'the machine is free for another order');
});

test('an escrow is filled once for each id, and a treasury that cannot pay says so', async (t) => {
  const bench = await openLocal(t, { treasuryNanoUsd: 10_000n });
  const { market, balance } = bench;
  await bench.lease('o1', 4000n);
  for (const id of ['fund-1', 'fund-1', 'fund-2']) {
    const outcome = await market.fund('lease-o1', 2000n, id);
    assert.equal(outcome.kind, 'done');
  }
  assert.equal(await balance('escrow:local:lease-o1'), 8000n);
  const refusal = { kind: 'refused', reason: 'the treasury holds too little' };
  assert.deepEqual(await market.fund('lease-o1', 2001n, 'fund-3'), refusal);
  assert.deepEqual(await market.fund('lease-o1', 0n, 'fund-4'), {
    kind: 'refused',
    reason: 'an amount must be above zero',
  });
  assert.equal((await market.status('lease-o1'))?.lease.depositNanoUsd, 8000n);
  const closed = await close(bench, 'lease-o1');
  assert.equal(closed.refundNanoUsd, 8000n);
  assert.equal(await balance('treasury:local'), 10_000n);
});

test('a lease that is filled again and again keeps a short row, and every nano of it', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1', 1000n);
  for (let n = 0; n < 60; n += 1) await bench.market.fund('lease-o1', 10n, `fund-${n}`);
  assert.equal((await bench.market.status('lease-o1'))?.lease.depositNanoUsd, 1600n);
  assert.equal(await bench.balance('escrow:local:lease-o1'), 1600n);
  // As after a kill -9: nothing was closed.
  const next = await bench.again();
  assert.equal((await next.status('lease-o1'))?.lease.refundNanoUsd, 1600n);
  assert.equal(await bench.balance('treasury:local'), OPENING);
});

test('the treasury is opened once, not at every start', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1', 1000n);
  await close(bench, 'lease-o1');
  await bench.again();
  assert.equal(await bench.balance('treasury:local'), OPENING);
  assert.equal(await bench.balance('equity:local'), OPENING);
});

test('a lease whose rent cannot be drawn now holds up no other, and catches up at the next block', async (t) => {
  let broken = true;
  const bench = await openLocal(t, {
    providers: [provider('desk', 1000n, { slots: 2 })],
    wrap: (ledger) => breaking(ledger, (id) => broken && id.startsWith('lease:lease-o1:rent')),
  });
  await bench.lease('o1');
  await bench.lease('o2');
  await bench.passBlocks(5);
  assert.equal(await bench.balance('escrow:local:lease-o1'), 1_000_000n);
  assert.equal(await bench.balance('escrow:local:lease-o2'), 1_000_000n - 6000n);
  assert.match(bench.logs.join('\n'), /rent of lease-o1 could not be drawn/);
  broken = false;
  await bench.passBlocks(5);
  assert.equal(await bench.balance('escrow:local:lease-o1'), 1_000_000n - 12_000n, 'no block is lost or drawn twice');
  assert.equal(await bench.balance('escrow:local:lease-o2'), 1_000_000n - 12_000n);
});

for (const when of ['before', 'after'] as const) {
  test(`a lease whose refund failed ${when} it was posted is ended by the market itself`, async (t) => {
    let broken = true;
    const hits = (id: string): boolean => broken && id.endsWith(':refund');
    const bench = await openLocal(t, { wrap: (ledger) => breaking(ledger, hits, when) });
    const { market } = bench;
    const { workload } = testOrder('o1');
    await bench.lease('o1');
    await market.deploy('lease-o1', workload);
    await turns(2);
    await assert.rejects(market.close('lease-o1', 'tenant'), /the ledger is out/);
    assert.equal(bench.servers.running, 0, 'the model server is gone all the same');
    const [deployed, accepted] = [
      await market.deploy('lease-o1', workload),
      await market.accept('o1', 'o1/desk', 1000n),
    ];
    assert.deepEqual([deployed.kind, accepted.kind], ['refused', 'refused']);
    await bench.passBlocks(3);
    assert.equal((await market.status('lease-o1'))?.lease.state === 'closed', when === 'after');
    broken = false;
    await bench.passBlocks(1);
    const lease = (await market.status('lease-o1'))?.lease;
    assert.deepEqual([lease?.state, lease?.closeReason, lease?.rentNanoUsd], ['closed', 'tenant', 0n]);
    assert.equal(await bench.balance('escrow:local:lease-o1'), 0n);
    assert.equal(await bench.balance('treasury:local'), OPENING);
  });
}

test('a deposit that may have reached the books is not paid twice, and the lease opens when asked again', async (t) => {
  let broken = true;
  const bench = await openLocal(t, {
    wrap: (ledger) => breaking(ledger, (id) => broken && id.endsWith(':deposit'), 'after'),
  });
  await assert.rejects(bench.lease('o1', 1000n), /the ledger is out/);
  const [desk] = await bench.market.providers();
  assert.equal(desk?.used, 1, 'the machine is kept for it');
  assert.equal((await bench.market.list()).leases[0]?.lease.state, 'opening');
  assert.equal((await bench.market.cancel('o1')).kind, 'refused', 'nobody takes it for withdrawn');
  broken = false;
  const outcome = await bench.market.accept('o1', 'o1/desk', 1000n);
  assert.equal(outcome.kind === 'done' && outcome.value.state, 'active');
  assert.equal(await bench.balance('escrow:local:lease-o1'), 1000n);
  const [after] = await bench.market.providers();
  assert.equal(after?.leases, 1, 'counted once');
});

async function close({ market }: LocalBench, id: string): Promise<Lease> {
  const outcome = await market.close(id, 'tenant');
  if (outcome.kind !== 'done') throw new Error(outcome.reason);
  return outcome.value;
}

/** A ledger that cannot be reached for some transfers, before or after it has posted them. */
function breaking(ledger: Ledger, hits: (id: string) => boolean, when: 'before' | 'after' = 'before'): Ledger {
  const ask: Ledger['ask'] = async (operation) => {
    const ids =
      operation.op === 'transfer'
        ? [operation.id]
        : operation.op === 'transfers'
          ? operation.transfers.map(({ id }) => id)
          : [];
    const hit = ids.some(hits);
    if (hit && when === 'before') throw new Error('the ledger is out');
    const reply = await ledger.ask(operation);
    if (hit) throw new Error('the ledger is out');
    return reply;
  };
  return { ask, close: () => ledger.close() };
}
