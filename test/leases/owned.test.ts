import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OwnedMarket, type OwnedServer } from '../../src/leases/owned/market.ts';
import { parseUsd } from '../../src/units.ts';
import { FakeClock } from '../fakes/clock.ts';
import { runFor, runUntil } from '../fakes/clock-timeline.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { marketConformance } from './market-conformance.ts';

marketConformance('owned', () => {
  const { market, clock } = setup();
  return Promise.resolve({
    market,
    order: testOrder,
    escrow: false,
    disputes: false,
    until: async (what, check) => void (await runUntil(clock, what, check)),
    passBlocks: (count) => runFor(clock, count * 6000, 6000),
  });
});

test('a server bids its cost, with the order, and has answered for everybody', async () => {
  const { market } = setup();
  const outcome = await market.tender(testOrder('o1'));
  assert.ok(outcome.kind === 'done');
  assert.deepEqual(
    outcome.value.bids.map(({ provider, priceNanoUsdPerBlock, startMs }) => [provider, priceNanoUsdPerBlock, startMs]),
    [
      ['rack-1', 500_000n, 0],
      ['rack-2', 750_000n, 0],
    ],
  );
  assert.equal(outcome.value.complete, true);
});

test('a server bids for its own pool only, not above the ceiling, and not while it is in use', async () => {
  const { market } = setup();
  const other = await market.tender(testOrder('o1', { pool: 'another' }));
  assert.deepEqual(other.kind === 'done' && [other.value.bids, other.value.declined], [[], []]);
  const cheap = await market.tender(testOrder('o2', { ceilingNanoUsdPerBlock: 600_000n }));
  assert.deepEqual(cheap.kind === 'done' && cheap.value.declined, [
    { provider: 'rack-2', reason: 'its cost is above the ceiling' },
  ]);
  await market.accept('o2', 'o2/rack-1');
  const busy = await market.tender(testOrder('o3'));
  assert.deepEqual(busy.kind === 'done' && busy.value.declined, [{ provider: 'rack-1', reason: 'is in use' }]);
});

test('a server that bid for two orders is leased once', async () => {
  const { market } = setup();
  await market.tender(testOrder('o1'));
  await market.tender(testOrder('o2'));
  assert.equal((await market.accept('o1', 'o1/rack-1')).kind, 'done');
  const second = await market.accept('o2', 'o2/rack-1');
  assert.deepEqual(second, { kind: 'refused', reason: 'the machine is in use' });
  await market.close('lease-o1', 'tenant');
  assert.equal((await market.accept('o2', 'o2/rack-1')).kind, 'done', 'once it is free, the bid stands');
});

test('a leased server is there at once, at its own address, with its own key and slots', async () => {
  const { market } = setup();
  await market.tender(testOrder('o1'));
  await market.accept('o1', 'o1/rack-1');
  const status = await market.status('lease-o1');
  assert.equal(status?.delivery.state, 'running');
  const { url, apiKey, slots } = status.delivery;
  assert.deepEqual([url, apiKey, slots], ['http://10.0.0.1:8000', 'own-key', 2]);
});

test('a thousand open orders are enough, and old ones make room', async () => {
  const { market, clock } = setup();
  for (let n = 0; n < 1000; n += 1) await market.tender(testOrder(`o${n}`));
  const full = await market.tender(testOrder('one more'));
  assert.deepEqual(full, { kind: 'refused', reason: 'the market holds too many orders' });
  await market.cancel('o5');
  assert.equal((await market.tender(testOrder('in place of o5'))).kind, 'done');
  await clock.advance(300_001);
  assert.equal((await market.tender(testOrder('later'))).kind, 'done');
  assert.ok((await market.list()).orders.length <= 1000);
});

function setup(): { market: OwnedMarket; clock: FakeClock } {
  const server = (id: string, host: number, cost: string): OwnedServer => ({
    id,
    url: `http://10.0.0.${host}:8000`,
    apiKey: 'own-key',
    pool: 'tiny',
    slots: 2,
    costNanoUsdPerHour: parseUsd(cost),
  });
  const clock = new FakeClock();
  return { market: new OwnedMarket([server('rack-1', 1, '0.30'), server('rack-2', 2, '0.45')], clock), clock };
}
