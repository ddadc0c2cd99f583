import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { viewAdvice } from '../../src/scheduler/advising.ts';
import { testSpec } from '../fakes/market-samples.ts';
import { openBench, type Bench } from './loop-bench.ts';

test('a pool that loses money is told once, and told again when it earns', async (t) => {
  const { bench, sell } = await setup(t);
  await bench.pass(480_000);
  assert.deepEqual(await bench.decisions('pool.loses_money'), [], 'it has not had its day yet');
  await bench.pass(480_000);
  const [told] = await bench.decisions('pool.loses_money');
  assert.match(told?.reason ?? '', /costs 0.072 USD \(of 1 leased now\), brings in 0 at today's load/);
  assert.equal(told?.detail['earns_usd_per_hour'], '0.000000');
  sell(5_000_000);
  await bench.pass(240_000);
  assert.equal((await bench.decisions('pool.earns_again')).length, 1);
  await bench.pass(240_000);
  assert.equal((await bench.decisions('pool.loses_money')).length, 1, 'not at every look');
});

test('advice has its figures as texts and says where they come from', async (t) => {
  const { bench, sell } = await setup(t);
  sell(1_000_000);
  const { advising } = bench.run.scheduler;
  const view = viewAdvice(advising.advice(bench.run.pool));
  const text = JSON.parse(JSON.stringify(view)) as Record<string, Record<string, unknown>>;
  assert.deepEqual(text['usd_per_hour'], { costs: '0.0720', earns_full: '0.0072', earns_today: '0.3000' });
  assert.match(String(text['tokens_per_second']?.['source']), /not measured/);
  assert.equal(text['verdict'], 'earns');
});

test('what a small pool earns is no nought', async (t) => {
  const { bench, sell } = await setup(t);
  sell(10);
  const view = viewAdvice(bench.run.scheduler.advising.advice(bench.run.pool));
  const text = JSON.parse(JSON.stringify(view)) as Record<string, Record<string, unknown>>;
  assert.equal(text['usd_per_hour']?.['earns_today'], '0.0000030');
  assert.match(String(text['recommended']?.['ceiling_usd_per_hour']), /^0\.0000[0-9]*[1-9]/);
});

/** A pool with one replica at 0.072 USD an hour; `sell` has it make so many tokens at 0.05 USD a million. */
async function setup(t: TestContext): Promise<{ bench: Bench; sell: (tokens: number) => void }> {
  const bench = await openBench(t, { specs: [testSpec({ replicas: { min: 1, max: 1 } })] });
  await bench.until('it is ready', () => bench.run.pool.router.stats.ready === 1);
  return { bench, sell: (tokens) => bench.run.pool.router.meter.add(bench.clock.now(), 0, tokens) };
}
