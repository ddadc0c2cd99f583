import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CountingClock, until } from '../fakes/clock.ts';
import { completionOf, StreamReader } from '../fakes/reply.ts';
import { countTo, openHouse, PATIENCE_MS } from './house.ts';

/** (b) The first request after an hour at zero succeeds, and is told meanwhile that it waits. */

const HOUR_MS = 3_600_000;

for (const stream of [true, false]) {
  test(`(b) the first request after an hour at zero is answered ${stream ? 'with bytes of progress before' : 'in one piece'}`, async (t) => {
    const clock = new LeapingClock();
    const providers = [{ id: 'slow', price: 1000n, delivers: 'running' as 'running' | 'never' }];
    const pool = { replicas: { min: 0, max: 1 }, idle_s: 1 };
    const { gateway, market, scheduler } = await openHouse(t, { pool, providers, clock });
    await completionOf(await gateway.chat({ max_tokens: 3 }));
    await until('it is at zero', () => scheduler.replicas().length === 0, PATIENCE_MS);
    assert.equal(market.open().length, 0);
    clock.leap(HOUR_MS);
    // From now on a machine loads until the test says that it has.
    market.providersOf.splice(0, 1, { id: 'slow', price: 1000n, delivers: 'never' });
    const asked = gateway.chat({ max_tokens: 5, stream });
    await until('a machine loads', () => market.open().length === 1 && market.servers.size === 2, PATIENCE_MS);
    const [lease] = market.open();
    assert.ok(lease);
    if (!stream) {
      market.deliver(lease.id, 'running');
      const { choices } = await completionOf(await asked);
      assert.equal(choices[0]?.message.content, countTo(5));
      return;
    }
    const response = await asked;
    assert.equal(response.status, 200);
    const reader = new StreamReader(response);
    const progress = [await reader.next(), await reader.next()];
    for (const block of progress) assert.match(block ?? '', /^: waiting: /);
    market.deliver(lease.id, 'running');
    const text: string[] = [];
    for (let block = await reader.next(); block !== null; block = await reader.next()) text.push(block);
    assert.equal(text.at(-1), 'data: [DONE]');
    const said = text.flatMap((block) => /"content":"(t\d+ )"/.exec(block)?.[1] ?? []);
    assert.equal(said.join(''), countTo(5));
  });
}

/** The system's clock, whose date can be moved on: what is measured by dates has passed then. */
class LeapingClock extends CountingClock {
  #leaptMs = 0;

  leap(ms: number): void {
    this.#leaptMs += ms;
  }

  override now(): number {
    return super.now() + this.#leaptMs;
  }
}
