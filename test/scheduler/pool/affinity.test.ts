import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { chooseReplica } from '../../../src/scheduler/pool/affinity.ts';
import type { Opening } from '../../../src/scheduler/pool/opening.ts';
import { newReplica, type Replica } from '../../../src/scheduler/pool/slot.ts';

test('goes where its opening was worked on before', () => {
  const [a, b] = pair({ slots: 4 }, { slots: 4 });
  b.remembered.note(opening(1, 2));
  assert.equal(choose([a, b], opening(1, 2, 3)), 'r1');
  assert.equal(choose([a, b], opening(9)), 'r0', 'a miss: load decides');
  assert.equal(choose([a, b]), 'r0');
});

test('what is read there already counts against what is still to be done there', () => {
  const [a, b] = pair({ slots: 8 }, { slots: 8 });
  a.remembered.note(opening(1, 2));
  b.remembered.note(opening(1));
  assert.equal(choose([a, b], opening(1, 2)), 'r0');
  a.unread = 2;
  assert.equal(choose([a, b], opening(1, 2)), 'r1', 'one block to read, and two');
  b.remembered.note(opening(1, 2));
  a.unread = 0;
  b.unread = 1;
  assert.equal(choose([a, b], opening(1, 2)), 'r0');
});

test('a request at work weighs as much as a thousand letters of prompt', () => {
  const [a, b] = pair({ slots: 8, inFlight: 1 }, { slots: 8 });
  a.remembered.note(opening(1, 2, 3));
  assert.equal(choose([a, b], opening(1, 2, 3)), 'r1');
  a.remembered.note(opening(1, 2, 3, 4, 5));
  assert.equal(choose([a, b], opening(1, 2, 3, 4, 5)), 'r0');
});

test('one that has more to read than it may have no room has, by its pace; who is paid by the token has machines enough', () => {
  const [a] = pair({ slots: 4 }, { slots: 4 });
  a.unread = 100;
  const room = (most: number, replica = a): boolean => chooseReplica([replica], {}, 0, most) !== undefined;
  assert.deepEqual([room(6399), room(6400), room(Infinity)], [false, true, true]);
  a.pace = 2;
  assert.deepEqual([room(3199), room(3200)], [false, true]);
  const price = { inputPico: 1n, cachedInputPico: 1n, outputPico: 1n };
  assert.ok(room(0, { ...a, target: { ...a.target, tokenPrice: price } }));
});

test('a session is worth a way', () => {
  const [a, b] = pair({ slots: 4 }, { slots: 4, inFlight: 1 });
  b.remembered.note({ session: 7, blocks: [] });
  assert.equal(choose([a, b], { session: 7, blocks: [], size: 1 }), 'r1');
  assert.equal(choose([a, b], { session: 8, blocks: [], size: 1 }), 'r0');
  a.remembered.note(opening(1, 2, 3, 4, 5, 6, 7));
  assert.equal(choose([a, b], { session: 7, blocks: [1, 2, 3, 4, 5, 6, 7], size: 7 }), 'r0');
});

test('leaves a replica that carries clearly more than its share, whatever it has read', () => {
  const blocks = Array.from({ length: 100 }, (_, at) => at + 1);
  const [a, b] = pair({ slots: 8, inFlight: 3 }, { slots: 8, inFlight: 0 });
  a.remembered.note(opening(...blocks));
  assert.equal(choose([a, b], opening(...blocks)), 'r0');
  a.inFlight = 7;
  assert.equal(choose([a, b], opening(...blocks)), 'r1');
  b.inFlight = 3;
  assert.equal(choose([a, b], opening(...blocks)), 'r0');
});

test('a fast replica has a larger share', () => {
  const [a, b] = pair({ slots: 8, inFlight: 3 }, { slots: 8, inFlight: 2 });
  assert.equal(choose([a, b]), 'r1');
  a.pace = 2;
  assert.equal(choose([a, b]), 'r0');
});

test('no match makes up for a full, failed or draining replica', () => {
  for (const spoil of [
    (one: Replica) => (one.inFlight = one.target.slots),
    (one: Replica) => (one.draining = true),
    (one: Replica) => [1, 2, 3].forEach(() => one.circuit.failed(0)),
  ]) {
    const [a, b] = pair({ slots: 2 }, { slots: 2, inFlight: 1 });
    a.remembered.note(opening(1));
    spoil(a);
    assert.equal(choose([a, b], opening(1)), 'r1');
  }
  const [a, b] = pair({ slots: 2 }, { slots: 2 });
  a.remembered.note(opening(1));
  assert.equal(chooseReplica([a, b], { opening: opening(1), exclude: new Map([['r0', 5]]) }, 10)?.target.id, 'r1');
});

const some = fc.record({
  slots: fc.integer({ min: 1, max: 8 }),
  inFlight: fc.integer({ min: 0, max: 8 }),
  draining: fc.boolean(),
  knows: fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 4 }),
  pace: fc.constantFrom(0.5, 1, 2),
});

test('a free slot is found whenever there is one, and nobody is preferred for what it has read far above the fair share', () => {
  fc.assert(
    fc.property(fc.array(some, { maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 4 })), (shapes, blocks) => {
      const replicas = setup(shapes);
      shapes.forEach(({ knows }, at) => replicas[at]?.remembered.note({ session: null, blocks: knows }));
      const free = replicas.filter(({ draining, inFlight, target }) => !draining && inFlight < target.slots);
      const chosen = chooseReplica(replicas, { opening: opening(...blocks) }, 0);
      assert.equal(chosen === undefined, free.length === 0);
      if (!chosen) return;
      assert.ok(free.includes(chosen));
      const working = replicas.filter(({ draining }) => !draining);
      const capacity = working.reduce((sum, { target, pace }) => sum + target.slots * pace, 0);
      const atWork = working.reduce((sum, { inFlight }) => sum + inFlight, 1);
      const { slots } = chosen.target;
      const share = (1.25 * atWork * slots * chosen.pace) / capacity + slots / 4;
      const without = chooseReplica(replicas, {}, 0);
      assert.ok(chosen === without || chosen.inFlight + 1 <= Math.ceil(share));
    }),
  );
});

const opening = (...blocks: number[]): Opening => ({ session: null, blocks, size: blocks.length });
const choose = (replicas: Replica[], wanted?: Opening): string | undefined =>
  chooseReplica(replicas, { opening: wanted }, 0)?.target.id;

interface Shape {
  readonly slots: number;
  readonly inFlight?: number;
  readonly draining?: boolean;
  readonly pace?: number;
}

function setup(shapes: readonly Shape[]): Replica[] {
  return shapes.map(({ slots, inFlight = 0, draining = false, pace = 1 }, at) => {
    const where = { market: 'local', provider: `p${at}`, leaseId: `l${at}` };
    const target = { id: `r${at}`, url: 'http://127.0.0.1:1', apiKey: null, engine: 'vllm' as const, slots, ...where };
    return Object.assign(newReplica(target, 0, 64), { inFlight: Math.min(inFlight, slots), draining, pace });
  });
}

function pair(first: Shape, second: Shape): [Replica, Replica] {
  const [a, b] = setup([first, second]);
  assert.ok(a && b);
  return [a, b];
}
