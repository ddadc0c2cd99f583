import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AppError } from '../../src/errors.ts';
import type { DeltaChoice } from '../../src/gateway/choice.ts';
import { Leg } from '../../src/gateway/leg.ts';
import type { UpstreamCall, UpstreamHandler, UpstreamRequest } from '../../src/gateway/upstream.ts';
import { Watch } from '../../src/gateway/watch.ts';
import type { Slot } from '../../src/scheduler/pool/slot.ts';
import { parsePool } from '../../src/spec.ts';
import { FakeClock } from '../fakes/clock.ts';
import { deltaEvent, eventsOf, wholeOf } from '../fakes/model-replies.ts';

const UNSEEN = 64;
const count = fc.oneof(fc.nat(200), fc.constantFrom(0, 1e6, Number.MAX_SAFE_INTEGER));
const text = fc.string({ unit: 'grapheme', maxLength: 30 });
const pieces = fc.array(text, { maxLength: 20 });

test('counts of a stream stay within what was allowed and what was seen, whatever a server claims', async () => {
  await fc.assert(
    fc.asyncProperty(
      pieces,
      fc.record({ prompt: count, cached: count, claims: count }),
      fc.constantFrom('llama.cpp' as const, 'vllm' as const, 'openai' as const),
      fc.integer({ min: 1, max: 150 }),
      async (said, claimed, shape, outputMax) => {
        const { leg, feed, result } = setup({ outputMax });
        const seen = said.reduce((sum, piece) => sum + Buffer.byteLength(piece), 0);
        feed(eventsOf({ shape, pieces: said, ...claimed }).join(''));
        if (said.filter((piece) => piece !== '').length > 2 * outputMax + UNSEEN) {
          await assert.rejects(result);
          return;
        }
        await result;
        const { input, cached, output, refused } = leg.counts;
        assert.ok(input <= 100 && cached <= input);
        assert.ok(output <= outputMax && output <= seen + UNSEEN, `${output} of ${seen} bytes`);
        const chunks = said.filter((piece) => piece !== '').length;
        const honest = claimed.claims > 0 ? claimed.claims : Math.max(chunks, Math.floor(seen / 16));
        assert.equal(output + refused, honest);
      },
    ),
  );
});

test('counts of a whole answer do too', async () => {
  await fc.assert(
    fc.asyncProperty(text, fc.record({ prompt: count, cached: count, claims: count }), async (said, claimed) => {
      const { leg, feed, end, result } = setup({ outputMax: 50, stream: false });
      feed(JSON.stringify(wholeOf({ pieces: [said], ...claimed })));
      end();
      await result;
      const { input, cached, output } = leg.counts;
      const seen = Buffer.byteLength(said) + 'assistant'.length;
      assert.ok(input <= 100 && cached <= input && output <= Math.min(50, seen + UNSEEN));
    }),
  );
});

test('a server that counts nothing is charged a token a chunk', async () => {
  const { leg, feed, result } = setup({});
  feed(
    eventsOf({ shape: 'openai', pieces: ['a', 'b', '', 'c'] })
      .slice(0, -2)
      .join('') + 'data: [DONE]\n\n',
  );
  await result;
  assert.deepEqual(leg.counts, { input: 0, cached: 0, output: 3, refused: 0 });
});

test('running counts are read as they come', () => {
  const { leg, feed } = setup({});
  for (const made of [1, 2, 5]) {
    feed(deltaEvent({ content: 'some words' }, { prompt: 30, cached: 10 }, made));
    assert.deepEqual(leg.counts, { input: 30, cached: 10, output: made, refused: 0 });
  }
  leg.stop(STOPPED);
});

test('tool calls are seen by what they say', async () => {
  const { leg, feed, result } = setup({ outputMax: 1000 });
  const call = { tool_calls: [{ index: 0, function: { arguments: 'x'.repeat(300) } }] };
  feed(eventsOf({ deltas: [call], claims: 350 }).join(''));
  await result;
  assert.deepEqual([leg.counts.output, leg.counts.refused], [350, 0]);
});

test('a stream that was stopped hears nothing more and has told its server', async () => {
  const { leg, feed, deltas, upstream, result, watch } = setup({});
  feed(deltaEvent({ content: 'a' }));
  leg.stop(STOPPED);
  feed(deltaEvent({ content: 'b' }));
  await assert.rejects(result, STOPPED);
  assert.deepEqual([deltas.length, upstream.aborted, watch.size], [1, true, 0]);
});

test('after [DONE] the server has a moment to end its reply, then the connection is cut', async () => {
  const { feed, end, upstream, result, watch, clock } = setup({});
  feed(eventsOf().join(''));
  await result;
  assert.deepEqual([upstream.aborted, watch.size], [false, 1]);
  await clock.advance(1500);
  assert.equal(upstream.aborted, false);
  await clock.advance(1000);
  assert.deepEqual([upstream.aborted, watch.size], [true, 0]);
  end();
});

test('a reply that ends in time keeps its connection', async () => {
  const { feed, end, upstream, result, watch, clock } = setup({});
  feed(eventsOf().join(''));
  end();
  await result;
  await clock.advance(10_000);
  assert.deepEqual([upstream.aborted, watch.size, clock.pending], [false, 0, 0]);
});

test('a machine that was lost before the request was sent is not asked', async () => {
  const { result, upstream, slot, watch } = setup({ lost: true });
  await assert.rejects(result, /the machine was lost/);
  assert.deepEqual([upstream.handler, slot.listeners.size, watch.size], [null, 0, 0]);
});

test('listens for the loss of its machine while it is at work, and no longer', async () => {
  for (const finish of [
    ({ feed }: Started) => feed(eventsOf().join('')),
    ({ leg }: Started) => leg.stop(STOPPED),
    ({ upstream }: Started) => upstream.handler?.onError(new Error('reset')),
    ({ slot }: Started) => slot.listeners.forEach((listener) => listener()),
  ]) {
    const started = setup({});
    assert.equal(started.slot.listeners.size, 1);
    finish(started);
    await started.result.catch(() => undefined);
    assert.equal(started.slot.listeners.size, 0);
  }
});

test('a choice that starts while the client is slow is held back from its first byte', () => {
  const { leg, slot, upstream, start } = setup({ idle: true });
  leg.pause(false);
  start();
  assert.equal(slot.held, 1, 'its time says nothing of the machine');
  assert.deepEqual(upstream.calls, ['send', 'pause']);
  leg.resume();
  leg.resume();
  assert.deepEqual(upstream.calls, ['send', 'pause', 'resume']);
  leg.stop(STOPPED);
});

test('an answer that ends while the client is slow lets its connection end', async () => {
  const { leg, upstream, feed, result } = setup({});
  leg.pause(false);
  feed(eventsOf().join(''));
  await result;
  assert.deepEqual(upstream.calls, ['send', 'pause', 'resume']);
});

test('a request that cannot even be sent is a failure of the machine, and leaves nothing behind', async () => {
  const { result, watch } = setup({ broken: true });
  await assert.rejects(result, /the model server failed/);
  assert.equal(watch.size, 0);
});

test('a whole reply above its limit, or an answer to be put together above it, is refused', async () => {
  for (const stream of [false, true]) {
    const { feed, result, upstream } = setup({ stream, assembled: true });
    const part = stream ? `: ${'x'.repeat(100_000)}\n\n` : ' '.repeat(100_000);
    const bytes = new TextEncoder().encode(part);
    for (let size = 0; size <= LIMITS.replyBytes; size += bytes.length) feed(bytes);
    await assert.rejects(result, /larger than this gateway keeps/);
    assert.equal(upstream.aborted, true);
  }
});

const LIMITS = { replyBytes: 8_000_000, eventBytes: 1_000_000 };
const STOPPED = new AppError('client_closed', 'the test is over');

interface Setup {
  readonly outputMax?: number;
  readonly stream?: boolean;
  readonly assembled?: boolean;
  readonly broken?: boolean;
  readonly lost?: boolean;
  /** The attempt is started by the test. */
  readonly idle?: boolean;
}

type Started = ReturnType<typeof setup>;

function setup(settings: Setup) {
  const { outputMax = 100, stream = true, assembled = false, broken = false, lost = false, idle = false } = settings;
  const clock = new FakeClock();
  const price = { input: '1', output: '1' };
  const pool = { engine: 'vllm', model: 'm', context: 1000, price, ceiling_usd_per_hour: '1' };
  const spec = parsePool('m', pool, clock.now());
  const watch = new Watch(clock);
  const slot = slotOf(lost);
  const upstream = openUpstream(broken);
  const deltas: DeltaChoice[] = [];
  const leg = new Leg({
    ...{
      index: 0,
      spec,
      clock,
      upstream,
      watch,
      path: '/',
      streamUpstream: stream,
      assembled,
      outputMax,
      resumable: true,
    },
    limits: LIMITS,
    inputBound: 100,
    inputLeast: 1,
    totalUntilMs: clock.now() + 1_000_000,
    body: () => '{}',
    onDelta: (_leg, choice) => deltas.push(choice),
    onCounts: () => undefined,
    onRead: () => undefined,
    onTick: () => undefined,
  });
  const start = (): Promise<void> => leg.run(slot);
  const result = idle ? Promise.resolve() : start();
  result.catch(() => undefined);
  const encoder = new TextEncoder();
  return {
    ...{ leg, deltas, result, watch, clock, upstream, slot },
    start: () => void start().catch(() => undefined),
    feed: (part: string | Uint8Array) =>
      upstream.handler?.onData(typeof part === 'string' ? encoder.encode(part) : part),
    end: () => upstream.handler?.onEnd(),
  };
}

function openUpstream(broken: boolean) {
  const upstream = {
    calls: [] as string[],
    handler: null as UpstreamHandler | null,
    get aborted() {
      return upstream.calls.includes('abort');
    },
    send: (_request: UpstreamRequest, handler: UpstreamHandler): UpstreamCall => {
      if (broken) throw new TypeError('not a header value');
      upstream.calls.push('send');
      upstream.handler = handler;
      handler.onHead(200, {});
      const call = (name: string) => () => void upstream.calls.push(name);
      return { pause: call('pause'), resume: call('resume'), abort: call('abort') };
    },
    close: () => Promise.resolve(),
  };
  return upstream;
}

function slotOf(lost: boolean): Slot & { readonly listeners: Set<() => void>; held: number } {
  const listeners = new Set<() => void>();
  const place = { url: 'http://replica', apiKey: null, market: 'owned', provider: 'p', leaseId: 'l' };
  const slot: ReturnType<typeof slotOf> = {
    held: 0,
    ...{ target: { id: 'r', engine: 'vllm', slots: 1, ...place }, waitedMs: 0, cold: false, lost, listeners },
    onLost: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    alive: () => undefined,
    began: () => undefined,
    used: () => undefined,
    overclaimed: () => undefined,
    heldBack: () => void (slot.held += 1),
    release: () => undefined,
  };
  return slot;
}
