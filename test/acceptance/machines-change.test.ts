import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { until } from '../fakes/clock.ts';
import { json, silence } from '../fakes/model-replies.ts';
import { streamOf } from '../fakes/reply.ts';
import { counting, countTo, openHouse, PATIENCE_MS, startLoad, untilReady, assertWhole } from './house.ts';

/** Nothing is lost while machines come and go: when one is ready, when one is alive, when one is about to end. */

test('a machine is ready when it has answered a real question: its open port gets no request of anybody', async (t) => {
  let loaded = false;
  const early: string[] = [];
  const pool = { replicas: { min: 0, max: 1 }, slots: 4, resume: 'off' as const };
  const house = await openHouse(t, {
    pool,
    script: () => (turn) => {
      if (loaded) return counting()(turn);
      early.push(turn.text);
      return json(503, { error: { code: 503, message: 'Loading model', type: 'unavailable_error' } })(turn);
    },
  });
  const load = startLoad(house, 4, 10);
  await until('it was probed again and again', () => early.length >= 4, PATIENCE_MS);
  assert.equal(house.gateway.router.stats.ready, 0);
  loaded = true;
  await until('all are served', () => load.told.length >= 8, PATIENCE_MS);
  await load.stop();
  assertWhole(load.told, 10);
  for (const text of early) assert.ok(!text.includes('Say hello.'), 'only probes came before it was ready');
});

test('a machine that sends tokens to some is alive, whatever it leaves unanswered: no lease is given up for it', async (t) => {
  const pool = { replicas: { min: 1, max: 1 }, slots: 8, limits: { first_token_s: 1, between_tokens_s: 5 } };
  let stuck = false;
  const house = await openHouse(t, {
    pool,
    // Once stuck, it takes no new question, and streams what it had begun.
    script: () => (turn) => (stuck ? silence(turn) : counting(100)(turn)),
  });
  await untilReady(house, 1);
  await until('it is known to resume', () => house.gateway.router.resumes, PATIENCE_MS);
  const long = house.gateway.chat({ stream: true, max_tokens: 60 }).then(streamOf);
  await systemClock.sleep(500);
  stuck = true;
  const [lease] = house.market.open();
  const late = await house.gateway.chat({ stream: true, max_tokens: 2 }, { headers: { 'x-underbid-max-wait': '2' } });
  assert.match(await late.text(), /"error"/);
  const verified = async (): Promise<boolean> => {
    const decisions = await house.records.listDecisions({ limit: 100 });
    return decisions.some(({ kind, reason }) => kind === 'replica.verified' && reason.includes('streams others'));
  };
  await until('it is taken back for the tokens that it sends', verified, PATIENCE_MS);
  stuck = false;
  const { texts, done } = await long;
  assert.deepEqual([texts[0], done], [countTo(60), true]);
  assert.equal(house.market.world.leases.get(lease?.id ?? '')?.state, 'active');
});

test('the end of a lease is foreseen: under load another machine is ready before this one drains, and no stream is cut', async (t) => {
  const pool = { replicas: { min: 1, max: 1 }, slots: 8, idle_s: 60, limits: { drain_s: 60 }, resume: 'off' as const };
  const house = await openHouse(t, { pool });
  const load = startLoad(house, 6, 30);
  await untilReady(house, 1);
  await until('it has work', () => house.gateway.router.stats.inFlight >= 4, PATIENCE_MS);
  const [lease] = house.market.open();
  assert.ok(lease);
  let fewest = Infinity;
  const watching = setInterval(() => (fewest = Math.min(fewest, house.gateway.router.stats.ready)), 5);
  t.after(() => clearInterval(watching));
  house.market.world.leases.set(lease.id, { ...lease, reclaimMs: systemClock.now() + 600_000 });
  house.market.changed();
  await until('it is given back', () => house.market.world.leases.get(lease.id)?.state === 'closed', PATIENCE_MS);
  await load.stop();
  assertWhole(load.told, 30);
  assert.ok(fewest >= 1, 'there was always one ready');
  assert.deepEqual([house.market.world.leases.size, house.market.open().length], [2, 1], 'one followed, none more');
});
