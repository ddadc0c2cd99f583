import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Watch, type Watched } from '../../src/gateway/watch.ts';
import { FakeClock } from '../fakes/clock.ts';

test('a deadline is called within a step after it, and may be moved until then', async () => {
  const { clock, add } = setup();
  const first = add(1000);
  const second = add(1000);
  await clock.advance(900);
  second.expiresMs += 2000;
  await clock.advance(350);
  assert.deepEqual([first.expired, second.expired], [1, 0]);
  await clock.advance(2000);
  assert.equal(second.expired, 1);
});

test('all deadlines share one timer, and nobody to watch means none', async () => {
  const { clock, watch, add } = setup();
  const all = Array.from({ length: 50 }, () => add(10_000));
  assert.equal(clock.pending, 1);
  await clock.advance(500);
  for (const { off } of all) off();
  assert.equal(watch.size, 0);
  await clock.advance(250);
  assert.equal(clock.pending, 0);
  const late = add(100);
  assert.equal(clock.pending, 1);
  await clock.advance(500);
  assert.equal(late.expired, 1);
});

test('ticks about once a second while a request lives', async () => {
  const { clock, add } = setup();
  const one = add(60_000);
  await clock.advance(10_000);
  assert.equal(one.ticks, 10);
  one.off();
  await clock.advance(5000);
  assert.equal(one.ticks, 10);
});

test('the ticks of many requests are spread over the second, one each', async () => {
  const { clock, add } = setup();
  const all = Array.from({ length: 8 }, () => add(60_000));
  for (let step = 1; step <= 4; step += 1) {
    await clock.advance(250);
    assert.equal(
      all.reduce((sum, { ticks }) => sum + ticks, 0),
      2 * step,
    );
  }
  assert.ok(all.every(({ ticks }) => ticks === 1));
});

test("one request's fault does not end the deadlines of others", async () => {
  const { clock, watch, add } = setup();
  const bad = add(100);
  bad.onExpired = () => {
    bad.off();
    throw new Error('a bug');
  };
  const good = add(400);
  await assert.rejects(clock.advance(250), /a bug/);
  await clock.advance(500);
  assert.equal(good.expired, 1);
  assert.equal(watch.size, 0);
});

type Probe = Watched & { off: () => void; expired: number; ticks: number };

function setup() {
  const clock = new FakeClock();
  const watch = new Watch(clock);
  const add = (ms: number): Probe => {
    const probe: Probe = {
      ...{ expiresMs: clock.now() + ms, expired: 0, ticks: 0, off: () => undefined },
      onExpired: () => {
        probe.expired += 1;
        probe.off();
      },
      onTick: () => (probe.ticks += 1),
    };
    probe.off = watch.add(probe);
    return probe;
  };
  return { clock, watch, add };
}
