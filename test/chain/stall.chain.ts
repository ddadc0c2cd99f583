import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import type { SignedTx } from '../../src/leases/akash/chain-types.ts';
import { startCosmosChain, type CosmosChain } from './cosmos-chain.ts';
import { feesTo, newChain, noting, openTenant, paysFees, show } from './tenant.ts';

/** A chain that stands still, as its client sees it: by the clock, the newest block is a quarter of an hour old. */

let node: CosmosChain;

before(async () => {
  node = await startCosmosChain(4);
});

after(() => node.stop());

test('nothing is signed for a chain whose newest block is old; past that the chain itself refuses it by its rule', async (t) => {
  const { keyring, wallet } = await openTenant(t, node);
  let aheadMs = 15 * 60_000;
  const clock = { ...systemClock, now: () => systemClock.now() + aheadMs };
  const noted: SignedTx[] = [];
  const give = (index: number) => ({ wallet, orders: [feesTo(keyring, index)], note: noting(noted) });
  const careful = newChain(t, node, { clock });
  await careful.open();
  const held = await careful.send(give(1));
  assert.ok(
    held.kind === 'unknown' && /has stalled: its newest block, \d+, is \d{3} s old/.test(held.reason),
    show(held),
  );
  assert.deepEqual(noted, []);

  const careless = newChain(t, node, { clock, stalledMs: Infinity });
  await careless.open();
  const refused = await careless.send(give(2));
  assert.ok(refused.kind === 'refused' && /unordered tx ttl exceeds 10m0s/.test(refused.reason), show(refused));

  aheadMs = 0;
  await careful.refresh();
  const sent = await careful.send(give(3));
  assert.equal(sent.kind, 'done', show(sent));
  assert.equal(await paysFees(careful, wallet.address, keyring.wallet(3).address), true);
  assert.equal(await paysFees(careful, wallet.address, keyring.wallet(1).address), false);
});
