import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseSchedule, scheduledReplicas, scheduleSchema, windowAt } from '../../src/spec/schedule.ts';
import { testSpec } from '../fakes/market-samples.ts';

const at = (text: string): number => Date.parse(text);
const schedule = (input: unknown) => parseSchedule(scheduleSchema.parse(input));

test('a window holds by the clock on the wall, in winter and in summer', () => {
  const office = [{ days: ['mon', 'tue', 'wed', 'thu', 'fri'], from: '08:00', to: '18:00', min: 2 }];
  const berlin = schedule({ time_zone: 'Europe/Berlin', windows: office });
  const isOpen = (text: string): boolean => windowAt(berlin, at(text)) !== null;
  // Thursday, at one hour from UTC; Thursday, at two.
  assert.deepEqual([isOpen('2026-01-15T06:59:59Z'), isOpen('2026-01-15T07:00:00Z')], [false, true]);
  assert.deepEqual([isOpen('2026-07-16T05:59:59Z'), isOpen('2026-07-16T06:00:00Z')], [false, true]);
  assert.deepEqual([isOpen('2026-07-16T15:59:59Z'), isOpen('2026-07-16T16:00:00Z')], [true, false]);
  assert.equal(isOpen('2026-07-18T10:00:00Z'), false, 'a Saturday');
});

test('an hour that is skipped has no window, one that comes twice has it twice', () => {
  const night = schedule({ time_zone: 'Europe/Berlin', windows: [{ from: '02:15', to: '02:45', min: 1 }] });
  const minutes = (day: string): number => {
    let count = 0;
    for (let minute = 0; minute < 1440; minute += 1) if (windowAt(night, at(day) + minute * 60_000)) count += 1;
    return count;
  };
  assert.deepEqual(['2026-03-29', '2026-06-01', '2026-10-25'].map(minutes), [0, 30, 60]);
});

test('a window that ends before it begins goes over midnight, and its day is the one it begins on', () => {
  const late = schedule({ windows: [{ days: ['sat'], from: '22:00', to: '06:00', max: 0 }] });
  const isIn = (text: string): boolean => windowAt(late, at(text)) !== null;
  assert.deepEqual(
    ['2026-08-01T21:59Z', '2026-08-01T22:00Z', '2026-08-02T05:59Z', '2026-08-02T06:00Z', '2026-08-02T22:00Z'].map(isIn),
    [false, true, true, false, false],
  );
});

test('the first window that holds counts, and outside of all the pool is as it says', () => {
  const windows = [
    { days: ['sun' as const], max: 0 },
    { from: '08:00', to: '20:00', min: 2, max: 5 },
  ];
  const spec = testSpec({ replicas: { min: 0, max: 3 }, schedule: { windows } });
  const bounds = (text: string, startMs = 0): number[] => {
    const { replicasMin, replicasMax } = scheduledReplicas(spec, at(text), startMs);
    return [replicasMin, replicasMax];
  };
  assert.deepEqual(bounds('2026-08-02T12:00Z'), [0, 0], 'a Sunday');
  assert.deepEqual(bounds('2026-08-03T12:00Z'), [2, 5]);
  assert.deepEqual(bounds('2026-08-03T20:00Z'), [0, 3]);
  assert.deepEqual(bounds('2026-08-03T07:55Z', 300_000), [2, 3], 'ordered so early that it is there in time');
  assert.deepEqual(bounds('2026-08-03T07:54Z', 300_000), [0, 3]);
});

test('the least is never above the most, whatever the windows say', () => {
  const time = fc.integer({ min: 0, max: 1439 }).map((minute) => {
    return `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
  });
  const window = fc.record({ from: time, to: time, min: fc.nat(4), more: fc.nat(4), which: fc.nat(2) });
  const zone = fc.constantFrom('UTC', 'America/New_York', 'Australia/Lord_Howe', 'Asia/Kolkata');
  fc.assert(
    fc.property(
      fc.array(window, { minLength: 1, maxLength: 4 }),
      zone,
      fc.integer({ min: 1.7e12, max: 1.9e12 }),
      (made, timeZone, nowMs) => {
        const windows = made.map(({ from, to, min, more, which }) => {
          return {
            from,
            to,
            ...(which !== 1 && { min }),
            ...(which !== 0 && { max: which === 1 ? more : min + more }),
          };
        });
        const spec = testSpec({ replicas: { min: 1, max: 3 }, schedule: { time_zone: timeZone, windows } });
        const { replicasMin, replicasMax } = scheduledReplicas(spec, nowMs, 60_000);
        assert.ok(replicasMin >= 0 && replicasMin <= replicasMax);
      },
    ),
  );
});

test('what is no time, no zone and no window is refused', () => {
  const bad = [
    { time_zone: 'Europe/Nowhere', windows: [{ min: 1 }] },
    { windows: [{ from: '25:00', min: 1 }] },
    { windows: [{ min: 3, max: 2 }] },
    { windows: [{ from: '08:00' }] },
    { windows: [] },
  ];
  for (const input of bad) assert.equal(scheduleSchema.safeParse(input).success, false, JSON.stringify(input));
});
