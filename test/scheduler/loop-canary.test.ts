import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { CanaryRows } from '../../src/scheduler/canary/canary-rows.ts';
import type { Asked, CanaryMeans } from '../../src/scheduler/canary/means.ts';
import { seeded } from '../../src/scheduler/simulation/seeded.ts';
import type { FakeMarket } from '../fakes/markets.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { fakeMarket, openBench, providers } from './loop-bench.ts';

const REFERENCE = 'http://reference.test';
const SPEC = testSpec({
  replicas: { min: 1, max: 1 },
  canary: { per_hour: 60, false_alarm: 0.01, distances: 60, reference: { url: REFERENCE } },
});

test('a machine that begins to serve other weights is disputed with the evidence, closed and replaced', async (t) => {
  const { bench, market, asked, cheats } = await setup(t);
  await bench.until('honest answers are known', () => asked.length > 2 * 80, 4 * 3_600_000);
  assert.equal((await bench.decisions('replica.failed')).length, 0);
  const [honest] = market.open();
  assert.equal(honest?.dispute, null);
  const before = asked.length;
  cheats.add(`http://${honest?.id}.test`);
  await bench.until('it is replaced', () => market.open().some(({ id }) => id !== honest?.id), 3_600_000);
  assert.ok(asked.length - before < 2 * 25, `${(asked.length - before) / 2} canaries until it was found`);
  const dispute = market.world.leases.get(honest?.id ?? '')?.dispute;
  assert.equal(dispute?.kind, 'wrong_weights');
  assert.match(dispute.reason, /of \d+ answers differ from the reference/);
  const [failed] = await bench.decisions('replica.failed');
  assert.equal(failed?.detail['cause'], 'wrong_weights');
});

test('without a reference nobody is asked anything, and that is said once', async (t) => {
  const spec = testSpec({ replicas: { min: 1, max: 1 }, canary: { per_hour: 60 } });
  const { bench, asked } = await setup(t, spec);
  await bench.pass(600_000);
  assert.equal(asked.length, 0);
  const idle = await bench.decisions('canary.idle');
  assert.match(idle[0]?.reason ?? '', /neither a reference nor an owned server/);
  assert.equal(idle.length, 1);
});

test('a pool that says nothing of canaries sends none', async (t) => {
  const { bench, asked } = await setup(t, testSpec({ replicas: { min: 1, max: 1 } }));
  await bench.pass(600_000);
  assert.equal(asked.length, 0);
});

async function setup(t: TestContext, spec = SPEC) {
  const asked: string[] = [];
  const cheats = new Set<string>();
  const draw = seeded(1, 'canaries');
  const ask: CanaryMeans['ask'] = ({ url }: Asked) => {
    asked.push(url);
    const gap = cheats.has(url) ? 1 : draw() * 0.02;
    const top = [
      { token: 'a', logprob: -0.5 - gap },
      { token: 'b', logprob: -1.5 },
    ];
    return Promise.resolve([{ token: 'a', top }]);
  };
  const made: FakeMarket[] = [];
  const bench = await openBench(t, {
    specs: [spec],
    markets: (clock) => {
      const trusted = providers().map((provider) => ({ ...provider, trust: 'audited' as const }));
      const market = fakeMarket(clock, { providers: trusted });
      made.push(market);
      return [market];
    },
    canary: (store) => ({
      rows: new CanaryRows(store),
      random: (length) => Uint8Array.from({ length }, () => Math.floor(draw() * 256)),
      ask,
      keyOf: () => null,
    }),
  });
  const [market] = made;
  assert.ok(market);
  await bench.until('a machine is ready', () => bench.run.pool.router.stats.ready === 1);
  return { bench, market, asked, cheats };
}
