import { FakeClock } from '../fakes/clock.ts';
import { runFor, runUntil } from '../fakes/clock-timeline.ts';
import { FakeMarket } from '../fakes/markets.ts';
import { testOrder } from '../fakes/market-samples.ts';
import { marketConformance } from './market-conformance.ts';

/** The market that the scheduler's tests play with keeps what the real ones keep. */
marketConformance('fake', () => {
  const clock = new FakeClock();
  const market = new FakeMarket({
    clock,
    providers: [
      { id: 'cheap', price: 100n, delivers: 'running' },
      { id: 'dear', price: 200n, delivers: 'running' },
    ],
  });
  return Promise.resolve({
    market,
    order: testOrder,
    escrow: true,
    disputes: true,
    until: async (what, check) => void (await runUntil(clock, what, check)),
    passBlocks: (count) => runFor(clock, count * 6000, 6000),
  });
});
