import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { AppError } from '../../../src/errors.ts';
import { PoolRouter } from '../../../src/scheduler/pool/router.ts';
import type { Slot } from '../../../src/scheduler/pool/slot.ts';
import { parsePool } from '../../../src/spec.ts';
import { FakeClock } from '../../fakes/clock.ts';

/** Any order of arrivals, ends, losses and time: no slot is given twice, lost or left free while somebody waits. */

const IDS = ['r0', 'r1', 'r2'];
const WAITING_MAX = 4;

interface Asker {
  readonly exclude: ReadonlyMap<string, number>;
  readonly leave: AbortController;
  slot: Slot | null;
  error: AppError | null;
  begun?: boolean;
}

const step = fc.oneof(
  fc.record({
    type: fc.constant('take' as const),
    account: fc.constantFrom('a', 'b'),
    exclude: fc.subarray(IDS),
    waitMs: fc.constantFrom(0, 100, 1000),
  }),
  fc.record({ type: fc.constant('release' as const), at: fc.nat(), twice: fc.boolean() }),
  fc.record({ type: fc.constant('begin' as const), at: fc.nat() }),
  fc.record({ type: fc.constant('leave' as const), at: fc.nat() }),
  fc.record({ type: fc.constant('add' as const), id: fc.constantFrom(...IDS), slots: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ type: fc.constant('drain' as const), id: fc.constantFrom(...IDS) }),
  fc.record({ type: fc.constant('remove' as const), id: fc.constantFrom(...IDS) }),
  fc.record({ type: fc.constant('advance' as const), ms: fc.constantFrom(50, 500) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

test('holds its counts through anything, and ends at exactly zero', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const world = setup();
      for (const one of steps) {
        await world.act(one);
        world.check();
      }
      await world.end();
    }),
    { numRuns: 300 },
  );
});

function setup() {
  const clock = new FakeClock();
  const price = { input: '1', output: '1' };
  const limits = { waiting_max: WAITING_MAX };
  const pool = { engine: 'vllm', model: 'm', context: 100, price, ceiling_usd_per_hour: '1', limits };
  const router = new PoolRouter(parsePool('m', pool, clock.now()), clock, () => undefined);
  const replicas = new Map<string, { slots: number; draining: boolean }>();
  let askers: Asker[] = [];
  const take = (account: string, exclude: readonly string[], maxWaitMs: number): void => {
    const asker: Asker = {
      exclude: new Map(exclude.map((id) => [id, clock.now()])),
      leave: new AbortController(),
      slot: null,
      error: null,
    };
    askers.push(asker);
    router.take({ account, maxWaitMs, signal: asker.leave.signal, exclude: asker.exclude }).then(
      (slot) => (asker.slot = slot),
      (error: AppError) => (asker.error = error),
    );
  };
  const pick = (from: Asker[], at: number): Asker | undefined => from[at % Math.max(1, from.length)];
  const served = (): Asker[] => askers.filter(({ slot }) => slot !== null);
  const waiting = (): Asker[] => askers.filter(({ slot, error }) => slot === null && error === null);
  const act = async (one: Step): Promise<void> => {
    if (one.type === 'take') take(one.account, one.exclude, one.waitMs);
    else if (one.type === 'release') {
      const asker = pick(served(), one.at);
      for (let times = one.twice ? 2 : 1; times > 0; times -= 1) asker?.slot?.release('served');
      askers = askers.filter((other) => other !== asker);
    } else if (one.type === 'begin') {
      const asker = pick(served(), one.at);
      asker?.slot?.began();
      if (asker) asker.begun = true;
    } else if (one.type === 'leave') pick(waiting(), one.at)?.leave.abort();
    else if (one.type === 'add') {
      if (replicas.has(one.id)) return;
      replicas.set(one.id, { slots: one.slots, draining: false });
      router.add(targetOf(one.id, one.slots), 1000);
    } else if (one.type === 'drain') {
      const replica = replicas.get(one.id);
      if (replica) replica.draining = true;
      router.drain(one.id);
    } else if (one.type === 'remove') {
      replicas.delete(one.id);
      router.remove(one.id);
    } else await clock.advance(one.ms);
    await clock.advance(0);
  };
  const check = (): void => {
    const { stats } = router;
    assert.equal(stats.waiting, waiting().length);
    assert.ok(stats.waiting <= WAITING_MAX);
    assert.equal(stats.waitingSinceMs === null, stats.waiting === 0);
    for (const [id, { slots, draining }] of replicas) {
      const held = served().filter(({ slot }) => slot?.target.id === id && !slot.lost).length;
      assert.equal(router.load(id)?.inFlight, held);
      const begun = served().filter((one) => one.begun && one.slot?.target.id === id && !one.slot.lost).length;
      assert.equal(router.load(id)?.begun, begun);
      assert.ok(held <= slots, `${id} has ${slots} slots and works on ${held}`);
      const free = !draining && held < slots;
      const fitting = waiting().filter(({ exclude }) => !exclude.has(id));
      assert.ok(!free || fitting.length === 0, `${id} is free and somebody waits for it`);
    }
    for (const { slot, exclude } of served()) assert.ok(slot !== null && !exclude.has(slot.target.id));
  };
  const end = async (): Promise<void> => {
    for (const { leave } of waiting()) leave.abort();
    for (const { slot } of served()) slot?.release('cancelled');
    askers = [];
    await clock.advance(0);
    check();
    for (const id of replicas.keys()) assert.deepEqual([router.load(id)?.inFlight, router.load(id)?.begun], [0, 0]);
    assert.deepEqual([router.stats.inFlight, router.stats.waiting, clock.pending], [0, 0, 0]);
  };
  return { act, check, end };
}

function targetOf(id: string, slots: number) {
  const place = { engine: 'vllm' as const, url: 'http://replica', apiKey: null, market: 'owned' };
  return { id, slots, provider: 'p', leaseId: 'l', ...place };
}
