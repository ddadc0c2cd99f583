import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describePool } from '../../src/config/describe.ts';
import { parsePool, poolSchema, type PoolInput } from '../../src/spec.ts';
import { versionOf } from '../../src/spec/version.ts';
import { orderTrust, secretProblem } from '../../src/spec/weights.ts';
import { testSpec } from '../fakes/market-samples.ts';

const SECRET = { source: 'org/model', secret: 'env:HF_TOKEN' };
const BASE: PoolInput = {
  ...{ engine: 'vllm', model: 'm', context: 1024, price: { input: '1', output: '1' }, ceiling_usd_per_hour: '1' },
};

function mistakes(input: Partial<PoolInput>): string[] {
  const checked = poolSchema.safeParse({ ...BASE, ...input });
  return checked.success ? [] : checked.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

test('a secret that any provider could read is refused, unless the pool says that it means it', () => {
  assert.match(mistakes({ weights: SECRET })[0] ?? '', /^weights\.secret: would be shown to whoever runs the machine/);
  assert.deepEqual(mistakes({ weights: SECRET, trust: 'audited' }), []);
  for (const visible of ['any', 'audited', 'tee'] as const) {
    assert.deepEqual(mistakes({ weights: { ...SECRET, visible_to: visible } }), []);
  }
  const registry = { host: 'ghcr.io', username: 'ann', password: 'file:registry.key' };
  assert.match(mistakes({ registry })[0] ?? '', /^registry\.password: would be shown/);
  assert.match(mistakes({ weights: { ...SECRET, secret: 'hf_plain' } })[0] ?? '', /does not belong in this file/);
});

test('an order asks for as much trust as the most careful of prompts, weights and registry', () => {
  const trustOf = (input: Partial<PoolInput>): string => orderTrust(testSpec(input));
  assert.equal(trustOf({}), 'any');
  assert.equal(trustOf({ weights: { ...SECRET, visible_to: 'audited' } }), 'audited');
  assert.equal(trustOf({ weights: { ...SECRET, visible_to: 'any' }, trust: 'audited' }), 'audited');
  assert.equal(trustOf({ weights: { source: 'org/open', visible_to: 'tee' } }), 'any', 'there is nothing to see');
  const registry = { host: 'ghcr.io', username: 'a', password: 'env:P', visible_to: 'tee' as const };
  assert.equal(trustOf({ registry, trust: 'audited' }), 'tee');
});

test('a secret ends when it says', () => {
  const { weights } = testSpec({ weights: { ...SECRET, expires: '2030-01-01T00:00:00Z' }, trust: 'audited' });
  const end = Date.parse('2030-01-01T00:00:00Z');
  assert.equal(secretProblem(weights, end - 1), null);
  assert.match(secretProblem(weights, end) ?? '', /has expired/);
  assert.equal(secretProblem(null, end), null);
});

test('what weights may be called and what their files may be called', () => {
  for (const source of ['', 'org/model; rm -rf', '$(x)', "a'b", 'a"b']) {
    assert.equal(mistakes({ weights: { source } }).length, 1, source);
  }
  for (const name of ['../x', 'a b', "a'", '/etc/passwd', 'a|b']) {
    assert.notEqual(mistakes({ weights: { source: 'org/m', sha256: { [name]: 'a'.repeat(64) } } }).length, 0, name);
  }
  assert.match(mistakes({ weights: { source: 'org/m', cache: 'persistent' } })[0] ?? '', /cache_size: goes with/);
});

test('a pool in the file’s shape makes the same pool again, weights, registry and size included', () => {
  const pool = testSpec({
    trust: 'audited',
    weights: {
      ...SECRET,
      ...{ revision: 'abc', cache: 'persistent', cache_size: '200Gi', expires: '2030-01-01T00:00:00Z' },
      sha256: { 'model.safetensors': 'a'.repeat(64) },
    },
    registry: { host: 'ghcr.io', username: 'ann', password: 'env:PASSWORD' },
    shape: { parameters_b: 8.03, weight_bits: 16, layers: 32, kv_heads: 8, head_dim: 128 },
    attributes: { tier: 'community' },
    reclamation_s: 7200,
  });
  assert.deepEqual(parsePool('tiny', describePool(pool), 0), { ...pool, resume: 'auto' });
  assert.equal(versionOf(parsePool('tiny', describePool(pool), 5)), versionOf(pool));
});

test('a version changes with what a replica runs, and with nothing else', () => {
  const version = (input: Partial<PoolInput>): string => versionOf(testSpec(input));
  const base = version({});
  for (const same of [{ price: { input: '9', output: '9' } }, { replicas: { max: 9 } }, { idle_s: 5 }]) {
    assert.equal(version(same), base);
  }
  const others: Partial<PoolInput>[] = [
    { image: 'x@sha256:1' },
    { model: 'other' },
    { engine: 'vllm' },
    { context: 2048 },
    { slots: 3 },
    { trust: 'audited' },
    { region: 'eu' },
    { weights: { source: 'org/m' } },
    { weights: { source: 'org/m', revision: 'b' } },
    { container: { port: 1 } },
    { hardware: { cpu: 2 } },
    { kind: 'embeddings' },
  ];
  assert.equal(new Set([base, ...others.map(version)]).size, others.length + 1);
});
