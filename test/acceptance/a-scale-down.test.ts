import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../fakes/clock.ts';
import { assertWhole, counting, openHouse, PATIENCE_MS, resize, startLoad, untilReady, type House } from './house.ts';

/** (a) No 5xx and no cut stream when a pool is scaled down under load. */

test('(a) fewer replicas under load: streams end where they are, and nobody is sent to a machine that goes', async (t) => {
  const limits = { drain_s: 300 };
  const pool = { replicas: { min: 0, max: 3 }, slots: 2, idle_s: 1, resume: 'off' as const, limits };
  const house = await openHouse(t, { pool });
  const load = startLoad(house, 6, 25);
  await untilReady(house, 3);
  // Down by the load: four of six clients leave, and what idles is given back.
  load.clients = 2;
  await until('one is given back', () => house.market.open().length < 3, PATIENCE_MS);
  // Up again, then down by the operator while everything is at work: that has to be waited for.
  load.clients = 6;
  await untilReady(house, 3);
  await until('all are at work', () => busy(house) === 3, PATIENCE_MS);
  resize(house, 0, 1);
  await until('one is left', () => house.market.open().length === 1, PATIENCE_MS);
  await load.stop();
  assertWhole(load.told, 25);
});

test('(a) a stream that outlives the time to drain moves to another machine, and does not show it', async (t) => {
  const pool = { replicas: { min: 2, max: 2 }, slots: 8, idle_s: 60, limits: { drain_s: 1 } };
  const house = await openHouse(t, { pool, script: () => counting(40) });
  await untilReady(house, 2);
  await until('it is known to resume', () => house.gateway.router.resumes, PATIENCE_MS);
  const load = startLoad(house, 6, 120);
  await until('both are at work', () => busy(house) === 2, PATIENCE_MS);
  resize(house, 1, 1);
  await until('one is left', () => house.market.open().length === 1, PATIENCE_MS);
  await load.stop();
  assertWhole(load.told, 120);
  const { settlements } = house.gateway.ledger;
  assert.ok(
    settlements.some(({ detail }) => (detail.resumed ?? 0) > 0),
    'a stream was moved',
  );
});

/** Replicas that have a request. */
function busy({ gateway, scheduler }: House): number {
  return scheduler.replicas().filter(({ id }) => (gateway.router.load(id)?.inFlight ?? 0) > 0).length;
}
