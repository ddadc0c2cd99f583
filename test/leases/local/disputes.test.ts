import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Market } from '../../../src/leases/market.ts';
import { answerByLog } from '../../../src/leases/local/own-answer.ts';
import { breachOf, type BreachKind } from '../../../src/spec/dispute.ts';
import { until } from '../../fakes/clock.ts';
import { testOrder } from '../../fakes/market-samples.ts';
import { openLocal, settled } from '../local-market-bench.ts';
import { openJoined, startAgent, type AgentOptions } from './joined-bench.ts';

const PATIENCE_MS = 60_000;

test('the rent of the bad interval is withheld with its fees, and comes back when the dispute is upheld', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  await bench.market.deploy('lease-o1', testOrder('o1').workload);
  await bench.passBlocks(10);
  const before = await bench.balance('treasury:local');
  const id = await file(bench.market, 'slow', bench.clock.now() - 4 * 6000, bench.clock.now());
  await settled('its provider contests it', async () => (await note(bench.market))?.state === 'answered');
  const shown = async () => (await bench.market.status('lease-o1'))?.lease;
  assert.deepEqual([(await shown())?.withheldNanoUsd, (await shown())?.rentNanoUsd], [4800n, 6000n]);
  assert.equal(await bench.balance(`withheld:local:${id}`), 4800n);
  assert.equal((await bench.market.judge(id, { upheld: true, reason: 'seen' })).kind, 'done');
  assert.equal((await bench.market.judge(id, { upheld: false, reason: 'or not' })).kind, 'refused');
  await bench.market.close('lease-o1', 'tenant');
  const lease = await shown();
  assert.deepEqual([lease?.rentNanoUsd, lease?.takeFeeNanoUsd, lease?.withheldNanoUsd ?? 0n], [6000n, 1200n, 0n]);
  assert.equal(lease?.refundNanoUsd, 1_000_000n - 7200n);
  assert.equal(await bench.balance('treasury:local'), before + 1_000_000n - 7200n);
  assert.equal((await bench.market.providers())[0]?.disputes, 1);
});

test('a rejected dispute pays the provider after all, and no longer counts against it', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  await bench.passBlocks(10);
  await bench.market.close('lease-o1', 'tenant');
  const id = await file(bench.market, 'wrong_hardware', 0, bench.clock.now());
  assert.equal(await bench.balance('expense:lease:tiny'), 0n, 'all of its rent is withheld');
  assert.equal((await bench.market.providers())[0]?.disputes, 1);
  assert.equal((await bench.market.judge(id, { upheld: false, reason: 'it was a 4090' })).kind, 'done');
  const lease = (await bench.market.status('lease-o1'))?.lease;
  assert.deepEqual(
    [lease?.rentNanoUsd, lease?.withheldNanoUsd ?? 0n, lease?.dispute?.state],
    [10_000n, 0n, 'rejected'],
  );
  assert.equal(await bench.balance('expense:lease:tiny'), 9000n);
  assert.equal((await bench.market.providers())[0]?.disputes, 0);
  const next = await bench.again();
  assert.equal((await next.providers())[0]?.disputes, 0, 'nor after a restart');
});

test('an embedded provider owns up to what its own log says: its model server had ended', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  await bench.market.deploy('lease-o1', testOrder('o1').workload);
  await bench.passBlocks(3);
  bench.servers.starts[0]?.exit('out of memory');
  await settled('the lease is closed', async () => (await bench.market.status('lease-o1'))?.lease.state === 'closed');
  await bench.clock.advance(6000);
  await file(bench.market, 'down', bench.clock.now() - 12_000, bench.clock.now());
  await settled('it owns up', async () => (await note(bench.market))?.state === 'upheld');
});

test('a machine that ended at the very end of the bad interval is owned up to as well, said once', () => {
  const breach = breachOf({ kind: 'down', reason: 'gone', fromMs: 5, toMs: 5 });
  const health = { runningMs: 1, endedMs: 5, detail: 'the model server ended: signal SIGKILL' };
  const { accepts, text } = answerByLog(breach, health, 6);
  assert.deepEqual([accepts, text], [true, 'our log: the model server ended: signal SIGKILL']);
  assert.equal(answerByLog(breach, { ...health, endedMs: 6 }, 6).accepts, false);
});

test('what is certain is upheld at once, and nobody waits for an answer that is late', async (t) => {
  const bench = await openLocal(t);
  await bench.lease('o1');
  await bench.passBlocks(5);
  const now = bench.clock.now();
  const certain = breachOf({ kind: 'down', reason: 'gone', fromMs: now - 6000, toMs: now, certain: true });
  const filed = await bench.market.dispute('lease-o1', certain);
  assert.equal(filed.kind === 'done' ? filed.value.state : null, 'upheld');
  // No model server was ever started, so there is no log to answer by.
  const id = await file(bench.market, 'slow', now - 12_000, now);
  assert.equal((await note(bench.market))?.state, 'open');
  await bench.market.close('lease-o1', 'tenant');
  await bench.clock.advance(86_400_000 + 31_000);
  await settled('time has decided', async () => (await note(bench.market))?.state === 'upheld');
  assert.equal(await bench.balance(`withheld:local:${id}`), 0n);
  // The block of the first dispute was taken by it.
  assert.equal((await bench.market.status('lease-o1'))?.lease.rentNanoUsd, 3000n);
});

test('a provider elsewhere is told of a dispute, contests it by its own log, and hears how it was judged', async (t) => {
  const { market, agent } = await joined(t);
  const id = await file(market, 'slow', 0, Date.now());
  await until('it has answered', async () => (await note(market))?.state === 'answered', PATIENCE_MS);
  await market.judge(id, { upheld: true, reason: 'eleven tokens a second' });
  const told = (): boolean => agent.log.some((line) => line.includes('upheld (eleven tokens a second)'));
  await until('it was told', told, PATIENCE_MS);
  assert.ok(agent.log.some((line) => line.startsWith(`dispute ${id} of lease lease-o1: slow: too slow: open`)));
  assert.ok(agent.log.some((line) => line.includes('answered: our log: the model server ran all the time')));
});

test('its operator may answer by hand, from anywhere; another provider may not', async (t) => {
  const { bench, market, agent } = await joined(t, { answerDisputes: false });
  const id = await file(market, 'wrong_weights', 0, Date.now());
  await until('it was told', () => agent.log.some((line) => line.includes(id)), PATIENCE_MS);
  assert.equal((await note(market))?.state, 'open');
  const answer = { accept: true, text: 'we served a smaller quantisation' };
  const path = `/disputes/${encodeURIComponent(id)}`;
  assert.equal((await bench.send(bench.keyOf('rack-8'), 'POST', path, answer)).status, 404);
  for (const wrong of [{ accept: true }, { ...answer, text: '' }, { ...answer, text: 'x'.repeat(1001) }])
    assert.equal((await bench.send(bench.keyOf('rack-7'), 'POST', path, wrong)).status, 400);
  assert.equal((await bench.send(bench.keyOf('rack-7'), 'POST', path, answer)).status, 204);
  assert.equal((await bench.send(bench.keyOf('rack-7'), 'POST', path, answer)).status, 204, 'again, nothing changes');
  assert.equal((await note(market))?.state, 'upheld');
  const other = await bench.send(bench.keyOf('rack-7'), 'POST', path, { accept: false, text: 'or not' });
  assert.equal(other.status, 409);
});

async function joined(t: Parameters<typeof openJoined>[0], options: Partial<AgentOptions> = {}) {
  const bench = await openJoined(t, ['rack-7', 'rack-8']);
  const agent = startAgent(t, bench.gateway.url ?? '', { key: bench.keyOf('rack-7'), ...options });
  await until('it joined', () => agent.log.includes('joined as rack-7'), PATIENCE_MS);
  const { market } = bench;
  await market.tender(testOrder('o1'));
  await until('it bids', async () => ((await market.order('o1'))?.bids.length ?? 0) > 0, PATIENCE_MS);
  await market.accept('o1', 'o1/rack-7', 1_000_000_000n);
  await market.deploy('lease-o1', testOrder('o1').workload);
  const running = async () => (await market.status('lease-o1'))?.delivery.state === 'running';
  await until('it runs', running, PATIENCE_MS);
  return { bench, agent, market };
}

async function file(market: Market, kind: BreachKind, fromMs: number, toMs: number): Promise<string> {
  const outcome = await market.dispute('lease-o1', breachOf({ kind, reason: 'too slow', fromMs, toMs }));
  assert.equal(outcome.kind, 'done');
  return outcome.kind === 'done' ? outcome.value.id : '';
}

async function note(market: Market) {
  return (await market.status('lease-o1'))?.lease.dispute ?? null;
}
