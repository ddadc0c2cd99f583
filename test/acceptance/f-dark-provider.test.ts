import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { until } from '../fakes/clock.ts';
import { silence } from '../fakes/model-replies.ts';
import { streamOf } from '../fakes/reply.ts';
import { counting, countTo, openHouse, PATIENCE_MS, untilReady } from './house.ts';

/** (f) A provider that goes dark is closed and refunded within minutes, not days. */

const MINUTES_MS = 180_000;

test('(f) a machine that accepts connections and says nothing any more is closed, refunded, blamed and replaced', async (t) => {
  let dark = false;
  const pool = { replicas: { min: 1, max: 1 }, slots: 4, limits: { first_token_s: 1, between_tokens_s: 1 } };
  const house = await openHouse(t, {
    pool,
    script: (provider) => (turn) => (dark && provider === 'near' ? silence(turn) : counting(30)(turn)),
  });
  const { gateway, market } = house;
  await untilReady(house, 1);
  await until('it is known to resume', () => gateway.router.resumes, PATIENCE_MS);
  const [first] = market.open();
  assert.equal(first?.provider, 'near');
  dark = true;
  const darkSinceMs = systemClock.monotonic();
  // Clients that ask meanwhile wait, and are served by whoever comes next.
  const asked = [1, 2, 3].map(async () => streamOf(await gateway.chat({ stream: true, max_tokens: 8 })));
  await until('its lease is closed', () => market.world.leases.get(first.id)?.state === 'closed', MINUTES_MS);
  const tookMs = systemClock.monotonic() - darkSinceMs;
  assert.ok(tookMs < MINUTES_MS, `${tookMs} ms`);
  const closed = market.world.leases.get(first.id);
  assert.ok(closed?.dispute, 'a dispute was filed');
  assert.equal(closed.refundNanoUsd, closed.depositNanoUsd - closed.rentNanoUsd - closed.takeFeeNanoUsd);
  for (const { texts, done, error } of await Promise.all(asked)) {
    assert.deepEqual([texts[0], done, error], [countTo(8), true, null]);
  }
  assert.deepEqual(
    market.open().map(({ provider }) => provider),
    ['far'],
  );
  t.diagnostic(`closed and refunded ${Math.round(tookMs)} ms after it went dark`);
});
