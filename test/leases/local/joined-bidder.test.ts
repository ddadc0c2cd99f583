import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import type { AppError } from '../../../src/errors.ts';
import { ANSWER_MS, JoinedBidder, SILENCE_MS } from '../../../src/leases/local/joined-bidder.ts';
import { offerSchema, type OfferMessage } from '../../../src/spec/provider-wire.ts';
import { FakeClock, turns, until } from '../../fakes/clock.ts';
import { runFor } from '../../fakes/clock-timeline.ts';
import { testOrder } from '../../fakes/market-samples.ts';
import { openLocal, TERMS, type LocalBench } from '../local-market-bench.ts';

const PEER = '203.0.113.7';
const PATIENCE_MS = 60_000;
const never = new AbortController().signal;

test('a provider that has not joined has no capacity and declines', async () => {
  const { bidder, clock } = alone();
  assert.equal(bidder.facts.slots, 0);
  const answer = await bidder.answer(testOrder('o1'), () => 0, never);
  assert.deepEqual(answer, { bid: false, reason: 'is not connected' });
  await assert.rejects(bidder.start(startOf('l1')), /not connected/);
  refuses(() => bidder.bid({ session: SESSION, order: 'o1', note: '', start_ms: null, decline: 'x' }), 'not_found');
  assert.equal(clock.pending, 0);
});

test('an order goes to the provider and its price comes back per block, as it was', async () => {
  const { bidder } = alone();
  bidder.offer(offer(), PEER);
  for (const [usd, perBlock] of [['0.0006', 1000n] as const, ['0.000000001', 1n] as const]) {
    const asked = bidder.answer(testOrder(`o-${usd}`), () => 0, never);
    const [task] = (await bidder.tasks({ session: SESSION, after: 0, wait_s: 20 }, never)).tasks;
    assert.ok(task?.kind === 'bid');
    assert.equal(task.order.ceiling_usd_per_hour, '0.60');
    bidder.bid({ session: SESSION, order: task.order.id, usd_per_hour: usd, note: 'mine', start_ms: 5 });
    assert.deepEqual(await asked, { bid: true, priceNanoUsdPerBlock: perBlock, note: 'mine', startMs: 5 });
    assert.deepEqual((await bidder.tasks({ session: SESSION, after: 0, wait_s: 0 }, never)).tasks, []);
  }
});

test('what it declared binds it: it is not asked for what it does not have', async () => {
  const { bidder } = alone();
  bidder.offer(offer({ cpu: 0.5 }), PEER);
  assert.deepEqual(await bidder.answer(testOrder('o1'), () => 0, never), { bid: false, reason: 'has 0.5 cores' });
  bidder.offer(offer({ slots: 2 }), PEER);
  assert.deepEqual(await bidder.answer(testOrder('o2'), () => 2, never), { bid: false, reason: 'no free capacity' });
  const audited = await bidder.answer(testOrder('o3', { trust: 'audited' }), () => 0, never);
  assert.deepEqual(audited, { bid: false, reason: 'is not audited' });
  const elsewhere = await bidder.answer(testOrder('o4', { region: 'us' }), () => 0, never);
  assert.deepEqual(elsewhere, { bid: false, reason: 'stands here (region eu)' });
});

test('what it publishes is what it asks, by how much of it is in use, while it is there', async () => {
  const { bidder, clock } = alone();
  assert.equal(bidder.asks(0), null);
  bidder.offer(offer(), PEER);
  assert.equal(bidder.asks(0), null, 'it need not say');
  bidder.offer(offer({ asks_usd_per_hour: ['0.0006', '0.0012'] }), PEER);
  assert.deepEqual([bidder.asks(0), bidder.asks(1), bidder.asks(2)], [1000n, 2000n, null]);
  await clock.advance(SILENCE_MS);
  assert.equal(bidder.asks(0), null);
  for (const bad of [['0'], ['-1'], ['much'], Array.from({ length: 65 }, () => '1')])
    assert.throws(() => offer({ asks_usd_per_hour: bad }));
});

test('an order answered too late is declined, and the answer is refused', async () => {
  const { bidder, clock } = alone();
  bidder.offer(offer(), PEER);
  const asked = bidder.answer(testOrder('o1'), () => 0, never);
  await clock.advance(ANSWER_MS);
  assert.deepEqual(await asked, { bid: false, reason: 'did not answer' });
  const late = { session: SESSION, order: 'o1', usd_per_hour: '0.1', note: '', start_ms: null };
  refuses(() => bidder.bid(late), 'not_found');
});

test('a flood of orders waits for no more than so many answers', async () => {
  const { bidder, clock } = alone();
  bidder.offer(offer(), PEER);
  const answers = Array.from({ length: 300 }, (_, n) => bidder.answer(testOrder(`o${n}`), () => 0, never));
  assert.equal((await bidder.tasks({ session: SESSION, after: 0, wait_s: 0 }, never)).tasks.length, 128);
  await clock.advance(ANSWER_MS);
  const reasons = (await Promise.all(answers)).map((answer) => (answer.bid ? '' : answer.reason));
  assert.equal(reasons.filter((reason) => reason === 'has too many orders to answer').length, 172);
});

test('a question for tasks waits, is answered at once when there is one, and a second one takes its place', async () => {
  const { bidder, clock } = alone();
  bidder.offer(offer(), PEER);
  const ask = (after: number) => bidder.tasks({ session: SESSION, after, wait_s: 20 }, never);
  const first = ask(0);
  const second = ask(0);
  assert.deepEqual(await first, { tasks: [], leases: [], disputes: [] });
  const started = bidder.start(startOf('l1'));
  started.catch(() => undefined);
  const { tasks, leases } = await second;
  assert.deepEqual([tasks.map(({ kind }) => kind), leases], [['start'], ['l1']]);
  const after = tasks.at(-1)?.n ?? 0;
  const third = ask(after);
  await clock.advance(20_000);
  assert.deepEqual(await third, { tasks: [], leases: ['l1'], disputes: [] }, 'what it knows is not sent again');
});

test('reports are heard once, only for its own open leases, and only for where it may be', async () => {
  const { bidder } = alone();
  bidder.offer(offer(), PEER);
  const started = bidder.start(startOf('l1'));
  const running = (lease: string, url: string, peer: string | null = PEER): void =>
    bidder.report(lease, { session: SESSION, state: 'running', url, detail: '' }, peer);
  refuses(() => running('somebody-elses', `http://${PEER}:8000`), 'not_found');
  refuses(() => running('l1', 'http://10.0.0.1:8000'), 'invalid_request');
  refuses(() => running('l1', `http://${PEER}:8000`, null), 'invalid_request');
  running('l1', `http://${PEER}:8000`);
  running('l1', `http://${PEER}:8001`);
  const server = await started;
  assert.equal(server.url, `http://${PEER}:8000`, 'the first address stays');
  bidder.report('l1', { session: SESSION, state: 'failed', detail: 'out of memory' }, PEER);
  assert.deepEqual(await server.exited, { detail: 'out of memory' });
  refuses(() => bidder.report('l1', { session: SESSION, state: 'failed', detail: '' }, PEER), 'not_found');
});

test('a second session takes the place of the first, whose leases end and whose calls are refused', async () => {
  const { bidder } = alone();
  bidder.offer(offer(), PEER);
  const started = bidder.start(startOf('l1'));
  const waiting = bidder.tasks({ session: SESSION, after: 1, wait_s: 20 }, never);
  bidder.offer(offer({ session: 'B'.repeat(22) }), PEER);
  await assert.rejects(started, /another process of the provider/);
  await assert.rejects(waiting, (error: AppError) => error.code === 'conflict');
  refuses(() => bidder.leave(SESSION), 'conflict');
  const { tasks, leases } = await bidder.tasks({ session: 'B'.repeat(22), after: 0, wait_s: 0 }, never);
  assert.deepEqual([tasks, leases], [[], []]);
});

test('one whose connection breaks off is waited for ten seconds, and is there again when it calls', async () => {
  const { bidder, clock } = alone();
  bidder.offer(offer(), PEER);
  const line = new AbortController();
  const waiting = bidder.tasks({ session: SESSION, after: 0, wait_s: 20 }, line.signal);
  line.abort();
  await waiting;
  await clock.advance(9_999);
  assert.equal(bidder.facts.slots, 3);
  await clock.advance(1);
  assert.equal(bidder.facts.slots, 0);
  await bidder.tasks({ session: SESSION, after: 0, wait_s: 0 }, never);
  assert.equal(bidder.facts.slots, 3);
});

test('the leases of a silent provider end with the rest back, and count against it; it comes back by calling', async (t) => {
  const { bench, bidder } = await inMarket(t);
  const { market, clock } = bench;
  await takeLease(bench, bidder, 'o1');
  await until('it runs', async () => (await market.status('lease-o1'))?.delivery.state === 'running', PATIENCE_MS);
  await runFor(clock, SILENCE_MS, 1000);
  await until('it is over', async () => (await market.status('lease-o1'))?.lease.state === 'closed', PATIENCE_MS);
  const status = await market.status('lease-o1');
  assert.equal(status?.lease.closeReason, 'provider');
  assert.match(status.delivery.detail, /was not heard from for 30 s/);
  assert.equal(await bench.balance('escrow:local:lease-o1'), 0n);
  const [view] = await market.providers();
  assert.deepEqual([view?.failures, view?.capacity, view?.used], [1, 0, 0]);
  const { leases } = await bidder.tasks({ session: SESSION, after: 0, wait_s: 0 }, never);
  assert.deepEqual(leases, [], 'it learns that its lease is over');
  assert.equal((await market.providers())[0]?.capacity, 3);
});

test('whatever happened before, no lease outlives the silence of its provider', async (t) => {
  const step = fc.constantFrom('lease', 'run', 'fail', 'close', 'again', 'wait', 'poll', 'leave');
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), async (steps) => {
      const { bench, bidder } = await inMarket(t);
      const { market, clock } = bench;
      let session = SESSION;
      let made = 0;
      const report = (state: 'running' | 'failed') => {
        const url = state === 'running' ? { url: `http://${PEER}:8000` } : {};
        for (let n = 1; n <= made; n += 1) {
          const tell = (): void => bidder.report(`lease-o${n}`, { session, state, detail: '', ...url }, PEER);
          attempt(tell);
        }
      };
      for (const name of steps) {
        if (name === 'lease') await takeLease(bench, bidder, `o${(made += 1)}`, { session, run: false });
        else if (name === 'run') report('running');
        else if (name === 'fail') report('failed');
        else if (name === 'close') await market.close(`lease-o${made}`, 'tenant');
        else if (name === 'again') bidder.offer(offer({ session: (session = `S${session.slice(0, 40)}`) }), PEER);
        else if (name === 'wait') await runFor(clock, 12_000, 6000);
        else if (name === 'poll') await bidder.tasks({ session, after: 0, wait_s: 0 }, never);
        else attempt(() => bidder.leave(session));
      }
      await runFor(clock, SILENCE_MS + 6000, 6000);
      await until('no lease is left', async () => (await market.list()).leases.length === 0, PATIENCE_MS);
      for (let n = 1; n <= made; n += 1) assert.equal(await bench.balance(`escrow:local:lease-o${n}`), 0n);
    }),
    { numRuns: 25 },
  );
});

const SESSION = 'A'.repeat(22);

function offer(change: Partial<OfferMessage> = {}): OfferMessage {
  const facts = { slots: 3, cpu: 8, memory_bytes: 2 ** 34, gpus: [], policy: 'fixed' };
  return offerSchema.parse({ session: SESSION, ...facts, ...change });
}

function alone(): { bidder: JoinedBidder; clock: FakeClock } {
  const clock = new FakeClock();
  const log = (): void => undefined;
  return {
    clock,
    bidder: new JoinedBidder({ id: 'rack', audited: false, region: 'eu', hosts: [], clock, blockMs: 6000, log }),
  };
}

async function inMarket(t: TestContext): Promise<{ bench: LocalBench; bidder: JoinedBidder }> {
  let bidder: JoinedBidder | null = null;
  const joined = (clock: FakeClock): JoinedBidder[] => {
    const { blockMs } = TERMS;
    bidder ??= new JoinedBidder({
      id: 'rack',
      audited: false,
      region: 'eu',
      hosts: [],
      clock,
      blockMs,
      log: () => undefined,
    });
    return [bidder];
  };
  const bench = await openLocal(t, { providers: [], joined });
  const [made] = joined(bench.clock);
  assert.ok(made);
  made.offer(offer(), PEER);
  return { bench, bidder: made };
}

/** An order, its answer, and what the scheduler does with it; nothing comes of it when the provider is away or full. */
async function takeLease(
  { market }: LocalBench,
  bidder: JoinedBidder,
  order: string,
  { session = SESSION, run = true } = {},
): Promise<void> {
  await market.tender(testOrder(order));
  await turns(2);
  attempt(() => bidder.bid({ session, order, usd_per_hour: '0.0006', note: '', start_ms: null }));
  await turns(2);
  const outcome = await market.accept(order, `${order}/rack`, 1_000_000n);
  if (outcome.kind !== 'done') return;
  await market.deploy(`lease-${order}`, testOrder(order).workload);
  const url = `http://${PEER}:8000`;
  if (run) bidder.report(`lease-${order}`, { session, state: 'running', url, detail: '' }, PEER);
}

function startOf(leaseId: string) {
  const { workload } = testOrder('any');
  return { leaseId, workload, apiKey: 'key', signal: new AbortController().signal };
}

function refuses(call: () => unknown, code: AppError['code']): void {
  assert.throws(call, (error: AppError) => error.code === code);
}

function attempt(call: () => void): void {
  try {
    call();
  } catch (error) {
    assert.ok(['not_found', 'conflict'].includes((error as AppError).code), String(error));
  }
}
