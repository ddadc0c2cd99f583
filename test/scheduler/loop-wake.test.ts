import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { AppError } from '../../src/errors.ts';
import type { Slot } from '../../src/scheduler/pool/slot.ts';
import { WakeOffer } from '../../src/scheduler/pool/wake-offer.ts';
import type { PoolInput } from '../../src/spec.ts';
import type { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, type Bench } from './loop-bench.ts';

const DAY_MS = 86_400_000;

test('a pool that wakes for a fee refuses who pays none, says the fee, and wakes for who pays it', async (t) => {
  const { bench, market, take } = await setup(t, { needs: ['fee'], fee_usd: '0.05' });
  const poor = take('ann');
  await bench.until('it is refused', () => poor.error !== null, 10_000);
  assert.ok(poor.error instanceof AppError);
  assert.equal(poor.error.code, 'no_capacity');
  assert.equal(poor.error.metadata?.['wake_fee_usd'], '0.05');
  assert.equal(market.count('tender'), 0, 'nothing was ordered for it');
  const paying = take('bob', { fee: 50_000_000n });
  assert.equal(paying.offer.feeDueNanoUsd, 0n);
  await bench.until('it is served', () => paying.slot !== null);
  assert.equal(paying.offer.feeDueNanoUsd, 50_000_000n);
  const [replica] = await bench.replicas();
  assert.deepEqual([replica?.wake?.way, replica?.wake?.shares], ['fee', [{ account: 'bob', weight: 1n }]]);
});

test('while a machine comes nobody else pays, and whoever waits is served by it', async (t) => {
  const { bench, market, take } = await setup(t, { needs: ['fee'], fee_usd: '0.05' });
  const first = take('ann', { fee: 50_000_000n });
  await bench.until('an order stands', () => market.count('tender') === 1);
  const [second, free] = [take('bob', { fee: 50_000_000n }), take('cid')];
  await bench.until('they are served', () => first.slot !== null && second.slot !== null, 60_000);
  first.slot?.release('served');
  await bench.until('all are served', () => free.slot !== null, 10_000);
  assert.deepEqual([first.offer.feeDueNanoUsd, second.offer.feeDueNanoUsd], [50_000_000n, 0n]);
  assert.equal(market.count('tender'), 1);
});

test('an order falls when who was to pay for it leaves: nobody in line gets for nothing what was ordered on his word', async (t) => {
  const { bench, market, take } = await setup(t, { needs: ['fee'], fee_usd: '0.05' });
  const gone = new AbortController();
  // Its bids take their time.
  market.mishaps.order = Array.from({ length: 20 }, () => 'throws');
  const paying = take('ann', { fee: 50_000_000n, signal: gone.signal });
  await bench.until('an order stands', () => market.count('tender') === 1);
  const free = take('ann');
  gone.abort();
  await bench.until('it is told', () => free.error !== null || free.slot !== null, 60_000);
  assert.deepEqual([free.slot, paying.offer.feeDueNanoUsd, market.open().length], [null, 0n, 0]);
  const next = take('bob', { fee: 50_000_000n });
  await bench.until('it is served', () => next.slot !== null);
  assert.equal(next.offer.feeDueNanoUsd, 50_000_000n);
});

test('a lease that is made while its payer leaves is given back, and nobody in line gets it for nothing', async (t) => {
  const { bench, market, take } = await setup(t, { needs: ['fee'], fee_usd: '0.05' });
  const gone = new AbortController();
  const accepting = Promise.withResolvers<void>();
  market.mishaps.accept = [accepting.promise];
  take('ann', { fee: 50_000_000n, signal: gone.signal });
  await bench.until('its bid is being taken', () => market.count('accept') === 1);
  const free = take('ann');
  gone.abort();
  accepting.resolve();
  await bench.until('it is told', () => free.error !== null || free.slot !== null, 60_000);
  assert.deepEqual([free.slot, market.open().length], [null, 0]);
  const next = take('bob', { fee: 50_000_000n });
  await bench.until('it is served', () => next.slot !== null);
});

test('a fee is not due when no machine came, and pays for one that comes later', async (t) => {
  const { bench, take } = await setup(t, { needs: ['fee'], fee_usd: '0.05' });
  bench.probe.answer = () => Promise.reject(new Error('not yet'));
  const paying = take('ann', { fee: 50_000_000n });
  await bench.until('its machine is leased', () => paying.offer.feeDueNanoUsd > 0n);
  await bench.until('its start failed', () => paying.offer.feeDueNanoUsd === 0n, 400_000);
  bench.probe.answer = () => Promise.resolve();
  await bench.until('another one serves it', () => paying.slot !== null, 400_000);
  assert.equal(paying.offer.feeDueNanoUsd, 50_000_000n);
});

test('queued value wakes the pool once it is worth the start-up, by those whose value it is', async (t) => {
  const { bench, market, take } = await setup(t, { needs: ['value'], wait_s: 30 });
  // A minute at the ceiling of 0.60 USD an hour: a cent.
  const cents = [take('ann', { value: 4_000_000n }), take('bob', { value: 5_000_000n })];
  await bench.pass(5000);
  assert.equal(market.count('tender'), 0);
  cents.push(take('cid', { value: 1_000_000n }));
  await bench.until('an order is placed', () => market.count('tender') === 1, 5000);
  await bench.until('two are served at once', () => cents.filter(({ slot }) => slot !== null).length === 2);
  const [replica] = await bench.replicas();
  const shares = replica?.wake?.shares.map(({ account, weight }) => `${account} ${weight}`);
  assert.deepEqual(shares, ['bob 5000000', 'ann 4000000', 'cid 1000000']);
});

test('an allowance counts wakes of the day over a restart, and an admin sets it for an account', async (t) => {
  const { bench, take, asleep } = await setup(t, { needs: ['allowance'], allowance_per_day: 1 });
  const wake = async (account: string, on = bench.run): Promise<boolean> => {
    const taking = take(account, {}, on);
    await bench.until('it is told', () => taking.slot !== null || taking.error !== null);
    taking.slot?.release('served');
    if (taking.slot) await asleep(on);
    return taking.slot !== null;
  };
  assert.equal(await wake('ann'), true);
  assert.equal(await wake('ann'), false, 'one a day');
  assert.equal(await wake('bob'), true, 'each has its own');
  const again = await bench.start();
  assert.equal(await wake('ann', again), false, 'a restart gives none back');
  await again.scheduler.allowances.set('ann', 2);
  assert.equal(await wake('ann', again), true);
  assert.deepEqual(again.scheduler.allowances.stateOf('ann', again.pool.router.spec), { perDay: 2, used: 2 });
  const third = await bench.start();
  assert.equal(third.scheduler.allowances.of('ann'), 2, 'what an admin said is kept');
  await bench.clock.advance(DAY_MS - (bench.clock.now() % DAY_MS));
  await bench.pass(1000);
  assert.equal(await wake('ann', third), true, 'another day');
});

test('a start-up that failed is no wake of its account: its allowance goes before a fee all the same', async (t) => {
  const { bench, take } = await setup(t, { needs: ['allowance', 'fee'], allowance_per_day: 1, fee_usd: '0.05' });
  bench.probe.answer = () => Promise.reject(new Error('not yet'));
  const paying = take('ann', { fee: 50_000_000n });
  const failed = async (): Promise<boolean> => (await bench.decisions('replica.failed')).length > 0;
  await bench.until('its start failed', failed, 400_000);
  bench.probe.answer = () => Promise.resolve();
  await bench.until('another one serves it', () => paying.slot !== null, 400_000);
  assert.deepEqual(
    (await bench.replicas()).map(({ wake }) => wake?.way),
    ['allowance', 'allowance'],
  );
  assert.equal(paying.offer.feeDueNanoUsd, 0n);
  const { allowances } = bench.run.scheduler;
  assert.deepEqual(allowances.stateOf('ann', bench.run.pool.router.spec), { perDay: 1, used: 1 });
});

test('an account whose machine died as soon as it was there wakes another on the same allowance, not one that served', async (t) => {
  const { bench, market, take } = await setup(t, { needs: ['allowance'], allowance_per_day: 1 });
  const serve = async (): Promise<Slot | null> => {
    const asked = take('ann');
    await bench.until('it is told', () => asked.slot !== null || asked.error !== null, 400_000);
    return asked.slot;
  };
  const die = async (slot: Slot): Promise<void> => {
    market.deliver(slot.target.leaseId, 'failed', 'out of memory');
    await bench.until('it is gone', () => slot.lost);
    slot.release('failed');
  };
  const first = await serve();
  assert.ok(first);
  await die(first);
  const second = await serve();
  assert.ok(second, 'its stream ended with an error, so it asks anew');
  await bench.pass(600_000);
  await die(second);
  assert.equal(await serve(), null, 'that one had served');
});

test('without the setting anybody wakes the pool, and it is noted whom that is put down to', async (t) => {
  const { bench, take } = await setup(t, undefined);
  const taking = take('ann', { value: 7n });
  await bench.until('it is served', () => taking.slot !== null);
  const [replica] = await bench.replicas();
  assert.deepEqual([replica?.wake?.way, replica?.wake?.shares], ['free', [{ account: 'ann', weight: 7n }]]);
});

test('a paused pool orders nothing, gives its machines back and refuses at once, over a restart too', async (t) => {
  const { bench, market, take } = await setup(t, undefined);
  const taking = take('ann');
  await bench.until('it is served', () => taking.slot !== null);
  await bench.run.scheduler.pauses.on('tiny', 'maintenance');
  bench.run.scheduler.wake();
  await bench.pass(1000);
  const refused = take('bob');
  await bench.pass(100);
  assert.ok(refused.error instanceof AppError && /paused: maintenance/.test(refused.error.message));
  assert.equal(market.open().length, 1, 'an answer may end');
  taking.slot?.release('served');
  await bench.until('its machine is given back', () => market.open().length === 0, 10_000);
  const again = await bench.start();
  const still = take('bob', {}, again);
  await bench.pass(2000);
  assert.ok(still.error instanceof AppError && /paused: maintenance/.test(still.error.message));
  await again.scheduler.pauses.off('tiny');
  again.scheduler.wake();
  await bench.pass(1000);
  const after = take('bob', {}, again);
  await bench.until('it is served again', () => after.slot !== null);
});

interface Taking {
  slot: Slot | null;
  error: unknown;
  readonly offer: WakeOffer;
}

async function setup(t: TestContext, wake: PoolInput['wake']) {
  let made: FakeMarket | null = null;
  const bench: Bench = await openBench(t, {
    specs: [testSpec({ replicas: { min: 0, max: 1 }, idle_s: 5, ...(wake && { wake }) })],
    markets: (clock) => [(made ??= fakeMarket(clock))],
  });
  assert.ok(made);
  const market: FakeMarket = made;
  let count = 0;
  const take = (
    account: string,
    of: { value?: bigint; fee?: bigint; signal?: AbortSignal } = {},
    on = bench.run,
  ): Taking => {
    count += 1;
    const { value: valueNanoUsd = 1n, fee: feeNanoUsd = 0n, signal = new AbortController().signal } = of;
    const offer = new WakeOffer({ request: `r${count}`, valueNanoUsd, feeNanoUsd });
    const taking: Taking = { slot: null, error: null, offer };
    on.pool.router.take({ account, maxWaitMs: 900_000, signal, wake: offer }).then(
      (slot) => (taking.slot = slot),
      (error: unknown) => (taking.error = error),
    );
    return taking;
  };
  const asleep = (on = bench.run): Promise<number> =>
    bench.until('it sleeps', () => on.scheduler.replicas().length === 0, 60_000);
  return { bench, market, take, asleep };
}
