import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Bag } from '../../../src/scheduler/pool/bag.ts';

test('a bag holds what was put in and not taken out, whatever the order', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20), { maxLength: 200 }), (steps) => {
      const bag = new Bag<number>();
      const model = new Map<number, () => void>();
      const gone: (() => void)[] = [];
      for (const [at, step] of steps.entries()) {
        const remove = [...model][step];
        if (remove) {
          remove[1]();
          model.delete(remove[0]);
          gone.push(remove[1]);
        } else model.set(at, bag.add(at));
        // Taking out what is out already takes out nothing else.
        gone.at(-1)?.();
        assert.deepEqual([bag.size, valuesOf(bag)], [model.size, [...model.keys()].sort((a, b) => a - b)]);
      }
    }),
  );
});

test('a visit may take values out and add others: each that is still there has its turn, none that is new', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(9), fc.boolean()), { minLength: 1, maxLength: 10 }), (plan) => {
      const bag = new Bag<number>();
      const removes = plan.map((_, at) => bag.add(at));
      const [visited, taken] = [new Set<number>(), new Set<number>()];
      bag.each((value) => {
        assert.ok(value < plan.length && !visited.has(value) && !taken.has(value));
        visited.add(value);
        const [other, adds] = plan[value] ?? [0, false];
        removes[other]?.();
        if (other < plan.length) taken.add(other);
        if (adds) bag.add(100 + value);
      });
      for (const at of plan.keys()) assert.ok(visited.has(at) || taken.has(at));
    }),
  );
});

function valuesOf(bag: Bag<number>): number[] {
  const values: number[] = [];
  bag.each((value) => values.push(value));
  return values.sort((a, b) => a - b);
}
