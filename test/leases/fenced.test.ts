import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fenceMarket } from '../../src/leases/fenced.ts';
import type { Market } from '../../src/leases/market.ts';
import { breachOf } from '../../src/spec/dispute.ts';
import { FakeClock } from '../fakes/clock.ts';
import { FakeMarket } from '../fakes/markets.ts';
import { testOrder } from '../fakes/market-samples.ts';

const SLOW = breachOf({ kind: 'slow', reason: 'slow', fromMs: 0, toMs: 1 });
const NEEDS = { trust: 'any', regions: null, providers: null } as const;

test('while it leads, everything is done as without a fence', async () => {
  const { market, fenced } = setup();
  assert.equal((await fenced.tender(testOrder('o1'))).kind, 'done');
  assert.equal((await fenced.accept('o1', 'o1/cheap', 1_000_000n)).kind, 'done');
  assert.equal((await fenced.deploy('lease-o1', testOrder('o1').workload)).kind, 'done');
  assert.equal((await fenced.status('lease-o1'))?.delivery.state, 'running');
  assert.equal((await fenced.fund('lease-o1', 5n, 'f1')).kind, 'done');
  assert.equal((await fenced.dispute('lease-o1', SLOW)).kind, 'done');
  assert.equal((await fenced.close('lease-o1', 'tenant')).kind, 'done');
  assert.deepEqual(
    market.calls.map((call) => call.split(' ')[0]),
    ['tender', 'accept', 'deploy', 'status', 'fund', 'dispute', 'close'],
  );
});

test('one that leads no more is refused each action before the market hears of it, and may still read', async () => {
  const { market, fenced, lose } = setup();
  await fenced.tender(testOrder('o1'));
  await fenced.accept('o1', 'o1/cheap', 1_000_000n);
  market.calls.length = 0;
  lose();
  const outcomes = [
    await fenced.tender(testOrder('o2')),
    await fenced.accept('o1', 'o1/cheap', 1_000_000n),
    await fenced.cancel('o1'),
    await fenced.deploy('lease-o1', testOrder('o1').workload),
    await fenced.fund('lease-o1', 5n, 'f1'),
    await fenced.dispute('lease-o1', SLOW),
    await fenced.judge('d1', { upheld: true, reason: 'seen' }),
    await fenced.close('lease-o1', 'tenant'),
  ];
  for (const outcome of outcomes) assert.deepEqual(outcome, { kind: 'refused', reason: 'another gateway leads' });
  assert.deepEqual(market.calls, []);
  assert.equal((await fenced.list()).leases.length, 1);
});

test('what a market does not have, its fence has not either', () => {
  const { market, fenced } = setup();
  const optional = ['health', 'logs', 'metered', 'cannot'] as const;
  for (const name of optional) assert.equal(name in fenced, false, name);
  const whole: Market = Object.assign(market, { health: () => ({ problem: 'away', detail: {} }), cannot: () => 'no' });
  const other = fenceMarket(whole, () => Promise.resolve(true));
  assert.deepEqual([other.health?.().problem, other.cannot?.('tiny', NEEDS)], ['away', 'no']);
});

function setup(): { market: FakeMarket; fenced: Market; lose: () => void } {
  let leading = true;
  const providers = [{ id: 'cheap', price: 1000n, delivers: 'running' as const }];
  const market = new FakeMarket({ clock: new FakeClock(1_700_000_000_000), providers });
  const fenced = fenceMarket(market, () => Promise.resolve(leading));
  return { market, fenced, lose: () => void (leading = false) };
}
