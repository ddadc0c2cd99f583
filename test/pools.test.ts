import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { generateManifest, manifestToSortedJSON } from '@akashnetwork/chain-sdk';
import { readPoolFile } from '../src/cli/pool-file.ts';
import { warnSettings } from '../src/config/warnings.ts';
import { loadSettings, type Settings } from '../src/config.ts';
import { newLeaseTls } from '../src/leases/akash/lease-tls.ts';
import { groupSpecOf, manifestOf, sortedJson } from '../src/leases/akash/sdl.ts';
import { serviceOf } from '../src/leases/akash/workload.ts';
import { workloadOf } from '../src/scheduler/tender.ts';
import { orderNeeds } from '../src/scheduler/fitness.ts';
import { fitGpus } from '../src/spec/fit.ts';
import type { PoolSpec } from '../src/spec.ts';
import { sdlOf } from './leases/akash/sdl-of.ts';

const FOLDER = fileURLToPath(new URL('../pools/', import.meta.url));
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));
const DIGEST = 'd'.repeat(64);

/** Weights in GiB, bytes of the cache for a token, and full contexts that fit, worked out by hand. */
const SIZES: Record<string, { weights: number; token: number; contexts: number }> = {
  'llama-3.1-8b-vllm-rtx4090.yaml': { weights: 15.0, token: 131_072, contexts: 5 },
  'llama-3.1-8b-vllm-a100.yaml': { weights: 15.0, token: 131_072, contexts: 13 },
  'qwen2.5-32b-vllm-a100.yaml': { weights: 61.0, token: 262_144, contexts: 4 },
  'llama-3.3-70b-vllm-2xh100.yaml': { weights: 131.4, token: 327_680, contexts: 3 },
  'llama-3.3-70b-vllm-4xa100.yaml': { weights: 131.4, token: 327_680, contexts: 15 },
  'qwen2.5-7b-sglang-rtx4090.yaml': { weights: 14.2, token: 57_344, contexts: 6 },
  'llama-3.1-8b-q4-llamacpp-rtx3090.yaml': { weights: 4.6, token: 131_072, contexts: 7 },
  'bge-m3-tei-rtx4090.yaml': { weights: 1.1, token: 0, contexts: Infinity },
};

test('there is a ready pool for each engine, from 8B to 70B', () => {
  assert.deepEqual([...FILES].sort(), Object.keys(SIZES).sort());
});

for (const file of FILES) {
  test(`${file} is read, fits its GPUs and becomes a manifest that Akash's own code would make`, (t) => {
    const { pool, settings } = load(t, file, (text) => text);
    assert.equal(readPoolFile(file, FOLDER).length, 1, 'pools put takes it, too');
    const { shape, image } = pool;
    assert.ok(shape && image);
    const fit = fitGpus(shape, pool);
    assert.equal(fit.problem, null);
    const expected = SIZES[file];
    assert.equal((fit.weightBytes / 2 ** 30).toFixed(1), expected?.weights.toFixed(1));
    assert.equal(fit.tokenBytes, expected?.token);
    assert.equal(Math.floor((fit.tokensMax ?? 0) / pool.contextTokens), expected?.contexts);
    // What is left to do is said, and nothing else is wrong with it.
    const warnings = warnSettings(settings, 0);
    assert.equal(warnings.length, 1, warnings.join('\n'));
    assert.match(warnings[0] ?? '', /is a tag, .* Run `docker buildx imagetools inspect .*` and write .*@sha256:…/);
    const refused = rendered(pool);
    assert.ok(typeof refused === 'string' && refused.includes('not named by its digest'));

    const pinned = load(t, file, (text) => text.replace(/(\n\s*image: .*):[^:\n]*\n/, `$1@sha256:${DIGEST}\n`));
    assert.deepEqual(warnSettings(pinned.settings, 0), []);
    const service = rendered(pinned.pool);
    assert.ok(typeof service !== 'string', typeof service === 'string' ? service : '');
    const theirs = generateManifest(sdlOf(service) as Parameters<typeof generateManifest>[0]);
    assert.ok(theirs.ok, JSON.stringify(theirs.value));
    assert.equal(sortedJson(manifestOf(service)), manifestToSortedJSON(theirs.value.groups));
    const [unit] = groupSpecOf(service).resources;
    assert.equal(unit?.resource.gpu.units.val, String(pool.hardware.gpus));
    const said = [...service.command, ...service.args].join(' ');
    const { weights } = pinned.pool;
    assert.ok(weights && said.includes(weights.source) && said.includes(weights.revision ?? 'resolve/bf5b95e96dac'));
    assert.equal(service.env.includes('HF_TOKEN=hf_a-token-that-ends'), weights.secret !== null);
    assert.equal(service.signedBy.anyOf.length > 0, weights.secret !== null, 'gated weights go to audited providers');
    assert.equal(orderNeeds(pinned.pool, null).trust, weights.secret === null ? 'any' : 'audited');
  });
}

function rendered(pool: PoolSpec): ReturnType<typeof serviceOf> {
  const { id, hardware, region } = pool;
  return serviceOf(
    {
      ...{ id: 'ord-1', pool: id, hardware, region, trust: orderNeeds(pool, null).trust },
      ...{ ceilingNanoUsdPerBlock: 1_000_000n, workload: workloadOf(pool) },
    },
    {
      ...{
        denom: 'uact',
        expose: 'port' as const,
        tls: newLeaseTls('of this lease', 0),
        auditors: ['akash1365yvmc4s7awdyj3n2sav7xfx76adc6dnmlx63'],
        defaultImage: null,
      },
      ...{ ceilingMicroPerBlock: 1000n, apiKey: 'lk-of-this-lease', nowMs: 0 },
      secretOf: (reference) => (reference === 'env:HF_TOKEN' ? 'hf_a-token-that-ends' : null),
    },
  );
}

/** As an operator's own file, with the Akash market beside it. */
function load(t: TestContext, file: string, change: (text: string) => string): { pool: PoolSpec; settings: Settings } {
  const cwd = mkdtempSync(join(tmpdir(), 'underbid-pools-'));
  t.after(() => rmSync(cwd, { recursive: true, force: true }));
  const text = change(readFileSync(join(FOLDER, file), 'utf8'));
  const markets = 'markets:\n  akash: { rpc: ["https://rpc.example"], key: "env:WALLET" }\n';
  writeFileSync(join(cwd, 'underbid.yaml'), `${text}${markets}`);
  const settings = loadSettings({ env: { WALLET: 'a mnemonic of some words', HF_TOKEN: 'hf_x' }, cwd, nowMs: 0 });
  const [pool] = settings.pools;
  assert.ok(pool && settings.pools.length === 1);
  return { pool, settings };
}
