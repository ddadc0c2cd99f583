import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MsgCreateDeployment } from '@akashnetwork/chain-sdk/private-types/akash.v1beta4';
import { readDeadlines } from '../../../src/leases/akash/chain-deadlines.ts';
import { encodeReclamation } from '../../../src/leases/akash/chain-reclamation.ts';
import { lastField, readDurationS } from '../../../src/leases/akash/devnet/protobuf.ts';
import { akashOrder, openAkash } from './market-bench.ts';

/** Providers that take their machines back with notice: AEP-82. */

const HOUR_MS = 3_600_000;

test('the notice that is asked for stands in field 5 of the order, and the rest of it stays as it is', () => {
  const known = MsgCreateDeployment.encode(MsgCreateDeployment.fromPartial({ hash: Buffer.alloc(32, 1) })).finish();
  const bytes = Buffer.concat([known, encodeReclamation(2 * HOUR_MS)]);
  const field = lastField(bytes, 5);
  assert.ok(field);
  assert.equal(readDurationS(field.bytes, 1), 7200n);
  assert.deepEqual(Buffer.from(MsgCreateDeployment.decode(bytes).hash), Buffer.alloc(32, 1));
  assert.deepEqual(readDeadlines(new Uint8Array()), []);
});

test('only providers that give notice bid; the deadline of one that takes its machine back is seen, and rent runs on', async (t) => {
  const bench = await openAkash(t);
  const { market } = bench;
  assert.equal((await market.tender(akashOrder('o1', { reclamationMs: HOUR_MS }))).kind, 'done');
  await bench.until('bids come', async () => ((await market.order('o1'))?.bids.length ?? 0) >= 2);
  await bench.passBlocks(2);
  const silent = bench.devnet.providers[0]?.address;
  const [bid] = (await market.order('o1'))?.bids ?? [];
  assert.ok(
    bid && (await market.order('o1'))?.bids.every(({ provider }) => provider !== silent),
    'the first gives none',
  );
  const accepted = await market.accept('o1', bid.id, 1_000_000_000n);
  assert.ok(accepted.kind === 'done');
  const { id } = accepted.value;
  assert.equal((await market.status(id))?.lease.reclaimMs ?? null, null);
  let told = 0;
  market.onChange(() => (told += 1));
  bench.devnet.setFault('reclamation-started', true);
  await bench.until('it is seen', async () => ((await market.status(id))?.lease.reclaimMs ?? null) !== null);
  const lease = (await market.status(id))?.lease;
  const inMs = (lease?.reclaimMs ?? 0) - Date.now();
  assert.ok(inMs > 23 * HOUR_MS && inMs < 25 * HOUR_MS, `a day, as the provider bid: ${inMs}`);
  assert.ok(told > 0);
  assert.equal(lease?.state, 'active');
  const closed = await market.close(id, 'tenant');
  assert.ok(closed.kind === 'done' && closed.value.state === 'closed', 'the tenant may leave before');
  assert.equal(closed.value.rentNanoUsd + closed.value.refundNanoUsd, closed.value.depositNanoUsd);
});
