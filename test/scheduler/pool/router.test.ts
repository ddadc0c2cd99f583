import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { AppError } from '../../../src/errors.ts';
import { PoolRouter } from '../../../src/scheduler/pool/router.ts';
import type { Slot, TakeOptions } from '../../../src/scheduler/pool/slot.ts';
import { parsePool } from '../../../src/spec.ts';
import { FakeClock } from '../../fakes/clock.ts';

test('takes the replica with the largest share of its slots free', async () => {
  const { add, take } = setup();
  add('small', 2);
  add('large', 8);
  const order: string[] = [];
  for (let count = 0; count < 10; count += 1) order.push((await take()).target.id);
  assert.equal(order.filter((id) => id === 'small').length, 2);
  // One of two is used as much as four of eight.
  assert.deepEqual(order.slice(0, 5).toSorted(), ['large', 'large', 'large', 'large', 'small']);
});

test('a free slot is given at once, warm and without waiting', async () => {
  const { router, add } = setup();
  assert.equal(router.tryTake(), null);
  add('a', 1);
  const slot = router.tryTake();
  assert.deepEqual([slot?.target.id, slot?.waitedMs, slot?.cold], ['a', 0, false]);
  assert.equal(router.tryTake(), null);
  slot?.release('served');
  assert.notEqual(router.tryTake(), null);
});

test('an answer that its client holds back says nothing of the speed of its machine', async () => {
  const { router, add, clock } = setup();
  add('a', 1);
  for (const slow of [true, false]) {
    const slot = router.tryTake();
    slot?.began();
    if (slow) slot?.heldBack();
    await clock.advance(slow ? 60_000 : 1000);
    slot?.used(10, 101, 0n);
    slot?.release('served');
  }
  assert.deepEqual(
    router.speeds.take().map(({ tokensPerS }) => tokensPerS),
    [100],
  );
});

test('who waits is woken the moment a slot is given back', async () => {
  const { add, take, clock, router } = setup();
  add('a', 1);
  const first = await take();
  const second = take();
  await clock.advance(700);
  assert.equal(router.stats.waiting, 1);
  first.release('served');
  const slot = await second;
  assert.deepEqual([slot.waitedMs, slot.cold, router.stats.waiting], [700, false, 0]);
});

test('a cold pool asks for a machine once a request waits, and the machine takes the whole line', async () => {
  const { add, take, clock, demands, router } = setup();
  const waiting = [take(), take(), take()];
  assert.deepEqual([demands.count, router.stats.waitingSinceMs], [3, clock.now()]);
  await clock.advance(5000);
  add('a', 2);
  const slots = await Promise.all(waiting.slice(0, 2));
  assert.deepEqual(
    slots.map(({ waitedMs, cold }) => [waitedMs, cold]),
    [
      [5000, true],
      [5000, true],
    ],
  );
  assert.equal(router.stats.waiting, 1);
  slots[0]?.release('served');
  assert.equal((await waiting[2])?.target.id, 'a');
});

test('accounts take turns at a slot', async () => {
  const { add, take } = setup();
  add('a', 1);
  const order: string[] = [];
  const first = await take();
  const turns = ['greedy', 'greedy', 'greedy', 'other'].map(async (account) => {
    const slot = await take({ account });
    order.push(account);
    slot.release('served');
  });
  first.release('served');
  await Promise.all(turns);
  assert.deepEqual(order, ['greedy', 'other', 'greedy', 'greedy']);
});

test('who is late already makes room for those who can still be in time, and nobody for an answer that goes on', async () => {
  const { add, take, clock } = setup();
  add('a', 1);
  const first = await take();
  const order: string[] = [];
  const wait = async (name: string, begun = false): Promise<void> => {
    const slot = await take({ begun });
    order.push(name);
    slot.release('served');
  };
  const waits = [wait('late'), wait('moved', true)];
  await clock.advance(4500);
  waits.push(wait('new'));
  first.release('served');
  await Promise.all(waits);
  assert.deepEqual(order, ['moved', 'new', 'late']);
});

test('a long prompt waits in line, not behind others on a replica that reads; who cannot wait goes there all the same', async () => {
  const { router, add, take } = setup();
  add('a', 4);
  const opening = { session: null, blocks: [], size: 100 };
  router.speeds.prefillTokensPerS = 5000;
  const first = await take({ opening });
  const second = take({ opening });
  assert.deepEqual([router.tryTake({ opening }), router.stats.waiting], [null, 1]);
  assert.equal((await take({ opening, maxWaitMs: 0 })).target.id, 'a');
  first.began();
  assert.equal(router.stats.waiting, 1, 'the one that could not wait is read first');
  first.release('served');
  router.speeds.prefillTokensPerS = 10_000;
  router.verified('a');
  assert.equal((await second).waitedMs, 0);
});

test('the moment a prompt is read there is room for the next one', async () => {
  const { router, add, take } = setup();
  add('a', 4);
  const opening = { session: null, blocks: [], size: 100 };
  router.speeds.prefillTokensPerS = 5000;
  const first = await take({ opening });
  const second = take({ opening });
  assert.equal(router.stats.waiting, 1);
  first.began();
  assert.equal((await second).target.id, 'a');
  assert.deepEqual([router.load('a')?.inFlight, router.stats.waiting], [2, 0]);
});

test('who found no machine was told so: a cold start takes its time without making anybody late', async () => {
  const { router, add, take, clock } = setup();
  router.expectStart(20_000);
  const order: string[] = [];
  const wait = async (name: string): Promise<void> => {
    const slot = await take();
    order.push(name);
    slot.release('served');
  };
  const waits = [wait('cold')];
  await clock.advance(15_000);
  waits.push(wait('new'));
  add('a', 1);
  await Promise.all(waits);
  assert.deepEqual(order, ['cold', 'new']);
});

test('the line is bounded, and who is turned away hears when to come back', async () => {
  const { take, router } = setup({ waiting_max: 2 });
  void take().catch(() => undefined);
  void take().catch(() => undefined);
  const error = await failure(take());
  assert.deepEqual([error.code, error.retryAfterS, router.stats.waiting], ['queue_full', 10, 2]);
  router.close(new AppError('no_capacity', 'stopping'));
});

test('waits to its deadline and no longer', async () => {
  const { take, clock, router } = setup();
  router.setPhase('order placed');
  const ended = failure(take({ maxWaitMs: 5000 }));
  await clock.advance(4999);
  assert.equal(router.stats.waiting, 1);
  await clock.advance(1);
  const { code, message } = await ended;
  assert.deepEqual([code, message], ['no_capacity', 'no machine could be had in time (order placed)']);
  expectEmpty(router, clock);
});

test('with no time to wait it refuses at once', async () => {
  const { take, router, clock } = setup();
  for (const maxWaitMs of [0, -5]) assert.equal((await failure(take({ maxWaitMs }))).code, 'no_capacity');
  expectEmpty(router, clock);
});

test('who leaves the line leaves nothing behind', async () => {
  const { take, add, clock, router } = setup();
  const leave = new AbortController();
  const ended = failure(take({ signal: leave.signal }));
  leave.abort();
  assert.equal((await ended).code, 'client_closed');
  assert.equal((await failure(take({ signal: leave.signal }))).code, 'client_closed');
  expectEmpty(router, clock);
  add('a', 1);
  assert.equal(router.stats.inFlight, 0);
});

test('a replica that failed a request is not given to it again, but to others', async () => {
  const { add, take, router } = setup();
  add('bad', 1);
  assert.equal(router.tryTake({ exclude: new Map([['bad', 0]]) }), null);
  assert.equal(router.hasOther(new Map([['bad', 0]])), false);
  const picky = take({ exclude: new Map([['bad', 0]]) });
  assert.equal((await take()).target.id, 'bad');
  assert.equal(router.stats.waiting, 1);
  add('good', 1);
  assert.equal((await picky).target.id, 'good');
  assert.equal(router.hasOther(new Map([['bad', 0]])), true);
});

test('a picky one at the head of the line holds nobody up', async () => {
  const { add, take } = setup();
  add('bad', 1);
  const busy = await take();
  const picky = take({ account: 'a', exclude: new Map([['bad', 0]]) });
  const other = take({ account: 'b' });
  busy.release('served');
  assert.equal((await other).target.id, 'bad');
  add('good', 1);
  assert.equal((await picky).target.id, 'good');
});

test('a draining replica takes no more, ends what it has and then says so', async () => {
  const { add, take, router, demands } = setup();
  add('a', 2);
  const slot = await take();
  router.drain('a');
  assert.deepEqual([router.stats.ready, router.tryTake(), router.hasOther(new Map())], [0, null, false]);
  const waiting = take();
  const before = demands.count;
  slot.release('served');
  assert.equal(demands.count, before + 1);
  assert.deepEqual([router.load('a')?.inFlight, router.stats.waiting], [0, 1]);
  add('b', 1);
  assert.deepEqual([(await waiting).target.id, (await waiting).cold], ['b', true]);
});

test('a replica that is gone tells who works on it, once', async () => {
  const { add, take, router } = setup();
  add('a', 3);
  const slots = await Promise.all([take(), take(), take()]);
  const told: number[] = [];
  const offs = slots.map((slot, at) => slot.onLost(() => told.push(at)));
  offs[1]?.();
  assert.equal(slots[0]?.lost, false);
  router.remove('a');
  router.remove('a');
  assert.deepEqual(
    [told, slots.map(({ lost }) => lost)],
    [
      [0, 2],
      [true, true, true],
    ],
  );
  for (const slot of slots) slot.release('failed');
  assert.deepEqual([router.stats.inFlight, router.load('a')], [0, null]);
});

test('a slot given back twice is given back once', async () => {
  const { add, take, router } = setup();
  add('a', 2);
  const [one] = [await take(), await take()];
  one.release('served');
  one.release('failed');
  assert.deepEqual([router.load('a')?.inFlight, router.load('a')?.served, router.load('a')?.failed], [1, 1, 0]);
});

test('outcomes are counted by replica; a cancelled request is nobody’s fault', async () => {
  const { add, take, router } = setup();
  add('a', 4);
  for (const outcome of ['served', 'failed', 'cancelled', 'served'] as const) (await take()).release(outcome);
  const { served, failed, inFlight } = router.load('a') ?? assert.fail();
  assert.deepEqual([served, failed, inFlight], [2, 1, 0]);
});

test('the requests that a breach of a replica shows in are those at work on it and those that it failed since', () => {
  const { router, add } = setup();
  const hit = (): readonly string[] | undefined => router.load('a')?.hit();
  add('a', 8);
  const [one, two, three] = ['one', 'two', 'three'].map((request) => router.tryTake({ request }));
  router.tryTake()?.release('failed');
  assert.deepEqual(hit(), ['one', 'two', 'three'], 'a question of our own has no name');
  one?.release('failed');
  two?.release('cancelled');
  assert.deepEqual(hit(), ['one', 'three']);
  three?.release('served');
  assert.deepEqual(hit(), [], 'it has made good what it failed before');
  const again = router.tryTake({ request: 'four' });
  again?.release('failed');
  assert.deepEqual(hit(), ['four']);
  router.verified('a');
  assert.deepEqual(hit(), []);
});

test('what start-ups take is learned, half from the last one', () => {
  const { add, router } = setup();
  assert.equal(router.expectedStartMs, null);
  add('a', 1, 10_000);
  assert.equal(router.expectedStartMs, 10_000);
  add('b', 1, 20_000);
  assert.equal(router.expectedStartMs, 15_000);
});

test('phases are told when they change, until nobody listens', () => {
  const { router } = setup();
  const heard: string[] = [];
  const off = router.onPhase((phase) => heard.push(phase));
  for (const phase of ['order placed', 'order placed', 'bid won']) router.setPhase(phase);
  off();
  router.setPhase('ready');
  assert.deepEqual([heard, router.phase], [['order placed', 'bid won'], 'ready']);
});

test('closing turns everybody in line away', async () => {
  const { take, router, clock } = setup();
  const ended = [failure(take({ account: 'a' })), failure(take({ account: 'b' }))];
  router.close(new AppError('model_not_found', 'gone'));
  assert.deepEqual(
    (await Promise.all(ended)).map(({ code }) => code),
    ['model_not_found', 'model_not_found'],
  );
  expectEmpty(router, clock);
});

async function failure(slot: Promise<Slot>): Promise<AppError> {
  const error: unknown = await slot.then(
    () => new Error('a slot was given'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof AppError, String(error));
  return error;
}

test('a wait that is over listens to nothing any more, however it ended', async () => {
  const { take, add, clock, router } = setup();
  const { signal } = new AbortController();
  const given = take({ signal });
  const refused = failure(take({ signal, maxWaitMs: 100 }));
  const closed = failure(take({ signal, exclude: new Map([['a', 0]]) }));
  assert.equal(getEventListeners(signal, 'abort').length, 3);
  await clock.advance(100);
  add('a', 1);
  router.close(new AppError('no_capacity', 'stopping'));
  await Promise.all([given, refused, closed]);
  assert.deepEqual([getEventListeners(signal, 'abort').length, clock.pending], [0, 0]);
});

function expectEmpty(router: PoolRouter, clock: FakeClock): void {
  const { waiting, inFlight, waitingSinceMs } = router.stats;
  assert.deepEqual({ waiting, inFlight, waitingSinceMs, timers: clock.pending }, { ...EMPTY });
}

const EMPTY = { waiting: 0, inFlight: 0, waitingSinceMs: null, timers: 0 };
const PLACE = {
  engine: 'vllm' as const,
  url: 'http://replica',
  apiKey: null,
  market: 'owned',
  provider: 'p',
  leaseId: 'l',
};

test('who waits for a busy machine gets it when it is free, however much time goes by between two looks at the clock', async () => {
  for (let busyMs = 1; busyMs <= 20; busyMs += 1) {
    const clock = new HastyClock();
    const { router, add, take } = setup({}, clock);
    add('a', 1);
    router.tryTake()?.release('busy', busyMs);
    let served = false;
    void take().then(
      () => (served = true),
      () => undefined,
    );
    for (let count = 0; count < 30 && !served; count += 1) await clock.fire();
    assert.ok(served, `busy for ${busyMs} ms`);
  }
});

/** A millisecond goes by with each look at it, and its timers are a millisecond early. */
class HastyClock extends FakeClock {
  #nowMs = 1000;
  #timers: { readonly at: number; readonly call: () => void }[] = [];

  override now(): number {
    this.#nowMs += 1;
    return this.#nowMs;
  }

  override timer(ms: number, call: () => void): () => void {
    const timer = { at: this.#nowMs + ms, call };
    this.#timers.push(timer);
    return () => (this.#timers = this.#timers.filter((one) => one !== timer));
  }

  async fire(): Promise<void> {
    const [next] = this.#timers.toSorted((a, b) => a.at - b.at);
    if (!next) return;
    this.#timers = this.#timers.filter((one) => one !== next);
    this.#nowMs = Math.max(this.#nowMs, next.at - 2);
    next.call();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function setup(limits: Record<string, number> = {}, clock = new FakeClock()) {
  const demands = { count: 0 };
  const price = { input: '1', output: '1' };
  const pool = { engine: 'vllm', model: 'm', context: 100, price, ceiling_usd_per_hour: '1', limits };
  const router = new PoolRouter(parsePool('m', pool, clock.now()), clock, () => (demands.count += 1));
  const signal = new AbortController().signal;
  return {
    ...{ clock, demands, router },
    add: (id: string, slots: number, startMs = 1000) => router.add({ id, slots, ...PLACE }, startMs),
    take: (options: Partial<TakeOptions> = {}) => router.take({ account: 'a', maxWaitMs: 60_000, signal, ...options }),
  };
}
