import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { fewerLate, foldLateness, newLateness, type Lateness } from '../../src/scheduler/lateness.ts';

const RULES = { replicasMax: 6, ttftMs: 5000, slackMs: 5000, startMs: 180_000 };
const TICK_MS = 5000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

test('nobody would be late with replicas that keep up, and with those that do not as many as are too many', () => {
  const lateness = play(() => 2.5, 20 * 60_000);
  const rows = [1, 2, 3, 4].map((count) => fewer(lateness, count));
  // Of 7,200 an hour two do four fifths in time, since who is late yields to who is not: a third one spares the rest. What
  // was seen for less than two start-ups is not taken for more than it came to.
  const [two = 0, three = 0] = rows;
  assert.ok(three > 700 && three < 1480 && Math.abs(two - 2 * three) < 60, rows.join(', '));
  assert.deepEqual([rows[2], rows[3]], [0, 0]);
});

test('what is sudden is late though there is time for it in the long run', () => {
  // 30 s of work at once, every five minutes.
  const lateness = play((atMs) => (atMs % 300_000 < TICK_MS ? 6 : 0.05), HOUR_MS);
  const rows = [1, 2, 3, 4, 5].map((count) => fewer(lateness, count));
  assert.ok((rows[0] ?? 0) > 0 && (rows[1] ?? 0) > 0);
  assert.deepEqual([rows[4]], [0], 'five of them take it within the slack');
});

test('prompts have to be read in time even while answers may take longer', () => {
  const rules = { ...RULES, slackMs: 60_000 };
  const read = { tookMs: TICK_MS, requests: 10, workMs: 20_000, promptMs: 20_000, busy: 1, seen: null };
  const written = { ...read, promptMs: 0 };
  assert.ok(fewerLate(foldLateness(newLateness(0), read, rules, TICK_MS), 1, rules, TICK_MS) > 0);
  assert.equal(fewerLate(foldLateness(newLateness(0), written, rules, TICK_MS), 1, rules, TICK_MS), 0);
});

test('a burst is remembered for an hour, a high tide only while it lasts', () => {
  const burst = play((atMs) => (atMs < HOUR_MS && atMs >= HOUR_MS - 20_000 ? 6 : 0.2), HOUR_MS);
  const tide = play((atMs) => (atMs < HOUR_MS ? (2.5 * atMs) / HOUR_MS : 0.2), HOUR_MS);
  const later = (from: Lateness): number =>
    fewer(
      play(() => 0.2, HOUR_MS + 20 * 60_000, from),
      2,
    );
  assert.ok(later(burst) > 5, `${later(burst)} an hour`);
  const height = fewer(tide, 2);
  assert.ok(later(tide) < height / 20, `${later(tide)} after ${height} an hour`);
});

test('while it is not known what this part of other days was like, a burst is remembered for longer', () => {
  const kept = (days: number): number => {
    const beganMs = days * DAY_MS + 10 * HOUR_MS;
    const quiet = play(() => 0.2, beganMs);
    const after = play((atMs) => (atMs < beganMs + 30_000 ? 6 : 0.2), beganMs + 10 * 60_000, quiet);
    return (
      fewer(
        play(() => 0.2, beganMs + 2 * HOUR_MS, after),
        2,
      ) / Math.max(1, fewer(after, 2))
    );
  };
  assert.ok(kept(0) > 0.3 && kept(2) < 0.1, `${kept(0)} of it after two hours, ${kept(2)} two days later`);
});

test('what came at an hour of the day is expected at that hour, a start-up before, and not at another one', () => {
  const rush = (atMs: number): number => (atMs % DAY_MS >= 9 * HOUR_MS && atMs % DAY_MS < 10 * HOUR_MS ? 2.5 : 0.2);
  const at = (hours: number): number => fewer(play(rush, DAY_MS + hours * HOUR_MS), 2);
  assert.ok(at(8.97) > 1000, 'two minutes before');
  assert.ok(at(8) < 10);
  assert.ok(at(12) < 10);
});

test('more replicas are never late more often, and nothing grows without end', () => {
  const steps = fc.array(fc.record({ tookMs: fc.nat(20_000), work: fc.nat(100_000), read: fc.nat(100) }), {
    maxLength: 60,
  });
  fc.assert(
    fc.property(steps, (given) => {
      let lateness = newLateness(0);
      let atMs = 0;
      for (const { tookMs, work, read } of given) {
        atMs += tookMs;
        const came = { tookMs, requests: 1, workMs: work, promptMs: (work * read) / 100, busy: 1, seen: null };
        lateness = foldLateness(lateness, came, RULES, atMs);
        for (let count = 1; count < RULES.replicasMax; count += 1) {
          const [less, more] = [lateness.lines[count - 1], lateness.lines[count]];
          assert.ok((less?.workMs ?? 0) / count + 1e-6 >= (more?.workMs ?? 0) / (count + 1));
          const value = fewerLate(lateness, count, RULES, atMs);
          assert.ok(value >= 0 && Number.isFinite(value));
        }
      }
      assert.ok(lateness.lines.length <= RULES.replicasMax && lateness.seasons.length <= 48);
    }),
  );
});

const fewer = (lateness: Lateness, count: number): number => {
  const atMs = at.get(lateness) ?? 0;
  return Math.round(fewerLate(lateness, count, RULES, atMs));
};

/** When each was played to. */
const at = new WeakMap<Lateness, number>();

/** Ten requests a tick with work for so many replicas, until then. */
function play(rate: (atMs: number) => number, untilMs: number, from = newLateness(0)): Lateness {
  let lateness = from;
  let smooth = 0;
  for (let atMs = at.get(from) ?? 0; atMs < untilMs; atMs += TICK_MS) {
    const workMs = rate(atMs) * TICK_MS;
    smooth += (workMs / TICK_MS - smooth) / 120;
    const came = { tookMs: TICK_MS, requests: 10, workMs, promptMs: 0, busy: smooth, seen: null };
    lateness = foldLateness(lateness, came, RULES, atMs + TICK_MS);
  }
  at.set(lateness, untilMs);
  return lateness;
}
