import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { systemClock } from '../../src/clock.ts';
import { CUSTOMER } from '../fakes/gateway.ts';
import { until } from '../fakes/clock.ts';
import { reset, silence } from '../fakes/model-replies.ts';
import type { Script } from '../fakes/model-server.ts';
import { counting, openHouse, PATIENCE_MS, untilReady, type House } from './house.ts';

/** (c) Counters return to exactly 0 after aborts, time-outs and kills. `test/e2e/kills.test.ts` kills the gateway itself. */

const REQUESTS = 120;

test('(c) whatever ends a request, nothing is in flight, in line or held when all have ended', async (t) => {
  const seed = Date.now() % 2 ** 31;
  const pick = fc.sample(fc.nat(999), { seed, numRuns: REQUESTS * 2 });
  let count = 0;
  // One request in five meets a machine that is silent, one in five a machine that resets the connection.
  const moody: Script = (turn) => {
    // Its probes are answered, and what the proof of resumption asks.
    if (!turn.text.includes('Say hello.')) return counting(2)(turn);
    count += 1;
    const mood = pick[count % pick.length] ?? 0;
    if (mood % 5 === 0) return silence(turn);
    return mood % 5 === 1 ? reset(turn) : counting(10)(turn);
  };
  const limits = { first_token_s: 0.5, between_tokens_s: 1, max_wait_s: 3 };
  const pool = { replicas: { min: 2, max: 2 }, slots: 3, limits };
  const house = await openHouse(t, { pool, script: () => moody });
  const { gateway } = house;
  await untilReady(house, 2);
  const ends = new Map<string, number>();
  const all: Promise<void>[] = [];
  for (let number = 0; number < REQUESTS; number += 1) {
    all.push(request(house, pick[number] ?? 0, ends));
    // Twice a machine goes in the middle of it all.
    if (number === 40 || number === 80) await kill(house);
    await systemClock.sleep(15);
  }
  await Promise.all(all);
  const rest = async (): Promise<unknown> => ({
    inFlight: gateway.router.stats.inFlight,
    waiting: gateway.router.stats.waiting,
    replicas: house.scheduler
      .replicas()
      .map(({ id }) => gateway.router.load(id)?.inFlight ?? 0)
      .filter((one) => one !== 0),
    held: String((await gateway.ledger.ask({ op: 'balance', customer: CUSTOMER }))?.held),
    watched: gateway.watch.size,
  });
  const quiet = JSON.stringify({ inFlight: 0, waiting: 0, replicas: [], held: '0', watched: 0 });
  let last = '';
  await until('all is back', async () => (last = JSON.stringify(await rest())) === quiet, PATIENCE_MS).catch(
    () => undefined,
  );
  assert.equal(last, quiet, `seed ${seed}`);
  const holds = gateway.ledger.asks('hold').length;
  assert.equal(gateway.ledger.settlements.length, holds, 'each hold was settled, once');
  for (const end of ['left', 'answered']) assert.ok((ends.get(end) ?? 0) > 3, `${end}: ${JSON.stringify([...ends])}`);
  assert.ok(count > 20, `${count} requests came to a machine`);
});

/** Streamed or not; a third of the clients leave after a while. */
async function request({ gateway }: House, pick: number, ends: Map<string, number>): Promise<void> {
  const leave = new AbortController();
  const leaves = pick % 3 === 0;
  if (leaves) void systemClock.sleep(pick % 400).then(() => leave.abort());
  let end: string;
  try {
    const response = await gateway.chat(
      { stream: pick % 2 === 0, max_tokens: 1 + (pick % 12) },
      { signal: leave.signal },
    );
    await response.text();
    end = response.status === 200 ? 'answered' : 'refused';
  } catch {
    end = 'left';
  }
  ends.set(end, (ends.get(end) ?? 0) + 1);
}

/** A machine is gone with all its connections; its provider has closed the lease. */
async function kill({ market }: House): Promise<void> {
  const [lease] = market.open();
  assert.ok(lease);
  market.lose(lease.id);
  await market.servers.get(lease.id)?.stop();
}
