import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { turns } from '../fakes/clock.ts';
import { runFor, runUntil } from '../fakes/clock-timeline.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { openLocal, provider } from './local-market-bench.ts';
import { marketConformance } from './market-conformance.ts';

marketConformance('local', async (t) => {
  const { market, clock } = await openLocal(t, { providers: [provider('desk', 1000n), provider('shed', 2000n)] });
  return {
    market,
    order: testOrder,
    escrow: true,
    disputes: true,
    until: async (what, check) => void (await runUntil(clock, what, check)),
    passBlocks: (count) => runFor(clock, count * 6000, 6000),
  };
});

test('bids come one by one, each provider after its own time, and the last one completes the order', async (t) => {
  const providers = [
    provider('quick', 3000n, { replyMs: 100 }),
    provider('slow', 1000n, { replyMs: 900 }),
    provider('dear', 9_000_000n, { replyMs: 400 }),
  ];
  const { market, clock } = await openLocal(t, { providers });
  let changes = 0;
  market.onChange(() => (changes += 1));
  await market.tender(testOrder('o1'));
  const seen = async (): Promise<unknown> => {
    const view = await market.order('o1');
    return [view?.bids.map(({ provider: id }) => id), view?.declined, view?.complete];
  };
  assert.deepEqual(await seen(), [[], [], false]);
  await clock.advance(100);
  assert.deepEqual(await seen(), [['quick'], [], false]);
  await clock.advance(300);
  const declined = [{ provider: 'dear', reason: 'its price is above the ceiling' }];
  assert.deepEqual(await seen(), [['quick'], declined, false]);
  await clock.advance(500);
  assert.deepEqual(await seen(), [['quick', 'slow'], declined, true]);
  assert.equal(changes, 3);
});

test('an order that nobody takes falls after five minutes', async (t) => {
  const { market, clock } = await openLocal(t);
  await market.tender(testOrder('o1'));
  await clock.advance(299_999);
  assert.equal((await market.order('o1'))?.state, 'open');
  await clock.advance(1);
  assert.equal((await market.order('o1'))?.state, 'closed');
  assert.deepEqual(await market.accept('o1', 'o1/desk', 1_000_000n), {
    kind: 'refused',
    reason: 'the order is closed',
  });
});

test('nobody bids for an order that was withdrawn meanwhile, and none of its timers is left', async (t) => {
  const { market, clock } = await openLocal(t);
  const before = clock.pending;
  await market.tender(testOrder('o1'));
  await market.cancel('o1');
  assert.equal(clock.pending, before);
  await clock.advance(1000);
  assert.deepEqual((await market.order('o1'))?.bids, []);
});

test('a thousand orders are enough; fallen ones make room after ten minutes', async (t) => {
  const { market, clock } = await openLocal(t);
  for (let n = 0; n < 1000; n += 1) {
    await market.tender(testOrder(`o${n}`));
    await market.cancel(`o${n}`);
  }
  const full = await market.tender(testOrder('one more'));
  assert.deepEqual(full, { kind: 'refused', reason: 'the market holds too many orders' });
  await clock.advance(600_001);
  assert.equal((await market.tender(testOrder('later'))).kind, 'done');
});

test('a lease is found by its order after the market has forgotten the order', async (t) => {
  const { market, clock, lease } = await openLocal(t, { providers: [provider('desk', 1n)] });
  const { id } = await lease('o1', 1_000_000n);
  await runFor(clock, 700_000, 70_000);
  await market.tender(testOrder('another'));
  assert.equal(await market.order('o1'), null);
  const again = await market.accept('o1', 'o1/desk', 1_000_000n);
  assert.equal(again.kind === 'done' && again.value.id, id);
});

test('an idle provider bids less than a busy one', async (t) => {
  const policy = { kind: 'idle_discount' as const, marginBp: 10_000, discountMaxBp: 4000, peakMarkupBp: 0 };
  const { market, clock, lease } = await openLocal(t, { providers: [provider('desk', 1000n, { slots: 2, policy })] });
  const first = await lease('o1');
  await market.tender(testOrder('o2'));
  await clock.advance(100);
  const [second] = (await market.order('o2'))?.bids ?? [];
  assert.deepEqual([first.priceNanoUsdPerBlock, second?.priceNanoUsdPerBlock], [1200n, 1600n]);
});

test('a provider never has more leases than machines, whatever is accepted and closed at once', async (t) => {
  const action = fc.record({ order: fc.nat(5), close: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 25 }), async (actions) => {
      const { market, clock } = await openLocal(t, { providers: [provider('desk', 1000n, { slots: 2 })] });
      for (let n = 0; n < 6; n += 1) await market.tender(testOrder(`o${n}`));
      await clock.advance(100);
      const calls = actions.map(async ({ order, close }) => {
        const call = close
          ? market.close(`lease-o${order}`, 'tenant')
          : market.accept(`o${order}`, `o${order}/desk`, 1_000_000n);
        await turns(1);
        const [desk] = await market.providers();
        assert.ok((desk?.used ?? 0) <= 2, `${desk?.used} leases on 2 machines`);
        await call;
      });
      await Promise.all(calls);
      assert.ok((await market.list()).leases.length <= 2);
    }),
    { numRuns: 15 },
  );
});

test('of six bids of a provider with two machines, accepted at once, two become leases', async (t) => {
  const { market, clock } = await openLocal(t, { providers: [provider('desk', 1000n, { slots: 2 })] });
  const orders = Array.from({ length: 6 }, (_, n) => `o${n}`);
  for (const id of orders) await market.tender(testOrder(id));
  await clock.advance(100);
  const outcomes = await Promise.all(orders.map((id) => market.accept(id, `${id}/desk`, 1_000_000n)));
  assert.equal(outcomes.filter(({ kind }) => kind === 'done').length, 2);
  const refusals = outcomes.filter((one) => one.kind === 'refused').map(({ reason }) => reason);
  assert.deepEqual(new Set(refusals), new Set(['the provider has no capacity left']));
});
