import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Line } from '../../../src/scheduler/pool/line.ts';

test('accounts take turns, however many requests one of them has in line', () => {
  const line = setup({ greedy: 1000, b: 2, c: 1 });
  const order = Array.from({ length: 6 }, () => line.shift());
  assert.deepEqual(order, ['greedy-0', 'b-0', 'c-0', 'greedy-1', 'b-1', 'greedy-2']);
});

test('within an account the first to come is the first to go', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', 'b', 'c')), (accounts) => {
      const line = new Line<number>();
      accounts.forEach((account, at) => line.push(account, at));
      const order = Array.from({ length: accounts.length }, () => line.shift() ?? -1);
      for (const account of ['a', 'b', 'c']) {
        const own = order.filter((at) => accounts[at] === account);
        assert.deepEqual(
          own,
          own.toSorted((one, other) => one - other),
        );
      }
      assert.deepEqual(
        order.toSorted((one, other) => one - other),
        [...accounts.keys()],
      );
      assert.deepEqual([line.shift(), line.size], [undefined, 0]);
    }),
  );
});

test('nobody waits for more than one turn of each other account', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 60 }), (accounts) => {
      const line = new Line<string>();
      for (const account of accounts) line.push(account, account);
      const order = accounts.map(() => line.shift() ?? '');
      // Between two turns of one account no other has two, as long as the first still has somebody in line.
      for (const [at, account] of order.entries()) {
        const next = order.indexOf(account, at + 1);
        const between = order.slice(at + 1, next < 0 ? order.length : next);
        if (next >= 0) assert.equal(new Set(between).size, between.length, order.join(''));
      }
    }),
  );
});

test('one that does not fit is passed over and keeps its place', () => {
  const line = setup({ a: 3, b: 1 });
  assert.equal(
    line.shift((item) => item === 'a-1'),
    'a-1',
  );
  assert.equal(
    line.shift((item) => item.startsWith('a')),
    'a-0',
  );
  assert.equal(
    line.shift(() => false),
    undefined,
  );
  assert.deepEqual([line.shift(), line.shift(), line.size], ['b-0', 'a-2', 0]);
});

test('who leaves is gone, and leaves no trace', () => {
  const line = setup({ a: 2, b: 1 });
  assert.equal(line.remove('b', 'b-0'), true);
  assert.equal(line.remove('b', 'b-0'), false);
  assert.equal(line.remove('a', 'b-0'), false);
  assert.equal(line.remove('a', 'a-0'), true);
  assert.deepEqual([line.size, line.shift(), line.size], [1, 'a-1', 0]);
});

test('draining empties it', () => {
  const line = setup({ a: 2, b: 1 });
  assert.deepEqual(line.drain().toSorted(), ['a-0', 'a-1', 'b-0']);
  assert.deepEqual([line.size, line.shift(), line.drain()], [0, undefined, []]);
});

function setup(counts: Record<string, number>): Line<string> {
  const line = new Line<string>();
  for (const [account, count] of Object.entries(counts)) {
    for (let at = 0; at < count; at += 1) line.push(account, `${account}-${at}`);
  }
  return line;
}

test('those who are favoured go first, in their turns; then the others', () => {
  const line = setup({ a: 3, b: 2 });
  const order = Array.from({ length: 5 }, () =>
    line.shift(
      () => true,
      (item) => item.endsWith('1'),
    ),
  );
  assert.deepEqual(order, ['a-1', 'b-1', 'a-0', 'b-0', 'a-2']);
});
