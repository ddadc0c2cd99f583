import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dueMs, isForThoseInTime, isInTime, unreadMost, type InLine } from '../../../src/scheduler/pool/turns.ts';

const waiting = (sinceMs: number, coldMs = 0): InLine => {
  return { sinceMs, dueMs: dueMs(sinceMs, 5000, coldMs), untilMs: sinceMs + 600_000 };
};

test('a slot is in time while some of what was promised is left for the reading; a cold start adds its own', () => {
  const inTime = (nowMs: number, coldMs = 0): boolean => isInTime(waiting(1000, coldMs), nowMs);
  assert.deepEqual([inTime(4000), inTime(4999), inTime(5000)], [true, true, false]);
  assert.deepEqual([inTime(60_000, 60_000), inTime(65_000, 60_000)], [true, false]);
});

test('while nobody is late every turn is for whoever came first', () => {
  fc.assert(fc.property(fc.nat(), (turn) => isForThoseInTime(turn, waiting(1000), 2000)));
  assert.ok(isForThoseInTime(15, undefined, 0));
});

test('who is late has one turn in sixteen, every second one when half of its time is over, and at last all', () => {
  const own = (nowMs: number): number =>
    Array.from({ length: 160 }, (_, turn) => isForThoseInTime(turn, waiting(0), nowMs)).filter((one) => !one).length;
  assert.deepEqual([own(4000), own(299_999), own(300_000), own(449_999), own(450_000)], [10, 10, 80, 80, 160]);
});

test('in a line that is too long for all, those who can be are in time, and nobody leaves', () => {
  // For ten minutes five come in the time in which four are served; then two.
  const serve = (yields: boolean): { late: number; longestMs: number } => {
    let line: InLine[] = [];
    let [late, longestMs, turn] = [0, 0, 0];
    for (let nowMs = 0; nowMs < 3_600_000; nowMs += 1000) {
      for (let count = 0; count < (nowMs < 600_000 ? 5 : 2); count += 1) line.push(waiting(nowMs));
      for (let count = 0; count < 4 && line.length > 0; count += 1) {
        const first =
          yields && isForThoseInTime(turn, line[0], nowMs) ? line.find((one) => isInTime(one, nowMs)) : null;
        const next = first ?? line[0];
        turn += 1;
        if (!next) break;
        line = line.filter((one) => one !== next);
        if (!isInTime(next, nowMs)) late += 1;
        longestMs = Math.max(longestMs, nowMs - next.sinceMs);
      }
    }
    return { late, longestMs };
  };
  const [fair, plain] = [serve(true), serve(false)];
  // A fifth is too much, and a little more is late for the turns of those who are.
  assert.ok(fair.late < 1000 && plain.late > 2900, `${fair.late} late, ${plain.late} if the first were always first`);
  assert.ok(fair.longestMs < 600_000, `${fair.longestMs} ms in line`);
});

test('a replica is given no more prompts than it reads in what is left of the promise, but as many as it reads at a time', () => {
  const most = (tokensPerS: number | null): number => Math.round(unreadMost(tokensPerS, 5000));
  assert.deepEqual([most(30_000), most(5000), most(500), most(null)], [30_000, 5000, 2048, Infinity]);
});
