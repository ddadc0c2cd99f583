import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { askCanary } from '../../src/gateway/canary.ts';
import { createUndiciUpstream } from '../../src/gateway/undici-upstream.ts';
import { startModelServer } from '../../src/leases/local/model-server.ts';
import { prepareRuntime, type LlamaRuntime } from '../../src/leases/local/runtime.ts';
import { distance, type Position } from '../../src/scheduler/canary/distance.ts';
import { drawFrom, makeQuestion, type Question } from '../../src/scheduler/canary/questions.ts';
import { calibrate, isBreach, NO_EVIDENCE, weigh } from '../../src/scheduler/canary/sequential-test.ts';
import { seeded } from '../../src/scheduler/simulation/seeded.ts';
import { parsePool } from '../../src/spec.ts';
import { coarsen } from '../fakes/gguf.ts';

/** Real model servers: the weights that were promised with other slots and threads, and a file with coarser ones. */

const ALPHA = 0.01;
const CALIBRATION = 34;
const HONEST = 16;
const CHEAT_MAX = 12;

test('coarser weights are found within a dozen canaries, and an honest server is not accused', async (t) => {
  const { reference, other, coarse, hot } = await setup(t);
  const draw = seeded(7, 'canary');
  const question = (): Question =>
    makeQuestion(drawFrom(Uint8Array.from({ length: 512 }, () => Math.floor(draw() * 256))), 4);
  const gap = async (ask: Ask): Promise<number> => {
    for (;;) {
      const asked = question();
      // Both at once, as under load: what else is in the batch changes how things are rounded.
      const [mine, theirs] = await Promise.all([ask(asked), reference(asked)]);
      const found = distance(mine, theirs);
      if (found !== null) return found;
    }
  };
  const honest: number[] = [];
  while (honest.length < CALIBRATION) honest.push(await gap(other));
  const calibration = calibrate(honest, ALPHA);
  assert.ok(calibration);
  let evidence = NO_EVIDENCE;
  for (let n = 0; n < HONEST; n += 1) evidence = weigh(evidence, await gap(other), calibration);
  const { hits, peak } = evidence;
  t.diagnostic(
    `honest: threshold ${calibration.threshold.toFixed(4)} nats, ${hits} of ${HONEST} above, e-value at most ${peak}`,
  );
  assert.equal(isBreach(evidence, ALPHA), false);
  for (const [name, cheat] of [
    ['one bit of four dropped in ten of thirty layers', coarse],
    ['the right weights, but temperature 2 instead of 0', hot],
  ] as const) {
    let found = NO_EVIDENCE;
    while (!isBreach(found, ALPHA) && found.canaries < CHEAT_MAX) found = weigh(found, await gap(cheat), calibration);
    t.diagnostic(`${name}: ${found.hits} of ${found.canaries} above, e-value ${found.peak.toPrecision(3)}`);
    assert.ok(isBreach(found, ALPHA), `${name}: ${JSON.stringify(found)}`);
  }
});

type Ask = (question: Question) => Promise<Position[]>;

async function setup(t: TestContext): Promise<{ reference: Ask; other: Ask; coarse: Ask; hot: Ask }> {
  const { signal } = new AbortController();
  const cacheDir = process.env['UNDERBID_CACHE'] ?? join(homedir(), '.cache', 'underbid');
  const runtime = await prepareRuntime({
    cacheDir,
    env: process.env,
    clock: systemClock,
    signal,
    progress: () => undefined,
  });
  const folder = mkdtempSync(join(tmpdir(), 'underbid-canary-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const modelPath = join(folder, 'coarse.gguf');
  assert.ok(coarsen(runtime.modelPath, modelPath, /^blk\.1\d\./) > 0, 'some weights were changed');
  const upstream = createUndiciUpstream({ connectMs: 5000, connectionsMax: 8, headerBytesMax: 16_384 });
  t.after(() => upstream.close());
  const spec = parsePool(
    'm',
    { engine: 'llama.cpp', model: 'm', context: 1024, price: { input: '1', output: '1' }, ceiling_usd_per_hour: '1' },
    0,
  );
  const serve = async (served: LlamaRuntime, slots: number, threads: number): Promise<Ask> => {
    const sizes = { slots, threads, contextTokensPerSlot: 1024, listenTimeoutMs: 120_000 };
    const server = await startModelServer({ runtime: served, alias: 'm', apiKey: 'key', clock: systemClock, ...sizes });
    t.after(() => server.stop());
    const target = { url: server.url, apiKey: 'key' };
    return (question) => askCanary(upstream, target, spec, { question, signal: AbortSignal.timeout(120_000) });
  };
  const reference = await serve(runtime, 1, 1);
  const other = await serve(runtime, 4, 2);
  const coarse = await serve({ ...runtime, modelPath }, 2, 1);
  return { reference, other, coarse, hot: heated(other) };
}

/** Its lists are right; what it chose is drawn at a temperature of 2. */
function heated(ask: Ask): Ask {
  const draw = seeded(3, 'heat');
  return async (question) =>
    (await ask(question)).map((position) => {
      const weights = position.top.map(({ logprob }) => Math.exp(logprob / 2));
      let left = draw() * weights.reduce((sum, one) => sum + one, 0);
      const at = weights.findIndex((weight) => (left -= weight) <= 0);
      return { ...position, token: position.top[Math.max(0, at)]?.token ?? position.token };
    });
}
